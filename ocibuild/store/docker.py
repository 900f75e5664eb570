"""Docker archives: what `docker save` writes, for `docker load` and `podman load`. An export, not a store.

One platform's image: an OCI layout with uncompressed layers, and the `manifest.json` that loaders read.
"""

from __future__ import annotations

import io
from pathlib import Path

from ocibuild.errors import DocumentError, UsageError
from ocibuild.layer.entry import File
from ocibuild.layer.read import Budget, VerifiedArchive
from ocibuild.oci import Descriptor, Digest, Manifest, Platform, media_types
from ocibuild.oci.annotations import CONTAINERD_NAME, REF_NAME
from ocibuild.oci.canonical import encode

from .archive import write_archive
from .base import Artifact
from .files import Staging, store_errors
from .graph import push_blob, read_blob, read_config, read_document, single_image
from .layout import LayoutStore

__all__ = ["DockerArchiveWriter"]


class DockerArchiveWriter:
    """Writes one image to a Docker archive.

    Args:
        path: The file to write.
        name: The name and tag under which it is loaded, such as `pg_trickle-ext:0.2.0`.
    """

    def __init__(self, path: Path | str, *, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name

    def write(self, artifact: Artifact, *, platform: Platform | None = None) -> Digest:
        """Write the image of one platform; an index needs `platform` unless it holds one image.

        Returns:
            The digest of the image that was exported. Its layers are stored uncompressed, so the archive's own manifest
            has another.

        Raises:
            UsageError: Several platforms and none chosen.
            DigestMismatchError: A layer is not what its configuration says.
            StoreError: The file cannot be written.
        """
        image = single_image(artifact, platform)
        manifest = read_document(image.source, image.root)
        if not isinstance(manifest, Manifest):
            raise UsageError(f"{image.root.media_type}", wanted="an image", where=image.digest)
        config = read_config(image.source, manifest)
        with store_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            staging = Staging(self.path.parent, self.path.name)
        try:
            layout = LayoutStore(staging.path / "layout", sync=False)
            budget = Budget(*(layer.size for layer in manifest.layers))
            layers = [
                _uncompressed(image, layer, diff_id, budget, layout)
                for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True)
            ]
            raw = read_blob(image.source, manifest.config)
            config_descriptor = push_blob(layout, raw, media_types.IMAGE_CONFIG)
            plain = encode(
                Manifest(
                    media_type=media_types.IMAGE_MANIFEST,
                    config=config_descriptor,
                    layers=tuple(layers),
                    annotations=manifest.annotations,
                )
            )
            root = Descriptor.of(plain, media_types.IMAGE_MANIFEST)
            layout.push(root, io.BytesIO(plain))
            layout.add(self._entry(root))
            layout.close()
            listing = encode([
                {
                    "Config": _member(config_descriptor.digest),
                    "RepoTags": [self.name] if self.name else None,
                    "Layers": [_member(layer.digest) for layer in layers],
                }
            ])  # fmt: skip
            also = (File(path="manifest.json", content=listing),)
            write_archive(layout.path, self.path, staging=staging.path, also=also)
            return image.digest
        finally:
            staging.close()

    def _entry(self, root: Descriptor) -> Descriptor:
        if not self.name:
            return root
        host = self.name.partition("/")[0] if "/" in self.name else ""
        if "." in host or ":" in host or host == "localhost":
            full = self.name
        else:
            full = f"docker.io/{self.name}" if host else f"docker.io/library/{self.name}"
        named = root.with_annotation(CONTAINERD_NAME, full)
        return named.with_annotation(REF_NAME, self.name.rpartition(":")[2])


def _uncompressed(
    image: Artifact, layer: Descriptor, diff_id: Digest, budget: Budget, layout: LayoutStore
) -> Descriptor:
    with image.source.fetch(layer) as blob, layout.ingest() as writer:
        archive = VerifiedArchive(blob, layer.media_type, diff_id, budget)
        while data := archive.read(1024 * 1024):
            writer.write(data)
        archive.finish()
        return writer.commit(media_types.LAYER)


def _member(digest: Digest) -> str:
    if digest.algorithm != "sha256":
        raise DocumentError(f"a {digest.algorithm} digest", wanted="sha256: Docker archives know no other")
    return f"blobs/sha256/{digest.encoded}"
