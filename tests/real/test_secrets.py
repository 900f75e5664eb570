"""No secret in what is printed, logged, raised or shown by a traceback, whatever goes wrong; and none at another origin.

Promised are the texts: of output, of log records at every level, of errors with all that they hold and were caused by, and
of tracebacks as Python prints them. A traceback that shows local variables shows requests' own, headers among them: that
cannot be promised, and ocibuild prints none.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest
import requests

from ocibuild import Artifact, LayoutStore, MemoryStore, cli, copy
from ocibuild.errors import OcibuildError
from ocibuild.oci import Reference
from ocibuild.registry import Credential, RegistryClient, RegistryStore
from tests.conftest import Result
from tests.real.test_ghcr import image, lead
from tests.support.certificates import Certificates, make_certificates
from tests.support.ghcr import KINDS, NAMES, Fault, Plan, Site, ghcr
from tests.support.tools import ROOT

Cli = Callable[..., Result]

WAYS = ("configuration", "standard input", "environment", "helper")
"""Where a credential comes from; the kinds of faults take them in turn."""

PLANTED = "p1anted-s3cret"
"""In the query of a URL that a fault leads to, and where nobody listens."""

_numbers = count()


@dataclass
class Said:
    """All that a person, a log or a report of errors could read."""

    texts: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def add_error(self, error: BaseException) -> None:
        self.errors.append(error)
        self.texts += traceback.format_exception(error)
        chain = [error]
        for item in chain:  # also what `from None` keeps out of a traceback
            chain += [other for other in (item.__cause__, item.__context__) if other and other not in chain]
            self.texts += [str(item), repr(item), repr(item.args), repr(vars(item))]
            self.texts += getattr(item, "__notes__", [])
            if isinstance(item, OcibuildError):
                self.texts.append(json.dumps(item.to_dict()))
        traceback.clear_frames(error.__traceback__)

    def shown(self, secrets: list[str]) -> list[str]:
        """The texts with a secret in them."""
        return [text for text in self.texts if any(secret in text for secret in secrets)]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"), names=NAMES)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    """Hears everything: every logger, and the errors that the command line reports."""
    caplog.set_level(logging.DEBUG)
    found, report = Said(), cli._report

    def heard(error: OcibuildError, *arguments: object) -> int:
        found.add_error(error)
        return report(error, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cli, "_report", heard)
    yield found
    assert found.texts


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No credentials but those of the test, and no patience."""
    folder = tmp_path / "home"
    folder.mkdir()
    for variable in ("GITHUB_TOKEN", "GITHUB_ACTOR", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.setenv("OCIBUILD_DEBUG", "1")
    monkeypatch.setattr("ocibuild.registry.retry._FIRST_WAIT", 0.02)
    defaults = RegistryClient.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "patience", 0.2)
    return folder


@dataclass(frozen=True)
class Stage:
    """A running site, and how it is reached with a credential of one kind."""

    site: Site
    name: str
    flags: tuple[str, ...]
    stdin: str
    run: Callable[..., Result]
    said: Said
    caplog: pytest.LogCaptureFixture

    def push_unharmed(self) -> Artifact:
        """An image, tag 1, by the library and without a fault."""
        with self.store() as target:
            return copy(image(), target, tags=["1"])

    def store(self) -> RegistryStore:
        credential = Credential(username=self.site.user, password=self.site.secret)
        address = self.site.address
        ca_file = self.flags[-1] if "--ca-file" in self.flags else None
        client = RegistryClient(address, credential=credential, ca_file=ca_file)
        return RegistryStore(Reference.parse(self.name), client=client)

    def check(self) -> None:
        """Nothing of it anywhere."""
        site, said = self.site, self.said
        pairs = [f"{user}:{site.secret}".encode() for user in ("unset", site.user)]
        secrets = [*site.secrets, PLANTED, *(base64.b64encode(pair).decode() for pair in pairs)]
        for record in self.caplog.get_records("call"):
            said.texts += [record.getMessage(), repr(record.args), record.exc_text or ""]
        assert said.shown(secrets) == []
        assert site.record.leaks(secrets) == []


Staged = Callable[[str], Stage]


@pytest.fixture
def stage(
    cli: Cli,
    said: Said,
    caplog: pytest.LogCaptureFixture,
    upstream: str,
    tls: Certificates,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Staged]:
    """A site whose credential comes by one of `WAYS`. What is said there is held against its secrets in the end."""

    def run(*arguments: str | Path, stdin: str = "") -> Result:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        result = cli(*arguments)
        said.texts += [result.out, result.err]
        return result

    with ExitStack() as stack:

        def start(way: str) -> Stage:
            is_secure = way == "environment"
            site = stack.enter_context(ghcr(upstream, tls=tls if is_secure else None, faults=Plan()))
            flags: tuple[str, ...] = ("--username", site.user, "--password-stdin") if way == "standard input" else ()
            if is_secure:  # which counts for ghcr.io only
                lead(monkeypatch, site.names)
                monkeypatch.setenv("GITHUB_TOKEN", site.secret)
                flags = ("--ca-file", str(tls.authority))
            if way == "configuration":
                auth = base64.b64encode(f"{site.user}:{site.secret}".encode()).decode()
                (home / "config.json").write_text(json.dumps({"auths": {site.address: {"auth": auth}}}))
            if way == "helper":
                (home / "config.json").write_text(json.dumps({"credHelpers": {site.address: "grove"}}))
                helper = home / "docker-credential-grove"
                answer = json.dumps({"Username": site.user, "Secret": site.secret})
                helper.write_text(f"#!/bin/sh\necho '{answer}'; echo '{answer}' >&2\n")
                helper.chmod(0o700)
                monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
            name = f"{site.address}/secrets/r{next(_numbers)}"
            made = Stage(site, name, flags, site.secret if way == "standard input" else "", run, said, caplog)
            stages.append(made)
            return made

        stages: list[Stage] = []
        yield start
    for item in stages:
        item.check()


