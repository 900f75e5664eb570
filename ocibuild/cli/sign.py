"""Sign an image: its index, and with --platforms each platform's image too.

Both formats are written: cosign's older one under the tag sha256-....sig, and a sigstore bundle that refers to the image. A
good signature by the same key that is there is not added again. The key is an EC P-256 private key in PEM, or a cosign.key;
its passphrase comes from $OCIBUILD_KEY_PASSPHRASE, $COSIGN_PASSWORD, or is asked for.

  ocibuild sign ghcr.io/grove/pg_trickle-ext:0.2.0 --key cosign.key
  ocibuild sign oci:dist/pg_trickle --key signing.pem --platforms --reference ghcr.io/grove/pg_trickle-ext
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
from typing import TYPE_CHECKING

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.render import message, print_json, printable
from ocibuild.errors import AuthError, UsageError
from ocibuild.locations import Location, open_artifact, parse_location
from ocibuild.oci import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocibuild.sign import KeySigner, Signed
    from ocibuild.store import Artifact, Store

_PASSPHRASES = ("OCIBUILD_KEY_PASSPHRASE", "COSIGN_PASSWORD")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_signing_options(parser)
    parser.add_argument("--platforms", action="store_true", help="sign each platform's image too")
    parser.add_argument(
        "--reference", metavar="REF", help="the repository to sign for (default: the registry's; elsewhere none)"
    )


def run(options: argparse.Namespace) -> int:
    """Sign, and say what, by which key, and where it is kept."""
    from ocibuild.sign import sign_image

    place, created = parse_location(options.image), signing_time(options.created)
    reference = _reference(options.reference, place)
    signer = load_key(options)
    artifact, store = open_place(place, options)
    with store:
        signed = sign_image(
            artifact, store, signer, reference=reference, each_platform=options.platforms, created=created
        )
    if not reference and any("tag" in item.added for item in signed):
        message("signed for no repository: policies of podman and CRI-O compare it. Say which with --reference.")
    show(options, artifact, signed)
    return 0


def add_signing_options(parser: argparse.ArgumentParser) -> None:
    """What `sign` and `attest` have in common."""
    parser.add_argument(
        "image", metavar="IMAGE", help="oci:DIR[:TAG], oci-archive:FILE[:TAG], docker://REF, @sha256:..."
    )
    parser.add_argument("--key", required=True, metavar="FILE", help="the private key that signs")
    parser.add_argument(
        "--created", metavar="TIME", help="RFC 3339 or seconds since 1970 (default $SOURCE_DATE_EPOCH, else now)"
    )
    add_registry_options(parser, key_flag="--cert-key")


def load_key(options: argparse.Namespace) -> KeySigner:
    """The key that signs.

    Raises:
        UsageError, AuthError, DocumentError: It cannot be read or opened.
    """
    from ocibuild.sign import load_signer

    return load_signer(options.key, passphrase=lambda: _passphrase(options.key))


def _passphrase(path: str) -> bytes:
    from ocibuild.sign.keys import key_name

    for name in _PASSPHRASES:
        if (value := os.environ.get(name)) is not None:
            return os.fsencode(value)
    if sys.stdin is not None and sys.stdin.isatty():
        import getpass

        return getpass.getpass(f"Passphrase of {printable(str(key_name(path)))}: ").encode("utf-8", "surrogateescape")
    raise AuthError(
        "the private key is encrypted, and nobody can be asked",
        wanted=f"its passphrase in the environment variable {_PASSPHRASES[0]} or {_PASSPHRASES[1]}",
        where=key_name(path),
    )


def signing_time(flag: str | None) -> dt.datetime:
    """The time of signing: as said, else SOURCE_DATE_EPOCH, else now.

    Raises:
        UsageError: It is no time.
    """
    from ocibuild.cli.arguments import created_time

    seconds = created_time(flag)
    if seconds is None:
        return dt.datetime.now(dt.UTC).replace(microsecond=0)
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"the time {seconds}", wanted="seconds since 1970, before the year 10000") from None


def open_place(place: Location, options: argparse.Namespace) -> tuple[Artifact, Store]:
    """An image, and the store it is in."""
    artifact = open_artifact(place, registry=registry_options(options))
    store: Store = artifact.source  # type: ignore[assignment]
    return artifact, store


def _reference(said: str | None, place: Location) -> str:
    """The repository that is signed for."""
    if said is not None:
        return str(Reference.parse(said))
    if place.transport != "docker":
        return ""
    reference = Reference.parse(place.path)
    return f"{reference.registry}/{reference.repository}"


def show(options: argparse.Namespace, artifact: Artifact, signed: Sequence[Signed]) -> None:
    """Say what was signed, by which key, and where it is kept."""
    fingerprint = signed[0].fingerprint
    if options.json:
        print_json({"digest": artifact.digest, "key": fingerprint, "signed": [_plain(item) for item in signed]})
        return
    from ocibuild.intoto import SIGNATURE

    for item in signed:
        verb = "signed" if item.added else "already signed"
        platform = f" ({printable(str(item.platform))})" if item.platform else ""
        what = "" if item.predicate_type == SIGNATURE else f" {printable(item.predicate_type)} of"
        print(f"{verb}{what} {item.subject.digest}{platform}")
        if item.tag:
            print(f"  tag     {item.tag[0]}{'' if 'tag' in item.added else ', already'}")
        if item.bundle:
            print(f"  bundle  {item.bundle.digest}{'' if 'bundle' in item.added else ', already'}")
    print(f"by key {fingerprint}")


def _plain(item: Signed) -> dict[str, object]:
    return {
        "digest": item.subject.digest,
        "platform": str(item.platform) if item.platform else None,
        "predicateType": item.predicate_type,
        "tag": {"name": item.tag[0], "digest": item.tag[1].digest} if item.tag else None,
        "bundle": item.bundle.digest if item.bundle else None,
        "added": list(item.added),
    }
