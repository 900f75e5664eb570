"""The peers whose word counts: crane, podman, PostgreSQL 18, and the specification's own schemas.

The peers come from OCIBUILD_PEERS or PATH, the schemas from OCIBUILD_SCHEMAS; without them these tests say so.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from ocibuild import ArchiveStore, LayoutStore, copy, open_artifact
from ocibuild.oci import Platform
from ocibuild.store import DockerArchiveWriter, find_platform, walk
from tests.real.test_readers import ARCHITECTURES, expected
from tests.support.registry import registry
from tests.support.tools import peer, peers_folder, run
from tests.support.volume import mounted, push

pytestmark = pytest.mark.compat


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_crane_exports_the_files(hello: Path, tmp_path: Path, architecture: str) -> None:
    crane = peer("crane")
    with registry(tmp_path) as address:
        name = f"{address}/pgrx_hello-ext:0.2.0"
        push(hello, name, "0.2.0")
        assert run([*crane, "digest", name], cwd=tmp_path).stdout.strip() == open_artifact(f"oci:{hello}").digest
        result = subprocess.run(
            [*crane, "export", "--platform", f"linux/{architecture}", name, "-"],
            capture_output=True,
            check=True,
            cwd=tmp_path,
        )
        run([*crane, "validate", "--remote", name], cwd=tmp_path)
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        found = {item.name: archive.extractfile(item).read() for item in archive if item.isfile()}  # type: ignore[union-attr]
    assert found == expected(architecture)


def own_podman(folder: Path) -> list[str]:
    """podman with images of its own: tests beside this one remove theirs."""
    return [*peer("podman"), f"--root={folder}/images", f"--runroot={folder}/run", "--storage-driver=vfs"]


def test_podman_pulls_layouts_and_archives(hello: Path, tmp_path: Path) -> None:
    podman = own_podman(tmp_path)
    with ArchiveStore(tmp_path / "a.tar") as archive:
        copy(open_artifact(f"oci:{hello}"), archive, tags=["0.2.0"])
    config = config_of(hello, "amd64")
    # Each path is given from the folder it is in: that is what the peers' root shows.
    for name, folder in ((f"oci:{hello}:0.2.0", hello), ("oci-archive:a.tar:0.2.0", tmp_path)):
        image = run([*podman, "pull", "-q", name], cwd=folder).stdout.strip()
        assert f"sha256:{image}" == config
        run([*podman, "rmi", "-f", image], cwd=folder)


def test_podman_loads_a_docker_archive(hello: Path, tmp_path: Path) -> None:
    podman = own_podman(tmp_path)
    writer = DockerArchiveWriter(tmp_path / "d.tar", name="pgrx_hello-ext:0.2.0")
    writer.write(open_artifact(f"oci:{hello}"), platform=Platform.parse("amd64"))
    out = run([*podman, "load", "-i", "d.tar"], cwd=tmp_path).stdout
    assert "docker.io/library/pgrx_hello-ext:0.2.0" in out
    image = json.loads(run([*podman, "inspect", "pgrx_hello-ext:0.2.0"], cwd=tmp_path).stdout)[0]
    assert f"sha256:{image['Id']}" == config_of(hello, "amd64")
    run([*podman, "rmi", "-f", image["Id"]], cwd=tmp_path)


def test_skopeo_of_today_reads_both(hello: Path, tmp_path: Path) -> None:
    skopeo = peer("skopeo")
    with ArchiveStore(tmp_path / "a.tar") as archive:
        copy(open_artifact(f"oci:{hello}"), archive, tags=["0.2.0"])
    for name, folder in ((f"oci:{hello}:0.2.0", hello), ("oci-archive:a.tar:0.2.0", tmp_path)):
        assert json.loads(run([*skopeo, "inspect", "--raw", name], cwd=folder).stdout)["schemaVersion"] == 2


def config_of(layout: Path, architecture: str) -> str:
    from ocibuild.contents import read_image

    image = find_platform(open_artifact(f"oci:{layout}"), Platform.parse(architecture))
    return read_image(image)[0].config.digest


def test_postgresql_18_loads_it_as_an_image_volume(hello: Path, tmp_path: Path) -> None:
    peers_folder()
    sql = "create extension pgrx_hello; select hello('x'), hello_length('x'), extversion from pg_extension where extname = 'pgrx_hello'"
    out = mounted(hello, "pgrx-hello", sql, tmp_path, tag="0.2.0").stdout
    assert out.strip() == "Hello, x!|9|0.2.0"


SCHEMAS = {
    "application/vnd.oci.image.index.v1+json": "image-index-schema.json",
    "application/vnd.oci.image.manifest.v1+json": "image-manifest-schema.json",
    "application/vnd.oci.image.config.v1+json": "config-schema.json",
}


def test_the_schemas_accept_every_document(hello: Path) -> None:
    folder = os.environ.get("OCIBUILD_SCHEMAS")
    if not folder:
        pytest.skip("needs the OCI schemas: the folder that OCIBUILD_SCHEMAS names")
    import jsonschema
    import referencing
    from referencing.jsonschema import DRAFT4

    # Their `id`s name addresses on the network; here the files refer to one another.
    schemas = {
        path.name: json.loads(path.read_text(), object_hook=lambda item: {k: v for k, v in item.items() if k != "id"})
        for path in (Path(folder) / "image-spec").glob("*.json")
    }
    resources = [(name, DRAFT4.create_resource(schema)) for name, schema in schemas.items()]
    known: referencing.Registry = referencing.Registry().with_resources(resources)

    def check(document: object, name: str) -> None:
        jsonschema.Draft4Validator(schemas[name], registry=known).validate(document)

    store = LayoutStore(hello)
    checked = set()
    for root in store.tags().values():
        for item in walk(store, root):
            if item.media_type in SCHEMAS:
                with store.fetch(item) as stream:
                    check(json.load(stream), SCHEMAS[item.media_type])
                checked.add(item.media_type)
    assert checked == set(SCHEMAS)
    check(json.loads((hello / "index.json").read_text()), "image-index-schema.json")
    check(json.loads((hello / "oci-layout").read_text()), "image-layout-schema.json")
    with pytest.raises(jsonschema.ValidationError):
        check({"schemaVersion": 2}, "image-manifest-schema.json")
