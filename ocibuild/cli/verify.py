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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ocibuild.cli.access import add_registry_options, registry_options
from ocibuild.cli.render import Style, message, print_json, printable, table
from ocibuild.errors import PolicyError

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
        print_json({**verdict.to_dict(), **(error.to_dict() if error else {})})
    else:
        _show(verdict, Style(no_color=options.no_color))
    if error is None:
        return 0
    message(f"ocibuild: {printable(str(error))}")
    # A broken policy has its table.
    for reason in getattr(error, "reasons", ()) if options.json or not isinstance(error, PolicyError) else ():
        message(f"  {printable(reason)}")
    return error.exit_code


def _show(verdict: Verdict, style: Style) -> None:
    # What is on standard output may be pinned: there is nothing where anything is wrong.
    say: Callable[[str], object] = print if verdict else message
    if verdict:
        print(verdict.digest)
        rows = [row for image in (verdict, *verdict.images) for row in _rows(image)]
        for line in table(rows, indent="  "):
            print(style(line, "green") if line.lstrip().startswith("signed") else line)
        for image in (verdict, *verdict.images):
            _tell(image)
    for image in (verdict, *verdict.images):
        if image.rules:
            rules = [["rule", "wanted", "found", "ok"]]
            rules += [[rule.rule, rule.wanted, rule.found, "yes" if rule.ok else "NO"] for rule in image.rules]
            if image is not verdict:
                say(f"  {printable(', '.join(image.platforms))}")
            for line in table([[printable(cell) for cell in row] for row in rules], indent="  "):
                say(line)


def _rows(verdict: Verdict) -> Iterator[list[str]]:
    """A line for each key and thing that it has signed, in how many formats ever."""
    over = f"the {verdict.kind} of {', '.join(verdict.platforms)}" if verdict.platforms else f"the {verdict.kind}"
    said: dict[tuple[str, str, str], list[Signature | Attestation]] = {}
    for signature in verdict.signatures:
        said.setdefault(("signed", signature.key, over), []).append(signature)
    for item in verdict.attestations:
        short = ", ".join(f"{key} {value}" for key, value in item.says.items())
        what = f"{item.predicate_type}: {short}" if short else item.predicate_type
        said.setdefault(("attested", item.key, what), []).append(item)
    for (verb, key, what), items in said.items():
        formats = ", ".join(sorted({item.format for item in items}))
        names = "".join(
            f" as {name}" for name in dict.fromkeys(getattr(item, "reference", None) for item in items) if name
        )
        times = ", ".join(dict.fromkeys(item.created for item in items if item.created))
        yield [verb, f"by {key[:_SHORT]}", printable(f"{what}{names}"), formats, printable(times)]


def _tell(verdict: Verdict) -> None:
    """What else is attached, and what else there is to know."""
    good: list[Signature | Attestation] = [*verdict.signatures, *verdict.attestations]
    others = [item for item in verdict.refused if "another key" in item.error.found]
    for item in verdict.refused:
        if item not in others:
            message(f"passed over {printable(str(item))}")
    if others:
        message(f"passed over {len(others)} by other keys (--json lists them)")
    if any(item.created for item in good):
        message("note: a time is the signer's word, and that of a bundle alone is not signed")
    for note in verdict.notes:
        message(f"note: {note}")
