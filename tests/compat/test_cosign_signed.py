"""What the real cosign signed and attested, verified by ocibuild, from a registry and from one file behind a gap."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocibuild import Artifact, copy
from ocibuild.locations import open_artifact, open_registry
from ocibuild.oci import Reference
from tests.conftest import Result
from tests.support.tools import peer, run

pytestmark = pytest.mark.compat

Cli = Callable[..., Result]
FORMATS = {"bundle": "true", "legacy": "false"}
PROVENANCE = {
    "buildDefinition": {
        "buildType": "https://actions.github.io/buildtypes/workflow/v1",
        "externalParameters": {"workflow": {"repository": "https://github.com/grove/hello", "ref": "x", "path": "y"}},
        "resolvedDependencies": [],
    },
    "runDetails": {"builder": {"id": "https://github.com/actions/runner"}},
}
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [{"type": "library", "name": "a"}]}
PREDICATES = {"slsaprovenance1": PROVENANCE, "cyclonedx": BOM}
POLICY = """
[signature]
keys = ["cosign.pub"]
[sbom]
required = true
[provenance]
required = true
source = "https://github.com/grove/hello"
builder = "https://github.com/actions/runner"
[base]
allowed = ["none"]
[checks]
max_severity = "warning"
"""

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "of the grove")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with cosign's own key pair, and another one's below it."""
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COSIGN_PASSWORD", "of the grove")
        for where in (folder, folder / "other"):
            where.mkdir(exist_ok=True)
            run([*peer("cosign"), "generate-key-pair"], cwd=where)
    for kind, predicate in PREDICATES.items():
        (folder / f"{kind}.json").write_text(json.dumps(predicate))
    (folder / "policy.toml").write_text(POLICY)
    yield folder


@pytest.fixture
def image(address: str, hello: Path) -> Artifact:
    store = open_registry(Reference.parse(f"{address}/grove/hello-{next(_numbers)}"))
    return copy(open_artifact(f"oci:{hello}:0.2.0"), store, tags=["1"])


def cosign(keys: Path, image: Artifact, verb: str, form: str, *more: str) -> None:
    access = ["--allow-http-registry", "--allow-insecure-registry", "--tlog-upload=false", "--use-signing-config=false"]
    command = [*peer("cosign"), verb, "--yes", "--key", "cosign.key", f"--new-bundle-format={FORMATS[form]}", *access]
    run([*command, *more, f"{image.source}@{image.digest}"], cwd=keys)


def attest(keys: Path, image: Artifact, form: str) -> None:
    for kind in PREDICATES:
        cosign(keys, image, "attest", form, "--type", kind, "--predicate", f"{kind}.json")


@pytest.mark.parametrize("form", FORMATS)
def test_what_cosign_signed(cli: Cli, keys: Path, image: Artifact, form: str) -> None:
    where = f"{image.source}:1"
    assert cli("verify", where, "--key", keys / "cosign.pub").code == 11
    cosign(keys, image, "sign", form)
    result = cli("verify", where, "--key", keys / "cosign.pub", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert said["digest"] == image.digest
    assert [item["format"] for item in said["signatures"]] == [
        "sigstore bundle" if form == "bundle" else "simple signing"
    ]
    assert (said["refused"], said["notes"]) == ([], [])
    if form == "legacy":
        assert said["signatures"][0]["reference"] == str(image.source)
    result = cli("verify", where, "--key", keys / "other/cosign.pub")
    assert result.code == 12
    assert "by another key" in result.err


@pytest.mark.parametrize("form", FORMATS)
def test_what_cosign_attested(cli: Cli, keys: Path, image: Artifact, form: str) -> None:
    where = f"{image.source}:1"
    attest(keys, image, form)
    result = cli("verify", where, "--policy", keys / "policy.toml")
    assert result.code == 11
    assert "are no signature of the image" in result.err
    cosign(keys, image, "sign", form)
    result = cli("verify", where, "--policy", keys / "policy.toml", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert {item["predicateType"]: item["says"] for item in said["attestations"]} == {
        "https://slsa.dev/provenance/v1": {
            "source": "https://github.com/grove/hello",
            "builder": "https://github.com/actions/runner",
        },
        "https://cyclonedx.org/bom": {"format": "CycloneDX 1.6", "components": "1"},
    }
    assert all(rule["ok"] for rule in said["policy"])


def test_the_recursive_signature_of_cosign(cli: Cli, keys: Path, image: Artifact) -> None:
    cosign(keys, image, "sign", "bundle", "--recursive")
    result = cli("verify", f"{image.source}:1", "--key", keys / "cosign.pub", "--platforms", "--json")
    assert result.code == 0, result.err
    assert [item["platforms"] for item in json.loads(result.out)["images"]] == [["linux/amd64"], ["linux/arm64"]]


def test_from_one_file_behind_a_gap(cli: Cli, keys: Path, image: Artifact, tmp_path: Path) -> None:
    """With nothing but the file: what it holds is all there is to go by."""
    for form in FORMATS:
        cosign(keys, image, "sign", form)
        attest(keys, image, form)
    assert cli("copy", f"{image.source}:1", f"oci-archive:{tmp_path}/bundle.tar:1", "--referrers").code == 0
    policy = keys / "policy.toml"
    result = cli("verify", f"oci-archive:{tmp_path}/bundle.tar", "--policy", policy, "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    assert {item["format"] for item in said["signatures"]} == {"sigstore bundle", "simple signing"}
    assert {item["format"] for item in said["attestations"]} == {"sigstore bundle", "dsse envelope"}
    other = shutil.copy(keys / "other/cosign.pub", tmp_path / "other.pub")
    assert cli("verify", f"oci-archive:{tmp_path}/bundle.tar", "--key", other).code == 12
