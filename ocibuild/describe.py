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

__all__ = ["Description", "ImageDescription", "LayerDescription", "describe"]


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


def describe(artifact: Artifact, *, files: bool = True) -> Description:
    """What an artifact is and holds.

    Args:
        artifact: An image or an index, in any store.
        files: Read the layers and list their members.

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
    referrers = artifact.source.referrers(artifact.root) if hasattr(artifact.source, "referrers") else []
    return Description(
        root=artifact.root,
        annotations=dict(document.annotations or {}),
        images=tuple(_image(artifact, root, files) for root in roots),
        referrers=tuple(referrers),
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
