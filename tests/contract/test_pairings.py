"""`copy` from every store to every store: the digests stay, and what is there is not sent again."""

from __future__ import annotations

import functools
import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, Artifact, LayoutStore, LocalStore, MemoryStore, Platform, build_image, copy
from ocibuild.errors import NotFoundError
from ocibuild.layer import File, build_layer
from ocibuild.oci import Descriptor, Digest, Reference, media_types
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from ocibuild.store import find_platform, walk
from ocibuild.store.graph import DOCUMENTS, read_blob
from tests.contract.test_store import signature
from tests.support.ghcr import Site, ghcr
from tests.support.registry import Seen, registry, seen

KINDS = ("memory", "layout", "archive", "registry", "ghcr")
REGISTRIES = ("registry", "ghcr")
ARM64 = Platform.parse("arm64")

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Sites:
    """An open registry, its folder, and the site before it that behaves as GHCR does."""

    address: str
    folder: Path
    site: Site


@dataclass(frozen=True, slots=True)
class End:
    """A place for images. Each `open` gives a store that remembers nothing of the one before."""

    kind: str
    name: str
    open: Callable[..., LocalStore]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder) as address, ghcr(address) as site:
        yield Sites(address, folder, site)
        assert site.record.leaks(site.secrets) == []


@pytest.fixture(scope="module")
def sources(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> dict[str, End]:
    """The image and all that is attached to it, once in a place of each kind. Not to be written to."""
    original, folder = image(), tmp_path_factory.mktemp("sources")
    ends = {kind: end(kind, sites, folder) for kind in KINDS}
    for item in ends.values():
        with item.open() as store:
            copy(original, store, tags=["1"], referrers=True)
    return ends


def end(kind: str, sites: Sites, folder: Path) -> End:
    name, memory = f"grove/r{next(_numbers)}", MemoryStore()

    def reach(**options: tuple[str, ...]) -> RegistryStore:
        host, who = sites.address, None
        if kind == "ghcr":
            host, who = sites.site.address, Credential(username=sites.site.user, password=sites.site.secret)
        client = RegistryClient(host, credential=who, patience=4)
        return RegistryStore(Reference.parse(f"{host}/{name}"), client=client, **options)

    ways: dict[str, Callable[..., LocalStore]] = {
        "memory": lambda: memory,
        "layout": lambda: LayoutStore(folder / "layout"),
        "archive": lambda: ArchiveStore(folder / "archive.tar"),
        "registry": reach,
        "ghcr": reach,
    }
    return End(kind, name, ways[kind])


def put(store: MemoryStore, data: bytes, media_type: str) -> Descriptor:
    descriptor = Descriptor.of(data, media_type)
    store.push(descriptor, io.BytesIO(data))
    return descriptor


@functools.cache
def image(label: str = "one") -> Artifact:
    """Two platforms with a layer in common, in documents that we would write in another way.

    Attached are a signature of the index, one of that signature, and one of the image for arm64. Not to be written to.
    """
    store = MemoryStore()
    shared = build_layer([File(path="share/x.sql", content=b"select 1;" * 500)], into=store)
    found = []
    for name in ("amd64", "arm64"):
        own = build_layer([File(path="lib/x.so", content=f"{label} {name}".encode() * 700)], into=store)
        built = build_image([shared, own], platform=Platform.parse(name), labels={"l": label}, into=store)
        document = json.loads(read_blob(store, built.root)) | {"org.example.unknown": [1.50, "\u00fc"]}
        raw = json.dumps(document, indent=3).encode() + b"\n"
        item = put(store, raw, media_types.IMAGE_MANIFEST)
        platform = {"architecture": name, "os": "linux"}
        found.append({"size": item.size, "platform": platform, "digest": item.digest, "mediaType": item.media_type})
    index = {"schemaVersion": 2, "x": None, "manifests": found, "mediaType": media_types.IMAGE_INDEX}
    root = put(store, json.dumps(index, indent="\t").encode(), media_types.IMAGE_INDEX)
    put(store, b"{}", media_types.EMPTY)
    made = Artifact(root, store)
    sign(store, sign(store, root))
    sign(store, find_platform(made, ARM64).root)
    return made


def memory(artifact: Artifact) -> MemoryStore:
    """The store of `image`."""
    assert isinstance(artifact.source, MemoryStore)
    return artifact.source


def sign(store: MemoryStore, subject: Descriptor) -> Descriptor:
    raw, descriptor = signature(subject)
    store.push(descriptor, io.BytesIO(raw))
    return descriptor


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, sources: dict[str, End]) -> Iterator[Artifact]:
    """The image, in a place of each kind."""
    with sources[request.param].open() as store:
        yield Artifact(store.resolve("1"), store)


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, sites: Sites, tmp_path: Path) -> End:
    """A place of each kind where nothing is yet."""
    return end(request.param, sites, tmp_path)


