"""What is attached to an image: how it is named, found, shown, kept and left behind."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from ocibuild import ArchiveStore, Artifact, LayoutStore, LocalStore, MemoryStore, Platform, build_image, copy
from ocibuild.cli.progress import blob_progress
from ocibuild.describe import describe_attached
from ocibuild.errors import ContentError, DigestMismatchError, DocumentError, NotFoundError, UsageError
from ocibuild.locations import open_artifact, open_store
from ocibuild.oci import Descriptor, Digest, Index, Manifest, media_types
from ocibuild.oci.annotations import REF_NAME
from ocibuild.oci.canonical import decode, encode
from ocibuild.store import entries
from ocibuild.store.attached import attached_tag, is_attached_tag
from ocibuild.store.base import Retagging
from ocibuild.store.documents import attach_document
from ocibuild.store.graph import push_blob, read_document
from ocibuild.store.merge import Merged, merge
from tests.conftest import Result
from tests.contract.test_referrers import SIGNATURE, attach, flood, hiding, image, keys_of, signatures

Cli = Callable[..., Result]
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def test_tags() -> None:
    digest = Digest.of(b"x")
    assert attached_tag(digest) == "sha256-" + digest.encoded
    assert attached_tag(digest, "sig") == f"sha256-{digest.encoded}.sig"
    assert attached_tag(Digest("sha512:" + "ab" * 64)) == "sha512-" + "ab" * 32  # as long as a tag may be
    for kind in ("", "sig", "att", "sbom"):
        assert is_attached_tag(attached_tag(digest, kind))
    for name in ("1.0", "sha256-abc.sig", f"sha256-{digest.encoded}.other", f"x-sha256-{digest.encoded}", "sha256-"):
        assert not is_attached_tag(name)


@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
def test_the_one_image_is_found_among_what_is_attached(kind: str, tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "place"
    with LayoutStore(path) if kind == "oci" else ArchiveStore(path) as store:
        copy(image(), store, tags=["1"], referrers=True)
    assert open_artifact(f"{kind}:{path}").digest == image().digest
    # A signature can be named all the same.
    tag = attached_tag(image().digest, "sig")
    assert open_artifact(f"{kind}:{path}:{tag}").digest != image().digest
    copied = cli("copy", f"{kind}:{path}", f"oci:{tmp_path}/other")
    assert copied.out == f"{image().digest} copied to oci:{tmp_path}/other as 1\n"
    assert copied.err.endswith("8 manifests refer to the image and were not copied: --referrers takes such along\n")
    assert cli("copy", f"{kind}:{path}", f"oci:{tmp_path}/other", "--referrers").err == ""
    assert len(LayoutStore(tmp_path / "other").tags()) == 6


def test_the_one_image_need_not_have_a_tag(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        built = copy(build_image([], platform=Platform.parse("amd64")), layout)
        signatures(layout, built.root, ["key"])
        with pytest.raises(NotFoundError, match="no image"):
            open_artifact(f"oci:{tmp_path}/x")
        layout.add(built.root)
    assert open_artifact(f"oci:{tmp_path}/x").digest == built.digest


def test_several_images_are_told_without_what_is_attached(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        copy(image(), layout, tags=["1"], referrers=True)
        copy(build_image([], platform=Platform.parse("amd64")), layout, tags=["2"])
    with pytest.raises(UsageError, match="2 images") as caught:
        open_artifact(f"oci:{tmp_path}/x")
    assert caught.value.hint == "Add :TAG, one of 1, 2"


def test_gc_keeps_it(tmp_path: Path, cli: Cli) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        copy(image(), layout, tags=["1"], referrers=True)
        push_blob(layout, b"nothing needs this", "text/plain")
    assert cli("gc", tmp_path / "x").out == "1 blobs removed, 18 B\n"
    into = MemoryStore()
    copy(open_artifact(f"oci:{tmp_path}/x"), into, referrers=True)
    assert keys_of(into, image().root) == ["key 1", "key 2"]


def test_inspect_shows_it(cli: Cli, tmp_path: Path) -> None:
    store = MemoryStore()
    built = copy(build_image([], platform=Platform.parse("amd64")), store)
    empty = push_blob(store, b"{}", media_types.EMPTY)

    def refer(kind: str, layer: Descriptor = empty, **annotations: str) -> Descriptor:
        notes = {key.replace("_", "."): value for key, value in annotations.items()}
        manifest = Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=empty,
            layers=(layer,),
            artifact_type=kind,
            subject=built.root.bare,
            annotations=notes or None,
        )
        return push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)

    predicate = "https://sigstore.dev/cosign/sign/v1"
    refer(BUNDLE, dev_sigstore_bundle_predicateType=predicate)
    sbom = refer("application/vnd.cyclonedx+json", push_blob(store, b"bom", "application/vnd.cyclonedx+json"))
    refer("application/spdx+json")
    refer("application/vnd.cncf.notary.signature")
    refer("application/vnd.example")
    signatures(store, built.root, ["1", "2"])
    signatures(store, sbom, ["1"])
    attach(store, built.root, "att", [b"{}"], "application/vnd.dsse.envelope.v1+json", {"predicateType": "a\x1b[31m"})
    attach(store, built.root, "sbom", [b"<x/>"], "text/spdx")
    with LayoutStore(tmp_path / "x") as layout:
        copy(built, layout, tags=["1"], referrers=True)
    out = cli("inspect", tmp_path / "x").out
    for line in (
        "signature (sigstore bundle)",
        "SBOM (CycloneDX)",
        "SBOM (SPDX)",
        "signature (Notation)",
        "application/vnd.example",
        "attestation (in-toto): a\\x1b[31m",
    ):
        assert re.search(f"─ {re.escape(line)} +sha256:", out)
    assert "\x1b" not in out
    found = json.loads(cli("inspect", tmp_path / "x", "--json").out)
    by_tag = {item["tag"].rpartition(".")[2]: item for item in found["attached"] if item["subject"] == built.digest}
    assert by_tag["sbom"]["kind"] == "SBOM (SPDX)"
    assert by_tag["sig"]["kind"].endswith("signature (cosign, simple signing)")
    assert [item["kind"] for item in found["attached"] if item["subject"] == sbom.digest] == [
        "signature (cosign, simple signing)"
    ]
    # What cannot be told does not hide the image.
    (tmp_path / "x/blobs/sha256" / sbom.digest.encoded).unlink()
    told = cli("inspect", tmp_path / "x")
    assert told.code == 0
    assert told.err.startswith("what is attached to the image cannot be told: ")
    assert json.loads(cli("inspect", tmp_path / "x", "--json").out)["attached"] is None


def test_inspect_shows_a_long_row_of_signatures_of_signatures(cli: Cli, tmp_path: Path) -> None:
    store = MemoryStore()
    built = copy(build_image([], platform=Platform.parse("amd64")), store)
    flood(store, built.root, 200, in_a_row=True)
    with LayoutStore(tmp_path / "x", sync=False) as layout:
        copy(built, layout, tags=["1"], referrers=True)
    shown = cli("inspect", tmp_path / "x")
    assert shown.code == 0
    assert len([line for line in shown.out.splitlines() if media_types.EMPTY in line]) == 200
    assert max(map(len, shown.out.splitlines())) < 250
    assert "└─ attached\n" in shown.out


def test_inspect_names_the_platform_that_a_signature_is_of(cli: Cli, tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        copy(image(), layout, tags=["1"], referrers=True)
    assert "└─ to linux/arm64\n" in cli("inspect", tmp_path / "x", "--no-files").out


@pytest.mark.parametrize(
    ("predicate", "kind"),
    [("https://slsa.dev/provenance/v1", "provenance (in-toto)"), ("https://x", "attestation (in-toto): https://x")],
)
def test_statements_are_told_by_their_predicate(predicate: str, kind: str) -> None:
    store = MemoryStore()
    built = copy(build_image([], platform=Platform.parse("amd64")), store)
    manifest = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        config=push_blob(store, b"{}", media_types.EMPTY),
        layers=(push_blob(store, b"statement", "application/vnd.in-toto+json"),),
        artifact_type="application/vnd.in-toto+json",
        subject=built.root,
        annotations={"in-toto.io/predicate-type": predicate},
    )
    push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)
    assert [item.kind for item in describe_attached(Artifact(built.root, store))] == [kind]


# Merging


def two(ours: list[str], theirs: list[str]) -> tuple[MemoryStore, Descriptor, MemoryStore, Descriptor]:
    subject = Descriptor.of(b"subject", media_types.IMAGE_MANIFEST)
    near, far = MemoryStore(), MemoryStore()
    return near, signatures(near, subject, ours), far, signatures(far, subject, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_kept"),
    [(["a"], ["a"], "theirs"), (["a"], ["a", "b"], "theirs"), (["b", "a"], ["a"], "ours"), (["a"], ["b"], "both")],
)
def test_merging_keeps_every_signature(ours: list[str], theirs: list[str], is_kept: str) -> None:
    near, mine, far, other = two(ours, theirs)
    made = merge(near, mine, far, other)
    if isinstance(made, Merged):
        assert is_kept == "both"
        tag = attached_tag(Digest.of(b"subject"), "sig")
        made.write(near, far, tag)
        assert keys_of(far, Descriptor.of(b"subject", media_types.IMAGE_MANIFEST)) == ["b", "a"]
        assert merge(near, mine, far, far.resolve(tag)) == far.resolve(tag)
    else:
        assert made == (mine if is_kept == "ours" else other)


def test_images_of_signatures_that_cannot_be_merged() -> None:
    near, mine, far, _ = two(["a"], ["b"])
    index = push_blob(
        far,
        encode({"schemaVersion": 2, "manifests": [], "mediaType": media_types.IMAGE_INDEX}),
        media_types.IMAGE_INDEX,
    )
    with pytest.raises(DocumentError, match="wanted an image of signatures"):
        merge(near, mine, far, index)
    for config in (b"{}", b'{"rootfs": []}', b'{"rootfs": {"diff_ids": null}}'):
        layer = push_blob(far, b"payload", "application/x")
        manifest = Manifest(config=push_blob(far, config, media_types.IMAGE_CONFIG), layers=(layer,))
        odd = push_blob(far, encode(manifest), media_types.IMAGE_MANIFEST)
        with pytest.raises(DocumentError, match="without diff IDs"):
            merge(near, mine, far, odd)


def test_a_configuration_that_is_none_stays_as_it_is() -> None:
    """Some tools write the empty one."""
    near, mine, far, _ = two(["a"], ["b"])
    layer = push_blob(far, b"payload", "application/x").with_annotation(SIGNATURE, "c")
    manifest = Manifest(config=push_blob(far, b"{}", media_types.EMPTY), layers=(layer,))
    odd = push_blob(far, encode(manifest), media_types.IMAGE_MANIFEST)
    made = merge(near, mine, far, odd)
    assert isinstance(made, Merged)
    assert (made.config, made.manifest.config.media_type) == (b"{}", media_types.EMPTY)
    assert [(item.annotations or {})[SIGNATURE] for item in made.manifest.layers] == ["c", "a"]


# What an index.json says


def rewrite(folder: Path, *entries: tuple[Descriptor, str]) -> None:
    """Put entries and their names into an index.json, as no tool of ours would."""
    named = [{**json.loads(encode(item.bare)), "annotations": {REF_NAME: name}} for item, name in entries]
    document = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": named}
    (folder / "index.json").write_text(json.dumps(document))


def packed(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in ("oci-layout", "index.json", "blobs"):
            tar.add(folder / name, name)
    return path


def plain(store: LocalStore, architecture: str = "amd64") -> Descriptor:
    return build_image([], platform=Platform.parse(architecture), into=store).root


def test_a_digest_is_no_tag(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        good, evil = plain(layout), plain(layout, "arm64")
    rewrite(tmp_path / "x", (evil, good.digest), (evil, "1"))
    archive = packed(tmp_path / "x", tmp_path / "x.tar")
    for place in (f"oci:{tmp_path}/x", f"oci-archive:{archive}"):
        assert open_artifact(f"{place}@{good.digest}").digest == good.digest
        assert list(open_store(place).tags()) == ["1"]
    rewrite(tmp_path / "x", (good, evil.digest))
    assert open_artifact(f"oci:{tmp_path}/x").digest == good.digest


def test_a_store_that_gives_another_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        good, evil = plain(layout), plain(layout, "arm64")
    monkeypatch.setattr(LayoutStore, "resolve", lambda *_: evil)
    with pytest.raises(DigestMismatchError, match="an image with digest"):
        open_artifact(f"oci:{tmp_path}/x@{good.digest}")


def test_a_tag_on_two_images_is_refused(tmp_path: Path, cli: Cli) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        one, two = plain(layout), plain(layout, "arm64")
    rewrite(tmp_path / "x", (one, "1"), (two, "1"), (two, "2"), (two, "2"))
    for place in (f"oci:{tmp_path}/x", f"oci-archive:{packed(tmp_path / 'x', tmp_path / 'x.tar')}"):
        with pytest.raises(DocumentError, match="the tag '1' on two images"):
            open_artifact(f"{place}:1")
        with pytest.raises(DocumentError, match="the tag '1' on two images"):
            open_store(place).tags()
        assert open_artifact(f"{place}:2").digest == two.digest
        assert open_artifact(f"{place}@{one.digest}").digest == one.digest
        told = cli("inspect", f"{place}@{one.digest}")
        assert (told.code, told.err.partition(":")[0]) == (0, "the image's tags cannot be told")
        copy(open_artifact(f"{place}@{one.digest}"), MemoryStore(), referrers=True)
    with LayoutStore(tmp_path / "x") as layout:
        layout.tag(one, "1")
    assert list(LayoutStore(tmp_path / "x").tags()) == ["1", "2"]


def test_a_missing_tag_is_told_without_what_is_attached(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        copy(image(), layout, tags=["1"], referrers=True)
    with pytest.raises(NotFoundError) as caught:
        open_artifact(f"oci:{tmp_path}/x:0")
    assert caught.value.wanted == "one of: 1"


def test_a_list_is_read_once_whatever_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        subject = plain(layout)
        items = tuple(Descriptor.of(str(n).encode(), media_types.IMAGE_MANIFEST) for n in range(20))
        index = Index(media_type=media_types.IMAGE_INDEX, manifests=items)
        listed = push_blob(layout, encode(index), media_types.IMAGE_INDEX)
    rewrite(tmp_path / "x", *((listed, f"sha256-{n:064x}") for n in range(50)))
    asked: list[Digest] = []
    fetch = LayoutStore.fetch

    def fetched(self: LayoutStore, item: Descriptor) -> BinaryIO:
        asked.append(item.digest)
        return fetch(self, item)

    monkeypatch.setattr(LayoutStore, "fetch", fetched)
    assert LayoutStore(tmp_path / "x").referrers(subject) == []
    assert asked.count(listed.digest) == 2  # as a list, and as what may itself refer
    assert len(asked) == 22
    monkeypatch.setattr(entries, "_ENTRIES_LIMIT", 10)
    with pytest.raises(ContentError, match="more than 10 referrers"):
        LayoutStore(tmp_path / "x").referrers(subject)


# Both a manifest and a blob


def hidden(store: LocalStore) -> tuple[Descriptor, Descriptor]:
    """An index whose first manifest has the second one as a layer; and the configuration that a lazy walk misses."""
    image = plain(store)
    document = read_document(store, image)
    assert isinstance(document, Manifest)
    return hiding(store, image), document.config


def test_what_is_named_as_a_blob_too_is_followed(tmp_path: Path) -> None:
    source = MemoryStore()
    root, config = hidden(source)
    target = MemoryStore()
    copy(Artifact(root, source), target)
    assert target.exists(config)
    with LayoutStore(tmp_path / "x") as layout:
        layout.tag(hidden(layout)[0], "1")
    assert LayoutStore(tmp_path / "x").gc() == (0, 0)
    assert LayoutStore(tmp_path / "x").exists(config)


# Moving a tag only if nobody else has


@pytest.mark.parametrize("kind", ["memory", "layout", "archive"])
def test_a_tag_is_moved_if_it_is_as_expected(kind: str, tmp_path: Path) -> None:
    store: MemoryStore | LayoutStore | ArchiveStore = MemoryStore()
    if kind != "memory":
        store = LayoutStore(tmp_path / "x") if kind == "layout" else ArchiveStore(tmp_path / "x")
    assert isinstance(store, Retagging)
    with store:
        one, two = plain(store).bare, plain(store, "arm64").bare
        assert not store.retag(one, "1", one)
        assert store.retag(one, "1", None)
        assert not store.retag(two, "1", None)
        assert not store.retag(two, "1", two)
        assert store.resolve("1") == one
        assert store.retag(two, "1", one)
        assert store.resolve("1") == two
        with pytest.raises(NotFoundError):
            store.retag(Descriptor.of(b"not here", media_types.IMAGE_MANIFEST), "1", two)
        with pytest.raises(UsageError):
            store.retag(one, "a/b", None)


@pytest.mark.parametrize("there", [["b"], []])
def test_a_signature_that_is_made_during_a_copy_stays(there: list[str], tmp_path: Path) -> None:
    source = MemoryStore()
    subject = plain(source)
    signatures(source, subject, ["a"])
    with LayoutStore(tmp_path / "x") as layout:
        if there:
            signatures(layout, subject, there)

        def sign_too(done: Descriptor) -> None:
            if done.digest == subject.digest:
                signatures(layout, subject, [*there, "late"])

        copy(Artifact(subject, source), layout, tags=["1"], referrers=True, on_done=sign_too)
        assert keys_of(layout, subject) == [*there, "late", "a"]


# What copy says and names


def test_a_tag_of_what_is_attached_is_not_taken_for_the_images_own(tmp_path: Path, cli: Cli) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        subject = plain(layout)
    other = attached_tag(Digest.of(b"another image"), "sig")
    rewrite(tmp_path / "x", (subject, "1"), (subject, other))
    copied = cli("copy", f"oci:{tmp_path}/x", f"oci:{tmp_path}/y", "--referrers")
    assert copied.out.endswith(" as 1\n")
    assert list(LayoutStore(tmp_path / "y").tags()) == ["1"]


def test_copy_tells_what_a_tag_named_before(tmp_path: Path, cli: Cli) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        one, two = plain(layout), plain(layout, "arm64")
        layout.tag(one, "1")
        layout.tag(two, "2")
    into = f"oci:{tmp_path}/y:0.2.0"
    assert cli("copy", f"oci:{tmp_path}/x:1", into).err == ""
    assert cli("copy", f"oci:{tmp_path}/x:1", into).err == ""
    assert cli("copy", f"oci:{tmp_path}/x:2", into).err == f"0.2.0 named {one.digest} before\n"


def test_a_blob_has_one_line_and_a_speed_if_it_moved(capsys: pytest.CaptureFixture[str]) -> None:
    layer = Descriptor(media_type=media_types.LAYER_GZIP, digest=Digest.of(b"1"), size=1 << 20)
    moved = Descriptor(media_type=media_types.LAYER_GZIP, digest=Digest.of(b"2"), size=1 << 20)
    with blob_progress("copying", 0, has_lines=True) as shown:
        source, target = MemoryStore(), MemoryStore()
        root = plain(source)
        copy(Artifact(root, source), target)
        copy(Artifact(root, source), target, on_progress=shown.advance, on_done=shown.done)
        shown.advance(moved, moved.size)
        for item in (layer, moved, layer, moved):
            shown.done(item)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["there", "config"],
        ["there", "manifest"],
        ["there", "layer"],
        ["copied", "layer"],
    ]
    assert [line.endswith("/s") for line in lines] == [False, False, False, True]


def test_what_is_attached_is_shown_in_order(tmp_path: Path, cli: Cli) -> None:
    with LayoutStore(tmp_path / "x") as layout:
        copy(image(), layout, tags=["1"], referrers=True)
        manifest = Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=push_blob(layout, b"{}", media_types.EMPTY),
            layers=(push_blob(layout, b"statement", "application/vnd.in-toto+json"),),
            artifact_type="application/vnd.in-toto+json",
            subject=image().root,
            annotations={"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"},
        )
        push_blob(layout, encode(manifest), media_types.IMAGE_MANIFEST)
    lines = cli("inspect", tmp_path / "x", "--no-files").out.partition("attached\n")[2].splitlines()
    own = [line for line in lines if re.match(" {3}[├└]─ ", line)]
    assert [line.split("─ ")[1].split(" sha256:")[0].strip() for line in own][:3] == [
        "2 × signature (cosign, simple signing)",  # noqa: RUF001
        "provenance (in-toto)",
        "SBOM (CycloneDX)",
    ]
    assert own[-1].endswith("to linux/arm64")
    assert len({line.index("sha256:") for line in own[:-1]}) == 1


def test_an_odd_artifact_type_is_kept_and_hides_nothing(tmp_path: Path) -> None:
    """Tools have written parameters behind a type."""
    odd = "application/vnd.dev.sigstore.bundle+json;version=0.2"
    with LayoutStore(tmp_path / "layout") as layout:
        image = build_image([], platform=Platform.parse("linux/amd64"), into=layout)
        layout.tag(image.root, "1")
        attach_document(layout, image.root, b"{}", odd)
        attach_document(layout, image.root, b"{}", "application/json")
    copied = MemoryStore()
    copy(open_artifact(f"oci:{tmp_path}/layout"), copied, referrers=True)
    assert {item.artifact_type for item in copied.referrers(image.root)} == {odd, "application/json"}
    with pytest.raises(DocumentError, match="not a valid Descriptor"):
        decode(
            b'{"mediaType":"a/b","digest":"%s","size":1,"artifactType":"\\u001b"}' % image.digest.encode(), Descriptor
        )
