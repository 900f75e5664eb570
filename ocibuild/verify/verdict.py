"""The verdict on an image: who signed what, what the attestations say, and what the policy makes of it."""

from __future__ import annotations

from typing import Any

import msgspec

from ocibuild.errors import OcibuildError, PolicyError, SignatureError, WrongSignatureError
from ocibuild.oci import Digest

from .evidence import Refusal

__all__ = ["Attestation", "Rule", "Signature", "Verdict"]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """A good signature of the image.

    Attributes:
        key: The fingerprint of the key that made it.
        format: `sigstore bundle` or `simple signing`.
        where: Where it was found.
        reference: The name of the image that was signed with it (`docker-reference`); nobody checks it.
        created: When it was made, as the signer says; with a bundle its manifest says it, which is not signed.
    """

    key: str
    format: str
    where: str
    reference: str | None = None
    created: str | None = None


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """A statement about the image, signed by a given key.

    Attributes:
        key: The fingerprint of the key.
        format: `sigstore bundle` or `dsse envelope`.
        where: Where it was found.
        predicate_type: What kind of statement it is.
        predicate: What it says.
        says: The same in short, for the kinds that are known.
        created: As of a signature.
    """

    key: str
    format: str
    where: str
    predicate_type: str
    predicate: dict[str, Any]
    says: dict[str, str]
    created: str | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of a policy and what came of it."""

    rule: str
    wanted: str
    found: str
    ok: bool

    def __str__(self) -> str:
        return f"{self.rule}: {self.found}, wanted {self.wanted}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was verified of an image; true when it is signed and all that a policy asks.

    Attributes:
        digest: What was verified: pin this.
        kind: `index` or `image`.
        platforms: The platforms that the digest vouches for.
        signatures: The good ones.
        attestations: Those signed by a given key.
        refused: What is attached and does not vouch for the image, each with its reason.
        notes: What else there is to know.
        rules: Those of the policy.
        images: With `platforms=True`, the verdict on the manifest of each platform.
    """

    digest: Digest
    kind: str
    platforms: tuple[str, ...]
    signatures: tuple[Signature, ...]
    attestations: tuple[Attestation, ...]
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    images: tuple[Verdict, ...] = ()

    def __bool__(self) -> bool:
        return self.error() is None

    def error(self) -> OcibuildError | None:
        """Why the image is refused; None when it is not."""
        if not self.signatures:
            return self._unsigned()
        for image in self.images:
            if (error := image.error()) is not None:
                return error
        broken = tuple(str(rule) for rule in self.rules if not rule.ok)
        if broken:
            what = "rule of the policy is" if len(broken) == 1 else "rules of the policy are"
            return PolicyError(f"{len(broken)} {what} not met", reasons=broken, where=self.digest)
        return None

    def _unsigned(self) -> OcibuildError:
        reasons = tuple(map(str, self.refused))
        if any(isinstance(item.error, WrongSignatureError) for item in self.refused):
            found = "signatures, and none of them vouches for this image"
            return WrongSignatureError(found, wanted="one by a given key", reasons=reasons, where=self.digest)
        if self.refused:
            kind = type(self.refused[0].error)
            return kind(f"no signature that can be read; {reasons[0]}", where=self.digest)
        if self.attestations:
            types = ", ".join(dict.fromkeys(item.predicate_type for item in self.attestations))
            found = f"not signed: the attestations by a given key ({types}) are no signature of the image"
            return SignatureError(found, where=self.digest)
        hint = "Sign it with ocibuild sign; what was copied without --referrers has left its signatures behind."
        return SignatureError("not signed", where=self.digest, hint=hint)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as `--json` prints it."""
        error = self.error()
        return {
            "image": self.digest,
            # What a script may pin: nothing where anything is wrong.
            "digest": self.digest if error is None else None,
            "verified": error is None,
            "kind": self.kind,
            "platforms": list(self.platforms),
            "signatures": [msgspec.to_builtins(item) for item in self.signatures],
            "attestations": [_attestation_dict(item) for item in self.attestations],
            "refused": [{"where": item.where, **_without_where(item.error.to_dict())} for item in self.refused],
            "notes": list(self.notes),
            "policy": [msgspec.to_builtins(item) for item in self.rules],
            "images": [item.to_dict() for item in self.images],
        }


def _attestation_dict(item: Attestation) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(item, enc_hook=str)
    del fields["predicate"]  # whole documents; `says` has them in short
    fields["predicateType"] = fields.pop("predicate_type")
    return fields


def _without_where(fields: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in fields.items() if key != "where"}
