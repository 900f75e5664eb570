"""A campaign of pushes to a registry that fails at random, in ways that the seed decides.

    python -m tests.property.campaign [--count 1000] [--seed 1] [--jobs 4] [--crane]

Each case is an image, a site that behaves as GHCR does, and faults. With faults that pass, the push ends with its tags on
the whole image, no finished blob sent twice and, where the registry keeps what came, at most a chunk of a broken one.
Every fourth case has a fault among them that does not pass: the push ends in the error of its kind, in its time, and every
tag names a whole image, the old one or the new. What a registry holds in the end is read back and verified; with
--crane (a peer, see `tests/compat`) by crane too. A case that fails prints its seed: `--seed N --count 1` repeats it.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

from ocibuild import Artifact, LayoutStore, MemoryStore, Platform, build_image, build_index, copy
from ocibuild.cli import main as command_line
from ocibuild.errors import OcibuildError, RegistryError
from ocibuild.layer import File, Layer, build_layer
from ocibuild.layer.stream import drain
from ocibuild.oci import Descriptor, Digest, Manifest, Reference, media_types
from ocibuild.oci.canonical import encode
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from ocibuild.store import walk
from tests.support.ghcr import CHUNK_LIMIT, KINDS, Fault, Plan, Site, ghcr
from tests.support.registry import registry
from tests.support.tools import peer

MIB = 1024 * 1024
EXACT, FLOATING = "1.2.3", "latest"
PATIENCE, SHORT, SLACK = 20.0, 0.3, 10.0
"""Seconds for which failures are borne, where they pass and where not; and how much longer a busy machine may take."""

LASTING = (
    Fault("error_always"),
    Fault("error_always", method="PUT", path="/blobs/"),
    Fault("error_always", method="PUT", path="/manifests/"),
    Fault("error_always", path="^/token"),
    Fault("reset", times=None),
    Fault("reset_upload", times=None),
    Fault("throttled", seconds=3600, times=None),
    Fault("refused_for_ever"),
    Fault("denied"),
    Fault("denied", method="PUT", path="/manifests/"),
    Fault("hostile_realm", where="http://169.254.169.254/token"),
    Fault("hostile_realm", where="file:///etc/passwd"),
    Fault("foreign_upload"),
    Fault("foreign_upload", lies=True),
    Fault("wrong_digest", method="PUT", times=None),
)
"""What no push gets through."""

PASSING_TOKEN = ("error_once", "bad_gateway", "throttled_in_body", "reset")
MOUNTS = ("mount_201", "mount_202", "mount_401", "mount_404")


@dataclass(frozen=True, slots=True)
class Case:
    """What a seed stands for.

    Attributes:
        seed: The seed.
        new, old: The image to push, and the one that has its tags already, if any.
        lasting: The fault that does not pass.
        faults: All faults.
        keeps, token_life, has_referrers: As of the site.
        by_command: Push by the command line.
        is_signed: With a referrer, one blob of which has no bytes.
        is_mounted: From another repository that has the old image.
    """

    seed: int
    new: Artifact
    old: Artifact | None
    lasting: Fault | None
    faults: tuple[Fault, ...]
    keeps: bool
    token_life: float
    has_referrers: bool
    by_command: bool
    is_signed: bool
    is_mounted: bool


@dataclass(slots=True)
class Outcome:
    """What became of a case.

    Attributes:
        ended: How: `pushed`, or the name of the error.
        problem: Why it is not as promised, with all that is needed to see it again; empty when it is.
        fell: How often the kinds of faults fell.
        sent: The bytes of blobs that came.
        again: Those of them that came more than once.
    """

    seed: int
    ended: str = ""
    problem: str = ""
    seconds: float = 0.0
    fell: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    again: int = 0


def make_case(seed: int) -> Case:
    """The case of a seed."""
    source = random.Random(seed)
    lasts = seed % 4 == 0
    into = MemoryStore()
    shared = [_layer(source, into, f"shared{number}") for number in range(source.randint(0, 2))]
    new = _image(source, into, shared, is_signed=source.random() < 0.25)
    has_old = lasts or source.random() < 0.4
    old = _image(source, into, shared) if has_old else None
    largest = max(item.size for item in walk(into, new.root))
    faults = list(Plan.random(seed, source.randint(1, 7), size=largest).faults)
    if largest > CHUNK_LIMIT:  # else most would break before the first chunk is whole
        faults.insert(0, Fault("reset_upload", method="PUT", at=source.randrange(largest)))
        faults.append(Fault("reset_upload", method="PATCH", at=source.randrange(CHUNK_LIMIT)))
    if source.random() < 0.3:
        faults.append(Fault(source.choice(PASSING_TOKEN), path="^/token", skip=source.randrange(2)))
    is_mounted = has_old and source.random() < 0.3
    if is_mounted and source.random() < 0.8:
        faults.append(Fault(source.choice(MOUNTS)))
    lasting = None
    if lasts:
        # How many requests a push has at least, of whatever kind.
        # An upload that comes nearer to its end with every try is no failure: it does here in three tries, or never.
        at = source.choice((0, largest // 3))
        lasting = replace(source.choice(LASTING), skip=source.randrange(2), at=at)
        faults.insert(0, lasting)  # of two that fall at once, the first does
    return Case(
        seed=seed,
        new=new,
        old=old,
        lasting=lasting,
        faults=tuple(faults),
        keeps=source.random() < 0.7,
        token_life=source.choice((float("inf"), float("inf"), 1.0)),
        has_referrers=source.random() < 0.3,
        by_command=source.random() < 0.3,
        is_signed=bool(into.referrers(new.root)),
        is_mounted=is_mounted,
    )


def _layer(source: random.Random, into: MemoryStore, name: str) -> Layer:
    chance = source.random()
    sizes = (4 * MIB, 10 * MIB) if chance < 0.07 else (0, 3000) if chance < 0.6 else (3000, 200_000)
    content = source.randbytes(source.randint(*sizes))
    return build_layer([File(path=f"lib/{name}.so", content=content)], into=into)  # crane takes every layer for gzip


def _image(source: random.Random, into: MemoryStore, shared: list[Layer], *, is_signed: bool = False) -> Artifact:
    names = source.choice((["amd64"], ["arm64"], ["amd64", "arm64"]))
    images = []
    for name in names:
        own = [_layer(source, into, f"own{number}") for number in range(source.randint(0 if shared else 1, 2))]
        labels = {"seed": str(source.random())}
        images.append(build_image([*shared, *own], platform=Platform.parse(name), labels=labels, into=into))
    made = images[0] if len(names) == 1 and source.random() < 0.5 else build_index(images, into=into)
    if is_signed:
        config = Descriptor.of(b"{}", media_types.EMPTY)
        nothing = Descriptor.of(b"", "application/vnd.example.signature")
        manifest = Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            config=config,
            layers=(nothing,),
            artifact_type=nothing.media_type,
            subject=made.root.bare,
        )
        raw = encode(manifest)
        for descriptor, data in (
            (config, b"{}"),
            (nothing, b""),
            (Descriptor.of(raw, media_types.IMAGE_MANIFEST), raw),
        ):
            into.push(descriptor, io.BytesIO(data))
    return made


def run_case(case: Case, upstream: str) -> Outcome:
    """Push, and hold what came of it against what is promised."""
    outcome = Outcome(case.seed)
    plan = Plan()
    began = time.monotonic()
    try:
        with ghcr(
            upstream, keeps=case.keeps, token_life=case.token_life, has_referrers=case.has_referrers, faults=plan
        ) as site:
            _run(case, site, outcome)
    except Exception:
        fell = [f"{fault.kind} on request {number}" for fault, number in plan.fallen[:30]]
        outcome.problem = "\n".join(
            [
                f"SEED {case.seed} (python -m tests.property.campaign --seed {case.seed} --count 1)",
                f"  {replace(case, faults=())}",
                *(f"  {fault}" for fault in case.faults),
                f"  fell: {fell}",
                traceback.format_exc(),
            ]
        )
    outcome.seconds = time.monotonic() - began
    outcome.fell.update(fault.kind for fault, _ in plan.fallen)
    return outcome


def _run(case: Case, site: Site, outcome: Outcome) -> None:
    name, other = f"campaign/s{case.seed}", f"campaign/s{case.seed}-other"
    for repository in (name, other) if case.is_mounted else (name,):
        if case.old is not None:
            with _store(site, repository) as target:
                copy(case.old, target, tags=[EXACT, FLOATING])
    site.plan.add(*case.faults)
    before, began = len(site.record.requests), time.monotonic()
    error, said = (_push_by_command if case.by_command else _push)(case, site, name, other)
    seconds = time.monotonic() - began
    site.plan.clear()
    lasts = case.lasting is not None and any(fault is case.lasting for fault, _ in site.plan.fallen)
    outcome.ended = error.__name__ if error else "pushed"

    # What came of it.
    if lasts:
        assert error is not None, "a push in spite of what does not pass"
    if case.lasting is not None and error is not None:
        # A busy machine may use up the short patience before it falls.
        wanted = KINDS[case.lasting.kind].error if lasts else None
        assert issubclass(error, wanted or RegistryError), f"{error}, not {wanted}\n{said}"
        assert seconds < SLACK * (SHORT + 1), f"{seconds} seconds"
    else:
        assert error is None, said
    put = [item.name for item in site.record.requests[before:] if item.method == "PUT" and item.done and item.name]
    tags = {tag: site.named(name, tag) for tag in (EXACT, FLOATING)}
    for tag, digest in tags.items():
        old = str(case.old.digest) if case.old else None
        assert digest == (str(case.new.digest) if tag in put or error is None else old), (tag, digest)
    if error is None or tags[FLOATING] == case.new.digest:
        assert tags[EXACT] == case.new.digest, "the floating tag before the exact one"
    _check_content(case, site, name)
    _check_order(case, site, name, before)
    _check_bytes(case, site, name, before, outcome)

    # Who learnt what.
    assert site.record.leaks(site.secrets) == []
    assert [secret for secret in site.secrets if secret in said] == [], "a secret was printed"


def _store(site: Site, name: str, *, patience: float = PATIENCE, mount_from: tuple[str, ...] = ()) -> RegistryStore:
    credential = Credential(username=site.user, password=site.secret)
    client = RegistryClient(site.address, credential=credential, patience=patience)
    return RegistryStore(Reference.parse(f"{site.address}/{name}"), client=client, mount_from=mount_from)


def _push(case: Case, site: Site, name: str, other: str) -> tuple[type[OcibuildError] | None, str]:
    patience = SHORT if case.lasting else PATIENCE
    with _store(site, name, patience=patience, mount_from=(other,) if case.is_mounted else ()) as target:
        try:
            copy(case.new, target, tags=[EXACT, FLOATING], referrers=case.is_signed)
        except OcibuildError as error:
            return type(error), "".join(traceback.format_exception(error)) + repr(error) + str(error.to_dict())
    return None, ""


def _push_by_command(case: Case, site: Site, name: str, other: str) -> tuple[type[OcibuildError] | None, str]:
    """The same by the command line; the error that it printed."""
    defaults = RegistryClient.__init__.__kwdefaults__
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        with LayoutStore(f"{folder}/image") as layout:
            copy(case.new, layout, tags=["x"], referrers=case.is_signed)
        auth = base64.b64encode(f"{site.user}:{site.secret}".encode()).decode()
        Path(folder, "config.json").write_text(json.dumps({"auths": {site.address: {"auth": auth}}}))
        stack.enter_context(mock.patch.dict(os.environ, {"DOCKER_CONFIG": folder}))
        stack.enter_context(mock.patch.dict(defaults, {"patience": SHORT if case.lasting else PATIENCE}))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        flags = ["--referrers"] if case.is_signed else []
        flags += ["--mount-from", other] if case.is_mounted else []
        tags = ["--tag", FLOATING, "--tag", EXACT]  # it puts the exact one first by itself
        place = f"{site.address}/{name}"
        code = command_line(["push", f"oci:{folder}/image:x", place, *tags, "--replace", "--json", *flags])
    said = out.getvalue() + err.getvalue()
    fields = json.loads(out.getvalue())
    if code == 0:
        assert fields["digest"] == case.new.digest
        return None, said
    error = _error_class(fields["error"])
    assert error.exit_code == code, said
    return error, said


def _error_class(name: str) -> type[OcibuildError]:
    todo: list[type[OcibuildError]] = [OcibuildError]
    for kind in todo:
        todo.extend(kind.__subclasses__())
    return next(kind for kind in todo if kind.__name__ == name)


def _check_content(case: Case, site: Site, name: str) -> None:
    """Every tag of the repository names something whole: all of it is read, and has its digests."""
    host, source = site.upstream, _source(case)
    with RegistryStore(Reference.parse(f"{host}/{name}"), client=RegistryClient(host)) as store:
        roots = list(store.tags().values())
        if case.is_signed and case.new.digest in {item.digest for item in roots}:
            with _store(site, name) as target:
                roots += target.referrers(case.new.root)
            assert {item.digest for item in source.referrers(case.new.root)} <= {item.digest for item in roots}
        for item in {item.digest: item for root in roots for item in walk(store, root)}.values():
            with store.fetch(item) as content:
                drain(content)


def _source(case: Case) -> MemoryStore:
    assert isinstance(case.new.source, MemoryStore)
    return case.new.source


def _check_order(case: Case, site: Site, name: str, before: int) -> None:
    """Nothing is named before it is there: blobs, manifests, the index, the tags."""
    at: dict[str, int] = {}
    done = sorted((item for item in site.record.requests[before:] if item.done), key=lambda item: item.done)
    for number, item in enumerate(done):
        if item.repository == name:
            at.setdefault(item.digest, number)
            at.setdefault(item.name, number)
    source = _source(case)
    for root in (case.new.root, *source.referrers(case.new.root)):
        reached = list(walk(source, root))
        for parent in reached:
            if parent.media_type in media_types.MANIFESTS | media_types.INDEXES and parent.digest in at:
                for child in walk(source, parent):
                    assert at.get(child.digest, -1) <= at[parent.digest], f"{parent.digest} before {child.digest}"
    assert at.get(EXACT, -1) <= at.get(FLOATING, len(done))


def _check_bytes(case: Case, site: Site, name: str, before: int, outcome: Outcome) -> None:
    """No finished blob came again; of a broken one a chunk at most, where what came was kept."""
    record = site.record
    # The registry itself said that these are others.
    doubted = {record.requests[number - 1].digest for fault, number in site.plan.fallen if fault.kind == "wrong_size"}
    again = {digest for repository, digest in record.completed_again() if repository == name}
    assert again <= doubted, f"finished blobs sent again: {again - doubted}"
    outcome.sent = sum(item.body_size for item in record.requests[before:] if item.is_upload_body)
    for digest in {item.digest for item in record.requests[before:] if item.is_upload_body and item.digest}:
        bodies = [item for item in record.bodies(Digest(digest)) if item.repository == name and item.number > before]
        size = _size(case, digest)
        extra = max(0, sum(item.body_size for item in bodies) - size)
        outcome.again += extra
        # What came, and was refused or thrown away, has to come again.
        lost = sum(item.body_size - item.kept for item in bodies)
        if case.keeps and case.lasting is None and digest not in doubted:
            assert extra - lost <= CHUNK_LIMIT, f"{extra} bytes of {digest} sent again, {lost} of them lost"


def _size(case: Case, digest: str) -> int:
    source = _source(case)
    roots = [case.new.root, *source.referrers(case.new.root)]
    return next(item.size for root in roots for item in walk(source, root) if item.digest == digest)


@contextlib.contextmanager
def short_waits() -> Iterator[None]:
    """The waits are for busy registries; here there is none."""
    with (
        mock.patch("ocibuild.registry.retry._FIRST_WAIT", 0.02),
        mock.patch("ocibuild.registry.retry._LONGEST_WAIT", 0.2),
    ):
        yield


def run_cases(seeds: Sequence[int], upstream: str) -> list[Outcome]:
    """Run the cases of seeds, one after the other."""
    with short_waits():
        return [run_case(make_case(seed), upstream) for seed in seeds]


def campaign(count: int, seed: int, upstream: str, *, jobs: int = 1) -> list[Outcome]:
    """Run cases against a registry; what became of them."""
    seeds = range(seed, seed + count)
    if jobs == 1:
        return run_cases(seeds, upstream)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        portions = [seeds[first : first + 5] for first in range(0, count, 5)]
        return [item for found in pool.map(run_cases, portions, [upstream] * len(portions)) for item in found]


def tags_of(upstream: str, seeds: Sequence[int]) -> list[str]:
    """All tags that name images of cases; the tags that list referrers are left out."""
    found = []
    for seed in seeds:
        for name in (f"campaign/s{seed}", f"campaign/s{seed}-other"):
            with RegistryStore(Reference.parse(f"{upstream}/{name}"), client=RegistryClient(upstream)) as store:
                found += [f"{store}:{tag}" for tag in store.tag_names() if not tag.startswith("sha256-")]
    return found


def refused_by_crane(crane: Sequence[str], names: Sequence[str]) -> list[str]:
    """The images that crane finds fault with, and what it says; the peers are started once."""
    loop = 'for name; do said=$(crane validate --remote "$name" 2>&1) || echo "$name:" $said; echo .; done'
    command = [*crane[:-1], "sh", "-c", loop, "sh", *names]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/tmp").stdout.splitlines()
    assert lines.count(".") == len(names)
    return [line for line in lines if line != "."]


def report(outcomes: Sequence[Outcome]) -> str:
    """A table of what happened."""
    ended = Counter(item.ended for item in outcomes)
    fell: Counter[str] = Counter()
    for item in outcomes:
        fell.update(item.fell)
    slowest = max(outcomes, key=lambda item: item.seconds)
    lines = [f"{len(outcomes):>8}  pushes", *(f"{times:>8}    {how}" for how, times in ended.most_common())]
    lines += [f"{fell.total():>8}  faults", *(f"{times:>8}    {kind}" for kind, times in fell.most_common())]
    sent, again = sum(item.sent for item in outcomes), sum(item.again for item in outcomes)
    lines += [f"{sent / 1e6:>8.1f}  MB sent", f"{again / 1e6:>8.1f}  MB of them again"]
    lines += [f"{slowest.seconds:>8.1f}  s the slowest, seed {slowest.seed}"]
    return "\n".join([*lines, f"{sum(bool(item.problem) for item in outcomes):>8}  not as promised"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--crane", action="store_true", help="have crane validate what was pushed")
    options = parser.parse_args()
    crane = peer("crane") if options.crane else []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, registry(Path(folder)) as upstream:
        outcomes = campaign(options.count, options.seed, upstream, jobs=min(options.jobs, options.count))
        names = tags_of(upstream, [item.seed for item in outcomes]) if crane else []
        refused = refused_by_crane(crane, names) if crane else []
    problems = [item.problem for item in outcomes if item.problem]
    print("\n".join([*problems, *refused, report(outcomes)]))
    if crane:
        print(f"{len(names):>8}  tags validated by crane\n{len(refused):>8}  refused by it")
    print(f"{time.monotonic() - began:>8.1f}  s in all")
    return 1 if problems or refused else 0


if __name__ == "__main__":
    sys.exit(main())
