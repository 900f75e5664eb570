"""Makes the data of `ocibuild/postgres/policies` from Debian's packages: `python -m tests.support.policies`.

Needs Debian's `apt-get` and `dpkg-deb`, the archive that this machine's apt uses, about 1 GB in the folder for temporary
files and some minutes. It needs no root and installs nothing. `--verify` makes the data again and compares.
docs/reference/policies.md says what goes in and why.
"""

from __future__ import annotations

import argparse
import difflib
import fnmatch
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ocibuild.elf import SharedObject, read_shared_object

__all__ = ["main"]

TARGET = Path(__file__).parents[2] / "ocibuild/postgres/policies"
MAJOR = 18
ARCHITECTURES = ("amd64", "arm64")
WIDTH = 118
SHOWN = 40
TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


@dataclass(frozen=True, kw_only=True)
class Distro:
    """A Debian release.

    Attributes:
        name: Its code name.
        release: Its number.
        operand: CloudNativePG makes operand images of it.
        server: The package of its own PostgreSQL server.
        extra: What PGDG's server is built with and this one is not.
    """

    name: str
    release: str
    operand: bool = True
    server: str
    extra: tuple[str, ...] = ()


ADDED = ("libnuma1", "liblz4-1", "libzstd1", "libxslt1.1", "libuuid1", "libxml2")
DISTROS = (
    Distro(name="bullseye", release="11", server="postgresql-13", extra=("liburing1", *ADDED)),
    # debootstrap takes usr-is-merged there, so that apt does not take usrmerge.
    Distro(name="bookworm", release="12", server="postgresql-15", extra=("liburing2", *ADDED, "usr-is-merged")),
    Distro(name="trixie", release="13", server="postgresql-17", extra=("liburing2", *ADDED)),
    Distro(name="sid", release="unstable", operand=False, server=f"postgresql-{MAJOR}"),
)
# Where PostgreSQL itself is taken from: the one with the right major.
NEWEST = DISTROS[-1]

# What debootstrap --variant=minbase takes, which debian-slim is made with.
SLIM = ("?essential", "?priority(required)", "apt")
# What the Dockerfile of the minimal operand image names besides the server.
OPERAND = ("postgresql-common", "ca-certificates", "gnupg", "libsasl2-modules", "libldap-common")
# The JIT is a package of its own since 18, and only recommended.
LEFT_OUT = re.compile(r"libllvm\d+")
# PGDG has one libpq for all majors, the newest.
FROM_NEWEST = ("libpq5",)

# A soname, and patterns that stand for most of its names, which are too many; {0} is the soname's version. With ICU and
# Perl every release has another soname, so that a name that fits is as good as one that is listed. Nobody but apt uses
# libapt-private.
ICU = re.compile(r"libicu(?:i18n|uc|data)\.so\.(\d+)")
PATTERNS = (
    (ICU, ("*_{0}", "*_{0}[PRS]*", "*icu_{0}*", "icudt{0}_dat")),
    (re.compile(r"libperl\.so\.([\d.]+)"), ("Perl_*", "PerlIO*", "PL_*", "XS_*", "perl_*")),
    (re.compile(r"libapt-private\.so\.([\d.]+)"), ("*",)),
)
# What the linker or the C library puts into every file, and no other file asks for.
PRIVATE = frozenset(
    (
        *("_init", "_fini", "_start", "main", "_IO_stdin_used", "data_start", "__data_start", "_edata", "edata"),
        *("_end", "end", "__end__", "_etext", "etext", "__bss_start", "__bss_start__", "__bss_end__", "_bss_end__"),
    )
)

