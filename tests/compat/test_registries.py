"""What was pushed, read by the peers; what the peers pushed, read by us: in an open registry, and in one as GHCR is.

Each peer gets the credentials by a way of its own: crane by DOCKER_CONFIG, oras and podman by a file that is named,
skopeo by an argument. The peers come from OCIBUILD_PEERS or PATH; without them these tests say so.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ocibuild import Artifact, Platform, open_artifact
from ocibuild.contents import read_image
from ocibuild.locations import open_registry
from ocibuild.oci import Descriptor, Digest, Reference, media_types
from ocibuild.registry import RegistryStore
from ocibuild.store import find_platform
from ocibuild.store.attached import attached_tag
from ocibuild.store.graph import read_blob
from tests.conftest import Result
from tests.contract.test_store import signature
from tests.real.test_readers import ARCHITECTURES, expected, files
from tests.support.ghcr import Site, ghcr
from tests.support.registry import registry
from tests.support.tools import peer, run

pytestmark = pytest.mark.compat

Cli = Callable[..., Result]
TAGS = ["0.2.0", "latest", "0.2"]
KIND = "application/vnd.example+json"

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Place:
    """A registry, and a folder for what is needed to reach it. Without a site it is open."""

    address: str
    folder: Path
    content: Path
    site: Site | None = None

    @property
    def authfile(self) -> Path:
        """The credentials, where no tool looks unasked."""
        return self.folder / "authfile.json"


@pytest.fixture(scope="module", params=["open", "ghcr"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    content = folder / "registry/docker/registry/v2/blobs/sha256"
    with registry(folder) as address:
        if request.param == "open":
            (folder / "authfile.json").write_text('{"auths": {}}')
            yield Place(address, folder, content)
            return
        with ghcr(address) as site:
            # By another name, as GHCR's is: skopeo and podman take a host's other port for the host itself.
            site.storage_base = site.storage_base.replace("127.0.0.1", "localhost")
            auth = base64.b64encode(f"{site.user}:{site.secret}".encode()).decode()
            (folder / "authfile.json").write_text(json.dumps({"auths": {site.address: {"auth": auth}}}))
            yield Place(site.address, folder, content, site)
            assert site.record.leaks(site.secrets) == []  # by no peer either
            assert {item.status for item in site.record.at("ghcr", part="/referrers/")} <= {401, 404}


@pytest.fixture(autouse=True)
def _logged_in(cli: Cli, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place's credentials in DOCKER_CONFIG, where our own `login` puts them, and none elsewhere."""
    for variable in ("GITHUB_TOKEN", "GITHUB_ACTOR", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("DOCKER_CONFIG", "XDG_CONFIG_HOME"):  # HOME is where the peers are
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    if place.site is not None:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{place.site.secret}\n"))
        assert cli("login", place.address, "--username", place.site.user, "--password-stdin").code == 0


@pytest.fixture
def name(place: Place) -> str:
    """A repository that no other test uses."""
    return f"{place.address}/grove/hello-{next(_numbers)}"


@pytest.fixture
def pushed(cli: Cli, hello: Path, name: str) -> Artifact:
    """The fixture's image, pushed there by the command line with several tags; as the layout has it."""
    templates = ("--tag", "{version}", "--tag", "latest", "--tag", "{major}.{minor}")
    result = cli("push", f"oci:{hello}", name, *templates, "--json")
    assert result.code == 0, result.err
    artifact = open_artifact(f"oci:{hello}:0.2.0")
    said = json.loads(result.out)
    assert (said["digest"], said["tags"], len(said["sent"])) == (artifact.digest, TAGS, 7)
    return artifact


def image_of(artifact: Artifact, architecture: str) -> Artifact:
    return find_platform(artifact, Platform.parse(architecture))


def raw(artifact: Artifact) -> str:
    return read_blob(artifact.source, artifact.root).decode()


def store(name: str) -> RegistryStore:
    """The repository, reached as the command line reaches it."""
    return open_registry(Reference.parse(name))


def crane(*arguments: str | Path, cwd: Path) -> str:
    return run([*peer("crane"), *arguments], cwd=cwd).stdout.strip()


def oras(place: Place, *arguments: str | Path, cwd: Path | None = None, to: str = "") -> str:
    access: list[str | Path] = [f"--{to}plain-http", f"--{to}registry-config", place.authfile]
    return run([*peer("oras"), *arguments, *access], cwd=cwd or place.folder).stdout.strip()


def skopeo(place: Place, *arguments: str | Path, cwd: Path | None = None, to: str = "") -> str:
    access = [f"--{to}tls-verify=false"]
    if place.site is not None:
        access += [f"--{to}creds", f"{place.site.user}:{place.site.secret}"]
    return run([*peer("skopeo"), *arguments, *access], cwd=cwd or place.folder).stdout.strip()


def podman(place: Place, *arguments: str | Path, cwd: Path | None = None) -> str:
    """podman with images of its own: nobody else removes them."""
    images = (f"--root={place.folder}/podman", f"--runroot={place.folder}/podman-run", "--storage-driver=vfs")
    command = [*peer("podman"), "--runtime", "runc", "--cgroup-manager", "cgroupfs", *images]
    return run([*command, *arguments], cwd=cwd or place.folder).stdout.strip()


def reach(place: Place) -> list[str | Path]:
    """What podman's commands that reach a registry are told."""
    return ["--tls-verify=false", "--authfile", place.authfile]


# What was pushed


def test_crane_reads_it(pushed: Artifact, name: str, tmp_path: Path) -> None:
    assert sorted(crane("ls", name, cwd=tmp_path).split()) == sorted(TAGS)
    for tag in TAGS:
        assert crane("digest", f"{name}:{tag}", cwd=tmp_path) == pushed.digest
    assert crane("manifest", f"{name}:latest", cwd=tmp_path) == raw(pushed)
    for architecture in ARCHITECTURES:
        image, platform = image_of(pushed, architecture), ("--platform", f"linux/{architecture}")
        assert crane("digest", *platform, f"{name}:0.2", cwd=tmp_path) == image.digest
        assert crane("manifest", *platform, f"{name}:0.2", cwd=tmp_path) == raw(image)
        config = read_image(image)[0].config
        assert crane("config", *platform, f"{name}:0.2", cwd=tmp_path) == read_blob(image.source, config).decode()


def test_crane_validates_it(place: Place, pushed: Artifact, name: str, tmp_path: Path) -> None:
    """All of it and each platform; and it says so when a layer is another."""
    everything: list[tuple[str, ...]] = [(), *(("--platform", f"linux/{item}") for item in ARCHITECTURES)]
    for platform in everything:
        crane("validate", "--remote", f"{name}:0.2.0", *platform, cwd=tmp_path)
    layer = read_image(image_of(pushed, "arm64"))[0].layers[0].digest.encoded
    path = place.content / layer[:2] / layer / "data"
    kept = path.read_bytes()
    path.write_bytes(kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:])
    try:
        command = [*peer("crane"), "validate", "--remote", f"{name}:0.2.0", "--platform", "linux/arm64"]
        assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode != 0
    finally:
        path.write_bytes(kept)  # other repositories have it too


