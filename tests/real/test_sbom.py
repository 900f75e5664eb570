"""SBOMs in a real registry: the same bytes as from a layout, and found again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ocibuild import open_artifact
from ocibuild.sbom import find_sbom
from tests.conftest import Result
from tests.support.registry import registry
from tests.support.tools import TREES

Cli = Callable[..., Result]


def test_the_same_from_a_registry_and_found_there(cli: Cli, hello: Path, tmp_path: Path) -> None:
    with registry(tmp_path) as address:
        reference = f"{address}/grove/hello:1"
        assert cli("copy", f"oci:{hello}:0.2.0", f"docker://{reference}").code == 0
        for place, name in ((f"oci:{hello}", "layout.json"), (reference, "registry.json")):
            result = cli("sbom", place, *TREES, "-o", tmp_path / name)
            assert result.code == 0, result.err
        written = (tmp_path / "layout.json").read_bytes()
        assert (tmp_path / "registry.json").read_bytes() == written
        result = cli("sbom", reference, *TREES, "--attach", "--json")
        assert result.code == 0, result.err
        image = open_artifact(reference)
        assert find_sbom(image) == written
        # It goes along, to a file too.
        bundle = f"oci-archive:{tmp_path}/bundle.tar"
        result = cli("copy", f"docker://{reference}", bundle, "--referrers")
        assert result.code == 0, result.err
        assert find_sbom(open_artifact(bundle)) == written
        assert json.loads(written)["metadata"]["component"]["bom-ref"] == image.digest