# Libraries whose names are kept although they have versions, besides those the server needs: a module that was linked
# without `-lm` or `-lssl` imports their names without one, and gets them, since the server has loaded them. In glibc
# before 2.34 parts of libc.so.6 were files of their own. Named without the soname's version.
BASE = ("libc", "libm", "libgcc_s", "libpthread", "libdl", "librt", "ld-linux-x86-64", "ld-linux-aarch64")
# Of these a pattern stands for names that begin in the same way.
GROUPED = ("libcrypto", "libsystemd", "libxml2", "libzstd")
GROUP = re.compile(r"[A-Za-z][A-Za-z0-9]+_|xml|html")
GROUP_SIZE = 8
# Those of C++ are long and many, and follow rules: names that begin as those of `std`, `__gnu_cxx`, `__cxxabiv1`.
CXX = "libstdc++"
CXX_PATTERNS = (
    *(
        "_ZNSt*",
        "_ZNKSt*",
        "_ZNVSt*",
        "_ZNVKSt*",
        "_ZNOSt*",
        "_ZNKRSt*",
        "_ZSt*",
        "_ZGVNSt*",
        "_ZThn*_NSt*",
        "_ZTv0_n*NSt*",
    ),
    *("_ZT[CISTV]St*", "_ZT[CISTV]NSt*", "_ZT[CISTV]NKSt*", "_ZT[CISTV]PSt*", "_ZT[CISTV]PKSt*"),
    *("_ZNS[abdios]*", "_ZNKS[abdios]*", "_ZT[CISTV]S[abdios]*", "_ZThn*_NS[dio]*", "_ZTv0_n*NS[dio]*"),
    *("_ZN9__gnu_cxx*", "_ZNK9__gnu_cxx*", "_ZT[CISTV]N9__gnu_cxx*", "_ZN10__cxxabiv1*", "_ZNK10__cxxabiv1*"),
    *("_ZT[CISTV]N10__cxxabiv1*", "_ZN*11__gnu_debug*", "_ZGTt*", "__cxa_*", "__gxx_*"),
)


@dataclass(frozen=True)
class Package:
    """A package file."""

    name: str
    version: str
    architecture: str
    sha256: str
    path: Path

    def line(self) -> str:
        return f"{self.name} {self.version} {self.architecture} {self.sha256}"


@dataclass(frozen=True)
class Library:
    """A shared library of an image; `exports` are those without a version."""

    package: Package
    versions: frozenset[str]
    exports: frozenset[str]
    facts: SharedObject


class Archive:
    """The packages of one distro and architecture, through apt with a state of its own."""

    def __init__(self, distro: Distro, architecture: str, folder: Path) -> None:
        self.distro = distro
        self.architecture = architecture
        self.folder = folder
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        signed = f"[signed-by={keyring}] " if keyring.exists() else ""
        (folder / "sources.list").write_text(f"deb {signed}{_site()} {distro.name} main\n")
        self._get("update")

    def _run(self, program: str, *arguments: str) -> str:
        options = {
            "Acquire::Check-Valid-Until": "false",  # a mirror may be behind
            "Dir::State::Lists": self.folder / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::State::extended_states": "/dev/null",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::SourceList": self.folder / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "Acquire::GzipIndexes": "false",
            "Debug::NoLocking": "true",
        }
        flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
        return _output([program, "-q", *flags, *arguments], cwd=self.folder / "cache/archives")

    def _get(self, *arguments: str) -> str:
        return self._run("apt-get", *arguments)

    @property
    def date(self) -> str:
        """When the archive's lists were made."""
        [path] = self.folder.glob("lists/*Release")
        [date] = re.findall(r"(?m)^Date: (.*)$", path.read_text())
        return str(date)

    def depends(self, name: str) -> list[str]:
        """The packages that one depends on, of alternatives the first."""
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        lines = re.findall(r"(?m)^(?:Pre-)?Depends: (.*)$", shown)
        return [re.split(r"[ |:(]", item.strip())[0] for line in lines for item in line.split(",")]

    def install(self, names: Sequence[str]) -> list[Package]:
        """The packages that an empty machine would have after their installation."""
        self._get("--yes", "--download-only", "install", *names)
        # The folder may hold those of another day.
        chosen = set(re.findall(r"(?m)^Inst (\S+) \((\S+) ", self._get("--simulate", "install", *names)))
        paths = sorted((self.folder / "cache/archives").glob("*.deb"))
        return [package for package in map(_package, paths) if (package.name, package.version) in chosen]


