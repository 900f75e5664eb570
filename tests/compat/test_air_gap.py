"""What ocibuild signed and carried across an air gap, verified by cosign on the other side, where nothing else is reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.test_air_gap import attached
from tests.support.islands import ADDRESS, Island, island
from tests.support.tools import peer, run

pytestmark = pytest.mark.compat

NAME = f"{ADDRESS}/grove/hello"
PASSWORD = "of-a-test"


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Island]:
    with island(tmp_path / "near") as found:
        yield found


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Island]:
    with island(tmp_path / "far") as found:
        yield found


def cosign(place: Island, *arguments: str | Path) -> tuple[int, str]:
    """Run it there; its code and what it said."""
    result = place.run("env", f"COSIGN_PASSWORD={PASSWORD}", *peer("cosign"), *arguments)
    return result.returncode, result.stderr + result.stdout


def verify(place: Island, key: Path) -> tuple[int, str]:
    access = ("--insecure-ignore-tlog=true", "--allow-http-registry", "--allow-insecure-registry")
    return cosign(place, "verify", "--key", key, *access, f"{NAME}:0.2.0")


def test_cosign_verifies_on_the_other_side(near: Island, far: Island, hello: Path, tmp_path: Path) -> None:
    near.ocibuild("push", f"oci:{hello}", NAME)
    code, said = cosign(near, "generate-key-pair")
    assert code == 0, said
    near.ocibuild("sign", f"{NAME}:0.2.0", "--key", "cosign.key", COSIGN_PASSWORD=PASSWORD)
    before = attached(near.ocibuild("inspect", f"{NAME}:0.2.0", "--json"))
    assert {tag[-4:] for _, tag, _ in before.values()} == {"", ".sig"}
    near.ocibuild("copy", f"{NAME}:0.2.0", "oci-archive:bundle.tar", "--referrers")
    for name in ("bundle.tar", "cosign.pub"):
        (near.folder / name).rename(far.folder / name)
    public = far.folder / "cosign.pub"
    far.ocibuild("copy", "oci-archive:bundle.tar", NAME)
    assert verify(far, public)[0] != 0  # the image alone is not enough
    far.ocibuild("copy", "oci-archive:bundle.tar", NAME, "--referrers")
    assert attached(far.ocibuild("inspect", f"{NAME}:0.2.0", "--json")) == before
    code, said = verify(far, public)
    assert code == 0, said
    # Nor is it with another's key.
    (tmp_path / "other").mkdir()
    run(["env", f"COSIGN_PASSWORD={PASSWORD}", *peer("cosign"), "generate-key-pair"], cwd=tmp_path / "other")
    assert verify(far, tmp_path / "other/cosign.pub")[0] != 0


def test_what_cosign_attached_crosses_too(near: Island, far: Island, hello: Path) -> None:
    """By its tags, as releases before 3 wrote them, and by bundles: several signatures under one tag, one of them there."""
    near.ocibuild("push", f"oci:{hello}", NAME)
    for prefix in ("one", "two"):
        code, said = cosign(near, "generate-key-pair", f"--output-key-prefix={prefix}")
        assert code == 0, said
    access = ("--tlog-upload=false", "--use-signing-config=false", "--allow-http-registry", "--allow-insecure-registry")
    digest = near.ocibuild("inspect", f"{NAME}:0.2.0", "--json").partition('"digest": "')[2].partition('"')[0]

    def sign(place: Island, key: str, *, is_bundle: bool) -> None:
        style = f"--new-bundle-format={str(is_bundle).lower()}"
        code, said = cosign(place, "sign", "--yes", "--key", key, style, *access, f"{NAME}@{digest}")
        assert code == 0, said

    sign(near, "one.key", is_bundle=False)
    near.ocibuild("copy", f"{NAME}:0.2.0", "oci-archive:bundle.tar", "--referrers")
    for name in ("bundle.tar", "one.pub", "two.pub", "two.key"):
        (near.folder / name).rename(far.folder / name)
    # The far side has signed the same image with a key of its own.
    far.ocibuild("copy", "oci-archive:bundle.tar", NAME)
    sign(far, "two.key", is_bundle=False)
    assert [verify(far, far.folder / f"{key}.pub")[0] != 0 for key in ("one", "two")] == [True, False]
    far.ocibuild("copy", "oci-archive:bundle.tar", NAME, "--referrers")
    for key in ("one", "two"):
        code, said = verify(far, far.folder / f"{key}.pub")
        assert code == 0, said
    # A bundle, there and back.
    sign(far, "two.key", is_bundle=True)
    far.ocibuild("copy", f"{NAME}:0.2.0", "oci-archive:back.tar", "--referrers")
    (far.folder / "back.tar").rename(near.folder / "back.tar")
    (far.folder / "two.pub").rename(near.folder / "two.pub")
    near.ocibuild("copy", "oci-archive:back.tar", NAME, "--referrers")
    code, said = verify(near, near.folder / "two.pub")
    assert code == 0, said
