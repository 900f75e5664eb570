"""What we sign, verified by cosign; beside what cosign signs; and found in a registry that has no referrers API.

cosign 3 reads the bundles where there is one, else the older format: so each is also written alone. The peers come from
OCIBUILD_PEERS or PATH; without them these tests say so.
"""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, PublicFormat

from ocibuild import Artifact, intoto, open_artifact
from ocibuild.locations import open_registry
from ocibuild.oci import Index, Manifest, Reference, media_types
from ocibuild.oci.canonical import decode, encode
from ocibuild.registry import RegistryStore
from ocibuild.sign import FORMATS, attest, load_signer, sign_image
from ocibuild.sign.bundle import BUNDLE
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import platform_images, push_blob, read_blob, read_document
from tests.conftest import Result
from tests.support.tools import TREES, peer, run

pytestmark = pytest.mark.compat

Cli = Callable[..., Result]
PASSPHRASE = "of-the-grove"
SBOM = '{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}'
ALONE_AND_BOTH = [("tag",), ("bundle",), FORMATS]

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Keys:
    """A private key in a file, and its public part in another."""

    private: Path
    public: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where cosign finds nothing."""
    return tmp_path_factory.mktemp("home")


Cosign = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def cosign(home: Path) -> Cosign:
    """Run cosign; whether it succeeds is asked by the test."""
    program = peer("cosign")
    # The home is set behind what finds the peers, which goes by it.
    command = [*program[:-1], "env", f"HOME={home}", f"COSIGN_PASSWORD={PASSPHRASE}", program[-1]]

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)], capture_output=True, text=True, cwd=home, check=False, timeout=120
        )

    return call


@pytest.fixture(scope="module", params=["cosign.key", "PKCS#8"])
def keys(request: pytest.FixtureRequest, cosign: Cosign, tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    found = Keys(folder / "key.key", folder / "key.pub")
    if request.param == "cosign.key":
        made = cosign("generate-key-pair", f"--output-key-prefix={folder}/key")
        assert made.returncode == 0, made.stderr
        return found
    return generate(folder)


def generate(folder: Path) -> Keys:
    found = Keys(folder / "key.key", folder / "key.pub")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = BestAvailableEncryption(PASSPHRASE.encode())
    found.private.touch(0o600)
    found.private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    found.public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return found


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return generate(tmp_path_factory.mktemp("other"))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(home))
    monkeypatch.setenv("OCIBUILD_KEY_PASSPHRASE", PASSPHRASE)


@pytest.fixture
def name(address: str) -> str:
    """A repository that no other test uses."""
    return f"{address}/grove/hello-{next(_numbers)}"


@pytest.fixture
def pushed(cli: Cli, hello: Path, name: str) -> Artifact:
    result = cli("push", f"oci:{hello}", name, "--tag", "1")
    assert result.code == 0, result.err
    return open_artifact(f"{name}:1")


def store_of(image: Artifact) -> RegistryStore:
    assert isinstance(image.source, RegistryStore)
    return image.source


OPTIONS = ("--insecure-ignore-tlog=true", "--allow-http-registry", "--output=json")


def verify(cosign: Cosign, key: Path, reference: str) -> list[dict[str, Any]]:
    """What cosign takes as signed."""
    result = cosign("verify", "--key", key, *OPTIONS, reference)
    assert result.returncode == 0, result.stderr
    assert "The signatures were verified against the specified public key" in result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def verify_attestation(cosign: Cosign, key: Path, kind: str, reference: str) -> list[dict[str, Any]]:
    """The statements that cosign takes as attested."""
    result = cosign("verify-attestation", "--type", kind, "--key", key, *OPTIONS, reference)
    assert result.returncode == 0, result.stderr
    payloads = [json.loads(line)["payload"] for line in result.stdout.splitlines() if line.strip()]
    return [json.loads(base64.b64decode(payload)) for payload in payloads]


# Signatures


@pytest.mark.parametrize("formats", ALONE_AND_BOTH, ids="+".join)
def test_cosign_verifies_each_format(
    cosign: Cosign, pushed: Artifact, name: str, keys: Keys, other: Keys, formats: tuple[str, ...]
) -> None:
    signer = load_signer(keys.private, passphrase=PASSPHRASE.encode())
    [signed] = sign_image(pushed, store_of(pushed), signer, reference=name, formats=formats)
    assert signed.added == formats
    for reference in (f"{name}:1", f"{name}@{pushed.digest}"):
        [found] = verify(cosign, keys.public, reference)
        assert found["critical"]["image"]["docker-manifest-digest"] == pushed.digest
    refused = cosign("verify", "--key", other.public, *OPTIONS, f"{name}:1")
    assert refused.returncode != 0
    assert "verified against" not in refused.stderr


def test_cosign_verifies_what_the_command_signs(
    cli: Cli, cosign: Cosign, pushed: Artifact, name: str, keys: Keys
) -> None:
    """The index and each platform's image, with a time; and what was signed in a layout and copied."""
    result = cli("sign", f"{name}:1", "--key", keys.private, "--platforms", "--json")
    assert result.code == 0, result.err
    said = json.loads(result.out)
    images = [pushed.digest, *(image.digest for _, image in platform_images(pushed))]
    assert [item["digest"] for item in said["signed"]] == images
    for digest in images:
        assert verify(cosign, keys.public, f"{name}@{digest}")
    again = json.loads(cli("sign", f"{name}:1", "--key", keys.private, "--platforms", "--json").out)
    assert [item["added"] for item in again["signed"]] == [[], [], []]


