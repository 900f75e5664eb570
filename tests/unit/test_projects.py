"""`ocibuild build` without a source: whose packages are taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ocibuild.errors import UsageError
from ocibuild.postgres import find_packages, find_project, find_recipe
from tests.conftest import Result
from tests.support.tools import ROOT, TREES

Cli = Callable[..., Result]


def project(root: Path, *packages: str, name: str = "pgrx_hello") -> Path:
    """A crate with packages below it; `target/release/NAME-pg18` and so on."""
    (root / "src").mkdir(parents=True)
    (root / "Cargo.toml").write_text('[package]\nname = "x"\nlicense = "MIT"\n')
    (root / f"{name}.control").touch()
    for package in packages:
        (root / package).mkdir(parents=True)
    return root


def names(paths: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_from_anywhere_in_the_crate(tmp_path: Path) -> None:
    root = project(tmp_path / "x", "target/release/pgrx_hello-pg18", "target/aarch64/release/pgrx_hello-pg18")
    for folder in (root, root / "src"):
        assert names(find_packages(folder), root) == [
            "target/release/pgrx_hello-pg18", "target/aarch64/release/pgrx_hello-pg18",
        ]  # fmt: skip


def test_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["crates/*", ".", "crates/**x", "../.."]\n')
    project(tmp_path / "crates/hello")
    (tmp_path / "target/release/pgrx_hello-pg18").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "crates/hello", tmp_path / "crates/hello/src"):
        assert names(find_packages(folder), tmp_path) == ["target/release/pgrx_hello-pg18"]
    project(tmp_path / "crates/other", name="other")
    (tmp_path / "target/release/other-pg18").mkdir()
    with pytest.raises(UsageError, match="Name those you mean"):
        find_packages(tmp_path)
    assert names(find_packages(tmp_path / "crates/other"), tmp_path) == ["target/release/other-pg18"]


def test_release_is_preferred(tmp_path: Path) -> None:
    root = project(tmp_path / "x", "target/debug/pgrx_hello-pg18", "target/release/pgrx_hello-pg18")
    for other in ("pgrx_hello-pgrx", "pgrx_hello-pg18-old"):
        (root / "target/release" / other).mkdir()
    assert names(find_packages(root), root) == ["target/release/pgrx_hello-pg18"]
    shutil.rmtree(root / "target/release")
    assert names(find_packages(root), root) == ["target/debug/pgrx_hello-pg18"]


def test_several_majors(tmp_path: Path) -> None:
    root = project(tmp_path / "x", "target/release/pgrx_hello-pg17", "target/release/pgrx_hello-pg18")
    with pytest.raises(UsageError, match="Choose with --pg, one of: 17, 18"):
        find_packages(root)
    assert names(find_packages(root, major=17), root) == ["target/release/pgrx_hello-pg17"]


def test_another_target_folder(tmp_path: Path) -> None:
    root = project(tmp_path / "x")
    (tmp_path / "elsewhere/release/pgrx_hello-pg18").mkdir(parents=True)
    assert find_packages(root, target=tmp_path / "elsewhere") == [tmp_path / "elsewhere/release/pgrx_hello-pg18"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pgrx project here"):
        find_packages(tmp_path)
    root = project(tmp_path / "x")
    with pytest.raises(UsageError, match=r"wanted target/release/pgrx_hello-pg\*. Run cargo pgrx package first"):
        find_packages(root)


def test_the_search_ends_at_the_repository(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "ocibuild.toml").write_text('[labels]\nsource = "https://evil.example"\n')
    inside = tmp_path / "repository/target"
    inside.mkdir(parents=True)
    assert find_recipe(inside) is not None
    (tmp_path / "repository/.git").mkdir()
    assert find_recipe(inside) is None
    assert find_project(inside, "pgrx_hello") is None


def test_the_command_says_what_it_packs(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crate = tmp_path / "crate"
    shutil.copytree(ROOT / "fixtures/pgrx_hello", crate)
    shutil.copytree(TREES[0], crate / "target/release/pgrx_hello-pg18")
    shutil.copytree(TREES[0], crate / "target/debug/pgrx_hello-pg18")
    monkeypatch.chdir(crate / "src")
    result = cli("build", "--pg", "18")
    assert result.code == 0, result.err
    assert result.err == "taking ../target/release/pgrx_hello-pg18\n"
    assert (crate / "src/dist/pgrx_hello/index.json").exists()
    monkeypatch.setenv("CARGO_TARGET_DIR", str(tmp_path / "nothing"))
    assert cli("build").code == 2


@pytest.mark.parametrize("output", ["oci:{tree}/out", "{tree}/out", "oci-archive:{tree}/x.tar", None])
def test_an_output_inside_its_source(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str | None
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").touch()
    monkeypatch.chdir(tree)
    flags = ["-o", output.format(tree=tree)] if output else []
    result = cli("build", "linux/amd64=.", *flags)
    assert result.code == 2
    assert "lies inside the source" in result.err
    assert [path.name for path in tree.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("name", "folder"), [("x", "x"), ("ghcr.io/o/r:1", "r"), ("a/b C", "b-C"), ("ä", None), ("..", None), ("@", None)]
)
def test_the_name_of_the_output(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, folder: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("build", TREES[0], "--name", name)
    if folder is None:
        assert result.code == 2
        assert "Say where with -o" in result.err
        assert list(tmp_path.iterdir()) == []
    else:
        assert [path.name for path in (tmp_path / "dist").iterdir()] == [folder]


def test_the_output_of_a_build_is_local(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for output, kind in (("dist/x", "oci"), ("out.tar", "oci-archive"), ("y:edge", "oci")):
        result = cli("build", TREES[0], "-o", output)
        assert result.code == 0, result.err
        assert f"wrote {kind}:" in result.out
    assert cli("build", TREES[0], "-o", "ghcr.io/o/r").code == 2


def test_the_name_for_containerd_has_one_tag(cli: Cli, tmp_path: Path) -> None:
    from ocibuild import ArchiveStore

    assert cli("build", TREES[0], "-o", f"oci-archive:{tmp_path}/x.tar", "--name", "ghcr.io/o/r:1").code == 0
    [entry] = ArchiveStore(tmp_path / "x.tar").index().manifests
    assert (entry.annotations or {})["io.containerd.image.name"] == "ghcr.io/o/r:0.2.0"


EXT = "usr/share/postgresql/18/extension"


def _upgrade_only(tree: Path) -> None:
    (tree / EXT / "pgrx_hello--0.2.0.sql").unlink()


def _unknown_key(tree: Path) -> None:
    with open(tree / EXT / "pgrx_hello.control", "a") as stream:
        stream.write("colour = 'red'\n")


def _no_version(tree: Path) -> None:
    control = tree / EXT / "pgrx_hello.control"
    control.write_text(control.read_text().replace("default_version", "# default_version"))


def _no_boolean(tree: Path) -> None:
    control = tree / EXT / "pgrx_hello.control"
    control.write_text(control.read_text().replace("relocatable = false", "relocatable = maybe"))


def _scripts_elsewhere(tree: Path) -> None:
    other = tree / EXT / "../other"
    other.mkdir()
    for path in (tree / EXT).glob("*.sql"):
        path.rename(other / path.name)


def _other_library(tree: Path) -> None:
    control = tree / EXT / "pgrx_hello.control"
    control.write_text(control.read_text().replace("'pgrx_hello'", "'$libdir/other'"))


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (_upgrade_only, "[missing-script]"),
        (_unknown_key, "[unknown-key]"),
        (_no_version, "[no-default-version]"),
        (_no_boolean, "[not-boolean]"),
        (_scripts_elsewhere, "[missing-script]"),
        (_other_library, "[missing-library]"),
    ],
)
def test_what_create_extension_would_trip_over(
    cli: Cli, tmp_path: Path, damage: Callable[[Path], None], finding: str
) -> None:
    tree = tmp_path / "pgrx_hello-pg18"
    shutil.copytree(TREES[0], tree)
    damage(tree)
    result = cli("build", tree, "-o", f"oci:{tmp_path}/x")
    assert result.code == 4
    assert finding in result.err
    assert not (tmp_path / "x").exists()


def test_an_upgrade_path_from_another_install_script(cli: Cli, tmp_path: Path) -> None:
    tree = tmp_path / "pgrx_hello-pg18"
    shutil.copytree(TREES[0], tree)
    _upgrade_only(tree)
    (tree / EXT / "pgrx_hello--0.0.1.sql").touch()
    (tree / EXT / "pgrx_hello--0.0.1--0.1.0.sql").touch()
    assert cli("build", tree, "-o", f"oci:{tmp_path}/x").code == 0


def test_majors_are_told(cli: Cli, tmp_path: Path) -> None:
    tree = tmp_path / "pgrx_hello-pg17"
    shutil.copytree(TREES[0], tree)
    assert "[major-differs]" in cli("build", tree, "-o", f"oci:{tmp_path}/x").err
    library = tree / "usr/lib/postgresql/18/lib/pgrx_hello.so"
    old = (72).to_bytes(4, "little") + (1800).to_bytes(4, "little")
    new = (56).to_bytes(4, "little") + (1700).to_bytes(4, "little")
    library.write_bytes(library.read_bytes().replace(old, new))
    assert "[major-too-old]" in cli("build", tree, "-o", f"oci:{tmp_path}/x").err


def test_a_tree_without_a_prefix(cli: Cli, tmp_path: Path, hello: Path) -> None:
    """What `unpack` writes can be built again, to the same layer."""
    assert cli("unpack", hello, tmp_path / "files", "--platform", "amd64").code == 0
    first = cli("build", tmp_path / "files", "-o", f"oci:{tmp_path}/x", "--json").out
    second = cli("build", TREES[0], "-o", f"oci:{tmp_path}/y", "--json").out
    assert first.split('"digest"')[1].split(",")[0] == second.split('"digest"')[1].split(",")[0]
