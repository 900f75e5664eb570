"""What is attached to an image comes along from every store to every store: referrers, and cosign's tags."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ocibuild import ArchiveStore, Artifact, LayoutStore, LocalStore, MemoryStore, copy
from ocibuild.errors import (
    ContentError,
    DigestMismatchError,
    NotFoundError,
    OcibuildError,
    RegistryError,
)
from ocibuild.locations import open_artifact
from ocibuild.oci import Descriptor, Digest, Index, Manifest, media_types
from ocibuild.oci.annotations import REF_NAME
from ocibuild.oci.canonical import encode
from ocibuild.registry import RegistryStore
from ocibuild.registry.referrers import add_to_fallback
from ocibuild.store import find_platform, walk
from ocibuild.store.attached import attached_tag, is_attached_tag
from ocibuild.store.graph import push_blob, read_blob, read_config, read_document
from ocibuild.store.referrers import find_attached
from tests.contract import test_pairings as pairings
from tests.contract.test_pairings import ARM64, End, Sites, end, sign, watch
from tests.support.ghcr import ghcr
from tests.support.registry import registry, seen

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
KINDS = ("memory", "layout", "archive", "registry", "ghcr", "api")

Found = set[tuple[Digest, Digest, str]]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sites]]:
    """A registry without the referrers API, a site that lacks it as GHCR does, and one that has it."""
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder) as address, ghcr(address) as without, ghcr(address, has_referrers=True) as having:
        plain = Sites(address, folder, without)
        yield dict.fromkeys(KINDS, plain) | {"api": Sites(address, folder, having)}


def place(kind: str, sites: dict[str, Sites], folder: Path) -> End:
    return end("ghcr" if kind == "api" else kind, sites[kind], folder)


@functools.cache
def image() -> Artifact:
    """Two platforms, and attached to them all there is: to be read only.

    The index has a signature that is signed, cosign's signatures by two keys and an SBOM whose image is signed; the image
    for arm64 has a signature and an attestation.
    """
    store = MemoryStore()
    made = copy(pairings.image(), store)
    arm64 = find_platform(made, ARM64).root
    push_blob(store, b"{}", media_types.EMPTY)
    inner = sign(store, sign(store, made.root))
    sign(store, arm64)
    signatures(store, made.root, ["key 1", "key 2"])
    signatures(store, inner, ["key 1"])
    attach(store, arm64, "att", [b'{"payload": ""}'], "application/vnd.dsse.envelope.v1+json", {"predicateType": "x"})
    sbom = attach(store, made.root, "sbom", [b"<bom/>"], "application/vnd.cyclonedx+xml")
    signatures(store, sbom, ["key 3"])
    return made


def signatures(store: LocalStore, subject: Descriptor, keys: list[str], *, payload: str = "signed") -> Descriptor:
    """cosign's image of signatures: one payload, signed by several."""
    return attach(store, subject, "sig", [payload.encode()] * len(keys), SIMPLE, *[{SIGNATURE: key} for key in keys])


def attach(
    store: LocalStore, subject: Descriptor, kind: str, blobs: list[bytes], media_type: str, *notes: dict[str, str]
) -> Descriptor:
    layers = [push_blob(store, blob, media_type) for blob in blobs]
    config = {
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "history": [{"created": "0001-01-01T00:00:00Z"} for _ in layers],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "config": {},
    }
    named = [
        {**json.loads(encode(layer)), **({"annotations": notes[at]} if notes else {})}
        for at, layer in enumerate(layers)
    ]
    described = json.loads(encode(push_blob(store, json.dumps(config).encode(), media_types.IMAGE_CONFIG)))
    document = {"schemaVersion": 2, "mediaType": media_types.IMAGE_MANIFEST, "config": described, "layers": named}
    root = push_blob(store, json.dumps(document, indent=2).encode(), media_types.IMAGE_MANIFEST)
    store.tag(root, attached_tag(subject.digest, kind))
    return root


def keys_of(store: LocalStore, subject: Descriptor) -> list[str]:
    """Who has signed, by the image that cosign reads; its configuration fits its layers."""
    manifest = read_document(store, store.resolve(attached_tag(subject.digest, "sig")))
    assert isinstance(manifest, Manifest)
    config = read_config(store, manifest)
    assert list(config.rootfs.diff_ids) == [layer.digest for layer in manifest.layers]
    assert len(config.history or ()) == len(manifest.layers)
    for layer in manifest.layers:
        assert read_blob(store, layer)
    return [(layer.annotations or {})[SIGNATURE] for layer in manifest.layers]