def test_cosign_verifies_what_was_signed_before_it_was_pushed(
    cli: Cli, cosign: Cosign, hello: Path, name: str, keys: Keys, tmp_path: Path
) -> None:
    archive = f"oci-archive:{tmp_path}/image.tar"
    assert cli("copy", f"oci:{hello}:0.2.0", archive).code == 0
    assert cli("sign", archive, "--key", keys.private, "--reference", name).code == 0
    assert cli("copy", archive, f"{name}:1", "--referrers").code == 0
    assert verify(cosign, keys.public, f"{name}:1")
    tag = attached_tag(open_artifact(archive).digest, "sig")
    assert verify(cosign, keys.public, f"{name}:1")
    assert open_artifact(f"{name}:{tag}").digest == open_artifact(f"{archive}:{tag}").digest


def sign_by_cosign(cosign: Cosign, key: Path, reference: str, *, is_new: bool) -> None:
    new = f"--new-bundle-format={str(is_new).lower()}"
    quiet = ("--yes", "--use-signing-config=false", "--tlog-upload=false", "--allow-http-registry")
    made = cosign("sign", "--key", key, new, *quiet, reference)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("is_new", [False, True])
def test_signatures_of_cosign_stay_beside_ours(
    cosign: Cosign, pushed: Artifact, name: str, keys: Keys, tmp_path: Path, is_new: bool
) -> None:
    """cosign, we, cosign again: each adds to what is there, and all are good."""
    for number in range(2):
        assert cosign("generate-key-pair", f"--output-key-prefix={tmp_path}/{number}").returncode == 0
    signer = load_signer(keys.private, passphrase=PASSPHRASE.encode())
    formats = FORMATS if is_new else ("tag",)
    sign_by_cosign(cosign, tmp_path / "0.key", f"{name}@{pushed.digest}", is_new=is_new)
    [signed] = sign_image(pushed, store_of(pushed), signer, reference=name, formats=formats)
    assert signed.added == formats
    sign_by_cosign(cosign, tmp_path / "1.key", f"{name}@{pushed.digest}", is_new=is_new)
    for key in (tmp_path / "0.pub", keys.public, tmp_path / "1.pub"):
        assert verify(cosign, key, f"{name}:1")


