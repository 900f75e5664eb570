"""A repository of a registry as a store."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import quote

from ocibuild.errors import DigestMismatchError, DocumentError, NotFoundError, RegistryError, UsageError
from ocibuild.layer.compress import Data
from ocibuild.layer.stream import drain
from ocibuild.oci import Descriptor, Digest, Reference
from ocibuild.oci.canonical import DOCUMENT_LIMIT
from ocibuild.oci.reference import check_tag
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import DOCUMENTS, referrer_of
from ocibuild.store.verify import verifying

from .client import Answer, RegistryClient
from .download import BlobReader
from .early import EarlyAnswer
from .referrers import add_to_fallback, read_referrers
from .upload import Upload

__all__ = ["RegistryStore"]

_ACCEPTED = {"Accept": ", ".join(sorted(DOCUMENTS))}
_KEPT = 16 * 1024 * 1024
_PAGES = 1000


class RegistryStore:
    """The blobs, manifests and tags of one repository (distribution-spec 1.1).

    `outcome` tells of each blob and manifest whether it was `there`, `mounted` or `sent`.

    Args:
        reference: The registry and repository; tag and digest are passed over.
        client: The connection, where several stores share one; it is then closed by whoever made it.
        mount_from: Repositories of the same registry that may have the blobs already.

    Example:
        >>> from ocibuild.registry import RegistryClient
        >>> store = RegistryStore(Reference.parse("localhost:5000/o/x"), client=RegistryClient("localhost:5000"))
        >>> str(store)
        'localhost:5000/o/x'
    """

    transfers = 4
    """How many blobs `copy` moves at a time."""

    def __init__(self, reference: Reference, *, client: RegistryClient, mount_from: Iterable[str] = ()) -> None:
        self.client = client
        self.repository = reference.repository
        self.mount_from = tuple(name.removeprefix(f"{reference.registry}/") for name in mount_from)
        self.outcome: dict[Digest, str] = {}
        self._missing: set[Digest] = set()
        self._learned: dict[str, Digest | None] = {}
        self._documents: dict[Digest, bytes] = {}
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"{self.client.hostname}/{self.repository}"

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the repository has a blob or manifest."""
        with self._lock:
            if descriptor.digest in self.outcome:
                return True
            if descriptor.digest in self._missing:  # `find` has just asked; it may be there later
                self._missing.remove(descriptor.digest)
                return False
        if descriptor.media_type in DOCUMENTS:
            return self._find(str(descriptor.digest)) is not None
        answer = self._send("HEAD", f"blobs/{descriptor.digest}", "pull", accept=(404,))
        size = answer.headers.get("Content-Length", "")
        # A registry that tells of another size keeps something else there.
        is_there = answer.status_code == 200 and size in ("", str(descriptor.size))  # noqa: PLR2004
        if is_there:
            self._note(descriptor.digest, "there")
        return is_there

    def find(self, names: Iterable[str]) -> dict[str, Digest]:
        """What tags and digests name, as far as they are there, in one round trip. The registry's word, not verified.

        Raises:
            RegistryError: It does not answer.
        """
        known = dict(self._learned)
        wanted = [name for name in dict.fromkeys(names) if name not in known]
        if len(wanted) == 1:
            known[wanted[0]] = self._find(wanted[0])
        elif wanted:
            with ThreadPoolExecutor(self.transfers, thread_name_prefix="ocibuild-find") as pool:
                known |= zip(wanted, pool.map(self._find, wanted), strict=True)
        self._missing.update(Digest(name) for name, digest in known.items() if digest is None and Digest.is_valid(name))
        return {name: digest for name, digest in known.items() if digest is not None}

    def learn(self, answers: Mapping[str, EarlyAnswer]) -> None:
        """Take what was answered early, so that it is not asked again."""
        for name, answer in answers.items():
            if answer.challenge:
                self.client.auth.learn(answer.challenge)
            elif answer.digest is not None:
                self._learned[name] = answer.digest
                self._note(answer.digest, "there")
            elif self.client.auth.credential is None:  # a stranger may not be told what there is
                self._learned[name] = None

    def _find(self, name: str) -> Digest | None:
        answer = self._send("HEAD", f"manifests/{quote(name, safe=':')}", "pull", accept=(404,), headers=_ACCEPTED)
        if answer.status_code == 404:  # noqa: PLR2004
            return None
        told = answer.headers.get("Docker-Content-Digest", "")
        if Digest.is_valid(name):
            digest = Digest(name)
        else:
            digest = Digest(told) if Digest.is_valid(told) else self.resolve(name).digest
        self._note(digest, "there")
        return digest

    def _note(self, digest: Digest, outcome: str) -> None:
        with self._lock:
            self.outcome.setdefault(digest, outcome)

    def fetch(self, descriptor: Descriptor) -> BinaryIO:
        """A verifying reader of a blob or manifest.

        Raises:
            NotFoundError: It is not there.
            DigestMismatchError, RegistryError: While reading.
        """
        if descriptor.media_type in DOCUMENTS:
            raw = self._documents.get(descriptor.digest)
            if raw is None:
                raw, _ = self._manifest(str(descriptor.digest))
                self._keep(descriptor.digest, raw)
            return verifying(io.BytesIO(raw), descriptor, where=f"{self}@{descriptor.digest}")
        url = f"{self.client.base}/v2/{self.repository}/blobs/{descriptor.digest}"
        reader = BlobReader(self.client, url, self._scope("pull"), descriptor.size)
        return verifying(reader, descriptor, where=f"{self}@{descriptor.digest}")  # type: ignore[arg-type]

    def push(self, descriptor: Descriptor, content: BinaryIO) -> None:
        """Send a blob or manifest. A manifest with a `subject` is made findable by `referrers`.

        Raises:
            DigestMismatchError: The content is another; nothing is kept.
            RegistryError: The registry refuses.
        """
        if descriptor.media_type in DOCUMENTS:
            self.push_as(descriptor, content, str(descriptor.digest))
            return
        with verifying(content, descriptor, owns=False) as stream:
            if descriptor.digest in self.outcome:
                drain(stream)
                return
            how = Upload(self.client, self.repository, descriptor, stream).run(self.mount_from)
        self._note(descriptor.digest, how)

    def push_as(self, descriptor: Descriptor, content: BinaryIO, name: str) -> None:
        """Send a manifest or index, and name it with a tag, in one request.

        Raises:
            DigestMismatchError: The content is another; nothing is kept.
            RegistryError: The registry refuses.
        """
        with verifying(content, descriptor, owns=False) as stream:
            raw = stream.read(DOCUMENT_LIMIT + 1)
        if len(raw) > DOCUMENT_LIMIT:
            raise DocumentError("a manifest that is too long", wanted=f"at most {DOCUMENT_LIMIT} bytes", where=self)
        self._put_manifest(descriptor, raw, name if Digest.is_valid(name) else check_tag(name))

    def resolve(self, name: str) -> Descriptor:
        """The descriptor behind a tag or digest.

        Raises:
            NotFoundError: There is none.
        """
        raw, media_type = self._manifest(str(Digest(name)) if Digest.is_valid(name) else check_tag(name))
        digest = Digest(name) if Digest.is_valid(name) else Digest.of(raw)
        self._keep(digest, raw)
        return Descriptor(media_type=media_type, digest=digest, size=len(raw))

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Name a manifest that is there; a tag that named another one moves."""
        raw = self._documents.get(descriptor.digest)
        if raw is None:
            raw, _ = self._manifest(str(descriptor.digest))
        self._put_manifest(descriptor, raw, check_tag(name))

    @contextmanager
    def ingest(self) -> Iterator[_Writer]:
        """A writer that hashes while it writes to a temporary file, which is sent when it is committed."""
        with tempfile.TemporaryFile(prefix="ocibuild-blob-") as file:
            yield _Writer(file, self)

    def tags(self) -> dict[str, Descriptor]:
        """Every tag and what it names, sorted. One request a tag."""
        found = {}
        for name in self.tag_names():
            with contextlib.suppress(NotFoundError, DocumentError, UsageError):  # also what no tag can be called
                found[name] = self.resolve(name)
        return found

    def tag_names(self) -> list[str]:
        """The names of all tags, sorted. A repository that is not there has none."""
        found: set[str] = set()
        url = f"{self.client.base}/v2/{self.repository}/tags/list"

        def ask(page: str) -> Answer:
            return self.client.send("GET", page, scope=self._scope("pull"), accept=(404,) if page == url else ())

        for answer in self.client.pages(url, ask, of="tags", limit=_PAGES):
            if answer.status_code == 404:  # noqa: PLR2004
                return []
            try:
                names = json.loads(answer.content).get("tags") or []
            except (ValueError, AttributeError, RecursionError):
                names = None
            if not isinstance(names, list):
                raise RegistryError("a list of tags that is none", where=self)
            found.update(name for name in names if isinstance(name, str))
            if not names:
                break
        return sorted(found)

    def referrers(self, descriptor: Descriptor, *, artifact_type: str | None = None) -> list[Descriptor]:
        """The manifests whose `subject` is the given one, by the API or the fallback tag."""
        found = read_referrers(self, descriptor)
        return [item for item in found if artifact_type in (None, item.artifact_type)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.session.close()

    def _scope(self, actions: str) -> str:
        return f"repository:{self.repository}:{actions}"

    def _send(self, method: str, path: str, actions: str, **arguments: object) -> Answer:
        url = f"{self.client.base}/v2/{self.repository}/{path}"
        return self.client.send(method, url, scope=self._scope(actions), **arguments)  # type: ignore[arg-type]

    def _manifest(self, name: str) -> tuple[bytes, str]:
        """A manifest's bytes and media type, as the registry has them."""
        answer = self._send("GET", f"manifests/{quote(name, safe=':')}", "pull", headers=_ACCEPTED)
        raw: bytes = answer.content
        if len(raw) > DOCUMENT_LIMIT:
            raise DocumentError(f"a manifest of more than {DOCUMENT_LIMIT} bytes", where=f"{self}:{name}")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type not in DOCUMENTS:
            raise DocumentError(
                f"a document of type {media_type or 'unknown'}", wanted="a manifest or index", where=f"{self}:{name}"
            )
        told = answer.headers.get("Docker-Content-Digest", "")
        for wanted in (name, told):
            if Digest.is_valid(wanted) and (found := _digest_like(Digest(wanted), raw)) != wanted:
                raise DigestMismatchError(f"a manifest with digest {found}", wanted=wanted, where=f"{self}:{name}")
        return raw, media_type

    def _put_manifest(self, descriptor: Descriptor, raw: bytes, name: str) -> None:
        headers = {"Content-Type": descriptor.media_type}
        answer = self._send("PUT", f"manifests/{quote(name, safe=':')}", "pull,push", body=raw, headers=headers)
        told = answer.headers.get("Docker-Content-Digest")
        # Under a tag it may be told by another algorithm than ours.
        if told and (not Digest.is_valid(told) or _digest_like(Digest(told), raw) != told):
            raise DigestMismatchError(
                f"the registry has it as {told}", wanted=str(descriptor.digest), where=f"{self}:{name}"
            )
        self._keep(descriptor.digest, raw)
        self._note(descriptor.digest, "sent")
        referrer = referrer_of(raw, descriptor)
        if referrer is not None and "OCI-Subject" not in answer.headers and Digest.is_valid(name):
            add_to_fallback(self, *referrer)

    def _keep(self, digest: Digest, raw: bytes) -> None:
        """Remember a manifest: it is read more than once on its way. Its bytes are verified, here or when they are read."""
        with self._lock:
            if sum(map(len, self._documents.values())) + len(raw) <= _KEPT:
                self._documents[digest] = raw

    def put_fallback(self, subject: Descriptor, raw: bytes, media_type: str, condition: dict[str, str]) -> Answer:
        """Write the fallback index of a subject."""
        headers = {"Content-Type": media_type, **condition}
        return self._send(
            "PUT", f"manifests/{attached_tag(subject.digest)}", "pull,push", body=raw, headers=headers, accept=(412,)
        )

    def get_fallback(self, subject: Descriptor) -> Answer | None:
        """The answer with the fallback index of a subject; None when there is none."""
        try:
            return self._send("GET", f"manifests/{attached_tag(subject.digest)}", "pull", headers=_ACCEPTED)
        except NotFoundError:
            return None

    def get_referrers(self, url: str) -> Answer:
        """A page of the referrers API."""
        return self.client.send("GET", url, scope=self._scope("pull"), accept=(400, 404, 405))


class _Writer:
    """A blob being written for a registry: kept in a temporary file, hashed as it comes."""

    def __init__(self, file: BinaryIO, store: RegistryStore) -> None:
        self._file, self._store = file, store
        self._hasher = hashlib.sha256()
        self._size = 0

    def write(self, data: Data) -> int:
        """Append bytes."""
        self._hasher.update(data)
        self._size += len(data)
        return self._file.write(data)

    def commit(self, media_type: str) -> Descriptor:
        """Send the blob and give its descriptor."""
        descriptor = Descriptor(media_type=media_type, digest=Digest.from_hash(self._hasher), size=self._size)
        if not self._store.exists(descriptor):
            self._file.seek(0)
            self._store.push(descriptor, self._file)
        return descriptor


def _digest_like(wanted: Digest, raw: bytes) -> Digest:
    """The digest of bytes, by the algorithm of another."""
    hasher = wanted.hasher()
    hasher.update(raw)
    return Digest.from_hash(hasher)
