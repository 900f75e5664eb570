"""Describing an artifact: what is under its digest, from the index down to the files."""

from __future__ import annotations

from typing import Any

import msgspec

from .contents import layer_members
from .errors import UsageError
from .layer.read import Budget, Member
from .oci import Descriptor, Digest, ImageConfig, Index, Manifest, Platform, media_types
from .store import Artifact
from .store.graph import read_config, read_document

__all__ = [
    "AttachedDescription",
    "Description",
    "ImageDescription",
    "LayerDescription",
    "describe",
    "describe_attached",
]

_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_DSSE = "application/vnd.dsse.envelope.v1+json"
_IN_TOTO = "application/vnd.in-toto+json"
_BUNDLE = "application/vnd.dev.sigstore.bundle"
_NOTATION = "application/vnd.cncf.notary.signature"
_PROVENANCE = "https://slsa.dev/provenance/"
_COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1"
_TIMES = " × "  # noqa: RUF001
_KINDS = ("signature", "attestation", "provenance", "SBOM")
"""How the names of what is attached begin, in the order in which they are shown."""
_SBOMS = {
    "application/vnd.cyclonedx": "CycloneDX",
    "application/spdx": "SPDX",
    "text/spdx": "SPDX",
    "application/vnd.syft": "Syft",
}
"""The names of SBOM formats, by how their media types begin."""


class LayerDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A layer: its blob, the digest of the archive in it, and its members."""

    descriptor: Descriptor
    diff_id: Digest
    members: tuple[Member, ...]


class ImageDescription(msgspec.Struct, frozen=True, kw_only=True):
    """One platform's image; `config` and `layers` are empty for a manifest that is no image."""

    descriptor: Descriptor
    platform: Platform | None
    manifest: Manifest
    config: ImageConfig | None
    layers: tuple[LayerDescription, ...]

    @property
    def size(self) -> int:
        """The bytes to pull: manifest, configuration and layers."""
        return self.descriptor.size + self.manifest.config.size + sum(item.size for item in self.manifest.layers)


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact: its root, the images under it, and what refers to it."""

    root: Descriptor
    annotations: dict[str, str]
    images: tuple[ImageDescription, ...]
    referrers: tuple[Descriptor, ...]

    def to_dict(self) -> dict[str, Any]:
        """The description as `--json` prints it."""
        return {
            "digest": self.root.digest,
            "mediaType": self.root.media_type,
            "size": self.root.size,
            "annotations": self.annotations,
            "manifests": [_image_dict(image) for image in self.images],
            "referrers": [msgspec.to_builtins(item, enc_hook=str) for item in self.referrers],
        }


def describe(artifact: Artifact, *, files: bool = True, referrers: bool = True) -> Description:
    """What an artifact is and holds.

    Args:
        artifact: An image or an index, in any store.
        files: Read the layers and list their members.
        referrers: Ask what refers to it.

    Raises:
        UsageError: The artifact is neither.
        NotFoundError, ContentError: Something of it is missing or damaged.

    Example:
        >>> import ocibuild
        >>> image = ocibuild.build_image([], platform=ocibuild.Platform.parse("linux/amd64"))
        >>> describe(image).images[0].config.architecture
        'amd64'
    """
    document = read_document(artifact.source, artifact.root)
    if isinstance(document, Index):
        roots: tuple[Descriptor, ...] = document.manifests
    elif isinstance(document, Manifest):
        roots = (artifact.root,)
    else:
        raise UsageError(f"{artifact.root.media_type}", wanted="an image or an index", where=artifact.digest)
    asks = referrers and hasattr(artifact.source, "referrers")
    return Description(
        root=artifact.root,
        annotations=dict(document.annotations or {}),
        images=tuple(_image(artifact, root, files) for root in roots),
        referrers=tuple(artifact.source.referrers(artifact.root)) if asks else (),  # type: ignore[attr-defined]
    )


def _image(artifact: Artifact, root: Descriptor, files: bool) -> ImageDescription:
    manifest = read_document(artifact.source, root)
    if not isinstance(manifest, Manifest):
        raise UsageError(f"{root.media_type} in an index", wanted="image manifests", where=root.digest)
    if manifest.config.media_type not in media_types.CONFIGS:
        return ImageDescription(descriptor=root, platform=root.platform, manifest=manifest, config=None, layers=())
    config = read_config(artifact.source, manifest)
    layers = []
    budget = Budget(*(layer.size for layer in manifest.layers))
    for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
        # An attestation has the configuration of an image, and layers of another kind.
        listed = files and layer.media_type in media_types.LAYERS
        members = layer_members(artifact.source, layer, diff_id, budget=budget) if listed else ()
        found = tuple(member for member, _ in members)
        layers.append(LayerDescription(descriptor=layer, diff_id=diff_id, members=found))
    platform = root.platform or config.platform
    return ImageDescription(descriptor=root, platform=platform, manifest=manifest, config=config, layers=tuple(layers))


class AttachedDescription(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest that is attached to an image, to one of its platforms' images, or to what is attached.

    Attributes:
        descriptor: The manifest.
        kind: What it is, in words; nothing is verified.
        subject: The digest of what it is attached to.
        tag: The tag that says so; empty for a referrer.
    """

    descriptor: Descriptor
    kind: str
    subject: Digest
    tag: str

    def to_dict(self) -> dict[str, Any]:
        """The description as `--json` prints it."""
        fields = {"digest": self.descriptor.digest, "mediaType": self.descriptor.media_type}
        return {**fields, "size": self.descriptor.size, "kind": self.kind, "subject": self.subject, "tag": self.tag}


