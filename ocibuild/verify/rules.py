"""The rules of a policy, put to an image: all of them, whatever the first ones find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ocibuild.describe import ImageDescription, describe
from ocibuild.errors import ContentError, NotFoundError, SourceError, UsageError
from ocibuild.intoto import CYCLONEDX, SLSA_PROVENANCE
from ocibuild.oci import Index
from ocibuild.oci.annotations import BASE_NAME
from ocibuild.store import Artifact
from ocibuild.store.graph import read_document

from .policy import ChecksRule, Policy, ProvenanceRule
from .predicates import builder_of, is_cyclonedx, source_repositories
from .verdict import Attestation, Rule, Signature

__all__ = ["evaluate"]

_BASE_DIGEST = "org.opencontainers.image.base.digest"
_ORDER = ("none", "info", "warning", "error")


def evaluate(
    policy: Policy, image: Artifact, signatures: Sequence[Signature], attestations: Sequence[Attestation]
) -> tuple[Rule, ...]:
    """What comes of every rule.

    Args:
        policy: The policy.
        image: The image that was verified.
        signatures: The good ones.
        attestations: Those by a given key.
    """
    return tuple(_rules(policy, image, signatures, attestations))


def _rules(
    policy: Policy, image: Artifact, signatures: Sequence[Signature], attestations: Sequence[Attestation]
) -> Iterator[Rule]:
    if policy.threshold is not None:
        count = len({item.key for item in signatures})
        wanted = "a key's signature" if policy.threshold == 1 else f"signatures by {policy.threshold} keys"
        yield Rule(rule="signature", wanted=wanted, found=_keys(count), ok=count >= policy.threshold)
    if policy.sbom:
        found = [item for item in attestations if item.predicate_type == CYCLONEDX]
        good = [item for item in found if is_cyclonedx(item.predicate)]
        said = (
            good[0].says.get("format", "") if good else ("one that is no CycloneDX" if found else "none by a given key")
        )
        yield Rule(rule="sbom", wanted="a signed CycloneDX SBOM", found=said, ok=bool(good))
    if policy.provenance is not None:
        yield from _provenance(
            policy.provenance, [item for item in attestations if item.predicate_type == SLSA_PROVENANCE]
        )
    if policy.base is not None or policy.max_size is not None:
        yield from _image_rules(policy, image)
    if policy.checks is not None:
        yield _checks(policy.checks, image)


def _keys(count: int) -> str:
    return "one key's" if count == 1 else f"those of {count} keys"


def _provenance(rule: ProvenanceRule, found: Sequence[Attestation]) -> Iterator[Rule]:
    """One statement must meet all that is wanted: two halves are no whole."""
    if rule.source is None and rule.builder is None:
        said = found[0].says.get("builder", "one that names no builder") if found else "none by a given key"
        yield Rule(rule="provenance", wanted="a signed SLSA v1 provenance", found=said, ok=bool(found))
        return
    chosen = next((item for item in found if _meets(rule, item)), found[0] if found else None)
    if rule.source is not None:
        said_source = source_repositories(chosen.predicate) if chosen else set()
        ok = said_source == {rule.source}
        yield Rule(rule="provenance.source", wanted=rule.source, found=_listed(said_source, chosen), ok=ok)
    if rule.builder is not None:
        said_builder = builder_of(chosen.predicate) if chosen else None
        shown = _listed({said_builder} if said_builder else set(), chosen)
        yield Rule(rule="provenance.builder", wanted=rule.builder, found=shown, ok=said_builder == rule.builder)


def _meets(rule: ProvenanceRule, item: Attestation) -> bool:
    return (rule.source is None or source_repositories(item.predicate) == {rule.source}) and (
        rule.builder is None or builder_of(item.predicate) == rule.builder
    )


def _listed(said: set[str], chosen: Attestation | None) -> str:
    if chosen is None:
        return "none by a given key"
    return ", ".join(sorted(said))[:500] or "none named"


def _image_rules(policy: Policy, image: Artifact) -> Iterator[Rule]:
    """What manifests and their annotations say; nothing of the layers is read."""
    trouble, images, annotations = "", [], {}
    try:
        described = describe(image, files=False, referrers=False)
        annotations = described.annotations
        # What is for no platform is no image that anybody runs.
        images = [item for item in described.images if item.platform is None or item.platform.os != "unknown"]
    except (ContentError, NotFoundError, UsageError) as error:
        trouble = str(error)
    if policy.base is not None:
        bases = [_base({**annotations, **(item.manifest.annotations or {})}) for item in images]
        bases += [_base(annotations)] if BASE_NAME in annotations else []
        ok = bool(bases) and all(not names.isdisjoint(policy.base) for _, names in bases)
        found = trouble or ", ".join(sorted({shown for shown, _ in bases})) or "no image"
        yield Rule(rule="base", wanted=" or ".join(policy.base), found=found, ok=ok)
    if policy.max_size is not None:
        largest = max(images, key=lambda item: item.size, default=None)
        ok = largest is not None and largest.size <= policy.max_size
        yield Rule(rule="size", wanted=f"at most {policy.max_size:,} bytes", found=trouble or _size(largest), ok=ok)


def _size(image: ImageDescription | None) -> str:
    if image is None:
        return "no image"
    return f"{image.size:,} bytes" + (f" ({image.platform})" if image.platform else "")


def _base(annotations: dict[str, str]) -> tuple[str, set[str]]:
    """The base that annotations name, for a person, and the entries of a policy that allow it."""
    name, _, pinned = annotations.get(BASE_NAME, "").partition("@")
    digests = {item for item in (pinned, annotations.get(_BASE_DIGEST, "")) if item}
    shown = "@".join([name or "unnamed", *sorted(digests)])
    if name in ("", "scratch") and not digests:  # `scratch` is the name of no image
        return "none", {"none"}
    if name in ("", "scratch", "none") or len(digests) > 1:
        return f"unclear: {shown}", set()
    return shown, {name, *(f"{name}@{digest}" for digest in digests)}


def _checks(rule: ChecksRule, image: Artifact) -> Rule:
    from ocibuild import postgres
    from ocibuild.postgres.sources.image import image_sources

    document = read_document(image.source, image.root)
    wanted = "no findings" if rule.max_severity == "none" else f"no finding worse than {rule.max_severity}"
    if isinstance(document, Index) and any(child.platform is None for child in document.manifests):
        # Nobody knows who runs it, and it would not be looked at.
        return Rule(rule="checks", wanted=wanted, found="an image that names no platform", ok=False)
    try:
        sources = image_sources(image, where=Path(str(image.digest)))
        report = postgres.check(sources, distro=rule.distro, major=rule.pg, name=postgres.image_name(sources))
    except (ContentError, NotFoundError, SourceError, UsageError) as error:
        return Rule(rule="checks", wanted=wanted, found=str(error), ok=False)
    limit = _ORDER.index(rule.max_severity)
    worse = [item for item in report.findings if _ORDER.index(item.severity) > limit]
    names = ", ".join(dict.fromkeys(f"{item.severity} {item.id}" for item in worse))
    named = f" --distro {rule.distro}" if rule.distro else ""
    found = f"{names} (ocibuild check{named} says more)" if worse else "none worse"
    return Rule(rule="checks", wanted=wanted, found=found, ok=not worse)
