"""Layouts and layers made to do harm: what must not be lost, followed, filled or waited for.

Where a reading must not take long, a limit far above the honest time stands in `bounded`; what it guards against is
quadratic and would take minutes.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from ocibuild import (
    ArchiveStore,
    File,
    LayoutStore,
    MemoryStore,
    Platform,
    build_image,
    build_layer,
    copy,
    open_artifact,
    postgres,
    read_tree,
)
from ocibuild.cli import main
from ocibuild.contents import file_tree
from ocibuild.errors import (
    DocumentError,
    EntryError,
    LayerError,
    LayoutError,
    NotFoundError,
    OcibuildError,
    StoreError,
)
from ocibuild.layer import read_members
from ocibuild.layer.build import Layer
from ocibuild.oci import Descriptor, Digest, Index, Manifest, media_types
from ocibuild.oci.annotations import REF_NAME
from ocibuild.oci.canonical import encode
from ocibuild.postgres import parse_control
from ocibuild.store import Artifact, DockerArchiveWriter
from ocibuild.store.files import Staging
from ocibuild.unpack import unpack
from tests.support.tools import ROOT
from tests.unit.test_other_commands import FOLDER, HARD, LINK, NEXT, foreign, item

AMD64 = Platform.parse("amd64")


@contextlib.contextmanager
def bounded(seconds: int = 20) -> Iterator[None]:
    """Stop what should have ended long ago."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def layout(path: Path, tag: str = "1") -> Artifact:
    with LayoutStore(path) as store:
        return copy(build_image([], platform=AMD64, labels={"tag": tag}, into=store), store, tags=[tag])


# Collecting garbage


def test_gc_does_not_leave_the_layout(tmp_path: Path) -> None:
    layout(tmp_path / "x")
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years")
    (tmp_path / "x/blobs/x").symlink_to(home)
    (tmp_path / "x/blobs/sha256/folder").mkdir()
    (tmp_path / "x/blobs/sha256/gone").symlink_to("nowhere")
    assert LayoutStore(tmp_path / "x").gc() == (0, 0)
    assert (home / "thesis.txt").exists()


def test_gc_refuses_blobs_that_lie_elsewhere(tmp_path: Path) -> None:
    layout(tmp_path / "x")
    layout(tmp_path / "y", "2")
    shared = tmp_path / "shared"
    os.rename(tmp_path / "x/blobs/sha256", shared)
    for name in ("x", "y"):
        with contextlib.suppress(OSError):
            for path in (tmp_path / name / "blobs/sha256").iterdir():
                os.rename(path, shared / path.name)
            (tmp_path / name / "blobs/sha256").rmdir()
        (tmp_path / name / "blobs/sha256").symlink_to(shared)
    with pytest.raises(StoreError, match="symbolic link"):
        LayoutStore(tmp_path / "x").gc()
    assert len(list(shared.iterdir())) == 4


