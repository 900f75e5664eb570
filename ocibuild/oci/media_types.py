"""Media types of the OCI image specification (media-types.md), and Docker's that mean the same."""

from __future__ import annotations

from typing import Final

IMAGE_INDEX: Final = "application/vnd.oci.image.index.v1+json"
IMAGE_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
IMAGE_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
EMPTY: Final = "application/vnd.oci.empty.v1+json"

DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEXES: Final = frozenset({IMAGE_INDEX, DOCKER_INDEX})
MANIFESTS: Final = frozenset({IMAGE_MANIFEST, DOCKER_MANIFEST})
CONFIGS: Final = frozenset({IMAGE_CONFIG, DOCKER_CONFIG})
LAYERS: Final = frozenset({LAYER, LAYER_GZIP, LAYER_ZSTD, DOCKER_LAYER_GZIP})