@pytest.mark.parametrize("is_new", [False, True])
def test_what_cosign_signed_with_the_same_key_is_not_signed_again(
    cosign: Cosign, pushed: Artifact, name: str, tmp_path: Path, is_new: bool
) -> None:
    assert cosign("generate-key-pair", f"--output-key-prefix={tmp_path}/same").returncode == 0
    sign_by_cosign(cosign, tmp_path / "same.key", f"{name}@{pushed.digest}", is_new=is_new)
    signer = load_signer(tmp_path / "same.key", passphrase=PASSPHRASE.encode())
    [signed] = sign_image(pushed, store_of(pushed), signer, reference=name)
    assert signed.added == (("tag",) if is_new else ("bundle",))
    assert verify(cosign, tmp_path / "same.pub", f"{name}:1")


def test_skopeo_takes_an_image_by_its_signature(
    cli: Cli, pushed: Artifact, name: str, other: Keys, tmp_path: Path
) -> None:
    """The policy of podman, CRI-O and skopeo compares the repository too, and looks at each platform's image."""
    (tmp_path / "d").mkdir()
    host = name.partition("/")[0]
    (tmp_path / "d/all.yaml").write_text(f"docker:\n  {host}:\n    use-sigstore-attachments: true\n")
    rule = {"type": "sigstoreSigned", "keyPath": str(other.public), "signedIdentity": {"type": "matchRepository"}}
    policy = {"default": [{"type": "reject"}], "transports": {"docker": {"": [rule]}}}
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    places = ["--policy", tmp_path / "policy.json", "--registries.d", tmp_path / "d"]
    # Debian's own is built without sigstore.
    command = [*peer("skopeo"), *places, "copy", "-q", "--all", "--src-tls-verify=false", "--remove-signatures"]

    def attempt(number: int) -> subprocess.CompletedProcess[str]:
        arguments = [*command, f"docker://{name}:1", f"dir:{tmp_path}/out-{number}"]
        return subprocess.run(
            [str(item) for item in arguments], capture_output=True, text=True, check=False, cwd=tmp_path
        )

    assert attempt(0).returncode != 0
    assert cli("sign", f"{name}:1", "--key", other.private, "--platforms", "--reference", "quay.io/another/x").code == 0
    assert attempt(1).returncode != 0
    assert cli("sign", f"{name}:1", "--key", other.private).code == 0
    assert attempt(2).returncode != 0  # it is the platform's image that is asked for
    assert cli("sign", f"{name}:1", "--key", other.private, "--platforms").code == 0
    taken = attempt(3)
    if "sigstore disabled" in taken.stderr:
        pytest.skip("needs a skopeo that verifies sigstore signatures: the peers'; Debian's does not")
    assert taken.returncode == 0, taken.stderr


# Attestations


@pytest.mark.parametrize("formats", ALONE_AND_BOTH, ids="+".join)
def test_cosign_verifies_attestations(
    cosign: Cosign, pushed: Artifact, name: str, keys: Keys, other: Keys, formats: tuple[str, ...]
) -> None:
    signer = load_signer(keys.private, passphrase=PASSPHRASE.encode())
    said = {"cyclonedx": SBOM, "spdxjson": '{"spdxVersion":"SPDX-2.3"}', "https://example.com/t": '{"a": 1}'}
    for kind, predicate in said.items():
        attest(pushed, store_of(pushed), signer, kind, predicate.encode(), formats=formats)
    attest(pushed, store_of(pushed), signer, "custom", b"any text", formats=formats)
    for kind, predicate in said.items():
        [statement] = verify_attestation(cosign, keys.public, kind, f"{name}:1")
        assert statement["predicate"] == json.loads(predicate)
    [statement] = verify_attestation(cosign, keys.public, "custom", f"{name}:1")
    assert statement["predicate"]["Data"] == "any text"
    refused = cosign("verify-attestation", "--type", "cyclonedx", "--key", other.public, *OPTIONS, f"{name}:1")
    assert refused.returncode != 0
    unsaid = cosign("verify-attestation", "--type", "vuln", "--key", keys.public, *OPTIONS, f"{name}:1")
    assert unsaid.returncode != 0


