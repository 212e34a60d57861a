"""The distribution has a name of its own: `refiner` on the index is a stranger's, whose code nobody here asked for."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import refiner

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
NAME = "refiner-inpainting"
# What pip would look up by the name `refiner`: at the end of a requirement, or before extras or a version.
BARE = re.compile(r"""(?:^|["'\s])refiner(?:\[[\w,]+\])?\s*(?:[=<>~!]=?[\d.]+)?(?=["'\s,;)]|$)""")


def read(path: Path) -> dict:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def manifests() -> list[Path]:
    found = [
        ROOT / "pyproject.toml",
        *ROOT.glob("integrations/**/pyproject.toml"),
        *ROOT.glob("examples/**/pyproject.toml"),
    ]
    assert len(found) >= 4
    return found


def test_nothing_depends_on_a_strangers_package() -> None:
    for path in manifests():
        project = read(path)["project"]
        extras = project.get("optional-dependencies", {}).values()
        needed = [*project.get("dependencies", ()), *(line for extra in extras for line in extra)]
        assert project["name"] != "refiner"
        assert not [line for line in needed if BARE.search(line)], path
        if path.parent != ROOT:
            assert NAME in needed, path


def test_names_and_command_are_as_announced() -> None:
    project = read(ROOT / "pyproject.toml")["project"]
    assert project["name"] == NAME
    assert project["scripts"] == {"refiner": "refiner.cli:main"}
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {refiner.__version__}\n" in citation


def texts() -> list[Path]:
    folders = ("refiner", "lama", "benchmarks", "docs", "integrations", "examples", "packaging")
    files = [
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".html", ".js"}
    ]
    files = [path for path in files if "results" not in path.parts]  # records of what ran then
    return [*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Dockerfile"]


def test_no_text_has_anybody_install_it() -> None:
    lines = [
        (path, command)
        for path in texts()
        for command in re.findall(r"pip install ([^\n`&]*)", path.read_text(encoding="utf-8"))
    ]
    assert any(NAME in command for _, command in lines)
    assert not [(path, command) for path, command in lines if BARE.search(command)]


@pytest.mark.parametrize("command", ["refiner", '"refiner[web]"', "torch refiner", "refiner==0.1"])
def test_the_rule_sees_the_bare_name(command) -> None:
    assert BARE.search(command)


@pytest.mark.parametrize("command", ['"refiner-inpainting[web]"', ".[web]", '"/src/refiner"', "refiner_inpainting.whl"])
def test_the_rule_leaves_others_alone(command) -> None:
    assert not BARE.search(command)