def harm(kind: str, site: Site) -> list[Fault]:
    """Faults of a kind: as it is, and as it can be worse."""
    realm = f"https://10.0.0.1/token?secret={PLANTED}" if site.scheme == "https" else f"ftp://x/?secret={PLANTED}"
    nowhere = f"{site.scheme}://127.0.0.1:1/x?sig={PLANTED}" if site.scheme == "http" else f"http://x/?sig={PLANTED}"
    found = [Fault(kind, seconds=3600 if kind == "throttled" else 0.05, at=20)]
    if kind == "hostile_realm":
        found = [Fault(kind, where=realm)]
    if kind in ("foreign_upload", "foreign_blob", "foreign_link"):
        found += [Fault(kind, lies=True), Fault(kind, where=nowhere)]
    return found


PUSHES = sorted(kind for kind, what in KINDS.items() if "push" in what.ways)
PULLS = sorted(kind for kind, what in KINDS.items() if "pull" in what.ways)


@pytest.mark.parametrize("kind", PUSHES)
def test_push(stage: Staged, hello: Path, kind: str) -> None:
    made = stage(WAYS[PUSHES.index(kind) % len(WAYS)])
    mounts = ("--mount-from", made.name.partition("/")[2])
    if "mount" in kind or kind == "wrong_size":
        assert made.run("push", f"oci:{hello}", made.name, *made.flags, stdin=made.stdin).code == 0
    for number, fault in enumerate(harm(kind, made.site)):
        before = made.site.plan.count(kind)
        made.site.plan.add(fault)
        for flags in (("--replace",), ("--json", "--replace")):
            # New manifests each time; the blobs of a doubted size are those that are there.
            target = made.name if kind == "wrong_size" else f"{made.name}-{number}{len(flags)}"
            tag = f"t{len(flags)}" if kind == "wrong_size" else "1"
            code = made.run(
                "push", f"oci:{hello}", target, "--tag", tag, *flags, *mounts, *made.flags, stdin=made.stdin
            ).code
            assert code in (0, 5, 8, 9)
            if KINDS[kind].recoverable and kind != "throttled":
                assert code == 0
        made.site.plan.clear()
        assert made.site.plan.count(kind) > before or kind == "wrong_size"


@pytest.mark.parametrize("kind", PULLS)
def test_pull(stage: Staged, tmp_path: Path, kind: str) -> None:
    made = stage(WAYS[PULLS.index(kind) % len(WAYS)])
    made.push_unharmed()
    commands = {
        "inspect": [f"{made.name}:1"],
        "copy": [f"{made.name}:1", f"oci:{tmp_path}/copied"],
        "unpack": [f"{made.name}:1", f"{tmp_path}/unpacked", "--platform", "linux/amd64"],
    }
    faults = harm(kind, made.site)
    for number, (command, arguments) in enumerate([*commands.items(), *list(commands.items())[:2]]):
        fault = faults[number % len(faults)]
        made.site.plan.add(fault)
        json_flag = ["--json"] if number % 2 else []
        code = made.run(command, *arguments, *json_flag, *made.flags, stdin=made.stdin).code
        assert code in (0, 5, 8, 9)
        made.site.plan.clear()
    assert made.site.plan.count(kind) > 1


