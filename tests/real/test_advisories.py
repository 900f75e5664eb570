"""A test by the name of each advisory that concerns who pulls, pushes, parses or unpacks.

Left out are those of verifying signatures (cosign's GHSA-w6c6-c85g-mmv6, GHSA-whqx-f9j3-ch6m, GHSA-fx35-mq7g-6g98):
nothing here verifies any. The finer points are tested where the code is: `unit/test_hostile.py`,
`unit/test_registry_*.py`, `real/test_ghcr.py`.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import ssl
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ocibuild import Artifact, LayoutStore, MemoryStore, build_image, copy
from ocibuild.errors import (
    AuthError,
    ContentError,
    DigestMismatchError,
    DocumentError,
    LayerError,
    NotFoundError,
    OcibuildError,
    RegistryError,
)
from ocibuild.layer.build import Layer
from ocibuild.locations import open_artifact
from ocibuild.oci import Descriptor, Index, Platform, Reference, media_types
from ocibuild.oci.canonical import encode
from ocibuild.registry import RegistryClient, RegistryStore
from ocibuild.store import single_image
from ocibuild.store.attached import attached_tag
from ocibuild.unpack import unpack
from tests.conftest import Result
from tests.real.test_ghcr import INNER, credential, image, lead, secure, store
from tests.support.certificates import Certificates, make_certificates
from tests.support.ghcr import NAMES, Fault, Plan, Site, ghcr
from tests.support.ghcr.proxy import GhcrHandler
from tests.support.ghcr.storage import EvilHandler, StorageHandler
from tests.support.tools import ROOT
from tests.support.wire import CREDENTIAL, PASSWORD, REGISTRY, SUBJECT, WiredClient, answer, check_visits
from tests.unit.test_other_commands import FOLDER, HARD, LINK, NEXT, foreign, item

Cli = Callable[..., Result]
SECRET = "p1anted-s3cret"
MIB = 1024 * 1024

_numbers = count()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=NAMES)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocibuild.registry.retry._FIRST_WAIT", 0.02)


@pytest.fixture
def name() -> str:
    """A repository that no other test uses."""
    return f"advisory/r{next(_numbers)}"


def pull(site: Site, name: str, into: MemoryStore | LayoutStore | None = None) -> Artifact:
    """Tag 1, copied."""
    with store(site, name, patience=0.3) as source:
        return copy(Artifact(source.resolve("1"), source), into or MemoryStore())


def says(document: dict[str, Any], **options: Any) -> Fault:
    """A registry that gives this for every manifest."""
    raw = json.dumps(document).encode()
    return Fault("other_manifest", path="/manifests/", body=raw, times=None, **options)


def put(upstream: str, repository: str, name: str, raw: bytes, media_type: str) -> None:
    """Put a manifest past every check of ours."""
    connection = http.client.HTTPConnection(upstream, timeout=30)
    try:
        connection.request("PUT", f"/v2/{repository}/manifests/{name}", raw, {"Content-Type": media_type})
        assert connection.getresponse().status == 201
    finally:
        connection.close()


_EMPTY = Descriptor.of(b"{}", media_types.EMPTY)
EMPTY = {"mediaType": _EMPTY.media_type, "digest": str(_EMPTY.digest), "size": _EMPTY.size}
MANIFEST = {"schemaVersion": 2, "mediaType": media_types.IMAGE_MANIFEST, "config": EMPTY, "layers": [EMPTY]}


# Documents


@pytest.mark.parametrize(
    "document",
    [
        {**MANIFEST, "mediaType": media_types.IMAGE_INDEX, "manifests": []},
        {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": [], "layers": []},
        {**MANIFEST, "mediaType": media_types.IMAGE_MANIFEST},
    ],
    ids=["index and image", "index and layers", "another type than its header's"],
)
def test_cve_2021_41190_ghsa_77vh_xpmg_72qh(upstream: str, name: str, document: dict[str, Any]) -> None:
    """One digest, two meanings: read as an image or as an index, by what a header or a client liked."""
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(image(), target, tags=["1"])  # an index, by its header
        site.plan.add(says(document))
        with pytest.raises(DocumentError):
            pull(site, name)


def test_cve_2020_15157_foreign_layer_urls(upstream: str, name: str) -> None:
    """A layer's `urls` made containerd fetch it elsewhere, with the registry's credentials."""
    with ghcr(upstream) as site:
        with store(site, name) as target:
            artifact = image()
            copy(artifact, target, tags=["1"])
        layer = {
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "digest": "sha256:" + "5" * 64,
            "size": 20,
            "urls": [f"{site.evil_base}/lie/layer"],
        }
        document = {**MANIFEST, "layers": [layer]}
        raw = json.dumps(document).encode()
        made = MemoryStore()
        made.push(Descriptor.of(raw, media_types.IMAGE_MANIFEST), io.BytesIO(raw))
        with store(site, name) as source:
            # The manifest is what it says; of the layer the registry has nothing.
            root = Descriptor.of(raw, media_types.IMAGE_MANIFEST)
            with pytest.raises(NotFoundError):
                copy(Artifact(root, Both(made, source)), MemoryStore())
        assert site.record.at("evil") == []
        assert site.accepted("evil") == 0


class Both:
    """What one source does not have, the other may."""

    def __init__(self, first: MemoryStore, then: RegistryStore) -> None:
        self._first, self._then = first, then

    def fetch(self, descriptor: Descriptor) -> Any:
        try:
            return self._first.fetch(descriptor)
        except NotFoundError:
            return self._then.fetch(descriptor)


def test_ghsa_qv35_3gw6_8q4j(upstream: str, name: str) -> None:
    """A manifest that was asked for by digest was only held against the digest that the registry told."""
    one, two = image(), image("two")
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(one, target, tags=["1"])
            copy(two, target)
        raw = two.source.fetch(two.root).read()
        site.plan.add(Fault("other_manifest", path="/manifests/sha", body=raw, times=None))
        with store(site, name) as source, pytest.raises(DigestMismatchError):
            copy(Artifact(source.resolve(one.digest), source), MemoryStore())
        with store(site, name) as source, pytest.raises(DigestMismatchError):
            copy(Artifact(one.root, source), MemoryStore())


@pytest.mark.parametrize("digest", ["sha256:../../../../evil", "../../evil", "sha256:", "sha256:" + "A" * 64, ""])
def test_cve_2024_3727(upstream: str, name: str, digest: str, tmp_path: Path) -> None:
    """A digest of any form became a path, or went into a URL."""
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(image(), target, tags=["1"])
        entry = {"mediaType": media_types.IMAGE_MANIFEST, "digest": digest, "size": 3}
        document = {"schemaVersion": 2, "mediaType": media_types.IMAGE_INDEX, "manifests": [entry]}
        site.plan.add(says(document))
        before = len(site.record.requests)
        with pytest.raises(DocumentError), LayoutStore(tmp_path / "a/b/layout") as layout:
            pull(site, name, layout)
        assert {item.target for item in site.record.requests[before:] if item.server == "ghcr"} <= {
            f"/v2/{name}/manifests/1?",
            "/token?service&scope",
        }
    assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []


@pytest.mark.parametrize("size", [5 * MIB, 9 * MIB])
def test_ghsa_f36w_mj3v_6jqv_and_cve_2023_46737(upstream: str, name: str, size: int) -> None:
    """Manifests and attachments of any size were read into memory."""
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(image(), target, tags=["1"])
        site.plan.add(says({**MANIFEST, "annotations": {"a": "x" * size}}))
        with pytest.raises((DocumentError, RegistryError)):
            pull(site, name)
        site.plan.clear()
        # What only says that it is so long is not even asked for.
        huge = Descriptor(media_type=media_types.IMAGE_MANIFEST, digest=SUBJECT.digest, size=1 << 40)
        with store(site, name) as source, pytest.raises(DocumentError):
            copy(Artifact(huge, source), MemoryStore())
        assert not site.record.at("ghcr", "GET", SUBJECT.digest)


def test_ghsa_88jx_383q_w4qc_and_ghsa_95pr_fxf5_86gv(upstream: str, name: str) -> None:
    """Attachments without end: pages that lead to each other."""
    artifact = image()
    with ghcr(upstream, has_referrers=True, faults=Plan(Fault("referrers_loop"))) as site:
        with store(site, name) as target:
            copy(artifact, target, tags=["1"])
        with store(site, name) as source, pytest.raises(RegistryError):
            copy(Artifact(source.resolve("1"), source), MemoryStore(), referrers=True)
        assert len(site.record.at("ghcr", "GET", "/referrers/")) < 1000


def test_ghsa_298f_872v_2rcx_cyclic_referrers(upstream: str, name: str) -> None:
    """Two manifests that are each other's referrers were followed for ever."""
    one, two = image(), image("two")
    with ghcr(upstream) as site:
        with store(site, name) as target:
            copy(one, target, tags=["1"])
            copy(two, target, tags=["2"])
        for subject, referrer in ((one, two), (two, one), (one, one)):
            index = Index(media_type=media_types.IMAGE_INDEX, manifests=(two.root, one.root, referrer.root))
            put(upstream, name, attached_tag(subject.digest), encode(index), media_types.IMAGE_INDEX)
        into = MemoryStore()
        with store(site, name) as source:
            copied = copy(Artifact(source.resolve("1"), source), into, tags=["1"], referrers=True)
        assert copied.digest == one.digest
        assert into.exists(two.root)
        assert len(site.record.at("ghcr", "GET", "/referrers/")) < 20


