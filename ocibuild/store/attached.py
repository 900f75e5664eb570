"""What is attached to an image without being part of it: the tags that tell of it.

Two habits name such things after the digest of what they are about: the index of a manifest's referrers
(distribution-spec, "Referrers Tag Schema"), and the images of signatures, attestations and SBOMs that cosign writes.
"""

from __future__ import annotations

import re

from ocibuild.oci import Digest

__all__ = ["KINDS", "attached_tag", "is_attached_tag"]

KINDS = ("sig", "att", "sbom")
"""The kinds of images that cosign attaches by tag: signatures, attestations, an SBOM."""

_TAG = re.compile(r"sha(?:256|512)-[a-f0-9]{64}(?:\.(?:sig|att|sbom))?")


def attached_tag(digest: Digest, kind: str = "") -> str:
    """The tag under which something is attached to a manifest.

    Args:
        digest: The manifest's.
        kind: `sig`, `att` or `sbom` for the images of cosign; empty for the index of referrers.

    Example:
        >>> attached_tag(Digest.of(b""), "sig")[:16], attached_tag(Digest.of(b""), "sig")[-6:]
        ('sha256-e3b0c4429', '55.sig')
    """
    tag = f"{digest.algorithm}-{digest.encoded[:64]}"
    return f"{tag}.{kind}" if kind else tag


def is_attached_tag(name: str) -> bool:
    """Whether a tag names what is attached to an image, and no image of its own.

    Example:
        >>> is_attached_tag(attached_tag(Digest.of(b""))), is_attached_tag("1.0")
        (True, False)
    """
    return _TAG.fullmatch(name) is not None
