"""Signing one thing, and keeping what comes of it: in which formats, and what is there already."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
from collections.abc import Collection
from typing import Final

import msgspec

from ocibuild import intoto
from ocibuild.errors import ContentError, NotFoundError, OcibuildError, UsageError
from ocibuild.oci import Descriptor, Platform
from ocibuild.oci.canonical import encode
from ocibuild.store import Store
from ocibuild.store.attached import attached_tag

from . import dsse, simple
from .bundle import PREDICATE_ANNOTATION, encode_bundle, parse_bundle
from .dsse import Envelope
from .keep import Kept, keep_bundle, keep_layer
from .keys import PublicKey
from .predicates import read_object
from .signer import BundleSigner, Signer

__all__ = ["FORMATS", "Signed", "Writer"]

FORMATS: Final = ("tag", "bundle")
"""The two formats: an image that a tag names, and a bundle that refers to what is signed."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed, by whom, and where that is kept.

    Attributes:
        subject: The image or index.
        platform: Its platform, for one image of an index.
        predicate_type: What is said of it; for a signature `intoto.SIGNATURE`.
        fingerprint: Of the public key; empty where the signer brings a bundle of its own.
        tag: The tag of the older format, and what it names now; None where it was not asked for.
        bundle: The manifest of the newer format, likewise.
        added: The formats that were written; those left were there already.
    """

    subject: Descriptor
    platform: Platform | None = None
    predicate_type: str
    fingerprint: str
    tag: tuple[str, Descriptor] | None = None
    bundle: Descriptor | None = None
    added: tuple[str, ...] = ()


class Writer:
    """A signer, and the store that its signatures go to."""

    def __init__(
        self, store: Store, signer: Signer | BundleSigner, created: dt.datetime | None, formats: Collection[str]
    ) -> None:
        if unknown := [name for name in formats if name not in FORMATS]:
            raise UsageError(f"the format {unknown[0]!r}", wanted=f"one of: {', '.join(FORMATS)}")
        if created is not None and created.tzinfo is None:
            raise UsageError("a time without its zone", wanted="a datetime with tzinfo", where="created")
        self.store, self.signer, self.created, self.formats = store, signer, created, formats
        self._trouble: OcibuildError | None = None
        if isinstance(signer, BundleSigner):
            self.key = None
            if tuple(formats) == ("tag",):
                raise UsageError("a signer of bundles", wanted="a key, for the format 'tag'")
        else:
            self.key = PublicKey.from_der(signer.public_key, where="signer")

    def write(
        self, subject: Descriptor, platform: Platform | None, statement: bytes, *, claim: bytes | None = None
    ) -> Signed:
        """Sign a statement, and for a signature the claim of the older format; keep what is not there already.

        Anybody may have written what the tag names: where it is of no use, the bundle is written all the same.
        """
        kind = intoto.parse_statement(statement).predicate_type
        added, layer, bundle = [], None, None
        # The older one first: who finds a bundle does not look for it any more.
        if "tag" in self.formats and self.key is not None:
            try:
                layer = (
                    self._claim(subject, claim) if claim is not None else self._attestation(subject, statement, kind)
                )
            except OcibuildError as error:
                if "bundle" not in self.formats:
                    raise
                self._keep_trouble(error, subject, "sig" if claim is not None else "att")
            else:
                added += ["tag"] if layer.is_new else []
        if "bundle" in self.formats:
            bundle = self._bundle(subject, statement, kind)
            added += ["bundle"] if bundle.is_new else []
        return Signed(
            subject=subject,
            platform=platform,
            predicate_type=kind,
            fingerprint=self.key.fingerprint if self.key else "",
            tag=(layer.name, layer.descriptor) if layer else None,
            bundle=bundle.descriptor if bundle else None,
            added=tuple(added),
        )

    def _keep_trouble(self, error: OcibuildError, subject: Descriptor, kind: str) -> None:
        if isinstance(error, ContentError | NotFoundError) and not error.hint:
            tag = attached_tag(subject.digest, kind)
            error.hint = f"The bundle is written, the older format is not: remove the tag {tag}, then do this again."
        self._trouble = self._trouble or error

    def check(self) -> None:
        """Raise what went wrong with the older format, once all the rest is written."""
        if self._trouble is not None:
            raise self._trouble

    def _sign(self, payload: bytes) -> bytes:
        assert self.key is not None
        assert isinstance(self.signer, Signer)
        signature = self.signer.sign(payload)
        if not self.key.verify(signature, payload):
            raise UsageError(
                "a signer whose signature its public key does not verify",
                wanted="ECDSA on P-256 over the SHA-256 of the payload, in DER",
                where=self.key.fingerprint,
            )
        return signature

    def _claim(self, subject: Descriptor, claim: bytes) -> Kept:
        ours, key = simple.parse(claim), self.key
        assert key is not None

        def is_ours(raw: bytes, annotations: dict[str, str]) -> bool:
            # With a certificate or a log entry beside, verifiers ask more of it than of ours.
            if annotations.keys() != {simple.SIGNATURE_ANNOTATION}:
                return False
            found = simple.parse(raw)
            signature = dsse.base64_bytes(annotations.get(simple.SIGNATURE_ANNOTATION, ""), where="signature")
            is_same = (found.digest, found.reference) == (ours.digest, ours.reference)
            return is_same and key.verify(signature, raw)

        def make() -> tuple[bytes, dict[str, str]]:
            return claim, {simple.SIGNATURE_ANNOTATION: base64.b64encode(self._sign(claim)).decode()}

        return keep_layer(self.store, subject, "sig", simple.SIMPLE_SIGNING, is_ours, make)

    def _attestation(self, subject: Descriptor, statement: bytes, kind: str) -> Kept:
        # cosign wants the annotation of a signature, which is in the envelope.
        ours = {"predicateType": kind, simple.SIGNATURE_ANNOTATION: ""}

        def is_ours(raw: bytes, annotations: dict[str, str]) -> bool:
            return annotations == ours and self._says(dsse.parse(raw), statement, subject)

        def make() -> tuple[bytes, dict[str, str]]:
            return dsse.encode(self._envelope(statement)), ours

        return keep_layer(self.store, subject, "att", dsse.ENVELOPE, is_ours, make)

    def _bundle(self, subject: Descriptor, statement: bytes, kind: str) -> Kept:
        def is_ours(raw: bytes, annotations: dict[str, str]) -> bool:
            if self.key is None or annotations.get(PREDICATE_ANNOTATION) != kind:
                return False
            bundle, material = parse_bundle(raw), read_object(raw, where="bundle")["verificationMaterial"]
            if material != {"publicKey": {"hint": self.key.hint}}:
                return False
            return self._says(bundle.envelope, statement, subject)

        def make() -> bytes:
            if isinstance(self.signer, BundleSigner):
                raw = self.signer.sign_statement(statement)
                if parse_bundle(raw, where="signer").envelope.payload != statement:
                    raise UsageError("a signer that has signed something else", wanted="a bundle over the statement")
                return raw
            assert self.key is not None
            return encode_bundle(self._envelope(statement), self.key.hint)

        return keep_bundle(self.store, subject, kind, self.created, is_ours, make)

    def _envelope(self, statement: bytes) -> Envelope:
        signature = self._sign(dsse.pae(intoto.PAYLOAD_TYPE, statement))
        return Envelope(payload_type=intoto.PAYLOAD_TYPE, payload=statement, signatures=(("", signature),))

    def _says(self, envelope: Envelope, statement: bytes, subject: Descriptor) -> bool:
        """Whether an envelope says the same of the same image, signed by our key and by no other."""
        if self.key is None or envelope.payload_type != intoto.PAYLOAD_TYPE:
            return False
        ours, found = intoto.parse_statement(statement), intoto.parse_statement(envelope.payload)
        if ours.predicate_type != found.predicate_type or len(found.subjects) != 1:
            return False
        # Of Python's values 1 and true would be equal.
        with contextlib.suppress(UsageError):
            is_same = encode(ours.predicate) == encode(found.predicate)
            if is_same and found.is_about(subject.digest) and len(envelope.signatures) == 1:
                [(keyid, signature)] = envelope.signatures
                return not keyid and self.key.verify(signature, envelope.signed)
        return False
