"""One file carried from one network to another: two real registries that cannot see each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocibuild import LayoutStore, MemoryStore, copy, open_artifact
from ocibuild.oci import media_types
from ocibuild.store import walk
from ocibuild.store.graph import push_blob, read_blob
from tests.contract.test_pairings import sign
from tests.contract.test_referrers import signatures
from tests.support.islands import ADDRESS, Island, island

NAME = f"{ADDRESS}/grove/hello"


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Island]:
    with island(tmp_path_factory.mktemp("near") / "island") as found:
        yield found


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Island]:
    with island(tmp_path_factory.mktemp("far") / "island") as found:
        yield found


@pytest.fixture(scope="module")
def signed(hello: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's image in a layout, with a signature that is signed, and one by cosign's tag."""
    path, store = tmp_path_factory.mktemp("signed") / "layout", MemoryStore()
    image = copy(open_artifact(f"oci:{hello}:0.2.0"), store)
    push_blob(store, b"{}", media_types.EMPTY)
    sign(store, sign(store, image.root))
    signatures(store, image.root, ["key"])
    with LayoutStore(path) as layout:
        copy(image, layout, tags=["0.2.0"], referrers=True)
    return path


def attached(shown: str) -> dict[str, tuple[str, str, str]]:
    return {item["digest"]: (item["subject"], item["tag"], item["kind"]) for item in json.loads(shown)["attached"]}


def test_an_image_and_all_that_is_attached_crosses_the_gap(
    near: Island, far: Island, signed: Path, tmp_path: Path
) -> None:
    near.ocibuild("push", f"oci:{signed}", NAME, "--referrers")
    before = near.ocibuild("inspect", f"{NAME}:0.2.0", "--json")
    assert len(attached(before)) == 3
    assert {kind for _, _, kind in attached(before).values()} >= {"signature (cosign, simple signing)"}
    assert far.ask("/v2/_catalog") == {"repositories": []}
    # The bundle is the only thing that both have seen.
    near.ocibuild("copy", f"{NAME}:0.2.0", "oci-archive:bundle.tar", "--referrers")
    bundle = near.folder / "bundle.tar"
    carried = bundle.rename(far.folder / "bundle.tar")
    assert "as 0.2.0" in far.ocibuild("copy", f"oci-archive:{carried}", NAME, "--referrers")
    after = far.ocibuild("inspect", f"{NAME}:0.2.0", "--json")
    assert json.loads(after)["digest"] == json.loads(before)["digest"] == open_artifact(f"oci:{signed}:0.2.0").digest
    assert attached(after) == attached(before)
    # Carried back, every byte is the same.
    far.ocibuild("copy", f"{NAME}:0.2.0", f"oci:{tmp_path}/back:1", "--referrers")
    source, back = LayoutStore(signed), LayoutStore(tmp_path / "back")
    for digest in [open_artifact(f"oci:{signed}:0.2.0").digest, *attached(after)]:
        for item in walk(source, source.resolve(digest)):
            assert read_blob(back, item) == read_blob(source, item)


def test_a_bundle_that_suffered_changes_nothing_there(near: Island, far: Island, signed: Path, tmp_path: Path) -> None:
    near.ocibuild("copy", f"oci:{signed}", f"oci-archive:{tmp_path}/bundle.tar", "--referrers")
    raw = (tmp_path / "bundle.tar").read_bytes()
    for number, damaged in enumerate((raw[: len(raw) // 2], raw.replace(b"signed", b"forged"))):
        assert damaged != raw
        (far.folder / "bundle.tar").write_bytes(damaged)
        with pytest.raises(AssertionError, match=r"It may have been cut off|a blob with digest"):
            far.ocibuild("copy", "oci-archive:bundle.tar:0.2.0", f"{ADDRESS}/grove/half{number}:1", "--referrers")
    assert [name for name in far.ask("/v2/_catalog")["repositories"] if "half" in name] == []
    assert list((far.folder / "registry").rglob("half*")) == []


def test_a_bundle_of_several_images(near: Island, far: Island, signed: Path) -> None:
    """The blobs in common are in it once; on the other side each is copied by its tag."""
    name = f"{ADDRESS}/grove/several"
    near.ocibuild("copy", f"oci:{signed}", f"{name}:1", "--referrers")
    near.ocibuild("copy", f"{name}:1", "oci-archive:several.tar", "--referrers")
    size = (near.folder / "several.tar").stat().st_size
    near.ocibuild("copy", f"{name}:1", "oci-archive:several.tar:arm", "--platform", "linux/arm64")
    assert (near.folder / "several.tar").stat().st_size - size < 10_000
    (near.folder / "several.tar").rename(far.folder / "several.tar")
    with pytest.raises(AssertionError, match="2 images"):
        far.ocibuild("copy", "oci-archive:several.tar", name)
    far.ocibuild("copy", "oci-archive:several.tar:arm", f"{name}:arm")
    far.ocibuild("copy", "oci-archive:several.tar:1", f"{name}:1", "--referrers")
    original = open_artifact(f"oci:{signed}:0.2.0")
    assert json.loads(far.ocibuild("inspect", f"{name}:1", "--json"))["digest"] == original.digest
    assert len(attached(far.ocibuild("inspect", f"{name}:1", "--json"))) == 3
    images = {item.digest for item in walk(original.source, original.root)}
    assert json.loads(far.ocibuild("inspect", f"{name}:arm", "--json"))["digest"] in images
