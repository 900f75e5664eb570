"""Documents, references and locations round-trip."""

from __future__ import annotations

import json

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ocibuild.locations import parse_location
from ocibuild.oci import (
    Descriptor,
    Digest,
    History,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    Reference,
    RootFS,
    RuntimeConfig,
)
from ocibuild.oci.canonical import decode, encode

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda raw: Digest("sha256:" + raw.hex())),
    st.binary(min_size=64, max_size=64).map(lambda raw: Digest("sha512:" + raw.hex())),
)
MEDIA_TYPES = st.from_regex(r"\A[a-z]{1,9}/[a-z0-9][a-z0-9.+-]{0,30}\Z")
MAPS = st.none() | st.dictionaries(TEXT, TEXT, min_size=1, max_size=4)
NAMES = st.from_regex(r"\A[a-z0-9]{1,8}\Z")
PLATFORMS = st.builds(Platform, os=NAMES, architecture=NAMES, variant=st.none() | NAMES)
DESCRIPTORS = st.builds(
    Descriptor,
    media_type=MEDIA_TYPES,
    digest=DIGESTS,
    size=st.integers(0, 2**53 - 1),
    annotations=MAPS,
    platform=st.none() | PLATFORMS,
    artifact_type=st.none() | MEDIA_TYPES,
)
LISTS = st.lists(DESCRIPTORS, max_size=4).map(tuple)
MANIFESTS = st.builds(
    Manifest,
    media_type=st.none() | MEDIA_TYPES,
    config=DESCRIPTORS,
    layers=LISTS,
    artifact_type=st.none() | MEDIA_TYPES,
    subject=st.none() | DESCRIPTORS,
    annotations=MAPS,
)
INDEXES = st.builds(
    Index, media_type=st.none() | MEDIA_TYPES, manifests=LISTS, subject=st.none() | DESCRIPTORS, annotations=MAPS
)
CONFIGS = st.builds(
    ImageConfig,
    architecture=NAMES,
    os=NAMES,
    created=st.none() | TEXT,
    config=st.none() | st.builds(RuntimeConfig, user=TEXT, labels=MAPS),
    rootfs=st.builds(RootFS, type=st.just("layers"), diff_ids=st.lists(DIGESTS, max_size=3).map(tuple)),
    history=st.none() | st.lists(st.builds(History, created_by=TEXT), min_size=1, max_size=3).map(tuple),
)


@given(st.one_of(MANIFESTS, INDEXES, CONFIGS))
def test_documents_round_trip_to_the_byte(document: Manifest | Index | ImageConfig) -> None:
    raw = encode(document)
    again = decode(raw, type(document))
    assert again == document
    assert encode(again) == raw
    assert rfc8785.dumps(json.loads(raw)) == raw


HOSTS = st.sampled_from(["ghcr.io", "localhost", "localhost:5000", "127.0.0.1:80", "[::1]:5000", "a-b.example.org"])
REPOSITORIES = st.from_regex(r"\A[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4})?(/[a-z0-9]{1,6}){0,3}\Z")
TAGS = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z")


@given(HOSTS, REPOSITORIES, st.none() | TAGS, st.none() | DIGESTS)
def test_references_round_trip(host: str, repository: str, tag: str | None, digest: Digest | None) -> None:
    reference = Reference(registry=host, repository=repository, tag=tag, digest=digest)
    assert Reference.parse(str(reference)) == reference
    assert str(parse_location(f"docker://{reference}")) == f"docker://{reference}"


@given(
    st.sampled_from(["oci", "oci-archive"]),
    st.from_regex(r"\A[a-z./ -]{0,20}[a-z]\Z"),
    st.none() | TAGS | DIGESTS,
)
def test_locations_round_trip(transport: str, path: str, name: str | None) -> None:
    joint = "@" if isinstance(name, Digest) else ":"
    text = f"{transport}:{path}" + (f"{joint}{name}" if name else "")
    found = parse_location(text)
    assert (found.transport, found.path, found.name) == (transport, path, name)
    assert str(found) == text
