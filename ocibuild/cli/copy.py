"""Copy an image from one place to another; its digest stays.

ocibuild copy oci:dist/pg_trickle oci-archive:pg_trickle.tar
ocibuild copy oci:dist/pg_trickle:0.2.0 docker-archive:amd64.tar:pg_trickle-ext:0.2.0 --platform linux/amd64
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import msgspec

from ocibuild.cli.access import add_registry_options, registry_options, tell_of_referrers
from ocibuild.cli.progress import blob_progress
from ocibuild.cli.render import message, print_json
from ocibuild.errors import ContentError, NotFoundError, UsageError
from ocibuild.locations import Location, docker_archive, open_artifact, open_store, parse_location
from ocibuild.oci import Digest, Platform, Reference
from ocibuild.store import Artifact, LocalStore, RemoteStore, copy, walk
from ocibuild.store.attached import is_attached_tag


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument(
        "source", metavar="SRC", help="the image: oci:DIR[:TAG], oci-archive:FILE[:TAG], docker://REF, @sha256:..."
    )
    parser.add_argument("destination", metavar="DST", help="where to, or docker-archive:FILE[:NAME:TAG]")
    parser.add_argument("--platform", metavar="P", help="only this platform's image")
    parser.add_argument(
        "--referrers", action="store_true", help="also what is attached to it: signatures, SBOMs, attestations"
    )
    add_registry_options(parser)


def run(options: argparse.Namespace) -> int:
    """Copy, and say what and where."""
    origin, place = parse_location(options.source), parse_location(options.destination)
    access = registry_options(options)
    artifact = open_artifact(origin, registry=access)
    platform = Platform.parse(options.platform) if options.platform else None
    if place.transport == "docker-archive":
        if options.referrers:
            raise UsageError("--referrers", wanted="nothing: a Docker archive holds no referrers", where=place)
        return _show(options, docker_archive(place).write(artifact, platform=platform), [])
    name = _tag(place)
    if name and Digest.is_valid(name):
        raise UsageError("a digest in the destination", wanted="a tag", where=place)
    tags = [name] if name else _names(artifact, origin)
    total = sum(item.size for item in walk(artifact.source, artifact.root)) if sys.stderr.isatty() else 0
    with open_store(
        place, registry=msgspec.structs.replace(access, mount_from=_own_repository(origin, place))
    ) as store:
        is_remote = any(isinstance(end, RemoteStore) for end in (store, artifact.source))
        before = _before(store, tags)
        outcome = getattr(store, "outcome", None)
        with blob_progress("copying", total, has_lines=is_remote, outcome=outcome) as shown:
            copied = copy(
                artifact,
                store,
                tags=tags,
                platform=platform,
                referrers=options.referrers,
                on_progress=shown.advance,
                on_done=shown.done,
            )
    for tag, digest in before.items():
        if digest != copied.digest:
            message(f"{tag} named {digest} before")
    if not options.referrers:
        tell_of_referrers(artifact)
    return _show(options, copied.digest, tags)


def _before(store: LocalStore, tags: list[str]) -> dict[str, Digest]:
    """What the tags name at the destination, as far as that can be told: they move without a trace."""
    found = store.find(tags) if isinstance(store, RemoteStore) else {}
    for tag in tags if not isinstance(store, RemoteStore) else ():
        with contextlib.suppress(NotFoundError, ContentError):
            found[tag] = store.resolve(tag).digest
    return found


def _own_repository(origin: Location, place: Location) -> tuple[str, ...]:
    """The repository that has the blobs, where it is one of the registry that is copied to."""
    if origin.transport != "docker" or place.transport != "docker":
        return ()
    source, destination = Reference.parse(origin.path), Reference.parse(place.path)
    is_other = source.registry == destination.registry and source.repository != destination.repository
    return (source.repository,) if is_other else ()


def _tag(place: Location) -> str | None:
    """The tag or digest that a location names."""
    if place.transport != "docker":
        return place.name
    reference = Reference.parse(place.path)
    return str(reference.digest) if reference.digest else reference.tag


def _names(artifact: Artifact, origin: Location) -> list[str]:
    """The tag that was named, else those the image has where it comes from."""
    if (name := _tag(origin)) and not Digest.is_valid(name):
        return [name]
    if origin.transport == "docker":
        return ["latest"]
    source = artifact.source
    found = source.tags() if hasattr(source, "tags") else {}
    # A tag of what is attached to an image would put this one in its place there.
    names = [name for name, item in found.items() if item.digest == artifact.digest and not is_attached_tag(name)]
    if not names:
        raise UsageError("an image without a tag", wanted="a tag at the destination", where=artifact.digest)
    return names


def _show(options: argparse.Namespace, digest: str, tags: list[str]) -> int:
    if options.json:
        print_json({"digest": digest, "destination": options.destination, "tags": tags})
    else:
        named = f" as {', '.join(tags)}" if tags and not options.destination.endswith(f":{tags[0]}") else ""
        print(f"{digest} copied to {options.destination}{named}")
    return 0
