"""SBOMs: what an artifact is made of, as a CycloneDX 1.6 document (ECMA-424) that refers to it.

The same values give the same bytes, in RFC 8785: the serial number and the references inside the document come from what it
lists, and there is no time but the image's own. It is a claim: nothing vouches for it before it is signed.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ocibuild.cyclonedx import MEDIA_TYPE, is_about
from ocibuild.errors import UsageError
from ocibuild.oci import Descriptor
from ocibuild.store import Artifact, LocalStore
from ocibuild.store.documents import attach_document, attached_documents
from ocibuild.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model import XsUri
    from cyclonedx.model.component import Component as Model
    from cyclonedx.model.license import License

__all__ = [
    "MEDIA_TYPE",
    "Component",
    "Inventory",
    "ListedFile",
    "Purl",
    "attach_sbom",
    "encode_sbom",
    "find_sbom",
]

_PROJECT = "https://github.com/ocibuild/ocibuild"
_TEXT_LIMIT = 1000
"""Characters of a version (the schema has 1,024) or licence; a licence expression is parsed, and may be hostile."""

_ALGORITHMS = {"sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}


class Purl(msgspec.Struct, frozen=True, kw_only=True):
    """A package URL (purl-spec) in its parts, nothing escaped."""

    type: str
    name: str
    namespace: str | None = None
    version: str | None = None
    qualifiers: tuple[tuple[str, str], ...] = ()


class ListedFile(msgspec.Struct, frozen=True):
    """A file: its path, its SHA-256 in hexadecimal (None for a link), and what else is known of it."""

    path: str
    sha256: str | None
    properties: tuple[tuple[str, str], ...] = ()


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an artifact is made of.

    Attributes:
        type: What it is.
        name: Its name.
        version: Its version.
        description: What it is for, in a line.
        licences: SPDX expressions or names of licences, all of which hold.
        purl: What scanners find it by.
        hashes: By algorithm (`sha256`), in hexadecimal.
        references: Kinds of CycloneDX (`vcs`, `website`, `documentation`) and addresses.
        properties: Names and values.
        files: What it holds; `components` of it in the document.
    """

    type: Literal["container", "library", "operating-system"]
    name: str
    version: str | None = None
    description: str | None = None
    licences: tuple[str, ...] = ()
    purl: Purl | None = None
    hashes: tuple[tuple[str, str], ...] = ()
    references: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    files: tuple[ListedFile, ...] = ()

    @property
    def ref(self) -> str:
        """What the document calls it: the digest of a container, else a name that its values give."""
        if self.type == "container" and self.hashes:
            return ":".join(self.hashes[0])
        label = f"{self.name}@{self.version}" if self.version else self.name
        return f"{label}#{hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]}"


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact is made of.

    Attributes:
        subject: The artifact.
        components: Its parts, each once.
        depends: By `ref`, what needs what.
        created: When the artifact was made (RFC 3339), where it says so.
    """

    subject: Component
    components: tuple[Component, ...] = ()
    depends: tuple[tuple[str, tuple[str, ...]], ...] = ()
    created: str | None = None


def encode_sbom(inventory: Inventory) -> bytes:
    """The document, in canonical JSON.

    Raises:
        UsageError: Text that is not UTF-8.

    Example:
        >>> from ocibuild import postgres
        >>> from ocibuild.postgres.inventory import take_inventory
        >>> source = postgres.open_source("fixtures/packages/amd64/pgrx_hello-pg18")
        >>> image = postgres.build_extension([source])
        >>> json.loads(encode_sbom(take_inventory(image, [source])))["specVersion"]
        '1.6'
    """
    import warnings

    from cyclonedx.output.json import JsonV1Dot6

    with warnings.catch_warnings():
        # It warns of what is no fault here, such as a package without dependencies.
        warnings.simplefilter("ignore")
        document: dict[str, Any] = json.loads(JsonV1Dot6(_bom(inventory)).output_as_string())
    # Files are many and of one shape: the library would take a minute and 2 GB for 100,000.
    written = {item["bom-ref"]: item for item in document.get("components", ())}
    for component in inventory.components:
        if component.files:
            written[component.ref]["components"] = [_file(item) for item in component.files]
    listed = [written[item.ref] for item in inventory.components]
    document["components"] = [*listed, *(_file(item) for item in inventory.subject.files)]
    # Keys are ASCII and numbers small: sorted, this is what RFC 8785 asks for, and 30 times as fast.
    try:
        digest = hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()
        serial = uuid.uuid5(uuid.NAMESPACE_URL, f"{_PROJECT}/sbom/{digest}")
        return msgspec.json.encode({**document, "serialNumber": serial.urn}, order="sorted")
    except UnicodeEncodeError as error:
        raise UsageError(f"a value that JSON cannot hold: {error}", wanted="UTF-8 text") from error


def attach_sbom(image: Artifact, store: LocalStore, document: bytes) -> Descriptor:
    """Keep an SBOM beside its image, found by `referrers`.

    Args:
        image: The image or index; it is in the store.
        store: The store to write to.
        document: From `encode_sbom`.

    Returns:
        The descriptor of the manifest that refers to the image.

    Raises:
        StoreError: The store cannot be written.
    """
    return attach_document(store, image.root, document, MEDIA_TYPE)


def find_sbom(image: Artifact) -> bytes | None:
    """The CycloneDX document that refers to an image, of several the first by digest; None where none is.

    One about another image is passed over.

    Raises:
        NotFoundError, ContentError: One is missing or damaged.
    """
    return next((raw for raw in attached_documents(image, MEDIA_TYPE) if is_about(raw, image.digest)), None)


def _bom(inventory: Inventory) -> Any:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component as Model
    from cyclonedx.model.component import ComponentType
    from cyclonedx.model.dependency import Dependency
    from cyclonedx.model.tool import ToolRepository

    tool = Model(type=ComponentType.APPLICATION, name="ocibuild", version=__version__)
    models = {item.ref: _model(item) for item in (inventory.subject, *inventory.components)}
    bom = Bom(components=[models[item.ref] for item in inventory.components])
    bom.metadata.timestamp = _moment(inventory.created)  # type: ignore[assignment] # none is none
    bom.metadata.component = models[inventory.subject.ref]
    bom.metadata.tools = ToolRepository(components=[tool])
    needs = dict(inventory.depends)
    for ref, model in models.items():
        needed = [Dependency(models[other].bom_ref) for other in needs.get(ref, ()) if other != ref]
        bom.dependencies.add(Dependency(model.bom_ref, needed))
    bom.serial_number = uuid.UUID(int=0)  # not the random one
    return bom


def _uri(url: str) -> XsUri | None:
    """An address; None for what is none, such as a label that holds something else."""
    from cyclonedx.exception.model import InvalidUriException
    from cyclonedx.model import XsUri as Uri

    try:
        return Uri(url)
    except InvalidUriException:
        return None


def _model(item: Component) -> Model:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component as Model
    from cyclonedx.model.component import ComponentType
    from packageurl import PackageURL

    purl = None
    if item.purl is not None:
        try:
            purl = PackageURL(**{**msgspec.structs.asdict(item.purl), "qualifiers": dict(item.purl.qualifiers)})
        except ValueError:
            purl = None  # of a name that cannot be in one, such as a slash alone
    return Model(
        type=ComponentType(item.type),
        name=item.name,
        version=item.version if len(item.version or "") <= _TEXT_LIMIT else None,
        bom_ref=item.ref,
        description=item.description,
        licenses=list(_licences(item.licences)),
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm(_ALGORITHMS[name]), content=value) for name, value in item.hashes],
        external_references=[
            ExternalReference(type=ExternalReferenceType(kind), url=uri)
            for kind, url in item.references
            if (uri := _uri(url)) is not None
        ],
        properties=[Property(name=name, value=value) for name, value in item.properties],
    )


def _licences(texts: tuple[str, ...]) -> Iterator[License]:
    """Licences by SPDX ID, an expression where it is the only one, and what is neither by name."""
    from cyclonedx.contrib.license.factories import LicenseFactory

    factory = LicenseFactory()
    for text in texts:
        if len(text) > _TEXT_LIMIT:
            yield factory.make_with_name(f"{text[: _TEXT_LIMIT - 1]}…")
        elif len(texts) == 1:
            yield factory.make_from_string(text)
        else:
            license_ = factory.make_from_string(text)
            yield license_ if hasattr(license_, "id") else factory.make_with_name(text)


def _file(item: ListedFile) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "name": item.path}
    if item.sha256 is not None:
        found["hashes"] = [{"alg": "SHA-256", "content": item.sha256}]
    if item.properties:
        found["properties"] = [{"name": name, "value": value} for name, value in sorted(item.properties)]
    return found


def _moment(text: str | None) -> datetime | None:
    """A time with its zone; None for what is none."""
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
