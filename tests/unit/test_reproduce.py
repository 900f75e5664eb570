"""The canary, the provenance, and `rebuild`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

import ocibuild
from ocibuild import (
    Compression,
    LayoutStore,
    MemoryStore,
    Provenance,
    attach_provenance,
    build_layer,
    find_provenance,
    postgres,
    rebuild,
)
from ocibuild.describe import describe
from ocibuild.errors import CodecError, DocumentError, UsageError
from ocibuild.layer import format as layer_format
from ocibuild.oci import Descriptor, Manifest
from ocibuild.oci.canonical import encode
from ocibuild.provenance import BUILD_TYPE, PREDICATE_TYPE, Resource, folder_resource, installed_codecs
from ocibuild.store.documents import attached_documents
from ocibuild.store.graph import read_blob, read_document
from ocibuild.workflow import github_workflow
from tests.conftest import Result
from tests.support import format_example
from tests.support.tools import ROOT, TREES, run

Cli = Callable[..., Result]

# A package that has the right name and interface, and another library in it, as distributions have made.
IMPOSTOR = """
import zlib
__version__ = "0.9.0"
def gzip_compress(data, level):
    codec = zlib.compressobj(level, wbits=31)
    return codec.compress(data) + codec.flush()
"""


@pytest.fixture
def impostor(tmp_path: Path) -> Mapping[str, str]:
    """An environment in which `deflate` is zlib."""
    (tmp_path / "impostor").mkdir()
    (tmp_path / "impostor/deflate.py").write_text(IMPOSTOR)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "impostor"), str(ROOT)])}


def command(environment: Mapping[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ocibuild", *map(str, arguments)],
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_codecs_give_the_known_answers() -> None:
    for compression, codec in layer_format.CODECS.items():
        assert layer_format.known_answer(compression) == codec.answer


def test_the_known_input_is_what_the_page_says() -> None:
    data = layer_format._known_input()
    page = (ROOT / "docs/reference/format-1.md").read_text()
    assert f"a known input of {len(data):,} bytes" in page
    for compression, codec in layer_format.CODECS.items():
        assert codec.answer in page
        assert codec.repeats == 1 or f"{codec.repeats} times over as one for {compression.value}" in page
    # zstd divides its work only beyond 8 MiB; the input must be longer for that to show.
    assert len(data) * layer_format.CODECS[Compression.ZSTD].repeats > 8 * 1024 * 1024


def test_a_codec_that_gives_other_bytes_is_refused(impostor: Mapping[str, str], tmp_path: Path) -> None:
    result = command(impostor, "build", *TREES, "-o", f"oci:{tmp_path}/x")
    assert result.returncode == 10, result.stderr
    assert "deflate 0.9.0" in result.stderr
    assert "wanted deflate 0.9, whose answer is 366d0d9e7696" in result.stderr
    assert "--no-reproducible" in result.stderr
    assert not (tmp_path / "x").exists()
    told = command(impostor, "--version", "--verbose")
    assert "OTHER BYTES" in told.stdout


def test_a_codec_that_gives_other_bytes_is_warned_of(impostor: Mapping[str, str], hello: Path, tmp_path: Path) -> None:
    result = command(impostor, "build", *TREES, "-o", f"oci:{tmp_path}/x", "--no-reproducible", "--json")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("warning: deflate 0.9.0") == 1
    golden = json.loads((ROOT / "tests/golden/pgrx_hello.json").read_text())
    built = ocibuild.open_artifact(f"oci:{tmp_path}/x")
    assert built.digest != golden["index"]
    # What needs no such codec is not asked for it.
    plain = command(impostor, "build", *TREES, "-o", f"oci:{tmp_path}/y", "--compression", "none")
    assert plain.returncode == 0, plain.stderr


def test_only_the_compressed_bytes_differ(impostor: Mapping[str, str], cli: Cli, tmp_path: Path) -> None:
    assert command(
        impostor, "build", *TREES, "-o", f"oci:{tmp_path}/x", "--no-reproducible", "--provenance"
    ).returncode == 0  # fmt: skip
    result = cli("rebuild", f"oci:{tmp_path}/x", *TREES)
    assert result.code == 1
    assert "only the compressed bytes differ, the archives are equal" in result.out
    assert "layers are gzip, compressed by deflate 0.9.0" in result.out
    assert f"these are gzip, compressed by {installed_codecs()['gzip']}" in result.out
    assert "zlib" in result.out
    found = json.loads(cli("rebuild", f"oci:{tmp_path}/x", *TREES, "--json").out)
    assert found["onlyCompression"]
    assert {item["name"] for item in found["levels"] if item["image"] == item["built"]} == {"config", "diff ID"}


def test_the_library_refuses_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {key: layer_format.Codec(package=item.package, series=item.series, settings="", repeats=1, answer="0" * 64)
             for key, item in layer_format.CODECS.items()}  # fmt: skip
    monkeypatch.setattr(layer_format, "CODECS", wrong)
    monkeypatch.setattr(layer_format, "_checked", {})
    for compression in (Compression.GZIP, Compression.ZSTD):
        with pytest.warns(ocibuild.CodecWarning, match="digests will differ"):
            build_layer([], into=MemoryStore(), compression=compression, reproducible=False)
        # Once a process.
        build_layer([], into=MemoryStore(), compression=compression, reproducible=False)
        with pytest.raises(CodecError, match="wanted"):
            build_layer([], into=MemoryStore(), compression=compression)
        with pytest.raises(CodecError):
            postgres.build_extension([postgres.open_source(TREES[0])], compression=compression)


def test_the_version_names_the_format(cli: Cli) -> None:
    assert cli("--version").out == f"ocibuild {ocibuild.__version__} (format {ocibuild.FORMAT})\n"
    told = cli("--version", "--verbose").out
    assert "deflate 0.9" in told
    assert "zstandard 0.25" in told
    assert "as the format names" in told
    assert cli("--version", "--verbose").code == 0


def test_the_page_shows_the_bytes() -> None:
    assert format_example.page_section() == format_example.section()


@pytest.fixture
def built(cli: Cli, tmp_path: Path) -> Path:
    result = cli("build", *TREES, "-o", f"oci:{tmp_path}/built", "--provenance", "--label", "licenses=Apache-2.0")
    assert result.code == 0, result.err
    return tmp_path / "built"


def statement(image: ocibuild.Artifact) -> dict[str, object]:
    [referrer] = image.source.referrers(image.root)  # type: ignore[attr-defined]
    manifest = read_document(image.source, referrer)
    assert isinstance(manifest, Manifest)
    found: dict[str, object] = json.loads(read_blob(image.source, manifest.layers[0]))
    return found


def test_provenance_says_what_was_packed(built: Path) -> None:
    image = ocibuild.open_artifact(str(built))
    found = find_provenance(image)
    assert found is not None
    assert found.format == 1
    assert found.codecs == installed_codecs()
    assert found.parameters == {"name": "pgrx_hello", "compression": "gzip", "labels": {"licenses": "Apache-2.0"}}
    assert [item.name for item in found.sources] == ["linux/amd64=pgrx_hello-pg18", "linux/arm64=pgrx_hello-pg18"]
    said = statement(image)
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["subject"] == [{"digest": {"sha256": image.digest.encoded}}]
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert str(ROOT) not in json.dumps(said)


def test_provenance_does_not_change_the_image(cli: Cli, tmp_path: Path) -> None:
    plain = json.loads(cli("build", *TREES, "-o", f"oci:{tmp_path}/a", "--json").out)
    golden = json.loads((ROOT / "tests/golden/pgrx_hello.json").read_text())
    assert plain["digest"] == golden["index"]
    with_it = json.loads(cli("build", *TREES, "-o", f"oci:{tmp_path}/b", "--json", "--provenance").out)
    assert with_it["digest"] == golden["index"]
    assert find_provenance(ocibuild.open_artifact(f"oci:{tmp_path}/a")) is None


def test_provenance_is_the_same_wherever_it_is_made(
    cli: Cli, built: Path, packages: tuple[Path, Path], tmp_path: Path
) -> None:
    assert (
        cli("build", *packages, "-o", f"oci:{tmp_path}/c", "--provenance", "--label", "licenses=Apache-2.0").code == 0
    )
    one, other = (ocibuild.open_artifact(str(place)) for place in (built, tmp_path / "c"))
    assert one.source.referrers(one.root) == other.source.referrers(other.root)  # type: ignore[attr-defined]


def test_a_folders_digest_is_what_a_shell_makes(tmp_path: Path) -> None:
    shutil.copytree(TREES[0], tmp_path / "tree")
    (tmp_path / "tree/Z é").write_text("x")
    (tmp_path / "tree/empty").mkdir()
    (tmp_path / "tree/link").symlink_to("Z é")
    line = "find . -type f -print0 | cut -z -c3- | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -f1 -d' '"
    said = run(["bash", "-c", line], cwd=tmp_path / "tree").stdout.strip()
    assert folder_resource(tmp_path / "tree").digest == {"dirHash": said}


def test_a_statement_about_another_image_is_passed_over(built: Path) -> None:
    with LayoutStore(built) as store:
        image = ocibuild.open_artifact(str(built))
        [referrer] = store.referrers(image.root)
        manifest = read_document(store, referrer)
        assert isinstance(manifest, Manifest)
        other = postgres.build_extension([postgres.open_source(TREES[0])], into=store)
        store.tag(other.root, "other")
        forged = msgspec.structs.replace(manifest, subject=other.root.bare)
        push(store, encode(forged), manifest.media_type or "")
        assert find_provenance(ocibuild.Artifact(other.root, store)) is None


OURS = {"predicateType": PREDICATE_TYPE, "predicate": {"buildDefinition": {"buildType": BUILD_TYPE}}}
SPDX = b'{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://spdx.dev/Document","predicate":{"a":[]}}'


def with_statement(text: bytes) -> ocibuild.Artifact:
    """An image with a statement of the given text beside it."""
    store = MemoryStore()
    image = postgres.build_extension([postgres.open_source(TREES[0])], into=store)
    attach_provenance(image, store, Provenance(parameters={}, version="1"))
    [referrer] = store.referrers(image.root)
    manifest = read_document(store, referrer)
    assert isinstance(manifest, Manifest)
    fresh = MemoryStore()
    ocibuild.copy(image, fresh)
    wrong = push(fresh, text, manifest.layers[0].media_type)
    push(fresh, b"{}", manifest.config.media_type)
    push(fresh, encode(msgspec.structs.replace(manifest, layers=(wrong,))), manifest.media_type or "")
    return ocibuild.Artifact(image.root, fresh)


@pytest.mark.parametrize("text", [b"{}", b"[]", b"nonsense", b"[" * 200_000, SPDX])
def test_a_foreign_statement_is_passed_over(text: bytes) -> None:
    assert find_provenance(with_statement(text)) is None


def test_a_damaged_provenance_is_an_error() -> None:
    image = postgres.build_extension([postgres.open_source(TREES[0])])
    text = json.dumps({**OURS, "subject": [{"digest": {"sha256": image.digest.encoded}}]}).encode()
    with pytest.raises(DocumentError, match="a damaged provenance"):
        find_provenance(with_statement(text))


def test_an_image_with_a_layer_more_is_not_called_compressed_otherwise(tmp_path: Path) -> None:
    sources = [postgres.open_source(TREES[0])]
    store = MemoryStore()
    image = postgres.build_extension(sources, into=store)
    [child] = describe(image).images
    assert child.config is not None
    extra = build_layer([ocibuild.File(path="lib/evil.so", content=b"x")], into=store)
    layers = [
        ocibuild.Layer(descriptor=child.layers[0].descriptor, diff_id=child.layers[0].diff_id, uncompressed_size=0),
        extra,
    ]
    assert child.platform is not None
    built = ocibuild.build_image(
        layers, platform=child.platform, into=store, labels=child.config.labels, annotations=child.manifest.annotations,
        user="65532:65532",
    )  # fmt: skip
    evil = ocibuild.build_index([built], into=store, annotations=child.manifest.annotations)
    found = rebuild(evil, sources)
    assert not found.is_equal
    assert not found.only_compression


def test_labels_that_prove_nothing_are_told(cli: Cli, built: Path) -> None:
    out = cli("rebuild", built, *TREES).out
    assert out.splitlines()[-1] == "labels taken from the image, which the sources do not say: licenses"


def push(store: MemoryStore | LayoutStore, raw: bytes, media_type: str) -> Descriptor:
    import io

    descriptor = Descriptor.of(raw, media_type)
    store.push(descriptor, io.BytesIO(raw))
    return descriptor


def test_rebuild_reproduces(cli: Cli, built: Path) -> None:
    result = cli("rebuild", built, *TREES)
    assert (result.code, result.err) == (0, "")
    assert f"\nreproduced {ocibuild.open_artifact(str(built)).digest}\n" in result.out
    assert "rebuilt:" not in result.out


@pytest.mark.parametrize(
    "options",
    [
        ["--created", "1700000000"],
        ["--compression", "zstd"],
        ["--compression", "none", "--annotation", "io.example=1"],
        ["--label", "description=", "--label", "licenses=MIT"],
        ["--strip-libdir", "--folders", "--distro", "trixie", "--name", "other"],
        ["--platform", "linux/arm64", "--set-version", "9.9"],
    ],
    ids=" ".join,
)
def test_rebuild_takes_up_the_settings(cli: Cli, tmp_path: Path, options: list[str]) -> None:
    assert cli("build", *TREES, "-o", f"oci:{tmp_path}/x", "--provenance", "--check", "off", *options).code == 0
    sources = TREES[1:] if "--platform" in options else TREES
    result = cli("rebuild", f"oci:{tmp_path}/x", *sources)
    assert result.code == 0, result.out + result.err


def test_rebuild_without_provenance_needs_what_does_not_show(
    cli: Cli, packages: tuple[Path, Path], tmp_path: Path
) -> None:
    notes = packages[0] / "usr/share/postgresql/18/extra"
    for tree in packages:
        notes = next(tree.rglob("extension")).parent / "extra"
        notes.mkdir()
        (notes / "notes.txt").write_text("x")
    assert cli("build", *packages, "-o", f"oci:{tmp_path}/x", "--include", "*/extra/*").code == 0
    missing = cli("rebuild", f"oci:{tmp_path}/x", *packages)
    assert missing.code == 1
    assert "- file share/extra/notes.txt" in missing.out or "share/extra/notes.txt" in missing.out
    assert cli("rebuild", f"oci:{tmp_path}/x", *packages, "--include", "*/extra/*").code == 0


def test_rebuild_says_what_changed(cli: Cli, built: Path, packages: tuple[Path, Path]) -> None:
    script = next(packages[1].rglob("*.sql"))
    script.write_text(script.read_text() + "select 1;\n")
    result = cli("rebuild", built, *packages)
    assert result.code == 1
    assert "linux/arm64=pgrx_hello-pg18 is not what it was" in result.err
    assert "linux/amd64=" not in result.err
    assert "+select 1;" in result.out
    assert result.out.splitlines()[-1].startswith("not reproduced")
    found = json.loads(cli("rebuild", built, *packages, "--json").out)
    assert found["changedSources"] == ["linux/arm64=pgrx_hello-pg18 is not what it was"]
    same = [(item["platform"], item["name"]) for item in found["levels"] if item["image"] == item["built"]]
    assert same == [("linux/amd64", name) for name in ("manifest", "config", "layer", "diff ID")]
    assert not found["equal"]


def test_one_runner_checks_its_platform(cli: Cli, built: Path) -> None:
    result = cli("rebuild", built, TREES[1], "--platform", "linux/arm64")
    assert result.code == 0, result.out + result.err
    assert "amd64" not in result.out
    assert cli("rebuild", built, TREES[1]).code == 2


def test_trouble_is_two(cli: Cli, built: Path, tmp_path: Path) -> None:
    assert cli("rebuild", f"oci:{tmp_path}/nothing", *TREES).code == 2
    assert cli("rebuild", built, tmp_path / "nothing").code == 2
    assert cli("rebuild", built, *TREES, "--platform", "linux/amd64", "--platform", "linux/arm64").code == 2
    assert cli("diff", built, f"oci:{tmp_path}/nothing").code == 2
    assert cli("diff", built).code == 2


def test_another_format_is_not_rebuilt() -> None:
    store = MemoryStore()
    sources = [postgres.open_source(tree) for tree in TREES]
    image = postgres.build_extension(sources, into=store)
    attach_provenance(image, store, Provenance(format=2, codecs={}, parameters={}, version="7.0"))
    with pytest.raises(UsageError, match=r"an image of format 2, wanted format 1.*ocibuild 7.0"):
        rebuild(ocibuild.Artifact(image.root, store), sources)


def test_the_readmes_claim_holds_for_the_library() -> None:
    sources = [postgres.open_source(tree) for tree in TREES]
    image = postgres.build_extension(sources, labels={"vendor": "x"}, created=1)
    found = rebuild(image, sources)
    assert found.is_equal
    assert found.comparison.is_equal
    assert not found.only_compression
    assert all(level.is_equal for level in found.levels)
    other = rebuild(image, sources, labels={"vendor": "y"})
    assert [(item.kind, item.where) for item in other.comparison.differences] == [
        ("label", "org.opencontainers.image.vendor")
    ]


def test_resources_are_plain() -> None:
    said = Provenance(
        parameters={}, sources=(Resource(name="x", digest={"sha256": hashlib.sha256().hexdigest()}),), version="1"
    )
    image = postgres.build_extension([postgres.open_source(TREES[0])])
    plain = json.loads(said.statement(image.root))
    assert plain["predicate"]["buildDefinition"]["resolvedDependencies"] == [
        {"name": "x", "digest": {"sha256": hashlib.sha256().hexdigest()}}
    ]


def test_a_damaged_image_is_not_called_reproduced(cli: Cli, built: Path) -> None:
    blobs = sorted((built / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    layer = blobs[-1]
    whole = layer.read_bytes()
    for data in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        layer.write_bytes(data)
        assert cli("rebuild", built, *TREES).code == 2
    layer.unlink()
    assert cli("rebuild", built, *TREES).code == 2


def test_what_is_said_comes_first(cli: Cli, built: Path) -> None:
    for options in (["--name", "other"], ["--distro", "trixie"], ["--label", "licenses=MIT"], ["--created", "1"]):
        result = cli("rebuild", built, *TREES, *options)
        assert result.code == 1, options


def test_sources_are_known_by_their_digests(cli: Cli, built: Path, packages: tuple[Path, Path]) -> None:
    renamed = [tree.rename(tree.parent / "renamed") for tree in packages]
    assert cli("rebuild", built, *renamed)[:3:2] == (0, "")
    notes = renamed[0] / "README"
    notes.write_text("x")
    lines = cli("rebuild", built, *renamed).err.splitlines()
    assert lines == [
        "linux/amd64=pgrx_hello-pg18 was packed, and was not given",
        "linux/amd64=renamed was given, and was not packed",
    ]


def test_a_platform_without_a_source(cli: Cli, built: Path) -> None:
    result = cli("rebuild", built, TREES[0])
    assert result.code == 2
    assert "no source for linux/arm64, which the image has" in result.err
    assert "--platform linux/amd64" in result.err


def test_another_codec_is_told_as_that(cli: Cli, built: Path) -> None:
    result = cli("rebuild", built, *TREES, "--compression", "zstd")
    assert f"the image's layers are gzip, compressed by {installed_codecs()['gzip']}" in result.out
    assert f"these are zstd, compressed by {installed_codecs()['zstd']}" in result.out


def test_what_stays_behind_is_told(cli: Cli, built: Path, tmp_path: Path) -> None:
    told = cli("copy", built, f"oci-archive:{tmp_path}/a.tar")
    assert told.err == "1 manifest refers to the image and was not copied: --referrers takes such along\n"
    assert find_provenance(ocibuild.open_artifact(f"oci-archive:{tmp_path}/a.tar")) is None
    assert cli("copy", built, f"oci-archive:{tmp_path}/b.tar", "--referrers").err == ""
    assert find_provenance(ocibuild.open_artifact(f"oci-archive:{tmp_path}/b.tar")) is not None
    assert cli("rebuild", f"oci-archive:{tmp_path}/b.tar", *TREES).code == 0


GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "grove/pg_trickle",
    "GITHUB_REF": "refs/tags/v0.2.0",
    "GITHUB_SHA": "0123456789abcdef0123456789abcdef01234567",
    "GITHUB_WORKFLOW_REF": "grove/pg_trickle/.github/workflows/release.yml@refs/tags/v0.2.0",
    "RUNNER_ENVIRONMENT": "github-hosted",
}


def test_provenance_names_the_workflow(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    result = cli("build", *TREES, "-o", f"oci:{tmp_path}/x", "--provenance", "--sbom", "--json")
    assert result.code == 0, result.err
    image = ocibuild.open_artifact(f"{tmp_path}/x")
    attached = json.loads(result.out)["attached"]
    assert set(attached.values()) == {item.digest for item in image.source.referrers(image.root)}  # type: ignore[attr-defined]
    [raw] = attached_documents(image, "application/vnd.in-toto+json")
    predicate = json.loads(raw)["predicate"]
    assert predicate["buildDefinition"]["externalParameters"]["workflow"] == {
        "repository": "https://github.com/grove/pg_trickle",
        "ref": "refs/tags/v0.2.0",
        "path": ".github/workflows/release.yml",
    }
    assert predicate["buildDefinition"]["resolvedDependencies"][-1] == {
        "uri": "git+https://github.com/grove/pg_trickle@refs/tags/v0.2.0",
        "digest": {"gitCommit": GITHUB["GITHUB_SHA"]},
    }
    assert predicate["runDetails"]["builder"]["id"] == "https://github.com/actions/runner/github-hosted"
    found = find_provenance(image)
    assert found is not None
    assert found.workflow == github_workflow(GITHUB)
    assert found.statement(image.root) == raw
    # What ran it is no source of the image: it is built again elsewhere.
    for name in GITHUB:
        monkeypatch.delenv(name)
    again = cli("rebuild", f"{tmp_path}/x", *TREES)
    assert again.code == 0, again.out + again.err


def test_a_workflow_without_its_source_is_damage() -> None:
    image = postgres.build_extension([postgres.open_source(TREES[0])])
    said = Provenance(parameters={}, version="1", workflow=github_workflow(GITHUB)).statement(image.root)
    damaged = json.loads(said)
    changes: tuple[dict[str, object], ...] = (
        {"resolvedDependencies": []},
        {"resolvedDependencies": [{"name": "x", "digest": {}}]},
    )
    for change in changes:
        definition = {**damaged["predicate"]["buildDefinition"], **change}
        text = {**damaged, "predicate": {**damaged["predicate"], "buildDefinition": definition}}
        with pytest.raises(DocumentError, match="a damaged provenance"):
            find_provenance(with_statement(json.dumps(text).encode()))