def found(store: LocalStore, root: Descriptor) -> Found:
    return {(item.descriptor.digest, item.subject.digest, item.tag) for item in find_attached(store, root)}


@pytest.fixture(scope="module")
def sources(sites: dict[str, Sites], tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """The image and all that is attached to it, once in a place of each kind. Not to be written to."""
    ends = {kind: place(kind, sites, tmp_path_factory.mktemp("sources")) for kind in KINDS}
    for item in ends.values():
        with item.open() as store:
            copy(image(), store, tags=["1"], referrers=True)
    return ends


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, sources: dict[str, End]) -> Iterator[Artifact]:
    with sources[request.param].open() as store:
        yield Artifact(store.resolve("1"), store)


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, sites: dict[str, Sites], tmp_path: Path) -> End:
    return place(request.param, sites, tmp_path)


@pytest.fixture
def its_sites(request: pytest.FixtureRequest, sites: dict[str, Sites]) -> Sites:
    return sites[request.node.callspec.params["target"]]


def test_all_of_it_comes_along_once(
    source: Artifact, target: End, its_sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = image()
    wanted = found(original.source, original.root)  # type: ignore[arg-type]
    assert len(wanted) == 8
    assert len({digest for digest, _, _ in wanted}) == 8
    with target.open() as store:
        assert copy(source, store, tags=["1"], referrers=True).digest == original.digest
    with target.open() as store:
        assert found(store, original.root) == wanted
        for digest in [original.digest, *(digest for digest, _, _ in wanted)]:
            for item in walk(original.source, original.source.resolve(digest)):  # type: ignore[attr-defined]
                assert read_blob(store, item) == read_blob(original.source, item)
        tags = {name: item.digest for name, item in store.tags().items()}
        assert tags.items() >= {tag: digest for digest, _, tag in wanted if tag}.items()
        # Beside them only the lists that stand for the API, where a registry has none.
        others = tags.keys() - {tag for _, _, tag in wanted} - {"1"}
        assert all(is_attached_tag(name) and "." not in name for name in others)
        assert bool(others) == (isinstance(store, RegistryStore) and store.client.hostname != api(its_sites))
    with target.open() as store:
        writes = watch(its_sites, target, store, monkeypatch)
        copy(source, store, referrers=True)
        assert writes.since() == []
        copy(source, store, tags=["1", "2"], referrers=True)
        assert writes.since() == (["1", "2"] if isinstance(store, RegistryStore) else [])


def api(sites: Sites) -> str:
    return sites.site.address if sites.site.has_referrers else ""


def test_what_is_not_asked_for_stays(source: Artifact, target: End) -> None:
    with target.open() as store:
        copy(source, store, tags=["1"])
        assert found(store, source.root) == set()
        assert list(store.tags()) == ["1"]


def test_only_what_is_attached_to_the_platform(source: Artifact, target: End) -> None:
    original = image()
    arm64 = find_platform(original, ARM64).root
    wanted = found(original.source, arm64)  # type: ignore[arg-type]
    assert len(wanted) == 2
    with target.open() as store:
        copy(source, store, tags=["1"], platform=ARM64, referrers=True)
    with target.open() as store:
        assert found(store, arm64) == wanted
        assert found(store, original.root) == set() if store_has(store, original.root) else True


def store_has(store: LocalStore, descriptor: Descriptor) -> bool:
    try:
        return bool(store.resolve(descriptor.digest))
    except NotFoundError:
        return False


def test_signatures_that_are_only_there_stay(target: End, its_sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    original = image()
    with target.open() as store:
        copy(original, store, tags=["1"])
        signatures(store, original.root, ["key 2", "key of the far side"])
    with target.open() as store:
        copy(original, store, referrers=True)
    with target.open() as store:
        assert keys_of(store, original.root) == ["key 2", "key of the far side", "key 1"]
        merged = store.resolve(attached_tag(original.digest, "sig"))
    with target.open() as store:
        writes = watch(its_sites, target, store, monkeypatch)
        copy(original, store, referrers=True)
        assert writes.since() == []
    # And back: the side that has fewer of them takes the image of the other as it is.
    back = MemoryStore()
    copy(original, back, referrers=True)
    with target.open() as store:
        copy(Artifact(original.root, store), back, referrers=True)
        assert back.resolve(attached_tag(original.digest, "sig")) == merged
        # Another SBOM takes the place of the first, as a tag does.
        attach(store, original.root, "sbom", [b"<bom>another</bom>"], "application/vnd.cyclonedx+xml")
    with target.open() as store:
        copy(original, store, referrers=True)
        tag = attached_tag(original.digest, "sbom")
        assert store.resolve(tag).digest == original.source.resolve(tag).digest  # type: ignore[attr-defined]


def test_a_referrer_that_a_registry_has_and_does_not_list(sites: dict[str, Sites], tmp_path: Path) -> None:
    """Whoever sent it was killed before the list was written."""
    original, target = image(), place("registry", sites, tmp_path)
    with target.open() as store:
        assert isinstance(store, RegistryStore)
        copy(original, store, referrers=True)
        empty = encode(Index(media_type=media_types.IMAGE_INDEX, manifests=()))
        store.put_fallback(original.root, empty, media_types.IMAGE_INDEX, {})
    with target.open() as store:
        assert store.referrers(original.root) == []
        copy(original, store, referrers=True)
        assert found(store, original.root) == found(original.source, original.root)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["registry", "api"])
def test_an_artifact_type_with_a_parameter_hides_nothing(kind: str, sites: dict[str, Sites], tmp_path: Path) -> None:
    """Older sigstore bundles have one."""
    target, odd = place(kind, sites, tmp_path), "application/vnd.dev.sigstore.bundle+json;version=0.2"
    with target.open() as store:
        assert isinstance(store, RegistryStore)
        made = copy(image(), store, tags=["1"])
        empty = push_blob(store, b"{}", media_types.EMPTY)
        signed = sign(store, made.root)  # type: ignore[arg-type]
        manifest = Manifest(config=empty, layers=(empty,), artifact_type=odd, subject=made.root.bare)
        raw = encode(msgspec.structs.replace(manifest, media_type=media_types.IMAGE_MANIFEST))
        poison = Descriptor.of(raw, media_types.IMAGE_MANIFEST)
        url = f"manifests/{poison.digest}"
        store._send("PUT", url, "pull,push", body=raw, headers={"Content-Type": poison.media_type})
        if kind == "registry":
            add_to_fallback(store, made.root, msgspec.structs.replace(poison, artifact_type=odd))
    with target.open() as store:
        listed = {item.digest: item.artifact_type for item in store.referrers(made.root)}
        assert listed[signed.digest] == signed.artifact_type or signed.artifact_type is None
        assert listed[poison.digest] == odd
        assert len(store.referrers(made.root, artifact_type=odd)) == 1
        there = MemoryStore()
        copy(Artifact(made.root, store), there, referrers=True)
        assert {item.digest for item in there.referrers(made.root)} == listed.keys()
    with target.open() as store:  # the list can still be added to
        sign(store, find_platform(made, ARM64).root)  # type: ignore[arg-type]
        assert len(store.referrers(made.root)) == 2


@pytest.mark.parametrize("kind", ["registry", "api"])
def test_a_list_without_end(
    kind: str, sites: dict[str, Sites], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place(kind, sites, tmp_path).open() as store:
        copy(image(), store, tags=["1"], referrers=True)
        assert len(store.referrers(image().root)) == 1
        monkeypatch.setattr("ocibuild.registry.referrers._ITEMS", 0)
        with pytest.raises(RegistryError, match="more than 0 referrers"):
            store.referrers(image().root)


def test_the_list_of_another_tool_in_a_layout(tmp_path: Path) -> None:
    """Some keep the index that stands for the API in layouts too, under its tag, and list nothing else."""
    store = MemoryStore()
    made = copy(pairings.image(), store)
    push_blob(store, b"{}", media_types.EMPTY)
    signed = sign(store, made.root)
    listing = push_blob(
        store, encode(Index(media_type=media_types.IMAGE_INDEX, manifests=(signed,))), media_types.IMAGE_INDEX
    )
    with LayoutStore(tmp_path / "layout") as layout:
        copy(made, layout, tags=["1"])
        copy(Artifact(listing, store), layout, tags=[attached_tag(made.digest)])
        index = layout.index()
        layout.replace_index(
            Index(
                media_type=index.media_type,
                manifests=tuple(i for i in index.manifests if REF_NAME in (i.annotations or {})),
            )
        )
        assert sorted(layout.tags()) == ["1", attached_tag(made.digest)]
        assert len(layout.index().manifests) == 2
        assert [item.digest for item in layout.referrers(made.root)] == [signed.digest]
    for place in (MemoryStore(), LayoutStore(tmp_path / "other")):
        copy(open_artifact(f"oci:{tmp_path}/layout"), place, tags=["1"], referrers=True)
        assert [item.digest for item in place.referrers(made.root)] == [signed.digest]
        assert list(place.tags()) == ["1"]


# What is odd, and too much


class Odd(MemoryStore):
    """A store whose lists say what a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[Digest, list[Descriptor]] = {}

    def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
        return self.lists.get(descriptor.digest, super().referrers(descriptor, artifact_type=artifact_type))


def test_circles_end() -> None:
    store = Odd()
    made = copy(pairings.image(), store)
    one, two = signatures(store, made.root, ["1"]), sign(store, made.root)
    push_blob(store, b"{}", media_types.EMPTY)
    store.lists = {made.digest: [made.root, two], one.digest: [two, made.root], two.digest: [one, two, made.root]}
    for digest in (one.digest, two.digest):
        for kind in ("sig", "att", "sbom"):
            store.tag(made.root, attached_tag(digest, kind))
    store.tag(one, attached_tag(one.digest, "sig"))
    into = MemoryStore()
    copy(Artifact(made.root, store), into, referrers=True)
    assert into.exists(one)
    assert into.exists(two)


def flood(store: MemoryStore, root: Descriptor, number: int, *, in_a_row: bool) -> None:
    push_blob(store, b"{}", media_types.EMPTY)
    empty = Descriptor.of(b"{}", media_types.EMPTY)
    subject = root
    for count in range(number):
        manifest = Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=empty,
            layers=(empty,),
            subject=subject.bare,
            annotations={"n": str(count)},
        )
        made = push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)
        subject = made if in_a_row else root


@pytest.mark.parametrize("in_a_row", [False, True])
def test_a_flood_is_an_error_before_anything_is_written(in_a_row: bool) -> None:
    store, into = MemoryStore(), MemoryStore()
    made = copy(pairings.image(), store)
    flood(store, made.root, 1001, in_a_row=in_a_row)
    with pytest.raises(ContentError, match="more than 1000 manifests attached"):
        copy(Artifact(made.root, store), into, tags=["1"], referrers=True)
    assert not any(into.exists(item) for item in walk(store, made.root))


def test_a_flood_in_an_attached_index_is_too() -> None:
    """One list that names many is as much work as many lists."""
    store, into = MemoryStore(), MemoryStore()
    made = copy(pairings.image(), store)
    flood(store, Descriptor.of(b"nobody's", media_types.IMAGE_MANIFEST), 1001, in_a_row=False)
    parts = tuple(store.referrers(Descriptor.of(b"nobody's", media_types.IMAGE_MANIFEST)))
    index = Index(media_type=media_types.IMAGE_INDEX, manifests=parts, subject=made.root.bare)
    push_blob(store, encode(index), media_types.IMAGE_INDEX)
    with pytest.raises(ContentError, match="more than 1000 manifests attached"):
        copy(Artifact(made.root, store), into, tags=["1"], referrers=True)
    assert not into.exists(made.root)


def test_a_flood_of_bytes_is_too() -> None:
    store, into = MemoryStore(), MemoryStore()
    made = copy(pairings.image(), store)
    empty = push_blob(store, b"{}", media_types.EMPTY)
    for count in range(20):
        manifest = Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=empty,
            layers=(empty,),
            subject=made.root.bare,
            annotations={"a": str(count) + "a" * 4_000_000},
        )
        push_blob(store, encode(manifest), media_types.IMAGE_MANIFEST)
    with pytest.raises(ContentError, match="bytes of attached manifests"):
        copy(Artifact(made.root, store), into, tags=["1"], referrers=True)
    assert not into.exists(made.root)


def test_what_cannot_be_followed_is_not_left_out(tmp_path: Path) -> None:
    """In a layout every entry may be a referrer: none is passed over because it is gone, damaged or unknown."""
    with LayoutStore(tmp_path / "layout") as layout:
        copy(image(), layout, tags=["1"], referrers=True)
    entry = next(item for item in layout.index().manifests if REF_NAME not in (item.annotations or {}))
    blob = tmp_path / "layout/blobs/sha256" / entry.digest.encoded
    whole = blob.read_bytes()
    for damage, error in ((b"x" * len(whole), DigestMismatchError), (None, NotFoundError)):
        blob.write_bytes(damage) if damage is not None else blob.unlink()
        into = MemoryStore()
        with pytest.raises(error):
            copy(open_artifact(f"oci:{tmp_path}/layout:1"), into, referrers=True)
        assert not into.exists(layout.resolve("1"))
        copy(open_artifact(f"oci:{tmp_path}/layout:1"), into)  # the image itself is whole
    blob.write_bytes(whole)
    text = (tmp_path / "layout/index.json").read_text()
    assert entry.artifact_type is not None
    odd = text.replace(media_types.IMAGE_MANIFEST, "application/vnd.oci.artifact.manifest.v1+json")
    (tmp_path / "layout/index.json").write_text(odd)
    with pytest.raises(ContentError, match="unknown type"):
        copy(open_artifact(f"oci:{tmp_path}/layout:1"), MemoryStore(), referrers=True)


# Archives


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.tar"
    with ArchiveStore(path) as archive:
        copy(image(), archive, tags=["1"], referrers=True)
    return path


Damage = Callable[[bytes], bytes]


def member(raw: bytes, name: str) -> int:
    """Where a member's content begins."""
    at = raw.index(name.encode() + b"\0")
    return at + 512


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def damages(raw: bytes) -> dict[str, bytes]:
    original, blobs = image(), {}
    for item in walk(original.source, original.root):
        blobs[f"{item.media_type.rpartition('.')[2]} {item.digest[7:15]}"] = item
    for digest, _, tag in found(original.source, original.root):  # type: ignore[arg-type]
        for item in walk(original.source, original.source.resolve(digest)):  # type: ignore[attr-defined]
            blobs[f"attached {tag[-4:]} {item.digest[7:15]}"] = item
    made = {
        name: flipped(raw, member(raw, f"blobs/sha256/{item.digest.encoded}") + place)
        for name, item in blobs.items()
        for place in {0, item.size // 2, item.size - 1}
    }
    end = raw.rindex(b"imageLayoutVersion")
    cuts = [
        512,
        700,
        1024,
        len(raw) // 3,
        len(raw) // 2,
        member(raw, "index.json") + 10,
        member(raw, "oci-layout") - 512,
    ]
    return made | {f"cut at {at}": raw[:at] for at in [*cuts, end]}


def test_a_damaged_archive_is_found_before_anything_is_sent(bundle: Path, sites: dict[str, Sites]) -> None:
    raw, place_there = bundle.read_bytes(), sites["registry"]
    before = len(seen(place_there.folder))
    made = damages(raw)
    assert len(made) > 25
    for name, damaged in made.items():
        assert damaged != raw
        bundle.write_bytes(damaged)
        target = place("registry", sites, bundle.parent)
        with target.open() as store, pytest.raises(OcibuildError):
            copy(open_artifact(f"oci-archive:{bundle}:1"), store, tags=["1"], referrers=True)
            pytest.fail(f"{name} is not noticed")
    assert [item for item in seen(place_there.folder)[before:] if item.method not in ("GET", "HEAD")] == []
    bundle.write_bytes(raw)
    with place("registry", sites, bundle.parent).open() as store:
        copied = copy(open_artifact(f"oci-archive:{bundle}:1"), store, tags=["1"], referrers=True)
        assert found(store, copied.root) == found(image().source, image().root)  # type: ignore[arg-type]


def test_signatures_that_are_to_be_merged_are_verified_before_anything_is_sent(
    bundle: Path, sites: dict[str, Sites]
) -> None:
    target, site = place("registry", sites, bundle.parent), sites["registry"]
    with target.open() as store:
        signatures(store, image().root, ["key of the far side"], payload="signed there")
    with ArchiveStore(bundle) as archive:  # nothing else has this payload
        signatures(archive, image().root, ["key 1"], payload="signed here")
    raw = bundle.read_bytes()
    payload = Digest.of(b"signed here")
    bundle.write_bytes(flipped(raw, member(raw, f"blobs/sha256/{payload.encoded}")))
    before = len(seen(site.folder))
    with target.open() as store, pytest.raises(DigestMismatchError):
        copy(open_artifact(f"oci-archive:{bundle}:1"), store, tags=["1"], referrers=True)
    assert [item for item in seen(site.folder)[before:] if item.method not in ("GET", "HEAD")] == []


def test_signatures_made_meanwhile_are_merged_too(
    bundle: Path, sites: dict[str, Sites], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = place("registry", sites, bundle.parent)
    with target.open() as store:
        signatures(store, image().root, ["one"])

    def sign_too(done: Descriptor) -> None:
        if done.digest == image().digest:
            with target.open() as other:
                signatures(other, image().root, ["one", "late"])

    with target.open() as store:
        copy(open_artifact(f"oci-archive:{bundle}:1"), store, referrers=True, on_done=sign_too)
        assert keys_of(store, image().root) == ["one", "late", "key 1", "key 2"]


def hiding(store: LocalStore, image: Descriptor) -> Descriptor:
    """An index whose first manifest has the second one as a layer."""
    first = Manifest(
        media_type=media_types.IMAGE_MANIFEST,
        artifact_type="a/b",
        config=push_blob(store, b"{}", media_types.EMPTY),
        layers=(Descriptor(media_type="a/b", digest=image.digest, size=image.size),),
    )
    manifests = (push_blob(store, encode(first), media_types.IMAGE_MANIFEST), image)
    return push_blob(
        store, encode(Index(media_type=media_types.IMAGE_INDEX, manifests=manifests)), media_types.IMAGE_INDEX
    )


def test_what_is_a_manifest_and_a_layer_arrives_as_both(sites: dict[str, Sites], tmp_path: Path) -> None:
    source = MemoryStore()
    inner = copy(pairings.image(), source).root
    arm64 = find_platform(Artifact(inner, source), ARM64).root
    root = hiding(source, arm64)
    target, back = place("registry", sites, tmp_path), MemoryStore()
    with target.open() as store:
        copy(Artifact(root, source), store, tags=["1"])
    with target.open() as store:
        copy(Artifact(store.resolve(str(root.digest)), store), back)
    for item in walk(source, arm64):
        assert back.exists(item), item


def test_a_flipped_index_never_gives_another_image(bundle: Path, sites: dict[str, Sites], tmp_path: Path) -> None:
    """`index.json` has no digest of its own: what it names is checked, and a name that changed is not found."""
    raw, site = bundle.read_bytes(), sites["registry"]
    start, outcomes = member(raw, "index.json"), []
    for at in range(start, start + len(encode(ArchiveStore(bundle).index())), 61):
        bundle.write_bytes(flipped(raw, at))
        target, before = place("registry", sites, tmp_path), len(seen(site.folder))
        with target.open() as store:
            try:
                copied = copy(open_artifact(f"oci-archive:{bundle}:1"), store, tags=["1"], referrers=True)
            except OcibuildError:
                written = [item for item in seen(site.folder)[before:] if item.method not in ("GET", "HEAD")]
                outcomes.append(written == [])
            else:
                assert store.resolve("1").digest == copied.digest == image().digest
    assert all(outcomes)
    assert len(outcomes) > 10


def test_images_in_one_archive_share_their_blobs(tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar"
    one, two = image(), pairings.image("two")
    with ArchiveStore(path) as archive:
        copy(one, archive, tags=["1"], referrers=True)
    alone = path.stat().st_size
    with ArchiveStore(path) as archive:
        copy(two, archive, tags=["2"], referrers=True)
    [shared] = pairings.common(one, two)
    assert path.read_bytes().count(f"blobs/sha256/{shared.digest.encoded}\0".encode()) == 1
    assert path.stat().st_size > alone
    into = MemoryStore()
    copy(open_artifact(f"oci-archive:{path}:1"), into, tags=["1"], referrers=True)
    assert found(into, one.root) == found(one.source, one.root)  # type: ignore[arg-type]
    assert not into.exists(two.root)
    copy(open_artifact(f"oci-archive:{path}:2"), into, tags=["2"], referrers=True)
    assert found(into, two.root) == found(two.source, two.root)  # type: ignore[arg-type]


def test_a_registry_that_has_the_image_is_sent_what_is_new(bundle: Path, sites: dict[str, Sites]) -> None:
    """Of an image that is there nothing is read, so that nothing of it is verified either."""
    target = place("registry", sites, bundle.parent)
    with target.open() as store:
        copy(image(), store, tags=["1"])
    raw = bundle.read_bytes()
    [layer] = [item for item in walk(image().source, image().root) if item.media_type in media_types.LAYERS][:1]
    bundle.write_bytes(flipped(raw, member(raw, f"blobs/sha256/{layer.digest.encoded}")))
    with target.open() as store:
        copy(open_artifact(f"oci-archive:{bundle}:1"), store, referrers=True)
        assert found(store, image().root) == found(image().source, image().root)  # type: ignore[arg-type]