def describe_attached(artifact: Artifact) -> tuple[AttachedDescription, ...]:
    """What is attached to an image: signatures, attestations, provenance, SBOMs; those of the image itself first.

    What something is attached to comes before it.

    Raises:
        UsageError: The artifact is in no store.
        ContentError, NotFoundError: As `copy` with `referrers=True`.
    """
    from .store.referrers import find_attached

    found = tuple(
        AttachedDescription(
            descriptor=item.descriptor, kind=_kind(artifact, item.descriptor), subject=item.subject.digest, tag=item.tag
        )
        for item in find_attached(artifact.source, artifact.root)
    )
    levels: dict[Digest, int] = {}
    subjects = {artifact.digest: 0}
    for item in found:
        subjects.setdefault(item.subject, len(subjects))
        levels.setdefault(item.descriptor.digest, levels.get(item.subject, 0) + 1)
    return tuple(
        sorted(found, key=lambda item: (levels.get(item.subject, 0), subjects[item.subject], _rank(item.kind)))
    )


def _rank(kind: str) -> int:
    """Where a kind stands among what is attached to one image."""
    one = kind.partition(_TIMES)[2] if kind[:1].isdigit() else kind
    if one.startswith("sigstore bundle"):
        one = "provenance" if one.startswith(f"sigstore bundle: {_PROVENANCE}") else "attestation"
    return next((place for place, starts in enumerate(_KINDS) if one.startswith(starts)), len(_KINDS))


def _kind(artifact: Artifact, descriptor: Descriptor) -> str:
    """What an attached manifest says it is: by its artifact type, else by its layers."""
    document = read_document(artifact.source, descriptor)
    if not isinstance(document, Manifest):
        return (document and document.artifact_type) or descriptor.media_type
    annotations = document.annotations or {}
    if document.effective_artifact_type.startswith(_BUNDLE):
        predicate = annotations.get("dev.sigstore.bundle.predicateType")
        if predicate == _COSIGN_SIGN:
            return "signature (sigstore bundle)"
        return f"sigstore bundle: {predicate}" if predicate else "sigstore bundle"
    if document.effective_artifact_type == _NOTATION:
        return "signature (Notation)"
    kinds = [_layer_kind(layer, annotations) for layer in document.layers]
    kind = next(filter(None, kinds), "") or _sbom(document.effective_artifact_type)
    if not kind:
        return document.effective_artifact_type
    count = len([item for item in kinds if item])
    return kind if count < 2 else f"{count}{_TIMES}{kind}" if len(set(kinds)) == 1 else f"{kind} and {count - 1} more"  # noqa: PLR2004


def _layer_kind(layer: Descriptor, annotations: dict[str, str]) -> str:
    if layer.media_type == _SIMPLE_SIGNING:
        return "signature (cosign, simple signing)"
    if layer.media_type not in (_DSSE, _IN_TOTO):
        return _sbom(layer.media_type)
    own = layer.annotations or {}
    predicate = own.get("predicateType") or own.get("in-toto.io/predicate-type", "")
    predicate = predicate or annotations.get("in-toto.io/predicate-type", "")
    if predicate.startswith(_PROVENANCE):
        return "provenance (in-toto)" if layer.media_type == _IN_TOTO else "provenance (in-toto, signed)"
    return f"attestation (in-toto): {predicate}" if predicate else "attestation (in-toto)"


def _sbom(media_type: str) -> str:
    return next((f"SBOM ({name})" for start, name in _SBOMS.items() if media_type.startswith(start)), "")


def _image_dict(image: ImageDescription) -> dict[str, Any]:
    config = image.config
    return {
        "digest": image.descriptor.digest,
        "mediaType": image.descriptor.media_type,
        "size": image.descriptor.size,
        "totalSize": image.size,
        "platform": str(image.platform) if image.platform else None,
        "annotations": image.manifest.annotations or {},
        "config": None
        if config is None
        else {
            "digest": image.manifest.config.digest,
            "user": config.config.user if config.config else None,
            "created": config.created,
            "labels": config.labels,
        },
        "layers": [
            {
                "digest": layer.descriptor.digest,
                "mediaType": layer.descriptor.media_type,
                "size": layer.descriptor.size,
                "diffID": layer.diff_id,
                "files": [
                    {
                        "path": item.path,
                        "type": item.kind,
                        "mode": f"{item.mode:04o}",
                        "size": item.size,
                        "link": item.link,
                    }
                    for item in layer.members
                ],
            }
            for layer in image.layers
        ],
    }
