"""Format 1 a second time: the documents of an image, by the standard library alone (see `oracle`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Json = str | int | Sequence["Json"] | Mapping[str, "Json"]

LAYER_TYPES = {
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
DEFAULT_VARIANTS = {("amd64", "v1"), ("arm64", "v8")}


@dataclass(frozen=True, slots=True)
class Blob:
    """A layer: the name of its compression, its bytes, the archive in it."""

    compression: str
    data: bytes
    archive: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """A platform; the variant is empty where there is none."""

    os: str
    architecture: str
    variant: str = ""

    def fields(self) -> dict[str, Json]:
        found: dict[str, Json] = {"os": self.os, "architecture": self.architecture}
        if self.variant and (self.architecture, self.variant) not in DEFAULT_VARIANTS:
            found["variant"] = self.variant
        return found

    def text(self) -> str:
        return "/".join(str(self.fields()[key]) for key in ("os", "architecture", "variant") if key in self.fields())


def canonical(value: Json) -> bytes:
    """RFC 8785, for the kinds of values that the documents have."""
    return _text(value).encode()


def _text(value: Json) -> str:
    if isinstance(value, str):
        return '"' + "".join(_escaped(character) for character in value) + '"'
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        # By UTF-16 code units: what is beyond the first plane sorts before U+E000.
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_text(key)}:{_text(value[key])}" for key in keys) + "}"
    return "[" + ",".join(_text(item) for item in value) + "]"


def _escaped(character: str) -> str:
    if character < " " and character not in ESCAPES:
        return f"\\u{ord(character):04x}"
    return ESCAPES.get(character, character)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type: str, data: bytes) -> dict[str, Json]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def config(target: Target, layers: Sequence[Blob], *, labels: Mapping[str, str], user: str, created: str) -> bytes:
    """The configuration of an image; what is empty is not known."""
    inner = _filled({"User": user, "Labels": labels})
    step = _filled({"created_by": "ocibuild", "created": created})
    diff_ids = [digest(layer.archive) for layer in layers]
    known: dict[str, Json] = {"created": created, "config": inner, "history": [step for _ in layers]}
    rootfs: dict[str, Json] = {"type": "layers", "diff_ids": diff_ids}
    return canonical({**target.fields(), **_filled(known), "rootfs": rootfs})


def manifest(configuration: bytes, layers: Sequence[Blob], *, annotations: Mapping[str, str]) -> bytes:
    return canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, configuration),
            "layers": [descriptor(LAYER_TYPES[layer.compression], layer.data) for layer in layers],
            **_filled({"annotations": annotations}),
        }
    )


def index(manifests: Mapping[Target, bytes], *, annotations: Mapping[str, str]) -> bytes:
    entries = [
        {**descriptor(MANIFEST, manifests[target]), "platform": target.fields()}
        for target in sorted(manifests, key=Target.text)
    ]
    fields: dict[str, Json] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return canonical({**fields, **_filled({"annotations": annotations})})


def layout(blobs: Sequence[bytes], tags: Mapping[str, tuple[str, bytes]]) -> dict[str, bytes]:
    """The files of a layout; every tag names a document of a media type."""
    entries: list[Json] = []
    for tag, (media_type, data) in sorted(tags.items()):
        annotations = {"org.opencontainers.image.ref.name": tag}
        entries.append({**descriptor(media_type, data), "annotations": annotations})
    return {
        "oci-layout": canonical({"imageLayoutVersion": "1.0.0"}),
        "index.json": canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}),
        **{f"blobs/{digest(data).replace(':', '/')}": data for data in blobs},
    }


def _filled(fields: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in fields.items() if value}