def test_cosign_verifies_the_provenance_of_a_build(
    cli: Cli, cosign: Cosign, name: str, keys: Keys, tmp_path: Path
) -> None:
    """Built, attested, signed and copied, as a release is."""
    layout = f"oci:{tmp_path}/built"
    assert cli("build", *TREES, "-o", layout, "--provenance").code == 0
    image = open_artifact(layout)
    (tmp_path / "bom.json").write_text(SBOM)
    assert cli("attest", layout, "--key", keys.private).code == 0
    bom = ("--type", "cyclonedx", "--predicate", tmp_path / "bom.json")
    assert cli("attest", layout, "--key", keys.private, *bom).code == 0
    assert cli("sign", layout, "--key", keys.private, "--reference", name).code == 0
    assert cli("copy", layout, f"{name}:1", "--referrers").code == 0
    [provenance] = verify_attestation(cosign, keys.public, "slsaprovenance1", f"{name}:1")
    assert provenance["predicateType"] == intoto.SLSA_PROVENANCE
    assert provenance["subject"] == [{"digest": {"sha256": image.digest.encoded}}]
    [sbom] = verify_attestation(cosign, keys.public, "cyclonedx", f"{name}:1")
    assert sbom["predicate"] == json.loads(SBOM)
    assert verify(cosign, keys.public, f"{name}:1")


def test_cosign_takes_an_attested_image_for_a_signed_one(
    cli: Cli, cosign: Cosign, pushed: Artifact, name: str, other: Keys
) -> None:
    """What docs/reference/signing.md warns of; where cosign stops it, the warning can go."""
    attest(pushed, store_of(pushed), load_signer(other.private, passphrase=PASSPHRASE.encode()), "vuln", b"{}")
    assert verify(cosign, other.public, f"{name}:1")
    assert cli("verify", f"{name}:1", "--key", other.public).code == 11


def test_a_signature_that_cosign_refuses_for_what_is_beside_it_is_signed_again(
    cosign: Cosign, pushed: Artifact, name: str, other: Keys
) -> None:
    store, signer = store_of(pushed), load_signer(other.private, passphrase=PASSPHRASE.encode())
    [signed] = sign_image(pushed, store, signer, reference=name, formats=("tag",))
    assert signed.tag is not None
    image = read_document(store, signed.tag[1])
    assert isinstance(image, Manifest)
    layer = image.layers[0].with_annotation("dev.sigstore.cosign/certificate", "junk")
    changed = encode(msgspec.structs.replace(image, layers=(layer,)))
    store.tag(push_blob(store, changed, media_types.IMAGE_MANIFEST), signed.tag[0])
    assert cosign("verify", "--key", other.public, *OPTIONS, f"{name}:1").returncode != 0
    [again] = sign_image(pushed, store, signer, reference=name, formats=("tag",))
    assert again.added == ("tag",)
    assert verify(cosign, other.public, f"{name}:1")


# In a registry


def test_bundles_are_found_without_a_referrers_api(
    cli: Cli, pushed: Artifact, name: str, other: Keys, tmp_path: Path
) -> None:
    """By the fallback tag, with the artifact type and all annotations; and by oras."""
    (tmp_path / "bom.json").write_text(SBOM)
    bom = ("--type", "cyclonedx", "--predicate", tmp_path / "bom.json")
    assert cli("sign", f"{name}:1", "--key", other.private).code == 0
    assert cli("attest", f"{name}:1", "--key", other.private, *bom).code == 0
    store = open_registry(Reference.parse(name))
    index = decode(read_blob(store, store.resolve(attached_tag(pushed.digest))), Index)
    assert len(index.manifests) == 2
    kinds = []
    for item in index.manifests:
        manifest = read_document(store, item)
        assert manifest is not None
        assert (item.artifact_type, item.annotations) == (BUNDLE, manifest.annotations)
        kinds.append((item.annotations or {})["dev.sigstore.bundle.predicateType"])
    assert kinds == [intoto.SIGNATURE, intoto.CYCLONEDX]
    command = [*peer("oras"), "discover", "--plain-http", "--format", "json", f"{name}:1"]
    listed = json.loads(run(command, cwd=tmp_path).stdout)["referrers"]
    assert [(item["digest"], item["artifactType"], item["annotations"]) for item in listed] == [
        (item.digest, item.artifact_type, item.annotations) for item in index.manifests
    ]
