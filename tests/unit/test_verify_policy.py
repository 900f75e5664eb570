"""Policies: what they may say, and what comes of each rule."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ocibuild import Artifact, LayoutStore, MemoryStore, Platform, build_image, build_index, postgres
from ocibuild.errors import DocumentError, PolicyError, UsageError
from ocibuild.layer import File, build_layer
from ocibuild.oci import Descriptor, Index, Manifest
from ocibuild.oci.canonical import encode
from ocibuild.oci.media_types import IMAGE_INDEX
from ocibuild.store.graph import push_blob, read_document
from ocibuild.verify import Policy, examine, parse_policy, read_policy, verify
from ocibuild.verify.policy import _TABLES
from ocibuild.verify.predicates import source_repositories, split_repository
from tests.support.tools import ROOT, TREES
from tests.unit.test_docs import blocks
from tests.unit.test_verify import CYCLONEDX, SLSA, Key, bundle, claim, hang, make_image, refer, simple, statement
from tests.unit.test_verify import key as key  # noqa: PLC0414 - fixtures
from tests.unit.test_verify import other as other  # noqa: PLC0414

REPOSITORY = "https://github.com/grove/pg_trickle"
GITHUB = {
    "buildDefinition": {
        "buildType": "https://actions.github.io/buildtypes/workflow/v1",
        "externalParameters": {
            "workflow": {"ref": "refs/heads/main", "repository": REPOSITORY, "path": ".github/x.yml"}
        },
        "resolvedDependencies": [{"uri": f"git+{REPOSITORY}@refs/heads/main", "digest": {"gitCommit": "a" * 40}}],
    },
    "runDetails": {"builder": {"id": f"{REPOSITORY}/.github/workflows/x.yml@refs/heads/main"}},
}
BOM = {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}


def uses(*uris: str, **told: Any) -> dict[str, Any]:
    dependencies = [{"uri": uri} for uri in uris]
    return {"buildDefinition": {"externalParameters": told, "resolvedDependencies": dependencies}}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def image(store: MemoryStore, key: Key) -> Artifact:
    """A signed one."""
    image = make_image(store)
    refer(store, image.root, bundle(key, statement(image.digest)))
    return image


def attest(image: Artifact, key: Key, kind: str, predicate: dict[str, Any]) -> None:
    assert isinstance(image.source, MemoryStore)
    refer(image.source, image.root, bundle(key, statement(image.digest, kind, predicate)), predicate_type=kind)


def rules(image: Artifact, key: Key, policy: str) -> dict[str, tuple[bool, str]]:
    verdict = examine(image, [key.public], policy=parse_policy(policy.encode()))
    assert (verdict.error() is None) == all(rule.ok for rule in verdict.rules)
    return {rule.rule: (rule.ok, rule.found) for rule in verdict.rules}


# What a policy may say


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "asks for nothing"),
        ("# only a remark", "asks for nothing"),
        ("[sbom]\nrequired = false", "required = false"),
        ("[provenance]\nrequired = false\nsource = 'https://x/y'", "required = false"),
        ("[sbom]", "missing required field"),
        ("[sbom]\nrequired = 1", "Expected `bool`"),
        ("[sbom]\nrequired = true\nkeys = []", "unknown key 'sbom.keys'"),
        ("[sboms]\nrequired = true", "Did you mean 'sbom'"),
        ("sbom = true", "a table, [sbom]"),
        ("[provenance]\nrequired = true\nsuorce = 'x'", "Did you mean 'provenance.source'"),
        ("[provenance]\nrequired = true\nsource = ''", "length >= 1"),
        ("[provenance]\nrequired = true\nsource = 'https://github.com/o/r@refs/heads/main'", "without a revision"),
        ("[provenance]\nrequired = true\nsource = 'git+'", "without a revision"),
        ("[base]\nallowed = []", "length >= 1"),
        ("[base]\nallowed = ['docker.io/x@sha256:abc']", "the base 'docker.io/x@sha256:abc'"),
        ("[size]\nmax = '50'", "size.max = '50'"),
        ("[size]\nmax = 50", "Expected `str`"),
        ("[size]\nmax = '-1 MB'", "size.max"),
        ("[checks]\nmax_severity = 'error'", "Invalid enum value"),
        ("[checks]\nmax_severity = 'info'\ndistro = 'buster'", "the distro 'buster'"),
        ("[checks]\nmax_severity = 'info'\npg = 0", ">= 1"),
        ("[signature]\nthreshold = 0", ">= 1"),
        ("[signature]\nkeys = 'a.pub'", "Expected `array`"),
        ("[signature]\nkeys = ['nothing.pub']", "cannot be read"),
        ("[size]\nmax = '1 MB'\nmax = '2 MB'", "cannot be read"),
        ("\0", "cannot be read"),
        ("[size]\nmax = '1 MB'\n" + "#" * 1024 * 1024, "more than 1048576 bytes"),
    ],
)
def test_what_no_policy_says(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_policy(text.encode())
    assert words in str(caught.value)


def test_a_policy_that_is_no_text() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parse_policy(b"\xff\xfe")


def test_a_whole_policy(tmp_path: Path, key: Key, other: Key) -> None:
    for name, item in (("a.pub", key), ("b.pub", other)):
        (tmp_path / name).write_bytes(item.path.read_bytes())
    path = tmp_path / "policy.toml"
    path.write_text(
        """
        [signature]
        keys = ["a.pub", "b.pub"]
        threshold = 2
        [sbom]
        required = true
        [provenance]
        required = true
        source = "git+https://github.com/grove/pg_trickle.git"
        builder = "https://b"
        [base]
        allowed = ["none", "docker.io/library/postgres"]
        [size]
        max = "50 MiB"
        [checks]
        max_severity = "warning"
        distro = "trixie"
        pg = 18
        """
    )
    policy = read_policy(path)
    assert policy.keys == (key.public, other.public)
    assert (policy.threshold, policy.sbom, policy.max_size) == (2, True, 50 * 1024 * 1024)
    assert policy.provenance is not None
    assert policy.provenance.source == REPOSITORY
    assert policy.checks is not None
    assert policy.checks.distro == "trixie"
    with pytest.raises(UsageError, match="cannot be read"):
        read_policy(tmp_path)


def test_a_threshold_that_no_keys_could_meet(tmp_path: Path, key: Key) -> None:
    (tmp_path / "a.pub").write_bytes(key.path.read_bytes())
    (tmp_path / "policy.toml").write_text('[signature]\nkeys = ["a.pub", "./a.pub"]\nthreshold = 2')
    with pytest.raises(UsageError, match="2 with 1 different"):
        read_policy(tmp_path / "policy.toml")


# Rules


def test_signatures_of_several(store: MemoryStore, image: Artifact, key: Key, other: Key) -> None:
    """The policy's keys are believed; one key's two signatures are those of one."""
    policy = Policy(keys=(key.public, other.public), threshold=2)
    hang(store, image.digest, [simple(key, claim(image.digest))], "sig")
    with pytest.raises(PolicyError) as caught:
        verify(image, policy=policy)
    assert caught.value.reasons == ("signature: one key's, wanted signatures by 2 keys",)
    refer(store, image.root, bundle(other, statement(image.digest)))
    assert verify(image, policy=policy)
    with pytest.raises(UsageError, match="keys given, and keys in the policy"):
        verify(image, [key.public], policy=policy)


def test_an_sbom(image: Artifact, key: Key, other: Key) -> None:
    policy = "[sbom]\nrequired = true"
    assert rules(image, key, policy)["sbom"] == (False, "none by a given key")
    attest(image, other, CYCLONEDX, BOM)
    assert rules(image, key, policy)["sbom"] == (False, "none by a given key")
    attest(image, key, "https://spdx.dev/Document", BOM)
    assert rules(image, key, policy)["sbom"] == (False, "none by a given key")
    attest(image, key, CYCLONEDX, {"bomFormat": "SPDX"})
    assert rules(image, key, policy)["sbom"] == (False, "one that is no CycloneDX")
    attest(image, key, CYCLONEDX, BOM)
    assert rules(image, key, policy)["sbom"] == (True, "CycloneDX 1.6")


def test_an_sbom_of_another_image(store: MemoryStore, image: Artifact, key: Key) -> None:
    foreign = make_image(store, b"another")
    payload = statement(foreign.digest, CYCLONEDX, BOM)
    refer(store, image.root, bundle(key, payload), predicate_type=CYCLONEDX)
    assert rules(image, key, "[sbom]\nrequired = true")["sbom"] == (False, "none by a given key")


@pytest.mark.parametrize(
    ("predicate", "ok"),
    [
        (GITHUB, True),
        (uses(f"git+{REPOSITORY}@refs/tags/v1"), True),
        (uses(f"git+{REPOSITORY}.git"), True),
        (uses(f"git+{REPOSITORY}.git@abc", f"git+{REPOSITORY}@def", "pkg:deb/debian/libc6"), True),
        (uses(source=REPOSITORY), True),
        (uses(source={"uri": f"git+{REPOSITORY}@refs/heads/main"}), True),
        (uses(REPOSITORY), False),  # a dependency, and no checkout
        (uses(f"git+{REPOSITORY}-evil@main"), False),
        (uses(f"git+{REPOSITORY}/fork@main"), False),
        (uses(f"git+{REPOSITORY}", "git+https://github.com/evil/other"), False),
        # A fork that uses the repository is not built from it.
        (uses(f"git+{REPOSITORY}", workflow={"repository": "https://github.com/evil/fork"}), False),
        (uses(workflow={"repository": f"{REPOSITORY}#x"}), False),
        (uses(workflow={"repository": REPOSITORY.upper()}), False),
        (uses(workflow={"repository": "https://github.com@evil.example/grove/pg_trickle"}), False),
        (uses(workflow={"repository": ["x", REPOSITORY]}), False),
        (uses(workflow=REPOSITORY), False),
        ({"buildDefinition": [REPOSITORY]}, False),
        ({}, False),
    ],
)
def test_the_source(image: Artifact, key: Key, predicate: dict[str, Any], ok: bool) -> None:
    policy = f'[provenance]\nrequired = true\nsource = "{REPOSITORY}"'
    assert rules(image, key, policy)["provenance.source"] == (False, "none by a given key")
    attest(image, key, SLSA, predicate)
    assert rules(image, key, policy)["provenance.source"][0] is ok


def test_provenance_by_others_is_none(image: Artifact, key: Key, other: Key) -> None:
    attest(image, other, SLSA, GITHUB)
    attest(image, key, "https://slsa.dev/provenance/v0.2", GITHUB)
    assert rules(image, key, "[provenance]\nrequired = true")["provenance"] == (False, "none by a given key")
    attest(image, key, SLSA, GITHUB)
    assert rules(image, key, "[provenance]\nrequired = true")["provenance"][0]


def test_source_and_builder_of_one_statement(image: Artifact, key: Key) -> None:
    """Two statements that are half right each are no right one."""
    policy = f'[provenance]\nrequired = true\nsource = "{REPOSITORY}"\nbuilder = "https://b"'
    for number in range(8):
        attest(image, key, SLSA, {**GITHUB, "number": number})
    attest(image, key, SLSA, {**uses("git+https://github.com/o/x"), "runDetails": {"builder": {"id": "https://b"}}})
    assert not all(ok for ok, _ in rules(image, key, policy).values())
    attest(image, key, SLSA, {**GITHUB, "runDetails": {"builder": {"id": "https://b"}}})
    assert rules(image, key, policy) == {
        "provenance.source": (True, REPOSITORY),
        "provenance.builder": (True, "https://b"),
    }


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("git+https://github.com/o/r@refs/heads/a@b", ("https://github.com/o/r", "refs/heads/a@b")),
        ("https://user@host/o/r", ("https://user@host/o/r", "")),
        ("https://user@host/o/r@main", ("https://user@host/o/r", "main")),
        ("ssh://git@host/o/r.git/", ("ssh://git@host/o/r", "")),
        ("", ("", "")),
        ("@", ("@", "")),
    ],
)
def test_repositories(uri: str, wanted: tuple[str, str]) -> None:
    assert split_repository(uri) == wanted


def based(store: MemoryStore, key: Key, index: dict[str, str], *manifests: dict[str, str]) -> Artifact:
    layer = build_layer([File(path="lib/x.so", content=b"x")], into=store)
    images = [
        build_image([layer], platform=Platform.parse(name), into=store, annotations=annotations)
        for name, annotations in zip(("amd64", "arm64"), manifests, strict=True)
    ]
    image = Artifact(build_index(images, into=store, annotations=index).root, store)
    refer(store, image.root, bundle(key, statement(image.digest)))
    return image


BASE, DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
POSTGRES = "docker.io/library/postgres"
ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.mark.parametrize(
    ("allowed", "index", "first", "second", "ok"),
    [
        (["none"], {}, {}, {}, True),
        ([POSTGRES], {}, {}, {}, False),
        (["none"], {}, {BASE: "scratch"}, {}, True),
        (["none"], {}, {BASE: "scratch", DIGEST: ONE}, {}, False),
        (["none"], {}, {}, {BASE: f"none@{ONE}"}, False),
        ([f"{POSTGRES}@{ONE}"], {}, {}, {BASE: f"{POSTGRES}@{ONE}", DIGEST: TWO}, False),
        ([POSTGRES], {BASE: f"{POSTGRES}@{ONE}"}, {}, {}, True),
        (["none"], {}, {}, {BASE: POSTGRES}, False),
        (["none"], {BASE: POSTGRES}, {}, {}, False),
        (["none"], {}, {}, {DIGEST: ONE}, False),
        (["none"], {}, {BASE: "none"}, {BASE: "none"}, False),
        ([POSTGRES], {BASE: POSTGRES}, {}, {}, True),
        ([POSTGRES], {}, {BASE: POSTGRES}, {BASE: POSTGRES, DIGEST: ONE}, True),
        ([POSTGRES], {}, {BASE: POSTGRES}, {BASE: f"{POSTGRES}-evil"}, False),
        ([f"{POSTGRES}@{ONE}"], {}, {BASE: POSTGRES}, {BASE: POSTGRES, DIGEST: ONE}, False),
        ([f"{POSTGRES}@{ONE}"], {BASE: POSTGRES, DIGEST: ONE}, {}, {}, True),
        ([f"{POSTGRES}@{ONE}"], {BASE: POSTGRES, DIGEST: ONE}, {}, {DIGEST: TWO}, False),
        ([f"{POSTGRES}@{ONE}", "none"], {}, {}, {BASE: POSTGRES, DIGEST: ONE}, True),
    ],
)
def test_the_base(
    store: MemoryStore,
    key: Key,
    allowed: list[str],
    index: dict[str, str],
    first: dict[str, str],
    second: dict[str, str],
    ok: bool,
) -> None:
    image = based(store, key, index, first, second)
    assert rules(image, key, f"[base]\nallowed = {json.dumps(allowed)}")["base"][0] is ok


def signed_with_its_first(layout: LayoutStore, key: Key) -> tuple[Artifact, Manifest]:
    """A signed index, and the manifest of its first image."""
    image = make_image(layout)
    refer(layout, image.root, bundle(key, statement(image.digest)))
    document = read_document(layout, image.root)
    first = read_document(layout, document.manifests[0])  # type: ignore[union-attr]
    assert isinstance(first, Manifest)
    return image, first


def test_an_image_that_cannot_be_read(tmp_path: Path, key: Key) -> None:
    """Every rule about it is told of, and none is met."""
    with LayoutStore(tmp_path) as layout:
        image, first = signed_with_its_first(layout, key)
        path = tmp_path / "blobs/sha256" / first.config.digest.encoded
        path.write_bytes(path.read_bytes().replace(b"amd64", b"riscv"))
        found = rules(image, key, '[base]\nallowed = ["none"]\n[size]\nmax = "1 GB"')
        assert set(found) == {"base", "size"}
        assert not any(ok for ok, _ in found.values())


def test_the_size(image: Artifact, key: Key) -> None:
    ok, found = rules(image, key, '[size]\nmax = "1 kB"')["size"]
    size = int(found.split()[0])
    assert (ok, found) == (size <= 1000, f"{size} bytes (linux/amd64)")
    assert rules(image, key, f'[size]\nmax = "{size} B"')["size"][0]
    assert not rules(image, key, f'[size]\nmax = "{size - 1} B"')["size"][0]


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory, key: Key) -> Artifact:
    store = MemoryStore()
    built = postgres.build_extension([postgres.open_source(tree) for tree in TREES], into=store)
    refer(store, built.root, bundle(key, statement(built.digest)))
    return Artifact(built.root, store)


def test_the_checks(extension: Artifact, key: Key) -> None:
    ok, found = rules(extension, key, '[checks]\nmax_severity = "warning"')["checks"]
    assert (ok, found) == (True, "none worse")
    ok, found = rules(extension, key, '[checks]\nmax_severity = "warning"\ndistro = "bullseye"')["checks"]
    assert (ok, found) == (False, "error symbol-version (ocibuild check --distro bullseye says more)")
    ok, found = rules(extension, key, '[checks]\nmax_severity = "warning"\npg = 17')["checks"]
    assert not ok


def test_checks_of_what_is_no_extension(image: Artifact, key: Key) -> None:
    ok, found = rules(image, key, '[checks]\nmax_severity = "warning"')["checks"]
    assert not ok
    assert found


def test_checks_of_an_incomplete_image(tmp_path: Path, key: Key) -> None:
    with LayoutStore(tmp_path) as layout:
        image, first = signed_with_its_first(layout, key)
        (tmp_path / "blobs/sha256" / first.layers[0].digest.encoded).unlink()
        assert not rules(image, key, '[checks]\nmax_severity = "warning"')["checks"][0]
        assert rules(image, key, '[size]\nmax = "1 GB"')["size"][0]


def test_all_rules_at_once(image: Artifact, key: Key) -> None:
    policy = parse_policy(
        b"""
        [sbom]
        required = true
        [provenance]
        required = true
        [base]
        allowed = ["x.example/y"]
        [size]
        max = "1 B"
        [checks]
        max_severity = "none"
        """
    )
    with pytest.raises(PolicyError, match="5 rules of the policy are not met") as caught:
        verify(image, [key.public], policy=policy)
    assert [item.partition(":")[0] for item in caught.value.reasons] == ["sbom", "provenance", "base", "size", "checks"]


def test_what_a_hostile_predicate_says_is_cut(image: Artifact, key: Key) -> None:
    attest(image, key, SLSA, uses(workflow={"repository": "x" * 100_000}))
    [found] = examine(image, [key.public]).attestations
    assert len(found.says["source"]) == 200
    assert source_repositories({"buildDefinition": {"resolvedDependencies": [None, {"uri": 1}, "git+x"]}}) == set()


def test_a_policy_does_not_make_up_for_a_signature(store: MemoryStore, key: Key) -> None:
    image = make_image(store)
    policy = parse_policy(b'[base]\nallowed = ["none"]')
    verdict = examine(image, [key.public], policy=policy)
    # What nobody has signed is not even looked into.
    assert verdict.rules == ()
    assert not verdict


def an_index(store: MemoryStore, *children: Descriptor) -> Artifact:
    raw = encode(Index(media_type=IMAGE_INDEX, manifests=children))
    return Artifact(push_blob(store, raw, IMAGE_INDEX), store)


def test_an_image_that_names_no_platform_is_not_passed_over(store: MemoryStore, key: Key) -> None:
    good = make_image(store)
    children = read_document(store, good.root)
    assert isinstance(children, Index)
    hidden = build_image([], platform=Platform.parse("linux/s390x"), into=store)
    for children_of in ((*children.manifests, hidden.root.bare), (hidden.root.bare,), ()):
        image = an_index(store, *children_of)
        for item in (image.root, *children_of):
            refer(store, item, bundle(key, statement(item.digest)))
        assert verify(image, [key.public])
        with pytest.raises(DocumentError, match="a platform for each image"):
            verify(image, [key.public], platforms=True)
        assert not rules(image, key, '[checks]\nmax_severity = "warning"')["checks"][0]


def test_the_threshold_holds_for_platforms(store: MemoryStore, key: Key, other: Key) -> None:
    image = make_image(store)
    policy = msgspec.structs.replace(parse_policy(b'[size]\nmax = "1 GB"'), threshold=2)
    children = read_document(store, image.root)
    assert isinstance(children, Index)
    for item in (image.root, *children.manifests):
        refer(store, item, bundle(key, statement(item.digest)))
    refer(store, image.root, bundle(other, statement(image.digest)))
    both = [key.public, other.public]
    assert verify(image, both, policy=policy)
    with pytest.raises(PolicyError, match="not met") as caught:
        verify(image, both, policy=policy, platforms=True)
    assert caught.value.reasons == ("signature: one key's, wanted signatures by 2 keys",)
    for item in children.manifests:
        refer(store, item, bundle(other, statement(item.digest)))
    assert verify(image, both, policy=policy, platforms=True)


def test_the_rules_ask_for_no_referrers(store: MemoryStore, key: Key) -> None:
    """A stranger's referrer that cannot be read must not make a rule fail."""

    class Poisoned(MemoryStore):
        def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
            if artifact_type is None:
                raise DocumentError("a damaged list")
            return super().referrers(descriptor, artifact_type=artifact_type)

    poisoned = Poisoned()
    image = make_image(poisoned)
    hang(poisoned, image.digest, [simple(key, claim(image.digest))], "sig")
    policy = parse_policy(b'[base]\nallowed = ["none"]\n[size]\nmax = "1 GB"')
    assert verify(image, [key.public], policy=policy)


