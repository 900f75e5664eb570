"""A CPython linked with musl, made of Debian's sources with the machine's own gcc."""

from __future__ import annotations

import os
from pathlib import Path

from tests.matrix.roots import Apt, Cache, UnavailableError, call, needs, unpack

SUITE, PYTHON = "trixie", "3.13"
"""Since 3.12 the whole build is in the Makefile: none of it looks for the machine's own libraries."""


def python(cache: Cache) -> Path:
    """The interpreter. Its build takes some minutes, once."""
    folder = cache.made(f"musl-{PYTHON}", lambda folder: _make(cache, folder))
    return folder / "python" / "bin" / f"python{PYTHON}"


def _make(cache: Cache, folder: Path) -> None:
    needs("gcc", "make", "tar", "xz")
    apt = Apt(cache, SUITE, "amd64")
    apt("install", "--download-only", "-y", "--no-install-recommends", "musl", "musl-dev")
    root, prefix, work = folder / "root", folder / "python", cache.kit / "musl"
    root.mkdir()
    unpack(sorted((apt.folder / "cache" / "archives").glob("musl*.deb")), root)
    compiler = _compiler(root, folder)
    settings = {**os.environ, "CC": str(compiler), "PKG_CONFIG": "false", "CFLAGS": "-O1 -fPIC"}
    for package in ("zlib", f"python{PYTHON}"):
        (work / package).mkdir(parents=True)
        call(["tar", "-x", "--strip-components=1", "-C", work / package, "-f", apt.source(package)])
    jobs = f"-j{os.cpu_count() or 1}"
    zlib = work / "zlib"
    call(["./configure", "--static", f"--prefix={prefix}"], cwd=zlib, environment=settings)
    call(["make", jobs, "libz.a"], cwd=zlib, environment=settings)
    settings |= {"ZLIB_CFLAGS": f"-I{zlib}", "ZLIB_LIBS": f"-L{zlib} -lz", "OPT": "-DNDEBUG"}
    source = work / f"python{PYTHON}"
    call(
        ["./configure", f"--prefix={prefix}", "--disable-test-modules", "--without-ensurepip"],
        cwd=source,
        environment=settings,
    )
    call(["make", jobs], cwd=source, environment=settings)
    call(["make", "install"], cwd=source, environment=settings)
    if "zlib" not in call([prefix / "bin" / f"python{PYTHON}", "-c", "import zlib, hashlib; print(zlib.__name__)"]):
        raise UnavailableError("the CPython that was built has no zlib")


def _compiler(root: Path, folder: Path) -> Path:
    """gcc with musl's headers, start files and loader in place of glibc's: what musl-gcc is, where the root lies."""
    library, headers = root / "usr/lib/x86_64-linux-musl", root / "usr/include/x86_64-linux-musl"
    specs, compiler = folder / "specs", folder / "cc"
    specs.write_text(f"""\
%rename cpp_options old_cpp_options

*cpp_options:
-nostdinc -isystem {headers} -isystem include%s %(old_cpp_options)

*cc1:
%(cc1_cpu) -nostdinc -isystem {headers} -isystem include%s

*link_libgcc:
-L{library} -L .%s

*libgcc:
libgcc.a%s %:if-exists(libgcc_eh.a%s)

*startfile:
%{{!shared: {library}/Scrt1.o}} {library}/crti.o crtbeginS.o%s

*endfile:
crtendS.o%s {library}/crtn.o

*link:
-dynamic-linker {library}/libc.so -nostdlib %{{shared:-shared}} %{{rdynamic:-export-dynamic}}

*esp_link:


*esp_options:


*esp_cpp_options:


""")
    compiler.write_text(
        f'#!/bin/sh\n[ "$1" = --print-multiarch ] && exec echo x86_64-linux-musl\nexec gcc "$@" -specs "{specs}"\n'
    )
    compiler.chmod(0o755)
    return compiler