def attached(store: LocalStore, subject: Descriptor) -> dict[Digest, tuple[object, ...]]:
    """What is attached to a manifest, and to that, as the store lists it."""
    found: dict[Digest, tuple[object, ...]] = {}
    for item in store.referrers(subject):
        found[item.digest] = (item.media_type, item.size, item.artifact_type, item.annotations, subject.digest)
        found |= attached(store, item)
    return found


def assert_whole(store: LocalStore, artifact: Artifact) -> None:
    """Every blob is there, byte by byte."""
    for item in walk(artifact.source, artifact.root):
        assert read_blob(store, item) == read_blob(artifact.source, item)


def names(store: LocalStore) -> dict[str, Digest]:
    """The tags, but for those that stand for the referrers API."""
    return {name: item.digest for name, item in store.tags().items() if not name.startswith("sha256-")}


@dataclass(frozen=True, slots=True)
class Writes:
    """What reaches a place: for a registry the requests that write there, else the blobs pushed to a store."""

    sites: Sites
    end: End
    pushed: list[Digest]
    before: int

    def requests(self) -> list[Seen]:
        asked = [item for item in seen(self.sites.folder) if item.path.startswith(f"/v2/{self.end.name}/")]
        return [item for item in asked if item.method in ("POST", "PUT", "PATCH", "DELETE")]

    def since(self) -> list[str]:
        if self.end.kind in REGISTRIES:
            return [item.path.rpartition("/")[2] for item in self.requests()[self.before :]]
        return [str(digest) for digest in self.pushed]


