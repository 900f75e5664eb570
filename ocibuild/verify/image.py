"""Verifying an image: everything that is attached, put to the keys and the policy."""

from __future__ import annotations

from collections.abc import Sequence

from ocibuild.errors import ContentError, DocumentError, UsageError, WrongSignatureError
from ocibuild.oci import Index
from ocibuild.sign.keys import PublicKey
from ocibuild.store import Artifact
from ocibuild.store.graph import platform_images, read_document

from .evidence import COUNT_LIMIT, Evidence, Refusal, gather
from .policy import Policy
from .rules import evaluate
from .signatures import vouched
from .verdict import Attestation, Signature, Verdict

__all__ = ["examine", "verify"]

_COSIGN = "cosign 3 reads bundles alone where there is one, and none of these signs the image: it may refuse it"


def verify(
    image: Artifact, keys: Sequence[PublicKey] = (), *, policy: Policy | None = None, platforms: bool = False
) -> Verdict:
    """Make sure that an image is signed, and is what a policy asks for.

    At least one good signature by a given key over exactly the image's digest is needed. What else is attached and does
    not vouch for it is told of (`Verdict.refused`) and changes nothing.

    Args:
        image: An image or index in any store; what its store has attached to it is read.
        keys: The keys that are believed, from `load_public_key`; those of the policy, where it names any.
        policy: What the image must be besides signed.
        platforms: The manifest of each platform must be signed too.

    Returns:
        The verdict, which is true; pin its `digest`.

    Raises:
        SignatureError: The image is not signed.
        WrongSignatureError: Signatures are there, and none is good; its `reasons` tell why of each.
        PolicyError: The policy is not met; its `reasons` tell of each rule.
        ContentError: No signature can be read, or far too many are attached.
        UsageError: No key, or keys from two sides.

    Example:
        >>> import ocibuild
        >>> store = ocibuild.MemoryStore()
        >>> image = ocibuild.build_image([], platform=ocibuild.Platform.parse("linux/amd64"), into=store)
        >>> from cryptography.hazmat.primitives.asymmetric import ec
        >>> from ocibuild.sign import KeySigner, PublicKey
        >>> signer = KeySigner(ec.generate_private_key(ec.SECP256R1()))
        >>> verify(image, [PublicKey.from_der(signer.public_key)])
        Traceback (most recent call last):
        ocibuild.errors.SignatureError: sha256:...: not signed. Sign it ...
    """
    verdict = examine(image, keys, policy=policy, platforms=platforms)
    if (error := verdict.error()) is not None:
        raise error
    return verdict


def examine(
    image: Artifact, keys: Sequence[PublicKey] = (), *, policy: Policy | None = None, platforms: bool = False
) -> Verdict:
    """The verdict on an image, be it good or bad: as `verify`, which raises what `Verdict.error` tells.

    Raises:
        ContentError: The image itself is damaged, or far too much is attached to it.
        UsageError: No key, or keys from two sides.
    """
    if policy is not None and policy.keys:
        if keys:
            raise UsageError("keys given, and keys in the policy", wanted="one or the other")
        keys = policy.keys
    if not keys:
        raise UsageError(
            "no key", wanted="the public key of whoever signs", hint="Say --key FILE, or name it in the policy."
        )
    return _examine(image, keys, policy, platforms=platforms)


def _examine(image: Artifact, keys: Sequence[PublicKey], policy: Policy | None, *, platforms: bool) -> Verdict:
    document = read_document(image.source, image.root)
    if document is None:
        raise UsageError(f"{image.root.media_type}", wanted="an image or an index", where=image.digest)
    children = platform_images(image)
    evidence = gather(image)
    signatures: list[Signature] = []
    attestations: list[Attestation] = []
    refused = list(evidence.refused)
    for item in evidence.documents:
        try:
            good = vouched(item, image.digest, keys)
        except (ContentError, WrongSignatureError) as error:
            refused.append(Refusal(item.where, error))
            continue
        if isinstance(good, Signature):
            signatures.append(good)
        else:
            attestations.append(good)
    is_index = isinstance(document, Index)
    below = {child.digest: child for _, child in children} if platforms and is_index else {}
    if platforms and isinstance(document, Index):
        _check_platforms(document, image)
    if len(below) > COUNT_LIMIT:
        raise DocumentError(
            f"{len(below)} images", wanted=f"at most {COUNT_LIMIT} with --platforms", where=image.digest
        )
    return Verdict(
        digest=image.digest,
        kind="index" if is_index else "image",
        platforms=tuple(str(platform) for platform, _ in children),
        signatures=tuple(signatures),
        attestations=tuple(attestations),
        refused=tuple(refused),
        notes=(_COSIGN,) if _is_hidden(evidence, signatures) else (),
        rules=evaluate(policy, image, signatures, attestations) if policy is not None and signatures else (),
        images=tuple(_examine(child, keys, _of_signatures(policy), platforms=False) for child in below.values()),
    )


def _check_platforms(index: Index, image: Artifact) -> None:
    """Every image must be known by its platform: a runtime may take one that names none."""
    if not index.manifests or any(child.platform is None for child in index.manifests):
        found = "an image that names no platform" if index.manifests else "an index of nothing"
        raise DocumentError(found, wanted="a platform for each image, with --platforms", where=image.digest)


def _of_signatures(policy: Policy | None) -> Policy | None:
    """What a policy asks of the image of one platform: as many signatures as of the index."""
    return Policy(threshold=policy.threshold) if policy is not None and policy.threshold is not None else None


def _is_hidden(evidence: Evidence, signatures: Sequence[Signature]) -> bool:
    """Whether the good signatures are where cosign 3 does not look."""
    places = [*(item.where for item in evidence.documents), *(item.where for item in evidence.refused)]
    has_bundles = any(place.startswith("bundle ") for place in places)
    return has_bundles and bool(signatures) and all(item.format == "simple signing" for item in signatures)