@pytest.mark.parametrize("kind", ["tags_loop", "referrers_loop", "foreign_link"])
def test_lists(stage: Staged, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocibuild.registry.store._PAGES", 20)
    made = stage("configuration")
    made.site.has_referrers = True
    artifact = made.push_unharmed()
    for fault in harm(kind, made.site):
        made.site.plan.add(fault)
        with made.store() as source:
            for ask in (source.tag_names, lambda: source.referrers(artifact.root)):
                try:
                    ask()
                except OcibuildError as error:
                    made.said.add_error(error)
        made.run("inspect", f"{made.name}:1", *made.flags)
        made.site.plan.clear()
    assert made.said.errors


@pytest.mark.parametrize("way", WAYS)
def test_a_secret_that_is_wrong_or_has_no_right(stage: Staged, hello: Path, way: str) -> None:
    made = stage(way)
    repository = made.name.partition("/")[2]
    made.site.tokens.read_only.add(repository)
    for flags in ((), ("--json",)):
        assert made.run("push", f"oci:{hello}", made.name, *made.flags, *flags, stdin=made.stdin).code == 9
    known, made.site.tokens.secret = made.site.secret, "ghs_another"
    assert made.run("inspect", f"{made.name}:1", *made.flags, stdin=made.stdin).code == 9
    assert made.said.shown([known]) == []


def test_login(stage: Staged, home: Path) -> None:
    made = stage("standard input")
    address = made.site.address
    for fault in (Fault("error_always", path="^/token"), Fault("error_always"), Fault("refused_for_ever")):
        made.site.plan.add(fault)
        made.run("login", address, *made.flags, stdin=made.stdin)
        made.site.plan.clear()
    for flags in ((), ("--json",)):
        made.run("login", address, *made.flags, *flags, stdin=made.stdin)
    # It is where it belongs.
    known = base64.b64encode(f"{made.site.user}:{made.site.secret}".encode()).decode()
    assert known in (home / "config.json").read_text()


def test_an_identity_token(stage: Staged, home: Path) -> None:
    """A token service that does not take it, and one that is not there."""
    made = stage("configuration")
    auths = {made.site.address: {"auth": "", "identitytoken": PLANTED}}
    (home / "config.json").write_text(json.dumps({"auths": auths}))
    for fault in (None, Fault("reset", path="^/token", times=None), Fault("bad_gateway", path="^/token", times=None)):
        if fault is not None:
            made.site.plan.add(fault)
        for flags in ((), ("--json",)):
            assert made.run("inspect", f"{made.name}:1", *flags).code == 9
        made.site.plan.clear()
    assert {item.method for item in made.site.record.at("ghcr", part="/token")} == {"POST"}


class UnforeseenError(Exception):
    """What nobody has thought of."""


@pytest.mark.parametrize("place", ["requests.Session.send", "ocibuild.registry.client.refused"])
def test_an_error_that_nobody_foresaw(stage: Staged, hello: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OCIBUILD_DEBUG it comes with its traceback, through frames that know every secret."""
    made = stage("configuration")
    with made.store() as target:
        target.tag_names()
    real = requests.Session.send

    def fail(*arguments: object, **keywords: object) -> object:
        sent = arguments[1] if isinstance(arguments[0], requests.Session) else None
        if isinstance(sent, requests.PreparedRequest) and "Authorization" not in sent.headers:
            return real(*arguments, **keywords)  # type: ignore[arg-type]
        raise UnforeseenError("unforeseen")

    monkeypatch.setattr(place, fail)
    made.site.plan.add(Fault("error_always"))
    with pytest.raises(UnforeseenError) as caught:
        made.run("push", f"oci:{hello}", made.name, "--json")
    made.said.add_error(caught.value)
    monkeypatch.delenv("OCIBUILD_DEBUG")
    result = made.run("push", f"oci:{hello}", made.name, "--json")
    assert (result.code, "UnforeseenError" in result.err) == (1, True)


def test_a_process_of_its_own(stage: Staged, hello: Path) -> None:
    """What a terminal shows, with an error that is ours and one that is not."""
    made = stage("configuration")
    made.site.plan.add(Fault("denied", method="PUT", path="/manifests/", times=None))
    program = (
        "import logging, sys; logging.basicConfig(level=logging.DEBUG)\n"
        "import requests; from ocibuild.cli import main\n"
        "def close(self): raise ArithmeticError('unforeseen')\n"
        "if sys.argv.pop(1) == 'broken': requests.Session.close = close\n"
        "sys.exit(main())"
    )
    for how, code in (("whole", 9), ("broken", 1)):
        command = [sys.executable, "-X", "dev", "-c", program, how, "push", f"oci:{hello}", made.name, "--json"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert result.returncode == code, result.stderr
        assert "DEBUG:urllib3" in result.stderr
        assert ("Traceback" in result.stderr) == (how == "broken")
        made.said.texts += [result.stdout, result.stderr]


def test_what_holds_a_secret_does_not_show_it(stage: Staged) -> None:
    made = stage("configuration")
    made.push_unharmed()
    with made.store() as target:
        copy(Artifact(target.resolve("1"), target), MemoryStore())
        client = target.client
        for item in (target, client, client.auth, client.auth.credential, client.auth._tokens, client.session):
            made.said.texts += [repr(item), str(item)]


def test_the_tests_see_a_secret(stage: Staged, tmp_path: Path) -> None:
    """They could fail: each place where a secret could be is looked at."""
    made = stage("configuration")
    error = OcibuildError("found", hint="x")
    error.__context__ = ValueError("in the context")
    error.add_note("in a note")
    made.said.add_error(error)
    logging.getLogger("any.logger").debug("in %s", "a log")
    with LayoutStore(tmp_path / "x") as layout:
        copy(image(), layout, tags=["1"])
    made.run("inspect", f"oci:{tmp_path}/x:1")
    texts = [*made.said.texts, *(record.getMessage() for record in made.caplog.get_records("call"))]
    for secret in ("in the context", "in a note", "in a log", "linux/amd64"):
        assert any(secret in text for text in texts), secret