def watch(sites: Sites, end: End, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Take note of what is written from now on."""
    pushed: list[Digest] = []
    if end.kind not in REGISTRIES:
        push = store.push

        def noted(descriptor: Descriptor, content: io.BufferedIOBase) -> None:
            pushed.append(descriptor.digest)
            push(descriptor, content)  # type: ignore[arg-type]

        monkeypatch.setattr(store, "push", noted)
    writes = Writes(sites, end, pushed, 0)
    return Writes(sites, end, pushed, len(writes.requests()) if end.kind in REGISTRIES else 0)


def test_digests_stay_and_nothing_goes_twice(
    source: Artifact, target: End, sites: Sites, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = image()
    assert source.digest == original.digest
    with target.open() as store:
        writes = watch(sites, target, store, monkeypatch)
        assert copy(source, store, tags=["1", "2"]).digest == original.digest
    assert writes.since()  # it is noticed
    monkeypatch.undo()
    with target.open() as store:
        assert names(store) == dict.fromkeys(["1", "2"], original.digest)
        assert_whole(store, original)
        assert attached(store, original.root) == {}
    state = files(tmp_path)
    with target.open() as store:
        writes = watch(sites, target, store, monkeypatch)
        copy(source, store)
        assert writes.since() == []
        copy(source, store, tags=["1", "3"])
        assert writes.since() == (["1", "3"] if target.kind in REGISTRIES else [])
        if isinstance(store, RegistryStore):
            assert set(store.outcome.values()) == {"there"}
    with target.open() as store:
        assert names(store) == dict.fromkeys(["1", "2", "3"], original.digest)
    assert files(tmp_path).keys() == state.keys()
    blobs = [path for path in state if "blobs" in path.parts]
    assert [path for path in blobs if files(tmp_path)[path] != state[path]] == []


def files(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """The files below a folder, and what would tell that one was written anew."""
    stats = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def test_referrers_come_along(source: Artifact, target: End, sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    original = image()
    child = find_platform(original, ARM64).root
    wanted = attached(memory(original), original.root) | attached(memory(original), child)
    assert len(wanted) == 3
    with target.open() as store:
        copy(source, store, tags=["1"], referrers=True)
    with target.open() as store:
        assert attached(store, original.root) | attached(store, child) == wanted
        assert names(store) == {"1": original.digest}
        assert_whole(store, original)
        for digest in wanted:
            assert_whole(store, Artifact(memory(original).resolve(digest), original.source))
    with target.open() as store:
        writes = watch(sites, target, store, monkeypatch)
        copy(source, store, referrers=True)
        assert writes.since() == []


def test_one_platform(source: Artifact, target: End) -> None:
    original = image()
    wanted = find_platform(original, ARM64)
    other = find_platform(original, Platform.parse("amd64"))
    with target.open() as store:
        assert copy(source, store, tags=["1"], platform=ARM64).digest == wanted.digest
    with target.open() as store:
        assert names(store) == {"1": wanted.digest}
        assert_whole(store, wanted)
        assert attached(store, wanted.root) == {}
        for left in (original, other):
            with pytest.raises(NotFoundError):
                store.resolve(left.digest)
        # The other's own layer has stayed where it was; the one in common has come.
        there = {item.digest: store.exists(item) for item in walk(original.source, other.root)}
        assert sorted(there.values()) == [False, False, False, True]
        copy(source, store, platform=ARM64, referrers=True)
    with target.open() as store:
        listed = attached(memory(original), wanted.root)
        assert len(listed) == 1
        assert attached(store, wanted.root) == listed
        assert attached(store, original.root) == {}


def test_what_is_attached_to_a_part_of_an_attached_index(target: End) -> None:
    """`referrers=True` is for every manifest that is copied."""
    source = MemoryStore()
    original = copy(image(), source)
    put(source, b"{}", media_types.EMPTY)
    empty = {"mediaType": media_types.EMPTY, "digest": Digest.of(b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": media_types.IMAGE_MANIFEST, "config": empty, "layers": [empty]}
    part = put(source, json.dumps(document | {"artifactType": "application/part"}).encode(), media_types.IMAGE_MANIFEST)
    index = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "artifactType": "application/parts"}
    index |= {"manifests": [plain(part)], "subject": plain(original.root)}
    whole = put(source, json.dumps(index).encode(), media_types.IMAGE_INDEX)
    signed = sign(source, part)
    with target.open() as store:
        copy(original, store, tags=["1"], referrers=True)
    with target.open() as store:
        assert [item.digest for item in store.referrers(original.root)] == [whole.digest]
        assert_whole(store, Artifact(whole, source))
        assert [item.digest for item in store.referrers(part)] == [signed.digest]


def plain(descriptor: Descriptor) -> dict[str, object]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def test_tags_move(target: End, sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = image(), image("two")
    assert one.digest != two.digest
    with target.open() as store:
        copy(one, store, tags=["1.0", "latest"])
    with target.open() as store:
        writes = watch(sites, target, store, monkeypatch)
        moved: list[str] = []
        copy(two, store, tags=["2.0", "latest"], on_tag=moved.append)
        assert moved == ["2.0", "latest"]
        # The layer in common is not sent again.
        [shared] = common(one, two)
        assert shared.digest not in " ".join(writes.since())
    with target.open() as store:
        assert names(store) == {"1.0": one.digest, "2.0": two.digest, "latest": two.digest}
        for item in (one, two):
            assert_whole(store, item)
        copy(one, store, tags=["latest"])  # and back
    monkeypatch.undo()
    with target.open() as store:
        writes = watch(sites, target, store, monkeypatch)
        copy(Artifact(store.resolve("2.0"), store), store, tags=["same"])  # from a place to itself
        assert writes.since() == (["same"] if target.kind in REGISTRIES else [])
    with target.open() as store:
        assert names(store) == {"1.0": one.digest, "2.0": two.digest, "latest": one.digest, "same": two.digest}


def common(one: Artifact, two: Artifact) -> list[Descriptor]:
    theirs = {item.digest for item in walk(two.source, two.root)}
    return [item for item in walk(one.source, one.root) if item.digest in theirs]


@dataclass(frozen=True, slots=True)
class Mounting:
    """A copy within a registry: where to, what became of each blob, and the requests that it took."""

    end: End
    outcome: dict[Digest, str]
    asked: list[Seen]


@pytest.fixture(params=REGISTRIES)
def mounting(request: pytest.FixtureRequest, sources: dict[str, End], sites: Sites, tmp_path: Path) -> Mounting:
    first, second = sources[request.param], end(request.param, sites, tmp_path)
    before = len(seen(sites.folder))
    with first.open() as source, second.open(mount_from=(first.name,)) as store:
        copy(Artifact(source.resolve("1"), source), store, tags=["1"])
        assert isinstance(store, RegistryStore)
        return Mounting(second, dict(store.outcome), seen(sites.folder)[before:])


def test_within_a_registry_blobs_are_mounted(mounting: Mounting) -> None:
    original, how = image(), mounting.outcome
    blobs = {item.digest for item in walk(original.source, original.root) if item.media_type not in DOCUMENTS}
    assert {digest for digest, outcome in how.items() if outcome == "mounted"} == blobs
    assert {outcome for digest, outcome in how.items() if digest not in blobs} == {"sent"}
    posts = [item for item in mounting.asked if item.method == "POST"]
    assert len(posts) == len(blobs)
    assert all(item.status == 201 and "mount=" in item.query for item in posts)
    assert [item for item in mounting.asked if "/blobs/" in item.path and item.method in ("PUT", "PATCH")] == []
    with mounting.end.open() as store:
        assert_whole(store, original)
        assert names(store) == {"1": original.digest}


def test_what_is_mounted_is_not_asked_for(mounting: Mounting) -> None:
    assert [item for item in mounting.asked if "/blobs/" in item.path and item.method == "GET"] == []


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_mount_of_what_is_not_there_is_an_upload(
    kind: str, sources: dict[str, End], sites: Sites, tmp_path: Path
) -> None:
    original, second = image(), end(kind, sites, tmp_path)
    with sources["memory"].open() as source, second.open(mount_from=("grove/nothing",)) as store:
        copy(Artifact(source.resolve("1"), source), store, tags=["1"])
        assert isinstance(store, RegistryStore)
        assert set(store.outcome.values()) == {"sent"}
        assert_whole(store, original)
