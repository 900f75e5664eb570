"""The errors of ocibuild: one tree, one exit code a class.

Every message says what was found, what was wanted, where, and what to do, and is built from those parts, so that a
script can read them as fields. No message ever holds a credential.

```
OcibuildError                1   root; never raised itself
├── UsageError               2   the call or command line cannot be carried out as written
├── SourceError              3   an input that cannot be packed
│   ├── EntryError           3   a path or file that has no place in a layer
│   ├── ElfError             3   not an ELF file, or a damaged one
│   └── ControlError         3   a control file PostgreSQL would not read
├── CheckError               4   findings that would break the server that mounts the image
├── ContentError             5   bytes that are not what they say they are
│   ├── DigestMismatchError  5   a blob whose bytes do not have its digest or size
│   ├── DocumentError        5   a manifest, index or configuration that is not one
│   └── LayerError           5   a layer that is not a tar archive, or not a safe one
├── NotFoundError            6   a blob, tag or image that is not there
├── StoreError               7   a place that cannot be read or written
│   └── LayoutError          7   a folder or file that is not an OCI layout
├── RegistryError            8   a registry that refuses, answers nonsense, or does not answer
│   └── AuthError            9   credentials that are missing, refused, or cannot be read
├── CodecError              10   an installed codec that does not write the bytes of the format
├── SignatureError          11   no signature that the key could have made
│   └── WrongSignatureError 12   signatures, and none of them vouches for this image
└── PolicyError             13   an image that is not what a policy asks for
```
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AuthError",
    "CheckError",
    "CodecError",
    "ContentError",
    "ControlError",
    "DigestMismatchError",
    "DocumentError",
    "ElfError",
    "EntryError",
    "LayerError",
    "LayoutError",
    "NotFoundError",
    "OcibuildError",
    "PolicyError",
    "RegistryError",
    "SignatureError",
    "SourceError",
    "StoreError",
    "UsageError",
    "WrongSignatureError",
]


class OcibuildError(Exception):
    """Anything ocibuild refuses to do, with the parts of its message as fields.

    Args:
        found: What was found.
        wanted: What was wanted instead.
        where: The file, location or document that the error is about.
        hint: What to do.

    Example:
        >>> str(OcibuildError("3 bytes", wanted="4 bytes", where="blob", hint="Copy it again."))
        'blob: 3 bytes, wanted 4 bytes. Copy it again.'
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, wanted: str = "", where: object = "", hint: str = "") -> None:
        self.found = found
        self.wanted = wanted
        self.where = str(where)
        self.hint = hint
        super().__init__(found)

    def __str__(self) -> str:
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.wanted:
            text += f", wanted {self.wanted}"
        return f"{text}. {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.found, dict(self.__dict__))

    def to_dict(self) -> dict[str, str]:
        """The error as `--json` prints it: its class and the parts of its message."""
        parts = {"found": self.found, "wanted": self.wanted, "where": self.where, "hint": self.hint}
        return {"error": type(self).__name__, **{key: value for key, value in parts.items() if value}}


def _rebuild(cls: type[OcibuildError], found: str, fields: dict[str, Any]) -> OcibuildError:
    error = cls.__new__(cls, found)
    Exception.__init__(error, found)
    error.__dict__.update(fields)
    return error


class UsageError(OcibuildError, ValueError):
    """The call or command line cannot be carried out as written."""

    exit_code = 2


class SourceError(OcibuildError, ValueError):
    """An input that cannot be packed."""

    exit_code = 3


class EntryError(SourceError):
    """A path or file that has no place in a layer."""


class ElfError(SourceError):
    """Not an ELF file, or a damaged one."""


class ControlError(SourceError):
    """A control file that PostgreSQL would not read."""


class CheckError(OcibuildError):
    """Findings that would break the server that mounts the image; `findings` holds them all."""

    exit_code = 4

    def __init__(self, found: str, *, findings: tuple[Any, ...] = (), where: object = "", hint: str = "") -> None:
        super().__init__(found, where=where, hint=hint)
        self.findings = findings


class ContentError(OcibuildError, ValueError):
    """Bytes that are not what they say they are."""

    exit_code = 5


class DigestMismatchError(ContentError):
    """A blob whose bytes do not have its digest or size."""


class DocumentError(ContentError):
    """A manifest, index or configuration that is not one."""


class LayerError(ContentError):
    """A layer that is not a tar archive, or not a safe one."""


class NotFoundError(OcibuildError, LookupError):
    """A blob, tag or image that is not there."""

    exit_code = 6


class StoreError(OcibuildError, OSError):
    """A place that cannot be read or written."""

    exit_code = 7

    # OSError formats itself from errno; the parts of the message are ours.
    __str__ = OcibuildError.__str__


class LayoutError(StoreError):
    """A folder or file that is not an OCI layout."""


class RegistryError(OcibuildError):
    """A registry that refuses, answers nonsense, or does not answer.

    `status` is the HTTP status of its answer, 0 for none; `is_temporary` tells that the same may succeed later, and
    `retry_after` after how many seconds, where the registry says so.
    """

    exit_code = 8

    def __init__(
        self,
        found: str,
        *,
        wanted: str = "",
        where: object = "",
        hint: str = "",
        status: int = 0,
        retry_after: float = 0.0,
        is_temporary: bool = False,
    ) -> None:
        super().__init__(found, wanted=wanted, where=where, hint=hint)
        self.status = status
        self.retry_after = retry_after
        self.is_temporary = is_temporary


class AuthError(RegistryError):
    """Credentials that are missing, refused, or cannot be read."""

    exit_code = 9


class CodecError(OcibuildError):
    """An installed codec that does not write the bytes of the format."""

    exit_code = 10


class SignatureError(OcibuildError):
    """No signature that the key could have made."""

    exit_code = 11


class WrongSignatureError(SignatureError):
    """Signatures are there, and none of them vouches for this image; `reasons` holds a line for each."""

    exit_code = 12

    def __init__(self, found: str, *, reasons: tuple[str, ...] = (), **parts: Any) -> None:
        super().__init__(found, **parts)
        self.reasons = reasons


class PolicyError(OcibuildError):
    """An image that is not what a policy asks for; `reasons` holds a line for each rule that is not met."""

    exit_code = 13

    def __init__(self, found: str, *, reasons: tuple[str, ...] = (), **parts: Any) -> None:
        super().__init__(found, **parts)
        self.reasons = reasons