def _output(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{command}\n{result.stdout}{result.stderr}")
    return result.stdout


def _site() -> str:
    listed = _output(["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"])
    for line in listed.splitlines():
        site, _, release = line.partition(" ")
        if release and "-" not in release:
            return site
    sys.exit("apt knows no archive of Debian: run apt-get update once")


def _package(path: Path) -> Package:
    [name, version, architecture] = _output(
        ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", path]
    ).split()
    return Package(name, version, architecture, hashlib.sha256(path.read_bytes()).hexdigest(), path)


def _files(package: Package) -> Iterable[tuple[str, tarfile.TarInfo, IO[bytes] | None]]:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package.path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                yield member.name.removeprefix("./"), member, archive.extractfile(member) if member.isreg() else None
        process.stdout.read()
    if process.returncode:
        sys.exit(f"{package.path}: dpkg-deb exited {process.returncode}")


def _libraries(package: Package, architecture: str) -> dict[str, Library]:
    """The libraries of a package that the loader finds by name."""
    triplet = TRIPLETS[architecture]
    folders = {f"{root}{name}" for root in ("", "usr/") for name in ("lib", "lib64", f"lib/{triplet}")}
    found: dict[str, Library] = {}
    files: dict[str, Library] = {}
    links: dict[str, str] = {}
    for path, member, content in _files(package):
        folder, _, name = path.rpartition("/")
        if folder not in folders or ".so" not in name:
            continue
        if content is None:
            links[name] = member.linkname.rpartition("/")[2]
            continue
        data = content.read()
        if data.startswith(b"\x7fELF"):
            facts = read_shared_object(data, where=path)
            exports = facts.exports - facts.versioned_exports - PRIVATE
            files[name] = found[facts.soname or name] = Library(package, facts.defines, exports, facts)
    # Most links are the soname; libldap-2.4.so.2 of bullseye leads to that of another name.
    known = {**files, **found}
    found.update({name: known[target] for name, target in links.items() if name not in found and target in known})
    return found


@dataclass(frozen=True, kw_only=True)
class Image:
    """The libraries of an image.

    Attributes:
        date: When the archive's lists were made.
        libraries: By the name that the loader finds them by.
    """

    distro: Distro
    architecture: str
    date: str
    libraries: Mapping[str, Library]


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """PostgreSQL of one architecture: the server, its extensions, its modules."""

    package: Package
    server: SharedObject
    extensions: frozenset[str]
    modules: frozenset[str]


def _image(distro: Distro, architecture: str, work: Path) -> tuple[Image, list[Package]]:
    archive = Archive(distro, architecture, work / f"{distro.name}-{architecture}")
    depends = [name for name in archive.depends(distro.server) if not LEFT_OUT.fullmatch(name)]
    own = [distro.server] if distro is NEWEST else []
    packages = archive.install([*SLIM, *OPERAND, *depends, *distro.extra, *own])
    libraries: dict[str, Library] = {}
    for package in packages:
        if package.architecture == architecture:
            for soname, library in _libraries(package, architecture).items():
                if soname in libraries:
                    sys.exit(f"{soname} is in {package.name} and in {libraries[soname].package.name}")
                libraries[soname] = library
    return Image(distro=distro, architecture=architecture, date=archive.date, libraries=libraries), packages


def _postgres(packages: Iterable[Package]) -> Postgres:
    [package] = [item for item in packages if item.name == f"postgresql-{MAJOR}"]
    server: list[SharedObject] = []
    names: dict[str, set[str]] = {".control": set(), ".so": set()}
    folders = {f"usr/share/postgresql/{MAJOR}/extension", f"usr/lib/postgresql/{MAJOR}/lib"}
    for path, _, content in _files(package):
        folder, _, name = path.rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        if content is not None and path == f"usr/lib/postgresql/{MAJOR}/bin/postgres":
            server.append(read_shared_object(content.read(), where=path))
        elif folder in folders and dot + suffix in names:
            names[dot + suffix].add(stem)
    return Postgres(
        package=package,
        server=server[0],
        extensions=frozenset(names[".control"]),
        modules=frozenset(names[".so"]),
    )


def _with_newest(image: Image, newest: Image) -> Image:
    """The image with what PGDG has one version of for all distributions."""
    other = {soname: item for soname, item in newest.libraries.items() if item.package.name in FROM_NEWEST}
    return replace(image, libraries={**image.libraries, **other})


def _check(image: Image) -> None:
    """Nothing that a library needs is missing, or the set of packages is not the image's."""
    for soname, library in image.libraries.items():
        if missing := set(library.facts.needed) - image.libraries.keys():
            sys.exit(f"{image.distro.name} {image.architecture}: {soname} needs {missing}")


Names = Mapping[str, frozenset[str]]
"""Names by architecture."""


def _text(names: Iterable[str]) -> list[str]:
    """Names as lines that people can read and compare."""
    joined = " ".join(sorted(names, key=_natural))
    return textwrap.wrap(joined, WIDTH, break_long_words=False, break_on_hyphens=False)


def _natural(name: str) -> list[tuple[int, str]]:
    """GLIBC_2.9 before GLIBC_2.10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]


def _keys(key: str, names: Names) -> dict[str, list[str]]:
    """What every architecture has, and what one has besides."""
    common = frozenset.intersection(*names.values())
    parts = [("", common), *((f"-{name}", values - common) for name, values in names.items())]
    return {f"{key}{suffix}": _text(values) for suffix, values in parts if values}


def _library(soname: str, found: Mapping[str, Library]) -> dict[str, object]:
    names = {item.package.name for item in found.values()}
    assert len(names) == 1, soname
    fields: dict[str, object] = {"package": names.pop()}
    if len(found) < len(ARCHITECTURES):
        fields["architecture"] = next(iter(found))
    fields |= _keys("versions", {name: item.versions for name, item in found.items()})
    patterns = [
        pattern.format(match[1])
        for soname_of, templates in PATTERNS
        if (match := soname_of.fullmatch(soname))
        for pattern in templates
    ]
    if patterns:
        fields["patterns"] = _text(patterns)
    return fields | _keys("exports", {name: _unmatched(item.exports, patterns) for name, item in found.items()})


def _unmatched(names: Iterable[str], patterns: Iterable[str]) -> frozenset[str]:
    rules = [re.compile(fnmatch.translate(pattern)).match for pattern in patterns]
    return frozenset(name for name in names if not any(rule(name) for rule in rules))


def _provenance(date: str, texts: Mapping[str, str], packages: Iterable[str]) -> dict[str, object]:
    return {
        "made_by": "python -m tests.support.policies",
        "archive_date": date,
        **{key: textwrap.wrap(text, WIDTH, break_on_hyphens=False) for key, text in texts.items()},
        # Those that something was read from: name, version, architecture, sha256.
        "packages": list(packages),
    }


def _policy(distro: Distro, images: Sequence[Image], postgres: Postgres, newest: str) -> dict[str, object]:
    """The file of a distribution."""
    [date] = {image.date for image in images}
    sonames = {soname for image in images for soname in image.libraries}
    packages = {library.package for image in images for library in image.libraries.values()}
    extra = ", ".join(distro.extra)
    texts = {
        "image": f"What apt installs without recommends on an empty machine: {', '.join((*SLIM, *OPERAND))}, and "
        + (
            f"{distro.server}."
            if distro is NEWEST
            else f"the dependencies of {distro.server} without LLVM, which stands in for PGDG's postgresql-{MAJOR}, and "
            f"what that one is built with besides: {extra}."
        ),
        "postgresql": f"Extensions, modules and {', '.join(FROM_NEWEST)} are those of {NEWEST.name}'s postgresql-{MAJOR}, "
        f"archive date {newest}.",
    }
    owned = sorted({package.line() for package in packages} | {postgres.package.line()})
    return {
        "distro": distro.name,
        "release": distro.release,
        "operand": distro.operand,
        "extensions": _text(postgres.extensions),
        "modules": _text(postgres.modules),
        "provenance": _provenance(date, texts, owned),
        "libraries": {
            soname: _library(soname, {i.architecture: i.libraries[soname] for i in images if soname in i.libraries})
            for soname in sorted(sonames)
        },
    }


def _stem(soname: str) -> str:
    """A library's name without a version: that of one release may be another in the next."""
    return re.split(r"(?:_r)?-2\.|\.so", soname)[0]


def _base(images: Iterable[Image], stems: Iterable[str]) -> tuple[frozenset[str], set[str]]:
    """Names and patterns of what the libraries with these names define in any image."""
    found: dict[str, set[str]] = {stem: set() for stem in stems}
    names: set[str] = set()
    patterns: set[str] = set()
    for image in images:
        for soname, library in image.libraries.items():
            stem = _stem(soname)
            if match := ICU.fullmatch(soname):
                # Without the C++ names, all of ICU's begin with u.
                patterns.add(f"u*_{match[1]}")
            elif stem in found:
                found[stem] |= library.facts.exports - library.facts.defines - PRIVATE
    for stem, exports in found.items():
        rules: Sequence[str] = ()
        if stem == CXX:
            rules = CXX_PATTERNS
        elif stem in GROUPED:
            counts = Counter(match[0] for name in exports if (match := GROUP.match(name)))
            rules = [f"{start}*" for start, count in counts.items() if count >= GROUP_SIZE]
        patterns.update(rules)
        names |= _unmatched(exports, rules)
    return frozenset(names), patterns


def _server(images: Sequence[Image], postgres: Mapping[str, Postgres]) -> dict[str, object]:
    """The file of the server."""
    newest = {image.architecture: image for image in images if image.distro is NEWEST}
    [date] = {image.date for image in newest.values()}
    needed = {
        name: tuple(soname for soname in item.server.needed if not soname.startswith("ld-linux"))
        for name, item in postgres.items()
    }
    assert len(set(needed.values())) == 1
    stems = {*BASE, CXX, *map(_stem, needed[ARCHITECTURES[0]])}
    packages = {item.package.line() for item in postgres.values()}
    packages |= {
        library.package.line() for i in images for soname, library in i.libraries.items() if _stem(soname) in stems
    }
    exports: dict[str, frozenset[str]] = {}
    base: dict[str, frozenset[str]] = {}
    patterns: set[str] = set()
    for name, item in postgres.items():
        # Of variables of a library that the server names, it holds the only copy: they are exports, but not its own.
        copied = {export for soname in needed[name] for export in newest[name].libraries[soname].facts.exports}
        exports[name] = item.server.exports - PRIVATE - copied
        base[name], found = _base([image for image in images if image.architecture == name], stems)
        patterns |= found
    texts = {
        "server": f"bin/postgres of {NEWEST.name}'s postgresql-{MAJOR}; the loader is left out of what it needs.",
        "base": f"The names that {', '.join(sorted(stems))} define in any distribution that has a policy.",
    }
    return {
        "major": MAJOR,
        "provenance": _provenance(date, texts, sorted(packages)),
        "server": {"needed": list(needed[ARCHITECTURES[0]]), **_keys("exports", exports)},
        "base": {"patterns": _text(patterns), **_keys("names", base)},
    }


def _make(work: Path) -> dict[str, str]:
    """The files by name."""
    pairs = [(distro, architecture) for distro in DISTROS for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda pair: _image(pair[0], pair[1], work), pairs))
    postgres = {image.architecture: _postgres(packages) for image, packages in made if image.distro is NEWEST}
    newest = {image.architecture: image for image, _ in made if image.distro is NEWEST}
    for image, _ in made:
        _check(image)
    images = [_with_newest(image, newest[image.architecture]) for image, _ in made]
    [first, second] = postgres.values()
    assert (first.extensions, first.modules) == (second.extensions, second.modules)
    date = newest[ARCHITECTURES[0]].date
    files = {
        f"{distro.name}.json": _policy(distro, [item for item in images if item.distro is distro], first, date)
        for distro in DISTROS
    }
    files[f"server-{MAJOR}.json"] = _server(images, postgres)
    return {name: json.dumps(document, indent=1) + "\n" for name, document in files.items()}


def main() -> int:
    """Make the files, or compare them."""
    parser = argparse.ArgumentParser(description="Make the data of ocibuild.postgres.policies from Debian's packages.")
    parser.add_argument(
        "--verify", action="store_true", help="compare with the files there are; exit 1 when one differs"
    )
    parser.add_argument(
        "--work", type=Path, help="a folder for the packages, to be used again; default: a temporary one"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = _make((options.work or Path(scratch)).absolute())
    differ = 0
    for name, text in files.items():
        path = TARGET / name
        if not options.verify:
            path.write_text(text)
            print(f"{name}: {len(text.encode()):,} bytes")
            continue
        there = path.read_text() if path.exists() else ""
        changed = [
            line
            for line in difflib.unified_diff(there.splitlines(), text.splitlines(), "there", "made", lineterm="", n=0)
            if not line.startswith("@@")
        ]
        differ += bool(changed)
        print(f"{name}: {'differs' if changed else 'the same'}", *changed[:SHOWN], sep="\n")
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
