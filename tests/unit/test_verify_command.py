"""`ocibuild verify`: what it prints, and what it exits with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ocibuild import Artifact, LayoutStore
from tests.conftest import Result
from tests.unit.test_verify import (
    CYCLONEDX,
    Key,
    another_images,
    bundle,
    claim,
    damaged,
    hang,
    refer,
    simple,
    statement,
)
from tests.unit.test_verify import key as key  # noqa: PLC0414 - fixtures
from tests.unit.test_verify import other as other  # noqa: PLC0414

Cli = Callable[..., Result]


@pytest.fixture
def layout(tmp_path: Path, hello: Path) -> Path:
    shutil.copytree(hello, tmp_path / "layout")
    return tmp_path / "layout"


@pytest.fixture
def image(layout: Path) -> Artifact:
    store = LayoutStore(layout)
    return Artifact(store.resolve("0.2.0"), store)


def sign(image: Artifact, key: Key, kind: str = "bundle") -> None:
    assert isinstance(image.source, LayoutStore)
    with image.source as store:
        if kind == "bundle":
            refer(store, image.root, bundle(key, statement(image.digest)))
        else:
            hang(store, image.digest, [simple(key, claim(image.digest, optional={"timestamp": 1_700_000_000}))], "sig")


def test_what_was_verified_can_be_pinned(cli: Cli, layout: Path, image: Artifact, key: Key, other: Key) -> None:
    sign(image, key)
    sign(image, key, "sig")
    sign(image, other)
    result = cli("verify", f"oci:{layout}:0.2.0", "--key", key.path, "--key", other.path)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == image.digest
    [line] = [line for line in lines if f"signed  by {key.public.fingerprint[:23]}" in line]
    assert "as ghcr.io/grove/x" in line
    assert "sigstore bundle, simple signing" in line
    assert {"2023-11-14T22:13:20Z", "2026-11-21T13:48:27Z"} <= set(line.replace(",", " ").split())
    assert len(lines) == 3
    assert all("linux/amd64, linux/arm64" in line for line in lines[1:])
    assert result.err == "note: a time is the signer's word, and that of a bundle alone is not signed\n"
    # The digest that was printed is what is verified by it.
    assert cli("verify", f"oci:{layout}@{lines[0]}", "--key", key.path).code == 0


def test_as_json(cli: Cli, layout: Path, image: Artifact, key: Key, other: Key) -> None:
    sign(image, key)
    sign(image, other)
    with LayoutStore(layout) as store:
        bom = statement(image.digest, CYCLONEDX, {"bomFormat": "CycloneDX", "specVersion": "1.6"})
        refer(store, image.root, bundle(key, bom), predicate_type=CYCLONEDX)
    result = cli("verify", f"oci:{layout}:0.2.0", "--key", key.path, "--json")
    assert result.code == 0
    said = json.loads(result.out)
    assert (said["digest"], said["verified"], said["kind"]) == (image.digest, True, "index")
    assert said["platforms"] == ["linux/amd64", "linux/arm64"]
    assert [item["key"] for item in said["signatures"]] == [key.public.fingerprint]
    [attested] = said["attestations"]
    assert (attested["predicateType"], attested["says"]["format"]) == (CYCLONEDX, "CycloneDX 1.6")
    assert "predicate" not in attested
    [refused] = said["refused"]
    assert (refused["error"], refused["wanted"]) == ("WrongSignatureError", "one of a given key")
    assert "error" not in said


@pytest.mark.parametrize("form", ["text", "json"])
def test_exit_codes(cli: Cli, layout: Path, image: Artifact, key: Key, other: Key, form: str) -> None:
    def verify(*more: str) -> Result:
        result = cli("verify", f"oci:{layout}:0.2.0", "--key", key.path, *more, *(["--json"] if form == "json" else []))
        if form == "json":
            said = json.loads(result.out)
            assert (said["image"], said["digest"]) == (image.digest, image.digest if result.code == 0 else None)
            assert said["verified"] is (result.code == 0)
            assert ("error" in said) is (result.code != 0)
        else:
            assert (image.digest in result.out) is (result.code == 0)
        return result

    result = verify()
    assert (result.code, result.err.partition(". ")[0]) == (11, f"ocibuild: {image.digest}: not signed")
    with LayoutStore(layout) as store:
        damaged(store, image, key, other)
        result = verify()
        assert result.code == 5
        another_images(store, image, key, other)
    result = verify()
    assert result.code == 12
    assert "layer 1: it signs sha256:" in result.err
    assert "a statement about another image" in result.err
    sign(image, key)
    assert verify().code == 0
    result = verify("--platforms")
    assert result.code == 11
    policy = layout.parent / "policy.toml"
    policy.write_text('[sbom]\nrequired = true\n[base]\nallowed = ["none"]\n')
    result = verify("--policy", str(policy))
    assert result.code == 13
    if form == "json":
        assert "sbom: none by a given key, wanted a signed CycloneDX SBOM" in result.err
        assert [item["ok"] for item in json.loads(result.out)["policy"]] == [False, True]
        assert json.loads(result.out)["error"] == "PolicyError"
    else:
        assert result.out == ""
        rows = [line.split() for line in result.err.splitlines() if line.startswith("  ")]
        assert [(row[0], row[-1]) for row in rows] == [("rule", "ok"), ("sbom", "NO"), ("base", "yes")]


def test_what_is_in_the_way_is_told(cli: Cli, layout: Path, image: Artifact, key: Key, other: Key) -> None:
    sign(image, key, "sig")
    sign(image, other)
    result = cli("verify", f"oci:{layout}:0.2.0", "--key", key.path)
    assert result.code == 0
    assert "passed over 1 by other keys" in result.err
    assert "note: cosign 3" in result.err


def test_text_of_an_image_steers_no_terminal(cli: Cli, layout: Path, image: Artifact, key: Key) -> None:
    kind = "https://x/\x1b[2Jevil"
    sign(image, key)
    with LayoutStore(layout) as store:
        refer(store, image.root, bundle(key, statement(image.digest, kind)), predicate_type=kind)
    result = cli("verify", f"oci:{layout}:0.2.0", "--key", key.path)
    assert result.code == 0
    assert "\\x1b[2Jevil" in result.out
    assert "\x1b" not in result.out + result.err


def test_a_private_key_is_refused(cli: Cli, layout: Path, tmp_path: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "private.pem").write_bytes(secret)
    result = cli("verify", f"oci:{layout}:0.2.0", "--key", tmp_path / "private.pem")
    assert result.code == 2
    assert "openssl pkey" in result.err
    assert secret.splitlines()[1].decode() not in result.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--key", "nothing.pub"], 2),
        (["--policy", "nothing.toml"], 2),
        ([], 2),
        (["--cert", "x"], 2),
    ],
)
def test_usage(cli: Cli, layout: Path, arguments: list[str], code: int) -> None:
    assert cli("verify", f"oci:{layout}:0.2.0", *arguments).code == code


def test_what_is_not_there(cli: Cli, layout: Path, key: Key) -> None:
    assert cli("verify", f"oci:{layout}:9", "--key", key.path).code == 6