def test_a_source_that_is_not_understood_is_another(image: Artifact, key: Key) -> None:
    attest(image, key, SLSA, uses(source=["https://evil"], repository=REPOSITORY))
    rule = f'[provenance]\nrequired = true\nsource = "{REPOSITORY}"'
    assert rules(image, key, rule)["provenance.source"] == (False, f"{REPOSITORY}, unclear")


def test_checks_of_an_index_in_an_index(store: MemoryStore, key: Key) -> None:
    inner = make_image(store)
    image = an_index(store, msgspec.structs.replace(inner.root.bare, platform=Platform.parse("linux/amd64")))
    refer(store, image.root, bundle(key, statement(image.digest)))
    ok, found = rules(image, key, '[checks]\nmax_severity = "warning"')["checks"]
    assert not ok
    assert "wanted an image" in found


def test_keys_in_a_policy_are_public(tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    (tmp_path / "policy.toml").write_text('[signature]\nkeys = ["a.pub"]')
    with pytest.raises(DocumentError, match="no public key"):
        read_policy(tmp_path / "policy.toml")


def test_the_documented_policy(tmp_path: Path, key: Key, other: Key) -> None:
    """It is read, and has every key there is."""
    [example] = blocks(ROOT / "docs/reference/verification.md", "toml")
    for name, item in (("release.pub", key), ("security.pub", other)):
        (tmp_path / name).write_bytes(item.path.read_bytes())
    (tmp_path / "policy.toml").write_text(example)
    policy = read_policy(tmp_path / "policy.toml")
    assert all(getattr(policy, field) for field in Policy.__struct_fields__)
    text = (ROOT / "docs/reference/verification.md").read_text()
    for name, table in _TABLES.items():
        for field in table.__struct_fields__:
            assert re.search(rf"^\[{name}\]\n(?:.+\n)*{field} = ", example, re.MULTILINE)
            assert f"`{name}.{field}`" in text or f"`{field}`" in text
