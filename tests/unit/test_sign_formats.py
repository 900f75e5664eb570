"""The formats of signatures: what is written is read again, and what is not understood is refused."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocibuild import intoto
from ocibuild.errors import ContentError, DocumentError, UsageError
from ocibuild.oci import Descriptor, Digest
from ocibuild.sign import dsse, simple
from ocibuild.sign.bundle import BUNDLE, encode_bundle, parse_bundle
from ocibuild.sign.dsse import Envelope
from ocibuild.sign.predicates import predicate_type

DIGEST = Digest.of(b"image")
IMAGE = Descriptor.of(b"image", "application/vnd.oci.image.manifest.v1+json")
ENVELOPE = Envelope(payload_type=intoto.PAYLOAD_TYPE, payload=b"{}", signatures=(("", b"signature"),))
DEEP = b"[" * 100_000

Fields = dict[str, Any]
Change = Callable[[Fields], object]


def change(raw: bytes, how: Change) -> bytes:
    fields = json.loads(raw)
    how(fields)
    return json.dumps(fields).encode()


def put(*path: str | int, value: object) -> Change:
    def put_it(fields: Any) -> None:
        for step in path[:-1]:
            fields = fields[step]
        fields[path[-1]] = value

    return put_it


# DSSE


def test_the_pre_authentication_encoding_of_the_specification() -> None:
    found = dsse.pae("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@given(
    st.text(min_size=1, max_size=20).filter(lambda text: text.isascii() and text.isprintable()),
    st.binary(min_size=1, max_size=500),
    st.lists(st.tuples(st.sampled_from(["", "a", "é"]), st.binary(min_size=1, max_size=80)), min_size=1, max_size=4),
)
def test_envelopes_are_read_as_they_were_written(
    kind: str, payload: bytes, signatures: list[tuple[str, bytes]]
) -> None:
    envelope = Envelope(payload_type=kind, payload=payload, signatures=tuple(signatures))
    assert dsse.parse(dsse.encode(envelope)) == envelope


def test_an_envelope_as_cosign_writes_it() -> None:
    raw = b'{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[{"keyid":"","sig":"c2lnbmF0dXJl"}]}'
    assert dsse.parse(raw) == ENVELOPE
    assert dsse.parse(raw).signed == b"DSSEv1 28 application/vnd.in-toto+json 2 {}"


NOT_BASE64 = ["", " ", "e30", "e30=\n", "e3 0=", "e31=", "_-8=", "e30==", "é"]


@pytest.mark.parametrize(
    "how",
    [
        *(put("payload", value=text) for text in NOT_BASE64),
        *(put("signatures", 0, "sig", value=text) for text in NOT_BASE64),
        put("payload", value=None),
        put("payloadType", value=""),
        put("payloadType", value="x" * 300),
        put("signatures", value=[]),
        put("signatures", value=None),
        put("signatures", value=[{"sig": "c2ln"}] * 65),
        put("signatures", 0, "cert", value="x"),
        put("more", value=1),
    ],
)
def test_envelopes_that_are_not_understood(how: Change) -> None:
    with pytest.raises(DocumentError):
        dsse.parse(change(dsse.encode(ENVELOPE), how))


@pytest.mark.parametrize("parse", [dsse.parse, simple.parse, parse_bundle, intoto.parse_statement])
@pytest.mark.parametrize(
    "raw",
    [b"", b"null", b"[]", b"{}", b"{", b"\xff", DEEP, b'{"a":' * 70 + b"1" + b"}" * 70, b" " * (4 * 1024 * 1024 + 1)],
)
def test_what_is_no_such_document(parse: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(ContentError):
        parse(raw)


def test_a_key_twice_is_refused() -> None:
    raw = dsse.encode(ENVELOPE).replace(b'{"payload":', b'{"payload":"e30=","payload":')
    with pytest.raises(DocumentError, match="twice"):
        dsse.parse(raw)


def test_what_could_not_be_read_again_is_not_written() -> None:
    large = Envelope(payload_type="x", payload=b"x" * (3 * 1024 * 1024 + 100), signatures=(("", b"x"),))
    with pytest.raises(UsageError, match="at most 4194304"):
        dsse.encode(large)
    with pytest.raises(UsageError, match="at most 4194304"):
        encode_bundle(large, "hint")


# Simple signing


def test_a_payload_to_the_byte() -> None:
    assert simple.encode(DIGEST, "ghcr.io/grove/x") == (
        b'{"critical":{"identity":{"docker-reference":"ghcr.io/grove/x"},"image":{"docker-manifest-digest":"'
        + DIGEST.encode()
        + b'"},"type":"cosign container image signature"},"optional":null}'
    )


@pytest.mark.parametrize("created", [None, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)])
def test_payloads_are_read_as_they_were_written(created: dt.datetime | None) -> None:
    found = simple.parse(simple.encode(DIGEST, "localhost:5000/é", created))
    assert (found.digest, found.reference, found.created) == (DIGEST, "localhost:5000/é", created)


@pytest.mark.parametrize("value", ["1", 1.5, True, -1, 2**60, None, []])
def test_an_annotation_that_is_no_time(value: object) -> None:
    raw = change(simple.encode(DIGEST, ""), put("optional", value={"timestamp": value, "who": "me"}))
    assert simple.parse(raw).created is None


@pytest.mark.parametrize(
    "how",
    [
        put("critical", "type", value="atomic container signature"),
        put("critical", "more", value=1),
        put("critical", "identity", "more", value=1),
        put("critical", "image", "more", value=1),
        put("critical", "image", "docker-manifest-digest", value="sha256:abc"),
        put("critical", "image", "docker-manifest-digest", value=None),
        put("critical", "identity", "docker-reference", value=None),
        put("critical", "identity", value={}),
        put("optional", value=[]),
        put("more", value=1),
    ],
)
def test_payloads_that_are_not_understood(how: Change) -> None:
    with pytest.raises(DocumentError):
        simple.parse(change(simple.encode(DIGEST, "x"), how))


# Bundles


def test_bundles_are_read_as_they_were_written() -> None:
    found = parse_bundle(encode_bundle(ENVELOPE, "aGludA=="))
    assert (found.envelope, found.key_hint, found.has_certificate) == (ENVELOPE, "aGludA==", False)


def test_bundles_of_others() -> None:
    raw = encode_bundle(ENVELOPE, "x")
    logged = change(raw, put("verificationMaterial", "tlogEntries", value=[{"logIndex": "1"}]))
    assert parse_bundle(logged).key_hint == "x"
    keyless = change(raw, put("verificationMaterial", value={"certificate": {"rawBytes": "AA=="}}))
    found = parse_bundle(keyless)
    assert (found.key_hint, found.has_certificate) == (None, True)


@pytest.mark.parametrize(
    "how",
    [
        put("mediaType", value="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        put("mediaType", value=None),
        put("verificationMaterial", value={}),
        put("verificationMaterial", value=None),
        put("verificationMaterial", "certificate", value={}),
        put("verificationMaterial", "more", value={}),
        put("verificationMaterial", "publicKey", "more", value={}),
        put("dsseEnvelope", value=None),
        put("dsseEnvelope", "signatures", value=[]),
        put("dsseEnvelope", "signatures", value=[{"sig": "c2ln"}, {"sig": "c2ln"}]),
        put("dsseEnvelope", "payload", value="e30"),
        put("messageSignature", value={"messageDigest": {}, "signature": "c2ln"}),
        put("more", value=1),
    ],
)
def test_bundles_that_are_not_understood(how: Change) -> None:
    with pytest.raises(DocumentError):
        parse_bundle(change(encode_bundle(ENVELOPE, "x"), how))


def test_a_bundle_over_a_bare_digest_is_refused() -> None:
    fields = json.loads(encode_bundle(ENVELOPE, "x"))
    del fields["dsseEnvelope"]
    fields["messageSignature"] = {"signature": "c2ln"}
    with pytest.raises(DocumentError, match="bare digest"):
        parse_bundle(json.dumps(fields).encode())


def test_the_media_type_of_a_bundle() -> None:
    assert json.loads(encode_bundle(ENVELOPE, "x"))["mediaType"] == BUNDLE
    assert BUNDLE == "application/vnd.dev.sigstore.bundle.v0.3+json"


# Statements


def test_a_statement_to_the_byte() -> None:
    assert intoto.statement(IMAGE, intoto.SIGNATURE, {}) == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{},"predicateType":"https://sigstore.dev/cosign/sign/v1",'
        b'"subject":[{"digest":{"sha256":"' + IMAGE.digest.encoded.encode() + b'"}}]}'
    )


def test_statements_are_read_as_they_were_written() -> None:
    found = intoto.parse_statement(intoto.statement(IMAGE, "urn:x", {"a": [1.5, "é", None]}))
    assert (found.predicate_type, found.predicate) == ("urn:x", {"a": [1.5, "é", None]})
    assert found.is_about(IMAGE.digest)
    assert not found.is_about(Digest.of(b"another"))
    assert not found.is_about(Digest("sha512:" + "0" * 128))


def test_a_statement_of_version_0_1() -> None:
    raw = change(intoto.statement(IMAGE, "urn:x", {}), put("_type", value="https://in-toto.io/Statement/v0.1"))
    assert intoto.parse_statement(raw).is_about(IMAGE.digest)


@pytest.mark.parametrize(
    "how",
    [
        put("_type", value="https://in-toto.io/Statement/v2"),
        put("predicateType", value=""),
        put("predicateType", value=None),
        put("predicate", value="text"),
        put("subject", value={}),
        put("subject", value=[{"digest": {"sha256": 1}}]),
        put("subject", value=[{}] * 1025),
    ],
)
def test_statements_that_are_not_understood(how: Change) -> None:
    with pytest.raises(DocumentError):
        intoto.parse_statement(change(intoto.statement(IMAGE, "urn:x", {}), how))


def test_names_of_predicate_types() -> None:
    assert predicate_type("slsaprovenance1") == intoto.SLSA_PROVENANCE
    assert predicate_type("https://example.com/x") == "https://example.com/x"
    for name in ("", "spdxyaml", "https://example.com/a b", "x:" + "y" * 1000, "https://é"):
        with pytest.raises(UsageError, match="predicate type"):
            predicate_type(name)


def test_base64_in_its_one_form() -> None:
    assert dsse.base64_bytes(base64.b64encode(b"hello").decode(), where="x") == b"hello"
