"""What every store promises, run against every one."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, LayoutStore, LocalStore, MemoryStore, Platform, build_image, build_index, copy
from ocibuild.errors import ContentError, DigestMismatchError, NotFoundError, RegistryError, UsageError
from ocibuild.layer import File, build_layer
from ocibuild.oci import Descriptor, Digest, Index, Manifest, Reference, media_types
from ocibuild.oci.canonical import decode, encode
from ocibuild.registry import RegistryClient, RegistryStore
from ocibuild.store import Artifact, Spool, walk
from ocibuild.store.graph import read_blob

Make = Callable[[], LocalStore]


_numbers = itertools.count()


@pytest.fixture(params=["memory", "layout", "archive", "spool", "registry"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "registry":
        host = request.getfixturevalue("address")
        name = Reference.parse(f"{host}/contract/r{next(_numbers)}")
        return lambda: RegistryStore(name, client=RegistryClient(host, patience=0.3))

    def new() -> LocalStore:
        kinds: dict[str, Make] = {
            "memory": MemoryStore,
            "layout": lambda: LayoutStore(tmp_path / "layout"),
            "archive": lambda: ArchiveStore(tmp_path / "archive.tar"),
            "spool": Spool,
        }
        return kinds[request.param]()

    return new


@pytest.fixture
def store(make: Make) -> LocalStore:
    return make()


def blob(data: bytes = b"hello", media_type: str = "text/plain") -> tuple[Descriptor, io.BytesIO]:
    return Descriptor.of(data, media_type), io.BytesIO(data)


def image() -> Artifact:
    store = MemoryStore()
    layers = [build_layer([File(path="lib/x.so", content=b"x" * 5000)], into=store)]
    images = [build_image(layers, platform=Platform.parse(name), into=store) for name in ("amd64", "arm64")]
    return build_index(images, into=store)


def signature(subject: Descriptor) -> tuple[bytes, Descriptor]:
    empty = Descriptor.of(b"{}", media_types.EMPTY)
    raw = encode(
        Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=empty,
            layers=(empty,),
            artifact_type="application/vnd.example+json",
            subject=subject.bare,
            annotations={"a": "b"},
        )
    )
    return raw, Descriptor.of(raw, media_types.IMAGE_MANIFEST)


def test_a_pushed_blob_is_there(store: LocalStore) -> None:
    descriptor, content = blob()
    assert not store.exists(descriptor)
    store.push(descriptor, content)
    assert store.exists(descriptor)
    assert store.fetch(descriptor).read() == b"hello"


def test_fetch_gives_a_fresh_reader(store: LocalStore) -> None:
    descriptor, content = blob()
    store.push(descriptor, content)
    one, two = store.fetch(descriptor), store.fetch(descriptor)
    assert one.read(3) == b"hel"
    assert two.read() == b"hello"
    assert one.read() == b"lo"


def test_pushing_twice_changes_nothing(store: LocalStore) -> None:
    store.push(*blob())
    store.push(*blob())
    assert store.fetch(blob()[0]).read() == b"hello"


def test_an_empty_blob(store: LocalStore) -> None:
    descriptor, content = blob(b"")
    store.push(descriptor, content)
    assert store.fetch(descriptor).read() == b""


@pytest.mark.parametrize("given", [b"hellx", b"hell", b"hello!", b""])
def test_other_content_is_refused_and_not_kept(store: LocalStore, given: bytes) -> None:
    descriptor, _ = blob()
    with pytest.raises(DigestMismatchError):
        store.push(descriptor, io.BytesIO(given))
    assert not store.exists(descriptor)


def test_a_blob_that_is_not_there(store: LocalStore) -> None:
    store.push(*blob())
    with pytest.raises(NotFoundError):
        store.fetch(blob(b"other")[0])


def test_ingest_names_a_blob_by_its_bytes(store: LocalStore) -> None:
    with store.ingest() as writer:
        for piece in (b"he", b"", b"llo"):
            writer.write(piece)
        descriptor = writer.commit("text/plain")
    assert descriptor == blob()[0]
    assert store.fetch(descriptor).read() == b"hello"


def test_ingest_without_commit_keeps_nothing(store: LocalStore) -> None:
    with store.ingest() as writer:
        writer.write(b"hello")
    assert not store.exists(blob()[0])


def test_sha512(store: LocalStore) -> None:
    import hashlib

    data = b"hello"
    descriptor = Descriptor(
        media_type="text/plain", digest=Digest("sha512:" + hashlib.sha512(data).hexdigest()), size=len(data)
    )
    store.push(descriptor, io.BytesIO(data))
    assert store.fetch(descriptor).read() == data
    with pytest.raises(DigestMismatchError):
        store.push(descriptor, io.BytesIO(b"hellx"))


def test_copy_and_tags(store: LocalStore) -> None:
    artifact = image()
    copied = copy(artifact, store, tags=["1.0", "latest"])
    assert copied.digest == artifact.digest
    assert store.resolve("1.0") == store.resolve("latest") == artifact.root.bare
    assert list(store.tags()) == ["1.0", "latest"]
    assert store.resolve(artifact.digest).digest == artifact.digest
    for child in decode(read_blob(store, artifact.root), Index).manifests:
        assert store.resolve(child.digest) == child.bare
        layer = decode(read_blob(store, child), Manifest).layers[0]
        with pytest.raises((NotFoundError, ContentError, RegistryError)):
            store.resolve(layer.digest)
    for descriptor in walk(store, artifact.root):
        assert store.exists(descriptor)


def test_a_tag_moves(store: LocalStore) -> None:
    first = copy(image(), store, tags=["1.0"])
    second = copy(build_image([], platform=Platform.parse("amd64")), store, tags=["1.0"])
    assert first.digest != second.digest
    assert store.resolve("1.0").digest == second.digest


def test_a_tag_that_is_not_there(store: LocalStore) -> None:
    copy(image(), store, tags=["1.0"])
    with pytest.raises(NotFoundError):
        store.resolve("2.0")


def test_a_tag_needs_its_blob_and_a_legal_name(store: LocalStore) -> None:
    store.push(*blob())
    with pytest.raises(NotFoundError):
        store.tag(blob(b"other")[0], "1.0")
    with pytest.raises(UsageError):
        copy(image(), store, tags=["not legal"])


def test_one_platform(store: LocalStore) -> None:
    copied = copy(image(), store, platform=Platform.parse("arm64"), tags=["1.0"])
    assert copied.root.media_type == media_types.IMAGE_MANIFEST
    with pytest.raises(NotFoundError, match="linux/amd64, linux/arm64"):
        copy(image(), store, platform=Platform.parse("s390x"))


def test_referrers(store: LocalStore) -> None:
    artifact = copy(image(), store, tags=["1.0"])
    raw, descriptor = signature(artifact.root)
    store.push(*blob(b"{}", media_types.EMPTY))
    store.push(descriptor, io.BytesIO(raw))
    [found] = store.referrers(artifact.root)
    assert found.digest == descriptor.digest
    assert found.artifact_type == "application/vnd.example+json"
    assert found.annotations == {"a": "b"}
    assert store.referrers(artifact.root, artifact_type="application/other") == []
    assert store.referrers(descriptor) == []


def test_copy_follows_referrers_only_when_asked(store: LocalStore) -> None:
    artifact = copy(image(), store)
    raw, descriptor = signature(artifact.root)
    store.push(*blob(b"{}", media_types.EMPTY))
    store.push(descriptor, io.BytesIO(raw))
    without, with_them = MemoryStore(), MemoryStore()
    copy(artifact, without)
    copy(artifact, with_them, referrers=True)
    assert without.referrers(artifact.root) == []
    assert [item.digest for item in with_them.referrers(artifact.root)] == [descriptor.digest]


def test_what_was_put_in_survives_closing(make: Make) -> None:
    artifact = image()
    with make() as store:
        copy(artifact, store, tags=["1.0"])
    if isinstance(store, LayoutStore | ArchiveStore) and not isinstance(store, Spool):
        store = make()
    assert store.resolve("1.0").digest == artifact.digest
    assert read_blob(store, artifact.root)


def test_progress_counts_every_byte(store: LocalStore) -> None:
    artifact = image()
    expected = sum(item.size for item in walk(artifact.source, artifact.root))
    for _ in range(2):
        counted: list[int] = []
        copy(artifact, store, on_progress=lambda _, size, counted=counted: counted.append(size))  # type: ignore[misc]
        assert sum(counted) == expected


def test_several_threads(store: LocalStore) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            data = b"%d" % (number % 7) * 1000
            store.push(*blob(data))
            assert store.fetch(blob(data)[0]).read() == data
            made = build_image([], platform=Platform.parse("amd64"), labels={"n": str(number)}, into=store)
            store.tag(made.root, f"t{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store.tags()) == 16