# Where a registry leads


@pytest.mark.parametrize("realm", ["http://evil.example/token", "https://internal/token", "https://169.254.169.254/t"])
def test_cve_2026_48978_realm(
    upstream: str, name: str, tls: Certificates, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A challenge named any `realm`, and the credentials went there (GHSA-xf85-363p-868w, GHSA-28r5-37g7-p6mp)."""
    with ghcr(upstream, tls=tls, faults=Plan(Fault("hostile_realm", where=realm))) as site:
        lead(monkeypatch, {**site.names, **dict.fromkeys(INNER, site.names["evil.example"])})
        with secure(site, name, tls) as target, pytest.raises(AuthError):
            copy(image(), target, tags=["1"])
        assert (site.accepted("evil"), site.record.at("ghcr", part="/token")) == (0, [])


def test_cve_2026_50151_upload_location(
    upstream: str, name: str, tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload's `Location` on another host was given the token (GHSA-jxpm-75mh-9fp7)."""
    with ghcr(upstream, tls=tls, faults=Plan(Fault("foreign_upload"))) as site:
        lead(monkeypatch, site.names)
        with secure(site, name, tls) as target, pytest.raises(RegistryError):
            copy(image(), target, tags=["1"])
        assert site.record.at("evil", "PUT")
        assert site.record.leaks(site.secrets) == []


@pytest.mark.parametrize("is_secure", [False, True], ids=["another port", "another host"])
def test_ghsa_vh4v_2xq2_g5cg_redirect(
    upstream: str, name: str, tls: Certificates, is_secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirect to another scheme, host or port kept the token."""
    with ghcr(upstream, tls=tls if is_secure else None, signature_uses=1) as site:
        if is_secure:
            lead(monkeypatch, site.names)
        with secure(site, name, tls) if is_secure else store(site, name) as both:
            copy(image(), both, tags=["1"])
            copy(Artifact(both.resolve("1"), both), MemoryStore())
            assert site.record.at("storage", "GET")
            # From TLS to plain http it is not followed at all.
            if is_secure:
                site.plan.add(Fault("foreign_blob", where="http://ghcr.io/x"))
                with pytest.raises(RegistryError, match="wanted https"):
                    copy(Artifact(both.resolve("1"), both), MemoryStore())
                assert site.plain == []
        assert site.record.leaks(site.secrets) == []


def test_ghsa_whvf_jp7m_59f3_and_ghsa_h3wm_jjqf_8jm2_client_certificates(
    upstream: str, name: str, tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers and client certificates for a registry were shown wherever it redirected to."""
    shown: dict[str, set[bool]] = {}
    for handler in (GhcrHandler, StorageHandler, EvilHandler):

        def serve(self: Any, real: Callable[[Any], None] = handler.serve) -> None:
            shown.setdefault(self.server.name, set()).add(bool(self.connection.getpeercert()))
            real(self)

        monkeypatch.setattr(handler, "serve", serve)
    with ghcr(upstream, tls=tls) as site:
        assert site.context is not None
        site.context.verify_mode = ssl.CERT_OPTIONAL
        site.context.load_verify_locations(tls.authority)
        lead(monkeypatch, site.names)
        client = RegistryClient(
            site.address,
            credential=credential(site),
            ca_file=str(tls.authority),
            client_certificate=(str(tls.client), str(tls.client_key)),
            patience=0.3,
        )
        with RegistryStore(Reference.parse(f"{site.address}/{name}"), client=client) as both:
            copy(image(), both, tags=["1"])
            copy(Artifact(both.resolve("1"), both), MemoryStore())
            site.plan.add(Fault("foreign_upload"))
            with pytest.raises(RegistryError):
                copy(image("two"), both, tags=["1"])
        assert shown == {"ghcr": {True}, "storage": {False}, "evil": {False}}
        assert site.record.leaks(site.secrets) == []


@pytest.mark.parametrize(
    ("issue", "answers"),
    [
        ("2243 realm", [answer(b"", b'WWW-Authenticate: Bearer realm="https://10.0.0.1/t"', status=b"401 x")]),
        (
            "2292 a token service that redirects",
            [
                answer(b"", b'WWW-Authenticate: Bearer realm="https://token.example/t"', status=b"401 x"),
                answer(b"", b"Location: https://169.254.169.254/latest", status=b"302 Found"),
            ],
        ),
        ("2293 a redirect", [answer(b"", b"Location: https://metadata.google.internal/", status=b"307 x")]),
        ("2295 an upload", [answer(b"", b"Location: https://[::1]/up", status=b"202 Accepted")]),
        ("2332 Link of tags", [answer(b'{"tags": ["a"]}', b'Link: <https://10.0.0.1/v2/>; rel="next"')]),
        (
            "2349 Link of referrers",
            [
                answer(
                    b'{"schemaVersion": 2, "manifests": []}',
                    b"Content-Type: " + media_types.IMAGE_INDEX.encode(),
                    b'Link: <http://localhost/x>; rel="next"',
                )
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_go_containerregistry_2243_2292_2293_2295_2332_2349(issue: str, answers: list[bytes]) -> None:
    """Requests into the inner network, wherever a registry may name a URL."""
    calls: list[Callable[[RegistryStore], object]] = [
        lambda source: source.fetch(Descriptor.of(b"x", "text/plain")),
        lambda source: source.push(Descriptor.of(b"x", "text/plain"), io.BytesIO(b"x")),
        lambda source: source.tag_names(),
        lambda source: source.referrers(SUBJECT),
    ]
    refused = 0
    for call in calls:
        client = WiredClient(*answers, credential=CREDENTIAL)
        with RegistryStore(Reference.parse(f"{REGISTRY}/o/x"), client=client) as source:
            try:
                call(source)
            except OcibuildError:
                refused += 1
        check_visits([visit for visit in client.visits if visit.host != "token.example"])
        assert {visit.host for visit in client.visits} <= {REGISTRY, "token.example"}
        assert not [visit for visit in client.visits if visit.host != REGISTRY and visit.scheme != "https"]
    assert refused


def test_ghsa_5jhf_2qmf_m8c5_and_cve_2024_36127_redaction(
    upstream: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Signed URLs, users in URLs and the bodies of token answers were logged as they came."""
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with ghcr(upstream, signature_uses=0) as site:
        with store(site, name) as target:
            copy(image(), target, tags=["1"])
        with pytest.raises(RegistryError) as caught:
            pull(site, name)
        said.append(str(caught.value))
        where = f"http://octo-cat:{SECRET}@localhost:1/x?X-Amz-Signature={SECRET}#{SECRET}"
        site.plan.add(Fault("foreign_blob", where=where))
        with pytest.raises(RegistryError) as caught:
            pull(site, name)
        said.append(str(caught.value))
        signatures = site.signatures.values
        secrets = site.secrets
    challenge = answer(b"", b'WWW-Authenticate: Bearer realm="https://token.example/t"', status=b"401 x")
    for body in (
        f'{{"access_token": "", "refresh_token": "{SECRET}"}}',
        f"{SECRET} is no JSON",
        f'{{"token": "\\n{SECRET}"}}',
    ):
        client = WiredClient(challenge, answer(body.encode()), credential=CREDENTIAL)
        with pytest.raises(AuthError) as denied:
            RegistryStore(Reference.parse(f"{REGISTRY}/o/x"), client=client).resolve("1")
        said.append(str(denied.value))
    said += [record.getMessage() for record in caplog.records]
    assert signatures
    assert not [text for text in said if any(secret in text for secret in (SECRET, PASSWORD, *secrets))]


# Files


def pulled(upstream: str, name: str, artifact: Artifact) -> Artifact:
    """The image, from a registry."""
    host = RegistryClient(upstream)
    with RegistryStore(Reference.parse(f"{upstream}/{name}"), client=host) as target:
        copy(artifact, target, tags=["1"])
    return open_artifact(f"{upstream}/{name}:1")


def assert_unharmed(cli: Cli, upstream: str, name: str, artifact: Artifact, folder: Path) -> None:
    """The command line unpacks it below its folder or not at all, and so does the library."""
    victim = folder / "victim"
    victim.mkdir()
    (victim / "file").write_text("mine")
    victim.chmod(0o700)
    (folder / "work").mkdir()
    copied = pulled(upstream, name, artifact)
    before = os.stat(victim / "file")
    code = cli("unpack", f"{upstream}/{name}:1", folder / "work/out", "--platform", "linux/amd64").code
    assert code in (0, 5)
    if code:
        with pytest.raises(LayerError):
            unpack(copied, folder / "work/again")
        assert list((folder / "work").iterdir()) == []
    after = os.stat(victim / "file")
    assert (before.st_mode, before.st_nlink, before.st_mtime_ns) == (after.st_mode, after.st_nlink, after.st_mtime_ns)
    assert (victim / "file").read_text() == "mine"
    assert os.listdir(victim) == ["file"]
    assert sorted(os.listdir(folder)) == ["victim", "work"]
    assert (victim.stat().st_mode & 0o777) == 0o700


def raw_layer(raw: bytes) -> Artifact:
    """An image with these bytes for its layer."""
    made = MemoryStore()
    with made.ingest() as writer:
        writer.write(raw)
        descriptor = writer.commit(media_types.LAYER)
    layer = Layer(descriptor=descriptor, diff_id=descriptor.digest, uncompressed_size=len(raw))
    return build_image([layer], platform=Platform.parse("amd64"), into=made)


@pytest.mark.parametrize("target", ["..", "../victim", "{victim}"])
def test_cve_2021_29136(cli: Cli, upstream: str, name: str, tmp_path: Path, target: str) -> None:
    """A layer whose `.` is a symbolic link: all that came behind it was written where the link led."""
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        where = target.format(victim=folder / "victim")
        # In one layer, or in two.
        between = (NEXT,) if number else ()
        artifact = foreign(item("./", LINK, where), *between, (item("./file"), b"theirs"))
        assert_unharmed(cli, upstream, f"{name}-{number}", artifact, folder)


@pytest.mark.parametrize("target", ["victim/file", "../../victim/file", "{victim}/file", "work/../victim/file"])
def test_cve_2026_50163_ghsa_fxhp_mv3v_67qp(
    cli: Cli, upstream: str, name: str, tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hard link's target was looked for in the current folder, or outside."""
    artifact = foreign(item("h", HARD, target.format(victim=tmp_path / "victim")), (item("h"), b"theirs"))
    monkeypatch.chdir(tmp_path)
    assert_unharmed(cli, upstream, name, artifact, tmp_path)


@pytest.mark.parametrize("target", ["../../victim", "{victim}"])
def test_ghsa_8xwf_rjm4_xvhv(cli: Cli, upstream: str, name: str, tmp_path: Path, target: str) -> None:
    """What was written to a path went through a symbolic link of the layer, or of one below."""
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        where = target.format(victim=folder / "victim")
        members = (
            (item("l", LINK, where), (item("l/file"), b"theirs")),
            (item("l", LINK, f"{where}/file"), (item("l"), b"theirs")),
            (item("l", LINK, where), NEXT, (item("l/file"), b"theirs"), item("l/.wh.file")),
        )[number]
        assert_unharmed(cli, upstream, f"{name}-{number}", foreign(*members), folder)


def test_ghsa_5g94_c2wx_8pxw_and_cve_2026_42574(cli: Cli, upstream: str, name: str, tmp_path: Path) -> None:
    """Paths without a `..` that left the folder by links, one after the other (GHSA-qq3r-w4hj-gjp6)."""
    artifact = foreign(
        item("a", FOLDER),
        item("a/up", LINK, ".."),
        item("b", LINK, "a/up/.."),
        item("c", LINK, "b/.."),
        (item("c/victim/file"), b"theirs"),
    )
    assert_unharmed(cli, upstream, name, artifact, tmp_path)


@pytest.mark.parametrize("path", ["../../victim/file", "a/../../../victim/file", "{victim}/file", "/../../victim/file"])
def test_cve_2007_4559(cli: Cli, upstream: str, name: str, tmp_path: Path, path: str) -> None:
    """Python's tarfile wrote wherever a member's name led."""
    path = path.format(victim=tmp_path / "victim")
    assert_unharmed(cli, upstream, name, foreign((item(path), b"theirs")), tmp_path)


def test_cve_2025_4517_and_cve_2025_4330(cli: Cli, upstream: str, name: str, tmp_path: Path) -> None:
    """Links so deep that resolving them gave up, and the filter `data` let them pass."""
    steps, members, path = "abcdefghijklmnop", [], ""
    for step in steps:
        folder = step * 240
        members += [item(f"{path}{folder}", FOLDER), item(f"{path}{step}", LINK, folder)]
        path += f"{folder}/"
    deep = "/".join(steps)
    members += [item(f"{deep}/{'l' * 254}", LINK, "../" * len(steps))]
    members += [item("escape", LINK, f"{deep}/{'l' * 254}/../../victim"), item("flag", HARD, "escape/file")]
    assert_unharmed(cli, upstream, name, foreign(*members, (item("flag"), b"theirs")), tmp_path)


def test_cve_2024_12718_and_cve_2025_4138(cli: Cli, upstream: str, name: str, tmp_path: Path) -> None:
    """Modes and times of what lies outside were changed, and links led outside."""
    artifact = foreign(
        item("l", LINK, "../../victim"),
        item("l/", FOLDER, mode=0o777),
        item("l/.", FOLDER, mode=0o777),
        item("m", HARD, "l"),
    )
    assert_unharmed(cli, upstream, name, artifact, tmp_path)


def test_cpython_151558(cli: Cli, upstream: str, name: str, tmp_path: Path) -> None:
    """A hard link that could not be made was extracted from the archive instead, past the filter."""
    artifact = foreign(item("a", LINK, "../../victim/file"), item("b", HARD, "a"), (item("b"), b"theirs"))
    assert_unharmed(cli, upstream, name, artifact, tmp_path)


@pytest.mark.parametrize("size", [-512, -1, 1 << 62])
def test_cve_2025_8194(cli: Cli, upstream: str, name: str, tmp_path: Path, size: int) -> None:
    """A member of negative size sent tarfile back to its own header, for ever."""
    header = bytearray(item("file").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (size & ((1 << 96) - 1)).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    artifact = raw_layer(bytes(header) + bytes(1024))
    began = time.monotonic()
    with pytest.raises(ContentError):
        unpack(pulled(upstream, name, artifact), tmp_path / "out")
    assert cli("inspect", f"{upstream}/{name}:1").code == 5
    assert time.monotonic() - began < 20


def test_cve_2025_53945(tmp_path: Path) -> None:
    """The umask of who built it decided who may write to a file of the image."""
    program = (
        "import os, sys; os.umask(int(sys.argv[1], 8)); from ocibuild.cli import main\n"
        "sys.exit(main(['build', sys.argv[2], '-o', sys.argv[3], '--json']))"
    )
    tree = ROOT / "fixtures/packages/amd64/pgrx_hello-pg18"
    digests = set()
    for mask in ("000", "022", "077"):
        command = [sys.executable, "-c", program, mask, str(tree), f"oci:{tmp_path}/{mask}"]
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        digests.add(json.loads(result.stdout)["digest"])
    assert len(digests) == 1
    unpack(single_image(open_artifact(f"oci:{tmp_path}/000")), tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