def test_gc_of_a_store_that_is_being_written_to(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as store:
        layer = build_layer([File(path="f", content=b"x")], into=store)
        with pytest.raises(StoreError, match="this store is writing"):
            store.gc()
        copy(build_image([layer], platform=AMD64, into=store), store, tags=["1"])
    assert LayoutStore(tmp_path / "x").gc() == (0, 0)


def test_gc_and_copy_refuse_manifests_they_cannot_follow(tmp_path: Path) -> None:
    store = MemoryStore()
    raw = b'{"blobs":[]}'
    odd = Descriptor.of(raw, "application/vnd.cncf.oras.artifact.manifest.v1+json")
    store.push(odd, io.BytesIO(raw))
    index = encode(Index(media_type=media_types.IMAGE_INDEX, manifests=(odd,)))
    root = Descriptor.of(index, media_types.IMAGE_INDEX)
    store.push(root, io.BytesIO(index))
    with pytest.raises(DocumentError, match="unknown type"):
        copy(Artifact(root, store), MemoryStore())
    layout(tmp_path / "x")
    with LayoutStore(tmp_path / "x") as target:
        target.push(odd, io.BytesIO(raw))
        target.add(odd)
    with pytest.raises(DocumentError, match="unknown type"):
        LayoutStore(tmp_path / "x").gc()


# Several writers


def test_a_failed_build_leaves_what_another_has_published(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), LayoutStore(tmp_path / "x") as failing:
        build_image([], platform=AMD64, into=failing)
        layout(tmp_path / "x", "published")
        raise RuntimeError
    assert list(LayoutStore(tmp_path / "x").tags()) == ["published"]


def test_a_failed_build_leaves_an_empty_folder_empty(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(RuntimeError), LayoutStore(tmp_path / "x") as failing:
        build_image([], platform=AMD64, into=failing)
        raise RuntimeError
    assert list((tmp_path / "x").iterdir()) == []


RACE = """
import sys
from ocibuild import LayoutStore, Platform, build_image, copy
path, fail = sys.argv[1], sys.argv[2] == "fail"
with LayoutStore(path) as layout:
    image = build_image([], platform=Platform.parse("amd64"), into=layout)
    if fail:
        raise SystemExit(9)
    copy(image, layout, tags=["good"])
"""


def test_one_process_fails_beside_one_that_does_not(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / str(number)
        both = [
            subprocess.Popen([sys.executable, "-c", RACE, str(path), how], cwd=ROOT, stderr=subprocess.PIPE, text=True)
            for how in ("fail", "succeed")
        ]
        (_, _), (_, err) = (process.communicate() for process in both)
        assert [process.returncode for process in both] == [9, 0], err
        assert list(LayoutStore(path).tags()) == ["good"]


def test_a_lost_update_of_an_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    first, second = ArchiveStore(path), ArchiveStore(path)
    for store, tag in ((first, "one"), (second, "two")):
        copy(build_image([], platform=AMD64, labels={"t": tag}, into=store), store, tags=[tag])
    first.close()
    with pytest.raises(StoreError, match="changed by another process"):
        second.close()
    assert list(ArchiveStore(path).tags()) == ["one"]


def test_an_archive_does_not_remember(tmp_path: Path) -> None:
    """Built again under one tag, it is what a fresh one would be."""
    for secret in ("hunter2", "harmless"):
        for name in ("again.tar", f"{secret}.tar"):
            with ArchiveStore(tmp_path / name) as archive:
                copy(build_image([], platform=AMD64, labels={"s": secret}, into=archive), archive, tags=["1"])
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "harmless.tar").read_bytes()
    assert b"hunter2" not in (tmp_path / "again.tar").read_bytes()


def test_a_referrer_lost_by_a_kill_is_found_again(tmp_path: Path) -> None:
    source = MemoryStore()
    image = build_image([], platform=AMD64, into=source)
    empty = Descriptor.of(b"{}", media_types.EMPTY)
    source.push(empty, io.BytesIO(b"{}"))
    raw = encode(Manifest(media_type=media_types.IMAGE_MANIFEST, config=empty, layers=(), subject=image.root.bare))
    signature = Descriptor.of(raw, media_types.IMAGE_MANIFEST)
    source.push(signature, io.BytesIO(raw))
    with LayoutStore(tmp_path / "x") as target:
        copy(image, target, tags=["1"])
        # The blob is there, its entry is not: a kill between the two.
        target._blobs.put(signature, io.BytesIO(raw), target._session())
        copy(image, target, referrers=True)
        assert [found.digest for found in target.referrers(image.root)] == [signature.digest]


def test_a_writer_of_another_user_is_alive(tmp_path: Path) -> None:
    staging = Staging(tmp_path, "tmp")
    code = (
        f"from ocibuild.store.files import sweep; from pathlib import Path; print(len(sweep(Path({str(tmp_path)!r}))))"
    )
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:
        os.chown(staging.path, 65534, 65534)
        os.chown(staging.path / "lock", 65534, 65534)
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    else:
        staging.path.chmod(0)
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout == "1\n"
    assert staging.path.exists()
    staging.path.chmod(0o700)
    staging.close()


def test_a_forked_child_removes_nothing(tmp_path: Path) -> None:
    code = f"""
import os, sys
from pathlib import Path
from ocibuild.store import Spool
from ocibuild.store.files import Staging
staging, spool = Staging(Path({str(tmp_path)!r}), "tmp"), Spool()
with spool.ingest() as blob:
    blob.write(b"x"); descriptor = blob.commit("text/plain")
if os.fork() == 0:
    sys.exit(0)
os.wait()
print(staging.path.exists(), spool.fetch(descriptor).read())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert out == "True b'x'\n"
    assert list(tmp_path.iterdir()) == []


# Time, memory, disk


def bomb(size: int) -> Layer:
    """A layer of a few kilobytes that holds that many zeros."""
    info = item("zeros")
    info.size = size
    codec = zstandard.ZstdCompressor(level=1).compressobj()
    pieces = [codec.compress(info.tobuf())]
    pieces += [codec.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    raw = b"".join([*pieces, codec.compress(bytes(1024)), codec.flush()])
    assert len(raw) < 200_000
    descriptor = Descriptor.of(raw, media_types.LAYER_ZSTD)
    store.push(descriptor, io.BytesIO(raw))
    return Layer(descriptor=descriptor, diff_id=Digest("sha256:" + "0" * 64), uncompressed_size=0)


store = MemoryStore()


@pytest.mark.parametrize("times", [1, 3])
def test_bombs(tmp_path: Path, times: int) -> None:
    """One large layer, or one not so large layer many times."""
    image = build_image([bomb((1200 if times == 1 else 500) << 20)] * times, platform=AMD64, into=store)
    work = tmp_path / "work"
    work.mkdir()
    for use in (lambda: unpack(image, work / "out"), lambda: DockerArchiveWriter(work / "d.tar").write(image)):
        with pytest.raises(OcibuildError, match=r"expands to more than|diff ID"):
            use()
        assert list(work.iterdir()) == []


def test_what_we_build_we_read(tmp_path: Path) -> None:
    from ocibuild import Compression

    layer = build_layer([File(path="zeros", content=bytes(100 << 20))], into=store, compression=Compression.ZSTD)
    image = build_image([layer], platform=AMD64, into=store)
    assert list(file_tree(image)) == ["zeros"]


def test_hard_links_are_links(tmp_path: Path) -> None:
    links = [item(f"l{number}", HARD, "a") for number in range(1000)]
    unpack(foreign((item("a"), bytes(1 << 20)), *links), tmp_path / "out")
    assert (tmp_path / "out/l999").stat().st_nlink == 1001


def test_many_files_in_linear_time() -> None:
    members = [(item(f"folder{number % 7}/f{number}"), b"") for number in range(40_000)]
    with bounded():
        assert len(file_tree(foreign(*members))) == 40_000


def test_many_files_replaced_and_hidden() -> None:
    lower = [(item(f"d/f{number}"), b"") for number in range(10_000)]
    upper = [(item(f"d/.wh.f{number}"), b"") for number in range(0, 10_000, 2)]
    with bounded():
        assert len(file_tree(foreign(*lower, NEXT, *upper))) == 5000


@pytest.mark.parametrize("name", ["a/" * 20_000 + "x", "n" * 5000])
def test_paths_have_a_length(name: str) -> None:
    for members in ([item(name)], [item("l", LINK, name)]):
        with bounded(), pytest.raises(LayerError, match="wanted at most 4096"):
            file_tree(foreign(*members))


def test_a_deep_path_is_no_recursion(tmp_path: Path) -> None:
    try:
        with bounded():
            unpack(foreign((item("/".join(["d"] * 1500)), b"")), tmp_path / "out")
    finally:
        # Python's own rmtree is one.
        subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)


def test_pax_records_in_linear_time_and_bounded_memory() -> None:
    records = b"6 a=b\n" * 170_000
    header = item("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    archive = (header.tobuf() + records + bytes(-len(records) % 512)) * 5 + item("f").tobuf() + bytes(1024)
    with bounded():
        assert [member.path for member, _ in read_members(io.BytesIO(archive))] == ["f"]


def test_a_nul_in_a_gnu_name() -> None:
    header = item("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 4
    archive = header.tobuf() + b"n\0n\0".ljust(512, b"\0") + item("f").tobuf() + bytes(1024)
    with pytest.raises(LayerError, match="no NUL"):
        list(read_members(io.BytesIO(archive)))


def test_times_before_1970() -> None:
    early = item("f")
    early.mtime = -86400
    [(member, _)] = list(read_members(io.BytesIO(early.tobuf(format=tarfile.GNU_FORMAT) + bytes(1024))))
    assert member.mtime == -86400


def test_a_whiteout_hides_lower_layers_only() -> None:
    image = foreign(
        (item("d/.a"), b"old"), (item("d/old"), b""), (item("w"), b"old"),
        NEXT,
        (item("d/.a"), b"new"), (item("d/.wh..wh..opq"), b""), (item("d/z"), b""), (item("w"), b"new"), (item(".wh.w"), b""),
    )  # fmt: skip
    tree = file_tree(image)
    assert list(tree) == ["d/.a", "d/z", "w"]
    assert {placed.layer for placed in tree.values()} == {1}


def test_a_folder_and_a_file_change_places() -> None:
    image = foreign(
        (item("a/b/c"), b""), (item("f"), b""), NEXT, (item("a"), b""), item("f", FOLDER), (item("f/x"), b"")
    )
    assert list(file_tree(image)) == ["a", "f", "f/x"]
    with pytest.raises(LayerError, match="below a file"):
        file_tree(foreign((item("f"), b""), NEXT, (item("f/x"), b"")))


def test_a_control_file_of_spaces() -> None:
    with bounded():
        assert parse_control(b"a = 'x'" + b" " * 60_000, name="x").values == {"a": "x"}
        with pytest.raises(OcibuildError):
            parse_control(b"a" + b" " * 60_000 + b"\x01", name="x")


def test_many_sections_with_one_endless_name() -> None:
    """An ELF file whose sections all name the same four megabytes without an end."""
    from elftools.elf.elffile import ELFFile

    from ocibuild.elf import read_shared_object
    from ocibuild.errors import ElfError
    from tests.support.tools import TREES

    library = bytearray((TREES[0] / "usr/lib/postgresql/18/lib/pgrx_hello.so").read_bytes())
    elf = ELFFile(io.BytesIO(bytes(library)))
    table, strings = len(library), len(library) + 64 * 2000
    header = bytearray(64)
    header[4:8] = (3).to_bytes(4, "little")  # SHT_STRTAB
    header[24:32] = strings.to_bytes(8, "little")
    header[32:40] = (4 << 20).to_bytes(8, "little")
    library += header * 2000 + b"n" * (4 << 20)
    library[40:48] = table.to_bytes(8, "little")
    library[60:62] = (2000).to_bytes(2, "little")
    library[62:64] = (1).to_bytes(2, "little")
    assert elf.elfclass == 64
    with bounded(), contextlib.suppress(ElfError):
        read_shared_object(bytes(library))


# Waiting, and what the system says


@pytest.mark.parametrize("name", ["index.json", "oci-layout", "blob"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    image = layout(tmp_path / "x")
    path = tmp_path / "x" / (f"blobs/sha256/{image.digest.encoded}" if name == "blob" else name)
    path.unlink()
    os.mkfifo(path)
    with bounded(5), pytest.raises(OcibuildError):
        file_tree(open_artifact(f"oci:{tmp_path}/x"))


def test_an_archive_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with bounded(5), pytest.raises(StoreError, match="regular file"):
        ArchiveStore(tmp_path / "a.tar")


LONG = "n" * 300


@pytest.mark.parametrize(
    "use",
    [
        LayoutStore,
        ArchiveStore,
        lambda path: layout(Path(path)),
        lambda path: unpack(foreign((item("x"), b"")), path),
        lambda path: File(path="x", content=Path(path)),
        postgres.open_source,
        read_tree,
    ],
)
@pytest.mark.parametrize("name", [LONG, "a\0b"])
def test_names_that_no_system_takes(tmp_path: Path, use: Callable[[str], object], name: str) -> None:
    with contextlib.suppress(OcibuildError):
        use(f"{tmp_path}/{name}")


def test_a_deep_source(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    try:
        with contextlib.suppress(EntryError):
            assert len(read_tree(tmp_path)) == 1500
    finally:
        subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


def test_bytes_that_are_not_of_the_size_given() -> None:
    with pytest.raises(EntryError, match="wanted the size given, 600"):
        File(path="x", content=b"abc", size=600)


def test_the_callers_errors_are_the_callers(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as store, pytest.raises(FileNotFoundError), store.ingest():
        open("/nowhere")  # noqa: SIM115


def test_a_layout_on_a_read_only_disk_is_read(tmp_path: Path) -> None:
    image = layout(tmp_path / "x")
    code = f"from ocibuild import open_artifact as o; a = o('oci:{tmp_path}/x'); print(a.source.exists(a.root))"
    for folder in (tmp_path / "x", *(tmp_path / "x").rglob("*")):
        folder.chmod(folder.stat().st_mode & 0o555)
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout == "True\n"
    assert image.digest


def test_a_layout_whose_empty_folders_were_dropped(tmp_path: Path) -> None:
    with LayoutStore(tmp_path / "x") as store:
        store._session()
    (tmp_path / "x/blobs/sha256").rmdir()
    (tmp_path / "x/blobs").rmdir()
    layout(tmp_path / "x")


def test_what_a_kill_has_begun_in_an_empty_folder_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "x/blobs/sha256").mkdir(parents=True)
    (tmp_path / "x/index.json").write_text("{}")
    layout(tmp_path / "x")
    (tmp_path / "y").mkdir()
    (tmp_path / "y/index.json").write_text("{}")
    (tmp_path / "y/mine").touch()
    with pytest.raises(LayoutError):
        LayoutStore(tmp_path / "y")


def test_standing_in_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hello: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("x")
    monkeypatch.chdir(tmp_path / "x")
    layout(Path())
    assert open_artifact("oci:.").digest
    (tmp_path / "y").mkdir()
    (tmp_path / "z").symlink_to("y")
    unpack(open_artifact("oci:."), tmp_path / "z")


def test_a_read_only_folder_in_an_existing_one(tmp_path: Path) -> None:
    """Without root's rights a folder that may not be written to may not be moved either."""
    code = f"""
import tarfile
from tests.unit.test_other_commands import foreign, item
from ocibuild.unpack import unpack
import os
os.mkdir({str(tmp_path / "out")!r})
unpack(foreign(item("d", tarfile.DIRTYPE, mode=0o555), (item("d/x"), b"x")), {str(tmp_path / "out")!r})
print(sorted(os.listdir({str(tmp_path / "out")!r})), oct(os.stat({str(tmp_path / "out/d")!r}).st_mode & 0o777))
"""
    command = [sys.executable, "-c", code]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert out.stdout == "['d'] 0o555\n", out.stderr


@pytest.mark.parametrize("place", ["/proc/x", "/proc/x/y"])
def test_a_place_where_nothing_can_be_made(place: str) -> None:
    with bounded(5), pytest.raises(StoreError):
        layout(Path(place))


def test_an_archive_with_one_tag_twice_keeps_both(tmp_path: Path) -> None:
    """As other tools may leave it; adding an image loses neither, nor the index's annotations."""
    path = tmp_path / "a.tar"
    with ArchiveStore(path) as archive:
        images = [build_image([], platform=AMD64, labels={"n": str(number)}, into=archive) for number in (1, 2)]
        archive._writable().replace_index(
            Index(
                media_type=media_types.IMAGE_INDEX,
                manifests=tuple(image.root.bare.with_annotation(REF_NAME, "same") for image in images),
                annotations={"keep": "me"},
            )
        )
    with ArchiveStore(path) as archive:
        copy(build_image([], platform=AMD64, into=archive), archive, tags=["other"])
    index = ArchiveStore(path).index()
    assert len(index.manifests) == 3
    assert index.annotations == {"keep": "me"}


def test_an_archive_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.tar").symlink_to("real/a.tar")
    with ArchiveStore(tmp_path / "a.tar") as archive:
        copy(build_image([], platform=AMD64, into=archive), archive, tags=["1"])
    assert (tmp_path / "a.tar").is_symlink()
    assert (tmp_path / "real/a.tar").exists()


def test_an_archive_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"

    def write(number: int) -> Artifact:
        with ArchiveStore(path) as archive:
            image = build_image([], platform=AMD64, labels={"n": "x" * number}, into=archive)
            return copy(image, archive, tags=[f"t{number}"])

    first = write(1)
    reader = ArchiveStore(path)
    write(5000)
    with reader.fetch(first.root) as stream:
        assert stream.read()
    assert list(reader.tags()) == ["t1"]


def test_what_runtimes_read_otherwise_is_refused() -> None:
    def archive(*parts: tuple[tarfile.TarInfo, bytes]) -> list[str]:
        raw = b""
        for info, data in parts:
            info.size = len(data)
            raw += info.tobuf() + data + bytes(-len(data) % 512)
        return [found.path for found, _ in read_members(io.BytesIO(raw + bytes(1024)))]

    assert archive((item("x", tarfile.XHDTYPE), b"8 path=\n"), (item("name"), b"")) == ["name"]
    assert archive((item("dir/"), item("smuggled").tobuf()), (item("after"), b"")) == ["dir", "after"]
    with pytest.raises(LayerError, match="global"):
        archive((item("g", tarfile.XGLTYPE), b"10 path=x\n"), (item("name"), b""))
    with pytest.raises(LayerError, match="sparse"):
        archive((item("x", tarfile.XHDTYPE), b"22 GNU.sparse.major=1\n"), (item("name"), b""))


def test_an_unnamed_image_that_is_alone(tmp_path: Path) -> None:
    image = layout(tmp_path / "x")
    with LayoutStore(tmp_path / "y") as target:
        copied = copy(image, target)
        target.add(copied.root.bare)
    assert open_artifact(f"oci:{tmp_path}/y").digest == image.digest


def test_referrers_of_a_good_image_beside_a_damaged_one(tmp_path: Path) -> None:
    good = layout(tmp_path / "x", "good")
    bad = layout(tmp_path / "x", "bad")
    (tmp_path / "x/blobs/sha256" / bad.digest.encoded).unlink()
    assert LayoutStore(tmp_path / "x").referrers(good.root) == []
    with pytest.raises(NotFoundError):
        file_tree(open_artifact(f"oci:{tmp_path}/x:bad"))


def test_the_command_line_in_a_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["inspect", "oci:nowhere"])))
    thread.start()
    thread.join()
    assert codes == [6]
