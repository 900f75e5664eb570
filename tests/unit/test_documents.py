"""OCI documents: written canonically, read strictly."""

from __future__ import annotations

import pickle

import pytest

from ocibuild.errors import DocumentError, OcibuildError, StoreError, UsageError
from ocibuild.oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference
from ocibuild.oci.canonical import DOCUMENT_LIMIT, decode, encode
from ocibuild.oci.media_types import IMAGE_INDEX, IMAGE_MANIFEST

DIGEST = "sha256:" + "0" * 64
CONFIG = f'{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2}}'


def manifest(**changes: str) -> bytes:
    fields = {"schemaVersion": "2", "config": CONFIG, "layers": "[]"} | changes
    return ("{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}").encode()


def test_a_manifest_is_written_canonically() -> None:
    config = Descriptor(media_type="application/vnd.oci.image.config.v1+json", digest=Digest(DIGEST), size=2)
    raw = encode(Manifest(media_type=IMAGE_MANIFEST, config=config, layers=(), annotations={"b": "ü", "a": "\n"}))
    assert raw.decode() == (
        '{"annotations":{"a":"\\n","b":"ü"},"config":{"digest":"' + DIGEST + '","mediaType":'
        '"application/vnd.oci.image.config.v1+json","size":2},"layers":[],"mediaType":'
        '"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}'
    )


def test_empty_lists_that_the_specification_wants_are_written() -> None:
    assert encode(Index(media_type=IMAGE_INDEX, manifests=())).endswith(b'"schemaVersion":2}')
    assert b'"manifests":[]' in encode(Index(manifests=()))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not a valid"),
        (b"{", "not a valid"),
        (b"[]", "not a valid"),
        (b"\xff", "not a valid"),
        (manifest(schemaVersion="1"), "not a valid"),
        (manifest(layers="null"), "not a valid"),
        (manifest(manifests="[]"), "layers or config, and manifests"),
        (manifest(schemaVersion='2,"schemaVersion":2'), "twice"),
        (manifest(annotations='{"a":"1","a":"2"}'), "twice"),
        (manifest(annotations='{"a":1}'), "not a valid"),
        (manifest(annotations='{"a":NaN}'), "no JSON number"),
        (manifest(annotations='{"a":"\\ud800"}'), "not a valid"),
        (manifest(config=CONFIG.replace("sha256:0", "sha256:G")), "digest"),
        (manifest(config=CONFIG.replace("sha256:" + "0" * 64, "sha256:../../etc")), "digest"),
        (manifest(config=CONFIG.replace('"size":2', '"size":-1')), "not a valid"),
        (manifest(config=CONFIG.replace('"size":2', '"size":1e3')), "not a valid"),
        (manifest(config=CONFIG.replace("config.v1+json", "config.v1+json\\n")), "not a valid"),
        (manifest(x="[" * 100 + "]" * 100), "nested deeper"),
        (manifest(x="[" * 200_000 + "]" * 200_000), "nested"),
        (b" " * (DOCUMENT_LIMIT + 1), "at most"),
    ],
)
def test_refused(raw: bytes, words: str) -> None:
    with pytest.raises(DocumentError) as error:
        decode(raw, Manifest, where="here")
    assert words in str(error.value)
    assert "here" in str(error.value)


def test_a_manifests_configuration_in_an_index() -> None:
    with pytest.raises(DocumentError, match="layers or config"):
        decode(b'{"schemaVersion":2,"manifests":[],"config":{}}', Index)


def test_many_keys_are_checked_in_linear_time() -> None:
    text = ",".join(f'"k{number}":"v"' for number in range(100_000))
    with pytest.raises(DocumentError, match="twice"):
        decode(manifest(annotations="{" + text + ',"k0":"v"}'), Manifest)


def test_text_that_is_no_utf8_is_not_written() -> None:
    with pytest.raises(UsageError, match="JSON cannot hold"):
        encode({"a": "\ud800"})


def test_unknown_fields_are_no_error_and_null_is_absent() -> None:
    found = decode(manifest(annotations="null", future='{"x":[1]}'), Manifest)
    assert found.annotations is None


def test_digests() -> None:
    assert Digest.of(b"").algorithm == "sha256"
    for text in (
        "",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "0" * 63,
        "md5:" + "0" * 32,
        DIGEST + "\n",
        " " + DIGEST,
    ):
        with pytest.raises(DocumentError):
            Digest(text)


def test_platforms() -> None:
    assert str(Platform.parse("aarch64")) == "linux/arm64"
    assert str(Platform.parse("linux/arm/v7")) == "linux/arm/v7"
    assert Platform(os="linux", architecture="arm64", variant="v8").matches(Platform.parse("arm64"))
    for text in ("", "linux/", "a/b/c/d", "linux/arm64\n", "linux/../x"):
        with pytest.raises(UsageError):
            Platform.parse(text)


@pytest.mark.parametrize(
    "text",
    ["ghcr.io/o/r", "localhost/r:1", "127.0.0.1:5000/a/b__c-d.e:T_1", f"r.io/x@{DIGEST}", f"[::1]:5000/x:1@{DIGEST}"],
)
def test_references_round_trip(text: str) -> None:
    assert str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "x", "o/r", "ghcr.io", "ghcr.io/", "ghcr.io/A", "ghcr.io/a:", "ghcr.io/a:b/c", "ghcr.io/a@", "ghcr.io/a@sha256:0",
     "ghcr.io/../x", "ghcr.io//x", "ghcr.io/x:" + "t" * 129, "user:pass@ghcr.io/x", "ghcr.io/x y", "-.io/x"],
)  # fmt: skip
def test_references_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_a_configuration_keeps_its_odd_keys() -> None:
    raw = b'{"architecture":"arm64","os":"linux","os.version":"1","rootfs":{"diff_ids":[],"type":"layers"}}'
    found = decode(raw, ImageConfig)
    assert found.os_version == "1"
    assert encode(found) == raw


def test_errors_keep_their_fields_and_survive_pickling() -> None:
    error = StoreError("full", wanted="room", where="disk", hint="Free some.")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "disk: full, wanted room. Free some."
    assert (again.exit_code, again.hint) == (7, "Free some.")
    assert isinstance(again, OSError)


def test_every_error_class_has_its_exit_code() -> None:
    from ocibuild import errors

    documented = errors.__doc__ or ""
    for name in errors.__all__:
        cls = getattr(errors, name)
        assert issubclass(cls, OcibuildError)
        line = next(line for line in documented.splitlines() if name in line)
        assert line.split(name)[1].split()[0] == str(cls.exit_code)
