"""Tell who signed an image, and whether it is what a policy asks for.

The first line of the output is the digest that was verified: pin that one. Signatures are looked for beside the image: as
sigstore bundles that refer to it, and under cosign's tags. One good signature by a given key is enough; none is an error,
11 where there is none at all, 12 where those there are do not vouch for the image. A policy (docs/reference/verification.md)
that is not met is 13.

  ocibuild verify ghcr.io/grove/pg_trickle-ext:0.2.0 --key cosign.pub
  ocibuild verify oci-archive:bundle.tar --policy policy.toml
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.render import Style, message, print_json, printable, table

if TYPE_CHECKING:
    from ocibuild.verify import Attestation, Signature, Verdict

_SHORT = len("sha256:") + 16


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("image", metavar="IMAGE", help="a reference, oci:DIR[:TAG], oci-archive:FILE[:TAG], or a path")
    parser.add_argument(
        "--key", dest="keys", action="append", default=[], metavar="FILE", help="a public key that is believed"
    )
    parser.add_argument("--policy", metavar="FILE", help="what the image must be besides signed, in TOML")
    parser.add_argument("--platforms", action="store_true", help="the manifest of each platform must be signed too")
    add_registry_options(parser, key_flag="--cert-key")


def run(options: argparse.Namespace) -> int:
    """Verify and show."""
    from ocibuild.locations import open_artifact
    from ocibuild.sign.keys import load_public_key
    from ocibuild.verify import examine, read_policy

    keys = [load_public_key(Path(name)) for name in options.keys]
    policy = read_policy(Path(options.policy)) if options.policy else None
    image = open_artifact(options.image, registry=registry_options(options))
    verdict = examine(image, keys, policy=policy, platforms=options.platforms)
    error = verdict.error()
    if options.json:
        print_json({**verdict.to_dict(), **({"error": error.to_dict()} if error else {})})
    else:
        _show(verdict, Style(no_color=options.no_color))
    if error is None:
        return 0
    message(f"ocibuild: {printable(str(error))}")
    for reason in getattr(error, "reasons", ()):
        message(f"  {printable(reason)}")
    return error.exit_code


def _show(verdict: Verdict, style: Style) -> None:
    # A digest on standard output is one that may be pinned: there is none where anything is wrong.
    if verdict:
        print(verdict.digest)
        for image in (verdict, *verdict.images):
            if image is not verdict:
                print(f"{printable(', '.join(image.platforms))} {image.digest}")
            for line in _lines(image, style):
                print(line)
            for item in image.refused:
                message(f"passed over {printable(str(item))}")
            for note in image.notes:
                message(f"note: {note}")
    if verdict.signatures and verdict.rules:
        rows = [["rule", "wanted", "found", "ok"]]
        rows += [[rule.rule, rule.wanted, rule.found, "yes" if rule.ok else "NO"] for rule in verdict.rules]
        for line in table([[printable(cell) for cell in row] for row in rows], indent="  "):
            print(line)


def _lines(verdict: Verdict, style: Style) -> Iterator[str]:
    over = f"the {verdict.kind}" + (f" of {', '.join(verdict.platforms)}" if verdict.kind == "index" else "")
    for signature in verdict.signatures:
        name = f" as {signature.reference}" if signature.reference else ""
        yield _line(style("signed", "green"), signature, f"{over}{name}", style)
    for item in verdict.attestations:
        said = ", ".join(f"{key} {value}" for key, value in item.says.items())
        yield _line(style("attested", "green"), item, f"{item.predicate_type}" + (f": {said}" if said else ""), style)


def _line(what: str, item: Signature | Attestation, text: str, style: Style) -> str:
    by = "the signer's clock" if item.format == "simple signing" else "an annotation, which is not signed"
    when = f", {item.created} by {by}" if item.created else ""
    how = style(f"({item.format}{printable(when)})", "dim")
    return f"  {what} by {item.key[:_SHORT]} {printable(text)} {how}"
