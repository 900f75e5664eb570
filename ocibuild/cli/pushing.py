"""What `ocibuild push` does once it is connected."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from ocibuild import postgres
from ocibuild.cli.access import registry_options, tell_of_referrers
from ocibuild.cli.progress import blob_progress
from ocibuild.cli.render import human_size, message, print_json, printable
from ocibuild.describe import describe
from ocibuild.errors import OcibuildError, UsageError
from ocibuild.locations import RegistryOptions, open_artifact, open_registry
from ocibuild.oci import Descriptor, Digest, Platform, Reference
from ocibuild.oci.annotations import CREATED, SOURCE, VERSION
from ocibuild.postgres.keys import OPERAND_OS, PG_MAJOR
from ocibuild.postgres.tag import is_floating
from ocibuild.registry.early import Early
from ocibuild.store import Artifact, copy, find_platform, walk
from ocibuild.store.graph import read_document

if TYPE_CHECKING:
    from ocibuild.registry import RegistryStore

__all__ = ["push"]

_VERSION = re.compile(r"(?<![0-9.])[0-9]+\.[0-9]+\.[0-9]+(?![0-9.])")


def push(options: argparse.Namespace, early: Early) -> int:
    """Push, and say what was sent; what was asked early need not be asked again."""
    reference = _destination(options.reference)
    access = msgspec.structs.replace(registry_options(options), mount_from=tuple(options.mount_from))
    artifact = open_artifact(options.source)
    if options.platform:
        artifact = find_platform(artifact, Platform.parse(options.platform))
    annotations = dict(describe(artifact, files=False, referrers=False).annotations)
    tags, exact = _tags(options, reference, annotations)
    early.ask(reference.repository, [*tags, artifact.digest])
    if reference.registry == "ghcr.io" and SOURCE not in annotations:
        message("org.opencontainers.image.source is not set: the package will not be linked to its repository")
    blobs = list(walk(artifact.source, artifact.root))
    total = sum(item.size for item in blobs)
    moved: list[str] = []
    answers = early.answers()
    if not options.referrers and all(tag in answers and answers[tag].digest == artifact.digest for tag in tags):
        _show(options, reference, artifact, tags, blobs, {})
        return 0
    with open_registry(reference, access) as store:
        store.learn(answers)
        named = store.find([*tags, artifact.digest])
        if not options.replace:
            _check_exact(store, artifact, {tag: named[tag] for tag in exact if tag in named}, annotations)
        is_first = reference.registry == "ghcr.io" and not named and not store.tag_names()
        with (
            _telling(moved),
            blob_progress("pushing", total, has_lines=not options.json, outcome=store.outcome) as shown,
        ):
            copy(
                artifact,
                store,
                tags=[tag for tag in tags if named.get(tag) != artifact.digest],
                referrers=options.referrers,
                on_progress=shown.advance,
                on_done=shown.done,
                on_tag=moved.append,
            )
    if is_first:
        _warn_if_private(reference, access, artifact)
    if not options.referrers:
        tell_of_referrers(artifact)
    _show(options, reference, artifact, tags, blobs, store.outcome)
    return 0


@contextmanager
def _telling(moved: list[str]) -> Iterator[None]:
    """An error also says which tags moved before it."""
    try:
        yield
    except OcibuildError as error:
        error.hint = f"{error.hint} {_moved(moved)}".strip()
        raise
    except KeyboardInterrupt:
        message(_moved(moved))
        raise


def _moved(tags: list[str]) -> str:
    return f"Tags that moved: {', '.join(tags)}." if tags else "No tag moved."


def _warn_if_private(reference: Reference, access: RegistryOptions, artifact: Artifact) -> None:
    """A new package of GHCR is private, and a cluster without credentials would not get it."""
    with open_registry(reference, msgspec.structs.replace(access, is_anonymous=True)) as store:
        try:
            store.resolve(artifact.digest)
        except OcibuildError:
            name = f"{reference.registry}/{reference.repository}"
            message(f"{printable(name)} cannot be pulled without credentials: new packages are private.")
            message("Make it public in the package's settings on GitHub, or give the cluster an imagePullSecret.")


def _destination(text: str) -> Reference:
    """What a push goes to: a reference, and nothing local."""
    if text.startswith((".", "/", "oci:", "oci-archive:", "docker-archive:")):
        hint = "To a folder or file: ocibuild copy."
        raise UsageError(repr(text), wanted="a reference that starts with its registry's host", hint=hint)
    reference = Reference.parse(text.removeprefix("docker://"))
    if reference.digest:
        raise UsageError("a digest in the destination", wanted="a tag", where=text)
    return reference


def _tags(
    options: argparse.Namespace, reference: Reference, annotations: dict[str, str]
) -> tuple[list[str], list[str]]:
    """The tags, exact versions first, and those that are of an exact version."""
    major = annotations.get(PG_MAJOR, "")
    fields = postgres.tag_fields(
        annotations.get(VERSION), int(major) if major.isdigit() else None, distro=annotations.get(OPERAND_OS)
    )
    if created := annotations.get(CREATED):
        fields["timestamp"] = created[:16].translate({ord(character): None for character in "-:T"})
    templates = [*([reference.tag] if reference.tag else []), *options.tag]
    if not templates:
        templates = ["{version}" if "version" in fields else "latest"]
    # A reader who finds the floating tag moved must find the exact one too.
    found, held = postgres.tags(sorted(templates, key=is_floating), fields, floating=options.floating)
    if held:
        message(f"{fields['version']} is a pre-release: {', '.join(held)} not moved (--floating moves them)")
    if not found:
        raise UsageError("no tag is left", wanted="one that names the pre-release", hint="Add --tag '{version}'.")
    exact = [tag for tag in found if _is_exact(tag, fields)]
    return [*exact, *(tag for tag in found if tag not in exact)], exact


def _is_exact(tag: str, fields: dict[str, str]) -> bool:
    """Whether a tag holds the whole version, of this image or of another, or the time: it must not come to name another image."""
    if _VERSION.search(tag):
        return True
    values = [value for value in (fields.get("version", ""), fields.get("timestamp", "")) if len(value) > 1]
    parts = (re.escape(postgres.expand_tag("{it}", {"it": value})) for value in values)
    return any(re.search(rf"(?<![0-9.]){part}(?![0-9.])", tag) for part in parts)


def _check_exact(
    store: RegistryStore, artifact: Artifact, named: dict[str, Digest], annotations: dict[str, str]
) -> None:
    """Refuse to let the tag of an exact version name another image than it does."""
    for tag, digest in named.items():
        if digest == artifact.digest:
            continue
        major, theirs = annotations.get(PG_MAJOR), _major(store, tag)
        is_other = major is not None and theirs is not None and major != theirs
        raise UsageError(
            f"the tag {tag} names {digest}" + (f", which is for PostgreSQL {theirs}" if is_other else ""),
            wanted=f"a tag of its own for PostgreSQL {major}" if is_other else f"a new tag, or {artifact.digest}",
            where=store,
            hint="Put the major into the tag: {version}-pg{pg}."
            if is_other
            else "Raise the version, or say --replace.",
        )


def _major(store: RegistryStore, tag: str) -> str | None:
    """The PostgreSQL major that an image in a registry is labelled with."""
    with contextlib.suppress(OcibuildError):
        document = read_document(store, store.resolve(tag))
        return (document.annotations or {}).get(PG_MAJOR) if document is not None else None
    return None


def _show(
    options: argparse.Namespace,
    reference: Reference,
    artifact: Artifact,
    tags: list[str],
    blobs: list[Descriptor],
    how: Mapping[Digest, str],
) -> None:
    name = f"{reference.registry}/{reference.repository}"
    groups: dict[str, list[Descriptor]] = {"sent": [], "mounted": [], "there": []}
    for item in blobs:
        groups[how.get(item.digest, "there")].append(item)
    own = {item.digest for item in blobs}
    attached = Counter(kind for digest, kind in how.items() if digest not in own)
    if options.json:
        fields: dict[str, Any] = {kind: [item.digest for item in items] for kind, items in groups.items()}
        print_json({"digest": artifact.digest, "destination": name, "tags": tags, **fields, "attached": attached})
        return
    for tag in tags:
        print(f"{printable(name)}:{tag}")
    print(f"{printable(name)}@{artifact.digest}")
    told = [
        f"{len(items)} {kind} ({human_size(sum(item.size for item in items))})"
        for kind, items in groups.items()
        if items
    ]
    told += [f"{count} attached {kind}" for kind, count in sorted(attached.items())]
    print(", ".join(told), file=sys.stderr)
