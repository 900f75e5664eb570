"""What is attached to an image: how it is named, found, shown, kept and left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, Artifact, LayoutStore, MemoryStore, Platform, build_image, copy
from ocibuild.describe import describe_attached
from ocibuild.errors import DocumentError, NotFoundError, UsageError
from ocibuild.locations import open_artifact
from ocibuild.oci import Descriptor, Digest, Manifest, media_types
from ocibuild.oci.canonical import encode
from ocibuild.store.attached import attached_tag, is_attached_tag
from ocibuild.store.graph import push_blob
from ocibuild.store.merge import Merged, merge
from tests.conftest import Result
from tests.contract.test_referrers import SIGNATURE, attach, flood, image, keys_of, signatures

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
        f"sigstore bundle: {predicate}  sha256:",
        "SBOM (CycloneDX)  sha256:",
        "SBOM (SPDX)  sha256:",
        "signature (Notation)  sha256:",
        "application/vnd.example  sha256:",
        "attestation (in-toto): a\\x1b[31m  sha256:",
    ):
        assert line in out
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
    assert "├─ to linux/arm64\n" in cli("inspect", tmp_path / "x", "--no-files").out


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
