"""Mounting an image as Kubernetes does, by the peers' `image-volume`."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.registry import registry
from tests.support.tools import peers_folder, require, run

__all__ = ["mounted", "push"]


def push(layout: Path, name: str, tag: str = "1") -> None:
    """Put the image of a layout into a registry, with another tool than ours."""
    skopeo = [require("skopeo"), "copy", "-q", "--all", "--dest-tls-verify=false"]
    run([*skopeo, f"oci:{layout}:{tag}", f"docker://{name}"])


def mounted(
    layout: Path, mount: str, sql: str, folder: Path, *, tag: str = "1", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Mount the only image of a layout in PostgreSQL 18 and run SQL there.

    Args:
        layout: The layout.
        mount: The mount's name.
        sql: What to run.
        folder: For what is needed on the way.
        settings: EXT_PATH, LIB_PATH, LD_PATH and PRELOAD, as `image-volume` explains them.
    """
    peers = peers_folder()
    script = (peers / "image-volume").read_text()
    # The peers' podman takes plain HTTP from one address only; this registry has another, and says so.
    assert "podman pull -q" in script
    command = folder / "image-volume"
    command.write_text(
        script.replace("podman pull -q", "podman pull --tls-verify=false -q").replace("$here/run", f"{peers}/run")
    )
    with registry(folder) as address:
        name = f"{address}/{mount}:{tag}"
        push(layout, name, tag)
        # Two containers that end at a time: podman then loses the code of one, and says 127.
        with open(Path(tempfile.gettempdir()) / "ocibuild-podman.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return subprocess.run(
                ["bash", command, name, mount, sql],
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | settings,
            )
