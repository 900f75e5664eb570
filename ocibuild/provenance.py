"""Provenance: what an image was made of, with which settings and codecs, as a SLSA v1 statement that refers to it.

The statement is an in-toto Statement v1 with the predicate `https://slsa.dev/provenance/v1`, kept as a referrer of the
image (image-spec 1.1, "subject"). It is the same for the same input: it holds no time, no path and no name of a machine. It
is a claim: nothing vouches for it before it is signed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ocibuild.errors import DocumentError, NotFoundError, SourceError
from ocibuild.intoto import PAYLOAD_TYPE, SLSA_PROVENANCE, Subject, statement
from ocibuild.layer.format import CODECS
from ocibuild.oci import Descriptor, Digest
from ocibuild.store import Artifact, LocalStore
from ocibuild.store.documents import attach_document, attached_documents
from ocibuild.version import FORMAT
from ocibuild.workflow import Workflow

__all__ = [
    "BUILD_TYPE",
    "PREDICATE_TYPE",
    "Provenance",
    "Resource",
    "attach_provenance",
    "changed_sources",
    "file_resource",
    "find_provenance",
    "folder_resource",
    "installed_codecs",
]

PREDICATE_TYPE = SLSA_PROVENANCE
BUILD_TYPE = "https://github.com/ocibuild/ocibuild/blob/main/docs/reference/provenance.md"
_BUILDER = "https://github.com/ocibuild/ocibuild"


class Resource(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An input (in-toto, ResourceDescriptor): its name and digests by algorithm, `dirHash` for a folder."""

    name: str
    digest: dict[str, str]


def installed_codecs() -> dict[str, str]:
    """The version of every codec's package, by the codec's name."""
    return {compression.value: f"{codec.package} {codec.version}" for compression, codec in CODECS.items()}


class _Statement(msgspec.Struct):
    """A statement, read with less care than one that is signed: of ours what is damaged is an error, not a stranger's."""

    predicate_type: str = msgspec.field(name="predicateType")
    predicate: dict[str, Any]
    subject: tuple[Subject, ...] = ()


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What an image was made of and how.

    Attributes:
        format: The format number.
        codecs: The version of each codec's package, by the codec's name.
        parameters: The settings of the build, as `ocibuild rebuild` takes them up again.
        sources: The inputs.
        version: The version of ocibuild.
        workflow: Who ran the build, where a workflow did.
    """

    format: int = FORMAT
    codecs: dict[str, str] = msgspec.field(default_factory=installed_codecs)
    parameters: dict[str, Any]
    sources: tuple[Resource, ...] = ()
    version: str
    workflow: Workflow | None = None

    def statement(self, subject: Descriptor) -> bytes:
        """The statement about an image, in canonical JSON."""
        told, used, builder = dict(self.parameters), list[object](self.sources), _BUILDER
        if self.workflow is not None:
            told["workflow"] = self.workflow.parameter()
            used.append(self.workflow.dependency())
            builder = self.workflow.builder
        return statement(
            subject,
            PREDICATE_TYPE,
            {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": told,
                    "internalParameters": {"format": self.format, "codecs": self.codecs},
                    "resolvedDependencies": used,
                },
                "runDetails": {"builder": {"id": builder, "version": {"ocibuild": self.version}}},
            },
        )


def attach_provenance(image: Artifact, store: LocalStore, provenance: Provenance) -> Descriptor:
    """Keep a statement about an image beside it, found by `referrers`.

    Args:
        image: The image or index; it is in the store.
        store: The store to write to.
        provenance: What to say of it.

    Returns:
        The descriptor of the manifest that refers to the image.

    Raises:
        StoreError: The store cannot be written.
    """
    annotations = {"in-toto.io/predicate-type": PREDICATE_TYPE}
    return attach_document(store, image.root, provenance.statement(image.root), PAYLOAD_TYPE, annotations=annotations)


def find_provenance(image: Artifact) -> Provenance | None:
    """What is said of how an image was made; None where nothing is that this program understands.

    A statement about another image, or by another kind of build, is passed over.

    Raises:
        NotFoundError, ContentError: A statement is missing, or is one of this program's and damaged.
    """
    said = (_read(raw, image.digest) for raw in attached_documents(image, PAYLOAD_TYPE))
    return next((found for found in said if found), None)


def _read(raw: bytes, digest: Digest) -> Provenance | None:
    """The provenance in a statement; None for another kind of statement, or one about another image."""
    try:
        plain = msgspec.json.decode(raw, type=_Statement)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    definition = plain.predicate.get("buildDefinition")
    if (
        plain.predicate_type != PREDICATE_TYPE
        or not isinstance(definition, dict)
        or definition.get("buildType") != BUILD_TYPE
    ):
        return None
    if all(item.digest.get(digest.algorithm) != digest.encoded for item in plain.subject):
        return None
    try:
        told, used = dict(definition["externalParameters"]), definition.get("resolvedDependencies", [])
        workflow = told.pop("workflow", None)
        if workflow is not None:
            *used, source = used
            runner = plain.predicate["runDetails"]["builder"]["id"].rpartition("/")[2]
            workflow = {**workflow, "commit": source["digest"]["gitCommit"], "runner": runner}
        return msgspec.convert(
            {
                "format": definition["internalParameters"]["format"],
                "codecs": definition["internalParameters"]["codecs"],
                "parameters": told,
                "sources": used,
                "version": plain.predicate["runDetails"]["builder"]["version"]["ocibuild"],
                "workflow": workflow,
            },
            Provenance,
        )
    except (msgspec.MsgspecError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise DocumentError(f"a damaged provenance: {type(error).__name__}: {error}", where=digest) from None


def file_resource(path: Path, *, name: str | None = None) -> Resource:
    """A file and its SHA-256.

    Raises:
        NotFoundError, SourceError: It is not there, or cannot be read.
    """
    return Resource(name=name or path.name, digest={"sha256": _file_hash(path)})


def folder_resource(folder: Path, *, name: str | None = None) -> Resource:
    """A folder and its `dirHash` (in-toto, digest_set.md): the SHA-256 of the sorted lines of `sha256sum`.

    Raises:
        NotFoundError, SourceError: It is not there, or cannot be read.
    """
    lines = []
    for path in _files(folder):
        shown = path.relative_to(folder).as_posix()
        lines.append((os.fsencode(shown), f"{_file_hash(path)}  ".encode() + os.fsencode(shown) + b"\n"))
    return Resource(
        name=name or folder.resolve().name,
        digest={"dirHash": hashlib.sha256(b"".join(line for _, line in sorted(lines))).hexdigest()},
    )


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(where, name)).is_file() and not path.is_symlink())


def _file_hash(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise NotFoundError("no such file", where=path) from None
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=path) from error


def changed_sources(recorded: Iterable[Resource], found: Iterable[Resource]) -> list[str]:
    """What inputs are not those recorded, a line each. They are known by their digests: a name may be another."""
    ours, theirs = list(recorded), list(found)
    known, given = [item.digest for item in ours], [item.digest for item in theirs]
    names = {item.name for item in theirs}
    lines = []
    for item in ours:
        if item.digest not in given:
            what = "is not what it was" if item.name in names else "was packed, and was not given"
            lines.append(f"{item.name} {what}")
    old = {item.name for item in ours}
    lines += [
        f"{item.name} was given, and was not packed"
        for item in theirs
        if item.digest not in known and item.name not in old
    ]
    return lines
