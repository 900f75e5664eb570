"""Control files, projects, recipes, labels, tags."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocibuild.errors import ControlError, UsageError
from ocibuild.oci.annotations import BASE_NAME, DESCRIPTION, LICENSES, SOURCE, TITLE, VERSION
from ocibuild.postgres import (
    check_version,
    expand_tag,
    find_project,
    find_recipe,
    labels,
    open_source,
    parse_control,
    read_recipe,
    tags,
)
from ocibuild.postgres.keys import PG_MAJOR, SQL_VERSION
from ocibuild.postgres.tag import tag_fields
from tests.support.tools import TREES


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# only a comment", {}),
        ("comment = 'a b'", {"comment": "a b"}),
        ("comment='a' # and why", {"comment": "a"}),
        ("comment 'no equals sign'", {"comment": "no equals sign"}),
        ("relocatable = true\r\n", {"relocatable": "true"}),
        ("default_version = 1.0", {"default_version": "1.0"}),
        ("default_version = .5", {"default_version": ".5"}),
        ("a = 0x1F", {"a": "0x1F"}),
        ("a = -1.5e+3", {"a": "-1.5e+3"}),
        ("a = 10MB", {"a": "10MB"}),
        ("a = on", {"a": "on"}),
        ("a = a-b:c/d.e", {"a": "a-b:c/d.e"}),
        ("a.b = 'x'", {"a.b": "x"}),
        ("default_version = 0.2.0", None),
        ("default_version = 1.0-beta", None),
        ("a = a.b", None),
        ("a = 1_0", None),
        ("a.b.c = 'x'", None),
        ("a$ = 'x'", None),
        ("\fa = 'x'", None),
        (r"a = '\303\251'", {"a": "é"}),
        ("default_version = '1''0'", {"default_version": "1'0"}),
        (r"comment = 'a\'b\n\101\\'", {"comment": "a'b\nA\\"}),
        ("comment = ''", {"comment": ""}),
        ("comment = 'a'\ncomment = 'b'", {"comment": "b"}),
        ("comment = 'ünï # not a comment'", {"comment": "ünï # not a comment"}),
        ("module_pathname = $libdir/x", None),
        ("module_pathname = '$libdir/x'", {"module_pathname": "$libdir/x"}),
        ("schema = pg_catalog", {"schema": "pg_catalog"}),
        ("comment = 'open", None),
        ("comment =", None),
        ("= 'x'", None),
        ("comment = 'a' 'b'", None),
        ("[section]", None),
        ("relocatable", None),
        ("relocatable'true'", {"relocatable": "true"}),
        ("a\tb", {"a": "b"}),
    ],
)
def test_control_files(text: str, values: dict[str, str] | None) -> None:
    if values is None:
        with pytest.raises(ControlError, match="line 1"):
            parse_control(text.encode(), name="x", where="x.control")
    else:
        assert parse_control(text.encode(), name="x").values == values


def test_control_facts() -> None:
    control = parse_control(b"requires = 'a, \"b\"'\nfuture = 1", name="x")
    assert control.requires == ("a", "b")
    assert control.unknown == ("future",)


@pytest.mark.parametrize(
    ("value", "good"),
    [("true", True), ("T", True), ("fal", True), ("on", True), ("of", True), ("o", False), ("1", True), ("2", False),
     ("maybe", False), ("''", False), ("y", True)],
)  # fmt: skip
def test_booleans(value: str, good: bool) -> None:
    assert (parse_control(f"trusted = {value}".encode(), name="x").not_boolean == ()) is good


@pytest.mark.parametrize("name", ["", "a--b", "-a", "a-", "a/b"])
def test_names_that_postgresql_refuses(name: str) -> None:
    with pytest.raises(ControlError):
        parse_control(b"", name=name)


def test_binary_control_files() -> None:
    for raw in (b"\0", b" " * (2 * 1024 * 1024)):
        with pytest.raises(ControlError, match="binary"):
            parse_control(raw, name="x")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


CRATE = '[package]\nname="x"\ndescription="from the crate"\nlicense="MIT"\nrepository="https://example.org/x"\n'


def test_the_project_above_a_tree(tmp_path: Path) -> None:
    write(tmp_path, {"Cargo.toml": CRATE, "x.control": "", "target/release/x-pg18/f": ""})
    found = find_project(tmp_path / "target/release/x-pg18", "x")
    assert found is not None
    assert found.labels == {"description": "from the crate", "licenses": "MIT", "source": "https://example.org/x"}


def test_a_project_of_another_extension_is_not_taken(tmp_path: Path) -> None:
    write(tmp_path, {"Cargo.toml": CRATE, "y.control": ""})
    assert find_project(tmp_path, "x") is None


def test_workspace_members_and_inheritance(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "Cargo.toml": '[workspace]\nmembers=["crates/*"]\n[workspace.package]\nlicense="Apache-2.0"\n',
            "crates/x/Cargo.toml": '[package]\nlicense.workspace=true\nrepository={workspace=true}\ndescription="d"\n',
            "crates/x/x.control": "",
            "crates/y/Cargo.toml": "",
            "target/release/x-pg18/f": "",
        },
    )
    for folder in ("target/release/x-pg18", "crates/x"):
        found = find_project(tmp_path / folder, "x")
        assert found is not None
        assert found.labels == {"licenses": "Apache-2.0", "description": "d"}


@pytest.mark.parametrize(
    "text", ["", "[", "[package]\nlicense=3", "package=1", '[workspace]\nmembers=["../..","/", 3]']
)
def test_odd_projects_are_no_error(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"Cargo.toml": text, "x.control": ""})
    found = find_project(tmp_path, "x")
    assert found is None or found.labels == {}


def test_recipes(tmp_path: Path) -> None:
    write(tmp_path, {"ocibuild.toml": 'name="n"\n[labels]\nlicenses="MIT"\n', "a/b/f": ""})
    path = find_recipe(tmp_path / "a/b")
    assert path == tmp_path / "ocibuild.toml"
    assert path is not None
    assert read_recipe(path).labels == {"licenses": "MIT"}


@pytest.mark.parametrize(
    ("text", "words"),
    [("label = {}", "Did you mean 'labels'?"), ("labels = 3", "object"), ("[", "TOML"), ("[labels]\na = 1", "str")],
)
def test_recipes_refused(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, {"ocibuild.toml": text})
    with pytest.raises(UsageError) as error:
        read_recipe(tmp_path / "ocibuild.toml")
    assert words in str(error.value)


def test_where_labels_come_from(tmp_path: Path) -> None:
    write(tmp_path, {"Cargo.toml": CRATE, "pgrx_hello.control": ""})
    found = labels(
        [open_source(TREES[0])],
        given={"source": "https://given"},
        recipe={"source": "https://recipe", "licenses": "BSD"},
        project=find_project(tmp_path, "pgrx_hello"),
    )
    assert {key: (item.value, item.origin) for key, item in found.items()} == {
        SOURCE: ("https://given", "given"),
        LICENSES: ("BSD", "recipe"),
        DESCRIPTION: ("from the crate", "Cargo.toml"),
        TITLE: ("pgrx_hello", "pgrx_hello.control"),
        VERSION: ("0.2.0", "pgrx_hello.control"),
        SQL_VERSION: ("0.2.0", "pgrx_hello.control"),
        PG_MAJOR: ("18", "the modules"),
        BASE_NAME: ("scratch", "always"),
    }


@pytest.mark.parametrize("key", ["license", "Licenses", "descripton", "sources"])
def test_a_short_name_mistyped(key: str) -> None:
    with pytest.raises(UsageError, match="Did you mean"):
        labels([], given={key: "x"})
    assert labels([], given={"maintainer": "x", "org.example.license": "y"})


@pytest.mark.parametrize("bad", [{"a": "x\ny"}, {"a\x1b": "x"}, {"a": "\ud800"}, {" ": "x"}])
def test_labels_refused(bad: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        labels([], given=bad)


@pytest.mark.parametrize(
    ("template", "version", "tag"),
    [
        ("{version}-{timestamp}-{pg}-{distro}", "0.8.6", "0.8.6-202608201414-18-trixie"),
        ("{version}-pg{pg}", "1:3.7.0~rc1+dfsg", "1-3.7.0-rc1-dfsg-pg18"),
        ("{major}-pg{pg}", "1:3.7.0", "3-pg18"),
        ("{version}", "0.2.0", "0.2.0"),
        ("{major}.{minor}", "1.2.3", "1.2"),
        ("{version}-{pg}-trixie", "1.2", "1.2-18-trixie"),
        ("v{version}", "1.0+git", "v1.0-git"),
        ("latest", None, "latest"),
        ("{version}", None, None),
        ("{minor}", "7", None),
        ("{nothing}", "1", None),
        ("{version}", "@CARGO_VERSION@", None),
        ("{version}", "1 2", None),
    ],
)
def test_tags(template: str, version: str | None, tag: str | None) -> None:
    fields = tag_fields(version, 18, distro="trixie", created=1787235299)
    if tag is None:
        with pytest.raises(UsageError):
            expand_tag(template, fields)
    else:
        assert expand_tag(template, fields) == tag


@pytest.mark.parametrize(
    ("version", "floating", "made", "held"),
    [
        ("1.2.3", False, ["1.2.3", "1.2", "latest", "edge", "pg18"], []),
        ("1.2.3-rc.1", False, ["1.2.3-rc.1", "edge"], ["{major}.{minor}", "latest", "pg{pg}"]),
        ("1.2.3~rc1", False, ["1.2.3-rc1", "edge"], ["{major}.{minor}", "latest", "pg{pg}"]),
        ("1.2.3~rc1", True, ["1.2.3-rc1", "1.2", "latest", "edge", "pg18"], []),
    ],
)
def test_floating_tags_do_not_move_to_a_prerelease(
    version: str, floating: bool, made: list[str], held: list[str]
) -> None:
    templates = ["{version}", "{major}.{minor}", "latest", "edge", "pg{pg}"]
    assert tags(templates, tag_fields(version, 18), floating=floating) == (made, held)


def test_the_version_of_a_git_tag() -> None:
    for text in ("0.2.0", "v0.2.0", "refs/tags/v0.2.0"):
        check_version("0.2.0", text)
    for version, text in (("0.2.0", "v0.2.1"), (None, "v0.2.0"), ("0.2.0", "main")):
        with pytest.raises(UsageError, match="as expected"):
            check_version(version, text)


def test_labels_of_cloudnativepg() -> None:
    found = labels([open_source(TREES[0])], distro="trixie")
    assert found["io.cloudnativepg.image.base.name"].value == "ghcr.io/cloudnative-pg/postgresql:18-minimal-trixie"
    assert found["io.cloudnativepg.image.base.os"].value == "trixie"
    assert "io.cloudnativepg.image.base.name" not in labels([open_source(TREES[0])], distro="sid")


def test_long_labels(tmp_path: Path) -> None:
    write(tmp_path, {"Cargo.toml": CRATE.replace("from the crate", "x" * 300), "pgrx_hello.control": ""})
    found = labels([open_source(TREES[0])], project=find_project(tmp_path, "pgrx_hello"))
    assert found[DESCRIPTION].value == "x" * 255 + "…"
    with pytest.raises(UsageError, match="at most 256"):
        labels([], given={"description": "x" * 257})


def test_a_recipe_in_cargo_toml(tmp_path: Path) -> None:
    table = '[package.metadata.ocibuild]\nname = "n"\npreload = ["x"]\n[package.metadata.ocibuild.env]\nA = "b"\n'
    write(tmp_path, {"Cargo.toml": CRATE + table, "sub/Cargo.toml": CRATE})
    path = find_recipe(tmp_path / "sub")
    assert path == tmp_path / "Cargo.toml"
    assert path is not None
    recipe = read_recipe(path)
    assert (recipe.name, recipe.preload, recipe.env) == ("n", ("x",), {"A": "b"})
    (tmp_path / "Cargo.toml").write_text(CRATE + "[package.metadata.ocibuild]\nnmae = 'n'\n")
    with pytest.raises(UsageError, match="Did you mean 'name'"):
        read_recipe(path)