def test_oras_reads_it(place: Place, pushed: Artifact, name: str) -> None:
    assert sorted(oras(place, "repo", "tags", name).split()) == sorted(TAGS)
    for tag in TAGS:
        found = json.loads(oras(place, "manifest", "fetch", "--descriptor", f"{name}:{tag}"))
        root = pushed.root
        assert (found["digest"], found["mediaType"], found["size"]) == (root.digest, root.media_type, root.size)
    assert oras(place, "manifest", "fetch", f"{name}@{pushed.digest}") == raw(pushed)
    for architecture in ARCHITECTURES:
        image, platform = image_of(pushed, architecture), f"linux/{architecture}"
        assert oras(place, "manifest", "fetch", "--platform", platform, f"{name}:latest") == raw(image)
        layer = read_image(image)[0].layers[0]
        oras(place, "blob", "fetch", "--output", place.folder / "layer", f"{name}@{layer.digest}")
        assert (place.folder / "layer").read_bytes() == read_blob(image.source, layer)


def test_skopeo_reads_it(place: Place, pushed: Artifact, name: str) -> None:
    for tag in TAGS:
        assert skopeo(place, "inspect", "--raw", f"docker://{name}:{tag}") == raw(pushed)
    assert skopeo(place, "inspect", "--format", "{{.Digest}}", f"docker://{name}:latest") == pushed.digest
    for architecture in ARCHITECTURES:
        manifest, config = read_image(image_of(pushed, architecture))
        found = json.loads(skopeo(place, "--override-arch", architecture, "inspect", f"docker://{name}:0.2.0"))
        assert (found["Architecture"], found["Os"]) == (architecture, "linux")
        assert found["Layers"] == [layer.digest for layer in manifest.layers]
        assert config.config is not None
        assert found["Labels"] == config.config.labels
        assert sorted(found["RepoTags"]) == sorted(TAGS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_podman_pulls_it(place: Place, pushed: Artifact, name: str, architecture: str) -> None:
    image = image_of(pushed, architecture)
    manifest, config = read_image(image)
    pulled = podman(place, "pull", "-q", *reach(place), "--platform", f"linux/{architecture}", f"{name}:0.2.0")
    try:
        assert f"sha256:{pulled}" == manifest.config.digest
        [found] = json.loads(podman(place, "image", "inspect", pulled))
        assert f"sha256:{found['Id']}" == manifest.config.digest
        assert set(found["RepoDigests"]) == {f"{name}@{pushed.digest}", f"{name}@{image.digest}"}
        assert found["RootFS"]["Layers"] == list(config.rootfs.diff_ids)
        assert found["Architecture"] == architecture
    finally:
        podman(place, "rmi", "-f", pulled)


def test_it_is_all_there_for_a_copy_by_a_peer(cli: Cli, place: Place, pushed: Artifact, name: str) -> None:
    """Within the registry; and what the peer copied is the same for us."""
    crane("copy", f"{name}:0.2.0", f"{name}-crane:1", cwd=place.folder)
    skopeo_access = [] if place.site is None else ["--src-creds", f"{place.site.user}:{place.site.secret}"]
    copied = (f"docker://{name}:0.2.0", f"docker://{name}-skopeo:1")
    skopeo(place, "copy", "-q", "--all", "--src-tls-verify=false", *skopeo_access, *copied, to="dest-")
    oras_access = ("--from-plain-http", "--from-registry-config", place.authfile)
    oras(place, "cp", *oras_access, f"{name}:0.2.0", f"{name}-oras:1", to="to-")
    for tool in ("crane", "skopeo", "oras"):
        shown = cli("inspect", f"{name}-{tool}:1", "--json")
        assert shown.code == 0, shown.err
        assert json.loads(shown.out)["digest"] == pushed.digest


def test_credentials_are_needed(place: Place, pushed: Artifact, name: str, tmp_path: Path) -> None:
    """Where they are: so the other tests have shown them."""
    command = ["env", f"DOCKER_CONFIG={tmp_path}", *peer("crane"), "digest", f"{name}:0.2.0"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.returncode == 0) == (place.site is None)


@pytest.mark.parametrize("place", ["ghcr"], indirect=True)
@pytest.mark.parametrize("tool", ["crane", "oras", "skopeo", "podman"])
def test_a_login_by_a_peer_is_ours_too(
    cli: Cli, place: Place, pushed: Artifact, name: str, tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place.site is not None
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
    assert cli("inspect", f"{name}:0.2.0").code == 9
    file, who = tmp_path / "config.json", ["-u", place.site.user, "-p", place.site.secret]
    if tool == "crane":
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        crane("auth", "login", place.address, *who, cwd=tmp_path)
    elif tool == "oras":
        run([*peer("oras"), "login", "--plain-http", "--registry-config", file, *who, place.address], cwd=tmp_path)
    else:
        run([*peer(tool), "login", "--tls-verify=false", "--authfile", file, *who, place.address], cwd=tmp_path)
    # podman's own place when it is not DOCKER_CONFIG.
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    result = cli("inspect", f"{name}:0.2.0", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["digest"] == pushed.digest


# Referrers


def attach(target: RegistryStore, subject: Descriptor) -> Descriptor:
    content, descriptor = signature(subject)
    target.push(Descriptor.of(b"{}", media_types.EMPTY), io.BytesIO(b"{}"))
    target.push(descriptor, io.BytesIO(content))
    return descriptor


def attach_by_oras(place: Place, reference: str, kind: str, folder: Path) -> str:
    (folder / "note.txt").write_text(f"a note of {kind}")
    options = ("--artifact-type", kind, "--annotation", "who=oras", "--format", "json")
    return str(json.loads(oras(place, "attach", *options, reference, "note.txt:text/plain", cwd=folder))["digest"])


def discovered(place: Place, reference: str, *options: str) -> list[dict[str, Any]]:
    found = json.loads(oras(place, "discover", "--format", "json", *options, reference))["referrers"]
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("way", ["unknown", "v1.1-referrers-tag"])
def test_oras_discovers_what_we_attach(place: Place, pushed: Artifact, name: str, way: str, tmp_path: Path) -> None:
    image = image_of(pushed, "arm64")
    with store(name) as target:
        first = attach(target, pushed.root)
        second = attach(target, first)  # a signature of a signature
        other = attach(target, image.root)
    options = ("--distribution-spec", way) if way != "unknown" else ()
    [found] = discovered(place, f"{name}:0.2.0", *options)
    assert (found["digest"], found["size"], found["mediaType"]) == (first.digest, first.size, first.media_type)
    assert (found["artifactType"], found["annotations"]) == (KIND, {"a": "b"})
    assert [item["digest"] for item in found["referrers"]] == [second.digest]
    assert [item["digest"] for item in discovered(place, f"{name}@{image.digest}", *options)] == [other.digest]
    assert discovered(place, f"{name}:0.2.0", "--artifact-type", "application/other", *options) == []
    # By the tag, and as an index that any client can read.
    listed = json.loads(crane("manifest", f"{name}:{attached_tag(pushed.digest)}", cwd=tmp_path))
    assert listed["mediaType"] == media_types.IMAGE_INDEX
    assert [item["digest"] for item in listed["manifests"]] == [first.digest]


def test_we_list_what_oras_attaches(cli: Cli, place: Place, pushed: Artifact, name: str, tmp_path: Path) -> None:
    """Ours first, theirs, ours again: nobody's is lost, and a copy has them all."""
    with store(name) as target:
        ours = [attach(target, pushed.root).digest]
    theirs = [attach_by_oras(place, f"{name}:0.2.0", f"application/{number}", tmp_path) for number in range(2)]
    with store(name) as target:
        below = attach(target, target.resolve(theirs[0]))
        found = target.referrers(pushed.root)
        assert [item.digest for item in found] == [*ours, *theirs]
        assert [item.artifact_type for item in found] == [KIND, "application/0", "application/1"]
        annotations = found[1].annotations
        assert annotations is not None
        assert annotations["who"] == "oras"
        [one] = target.referrers(pushed.root, artifact_type="application/1")
        assert one.digest == theirs[1]
        assert content_of(target, one) == b"a note of application/1"
    assert [item["digest"] for item in discovered(place, f"{name}:0.2.0")] == [*ours, *theirs]
    shown = json.loads(cli("inspect", f"{name}:0.2.0", "--json").out)
    assert {item["digest"] for item in shown["referrers"]} == {*ours, *theirs}
    # To a layout, and on to another repository.
    result = cli("copy", f"{name}:0.2.0", f"oci:{tmp_path}/out:1", "--referrers")
    assert result.code == 0, result.err
    command = [*peer("oras"), "discover", "--format", "json", "--oci-layout", "out:1"]
    local = json.loads(run(command, cwd=tmp_path).stdout)["referrers"]
    assert {item["digest"] for item in local} == {*ours, *theirs}
    assert cli("copy", f"oci:{tmp_path}/out:1", f"{name}-b:1", "--referrers").code == 0
    again = discovered(place, f"{name}-b:1")
    assert {item["digest"] for item in again} == {*ours, *theirs}
    assert {inner["digest"] for item in again for inner in item.get("referrers", [])} == {below.digest}


def content_of(target: RegistryStore, descriptor: Descriptor) -> bytes:
    """The only blob of an attached artifact."""
    [layer] = json.loads(read_blob(target, descriptor))["layers"]
    found = Descriptor(media_type=layer["mediaType"], digest=Digest(layer["digest"]), size=layer["size"])
    return read_blob(target, found)


def test_a_recursive_copy_by_oras_brings_ours_along(place: Place, pushed: Artifact, name: str) -> None:
    with store(name) as target:
        made = attach(target, pushed.root)
    access = ("--from-plain-http", "--from-registry-config", place.authfile)
    oras(place, "cp", "-r", *access, f"{name}:0.2.0", f"{name}-b:1", to="to-")
    with store(f"{name}-b") as other:
        assert [item.digest for item in other.referrers(pushed.root)] == [made.digest]


# What the peers pushed


def by_crane(place: Place, layout: Path, name: str) -> str:
    return crane("push", ".", name, cwd=layout).rpartition("@")[2]


def by_oras(place: Place, layout: Path, name: str) -> str:
    oras(place, "cp", "--from-oci-layout", ".:0.2.0", name, cwd=layout, to="to-")
    return open_artifact(f"oci:{layout}:0.2.0").digest


def by_skopeo(place: Place, layout: Path, name: str, *options: str) -> str:
    file = place.folder / "digest"
    command = ("copy", "-q", "--all", f"--digestfile={file}", *options)
    skopeo(place, *command, "oci:.:0.2.0", f"docker://{name}", cwd=layout, to="dest-")
    return file.read_text()


def by_skopeo_for_docker(place: Place, layout: Path, name: str) -> str:
    return by_skopeo(place, layout, name, "--format", "v2s2")


def by_podman(place: Place, layout: Path, name: str) -> str:
    """A list of podman's own, of the layout's two images."""
    file, made = place.folder / "digest", f"list-{next(_numbers)}"
    podman(place, "manifest", "create", made)
    podman(place, "manifest", "add", "--all", made, "oci:.:0.2.0", cwd=layout)
    options = ("-q", "--all", *reach(place), "--digestfile", file)
    podman(place, "manifest", "push", *options, made, f"docker://{name}", cwd=layout)
    podman(place, "manifest", "rm", made)
    return file.read_text()


PUSHES = [by_crane, by_oras, by_skopeo, by_skopeo_for_docker, by_podman]


@pytest.mark.parametrize("push", PUSHES)
def test_we_read_what_a_peer_pushed(
    cli: Cli, place: Place, hello: Path, name: str, tmp_path: Path, push: Callable[[Place, Path, str], str]
) -> None:
    digest = push(place, hello, f"{name}:1").strip()
    if push not in (by_podman, by_skopeo_for_docker):
        assert digest == open_artifact(f"oci:{hello}:0.2.0").digest
    shown = cli("inspect", f"{name}:1", "--json")
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["digest"] == digest
    for target in (f"oci:{tmp_path}/out:1", f"oci-archive:{tmp_path}/out.tar:1", f"{name}-b:1"):
        copied = cli("copy", f"{name}:1", target)
        assert copied.code == 0, copied.err
        assert json.loads(cli("inspect", target, "--json").out)["digest"] == digest
    assert crane("digest", f"{name}-b:1", cwd=tmp_path) == digest
    for architecture in ARCHITECTURES:
        folder = tmp_path / architecture
        unpacked = cli("unpack", f"{name}:1", folder, "--platform", f"linux/{architecture}")
        assert unpacked.code == 0, unpacked.err
        assert files(folder) == expected(architecture)


def test_we_read_one_image_that_podman_pushed(
    cli: Cli, place: Place, hello: Path, pushed: Artifact, name: str, tmp_path: Path
) -> None:
    """Pulled from what we pushed, and pushed again."""
    pulled = podman(place, "pull", "-q", *reach(place), "--platform", "linux/arm64", f"{name}:latest")
    try:
        podman(place, "push", "-q", *reach(place), "--digestfile", tmp_path / "digest", pulled, f"docker://{name}-b:1")
    finally:
        podman(place, "rmi", "-f", pulled)
    digest = (tmp_path / "digest").read_text().strip()
    shown = json.loads(cli("inspect", f"{name}-b:1", "--json").out)
    assert shown["digest"] == digest
    assert cli("unpack", f"{name}-b@{digest}", tmp_path / "files").code == 0
    assert files(tmp_path / "files") == expected("arm64")
