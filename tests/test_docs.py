"""What README, docs and CONTRIBUTING say: their Python runs, their options, settings, links and names exist."""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
import types
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

import refiner
from benchmarks.quality.__main__ import main as quality
from benchmarks.speed import main as speed
from benchmarks.targets import main as targets
from lama.training.__main__ import main as training
from refiner.cli.app import app

ROOT = Path(__file__).parents[1]
DOCS = sorted(ROOT.glob("docs/*.md"))
PAGES = [ROOT / "README.md", *DOCS]
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]
# Of `mkdocs build` and `ruff format`; of Krita and darktable.
FOREIGN = {"--strict", "--check", "--export", "--export-filename", "--core", "--conf"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SIDE = 384  # two scales with lama-small
FOREIGN_TO_PAGE = {"--build-arg", "--data-binary"}  # of docker and curl, around the page
HOLE = (slice(160, 230), slice(150, 240))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class UNet(torch.nn.Module):
    """A reader's network: four channels in, three in [-1,1] out, skips and a bottleneck between."""

    def __init__(self) -> None:
        super().__init__()
        self.skip = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.down = torch.nn.Conv2d(4, 8, 16, stride=16)
        self.up = torch.nn.ConvTranspose2d(8, 4, 16, stride=16)
        self.out = torch.nn.Conv2d(4, 3, 1)

    def encode(self, x):
        return {"bottleneck": torch.relu(self.down(x)), "skips": [torch.relu(self.skip(x))]}

    def decode(self, features):
        return torch.tanh(self.out(self.up(features["bottleneck"]) + features["skips"][0]))


@pytest.fixture
def readers_own(tmp_path, monkeypatch) -> dict[str, Any]:
    """A reader's folder and names: a photo, a mask, a preset, a network and its weights."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    values = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    photo.save("photo.jpg")
    mask = Image.new("L", photo.size)
    ImageDraw.Draw(mask).rectangle((HOLE[1].start, HOLE[0].start, HOLE[1].stop - 1, HOLE[0].stop - 1), fill=255)
    mask.save("mask.png")
    Path("mine.yaml").write_text("steps: 3\nwindows: off\n", encoding="utf-8")
    torch.save(UNet().state_dict(), "unet.pt")
    project = types.ModuleType("my_project")
    project.UNet = UNet  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_project", project)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    layers = [torch.nn.Conv2d(4, 8, 8, stride=8), torch.nn.ConvTranspose2d(8, 3, 8, stride=8)]
    network = torch.nn.Sequential()
    network.add_module("head", layers[0])
    network.add_module("body", torch.nn.Sequential(layers[1], torch.nn.Tanh()))
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    hole = torch.zeros(1, 1, SIDE, SIDE)
    hole[..., HOLE[0], HOLE[1]] = 1
    return {"image": image, "mask": hole, "network": network}


def fewer_steps(block: str) -> ast.Module:
    """A block, with at most three predictions where it asks for more: the test is whether it runs."""
    tree = ast.parse(block)
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "steps" and isinstance(node.value, ast.Constant):
            node.value.value = min(node.value.value, 3)
    return tree


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_python_runs(page, readers_own) -> None:
    namespace = {"__name__": "page", **readers_own}
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language != "python":
            continue
        head = re.match(r"# (\w+\.py)\n", block)
        if head:
            Path(head[1]).write_text(block, encoding="utf-8")
        exec(compile(fewer_steps(block), name_of(page), "exec"), namespace)  # noqa: S102  our own pages
        for name in [name for name in namespace if name.startswith("test_")]:
            namespace.pop(name)()
    for value in namespace.values():
        if isinstance(value, Image.Image):
            value.close()  # or its file is found open in the middle of another test
    if "model" in namespace:  # what a page plugs in can be refined
        model = namespace["model"]
        result = refiner.refine(
            model, readers_own["image"], readers_own["mask"], refiner.Settings(detail="features", steps=2)
        )
        assert result.image.shape == readers_own["image"].shape


def options_of(command: click.Command) -> set[str]:
    found = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    found |= {"--help"}
    children = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*(options_of(child) for child in children))


def arguments(parser_module: Path) -> set[str]:
    return set(re.findall(r"[\"'](--[a-z-]+)", parser_module.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"], ids=name_of)
def test_options_exist(page) -> None:
    commands = [app, training, quality, speed, targets]
    known = (FOREIGN | FOREIGN_TO_PAGE).union(*(options_of(command) for command in commands))
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
    assert mentioned <= known


def test_options_of_a_command_are_its_own() -> None:
    for page in PAGES:
        for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
            for line in re.findall(r"refiner (\w+)([^&#\n]*)", block if language == "sh" else ""):
                command = app.commands[line[0]]
                assert set(re.findall(r"--[a-z][a-z-]*", line[1])) <= options_of(command), line


def test_settings_table() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (?:`(--[a-z-]+)`)? ?\|", page, re.MULTILINE)
    defaults = {name: ast.literal_eval(default) for name, default, _ in rows}
    assert defaults == {field.name: field.default for field in dataclasses.fields(refiner.Settings)}
    flags = options_of(app.commands["inpaint"])
    for name, _, flag in rows:
        expected = f"--{name.replace('_', '-')}"
        expected = "--no-refine" if name == "refine" else expected if expected in flags else ""
        assert flag == expected, name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK.findall(text) if "://" not in target]
    missing = [target for target in targets if target and not (page.parent / target).exists()]
    assert not missing


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(menu) == [page.name for page in DOCS]


def test_api_page_has_every_name() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    names = re.findall(r"^::: refiner\.(\w+)$", page, re.MULTILINE)
    assert sorted(names) == sorted(refiner.__all__)


def test_the_changelog_starts_with_what_is_to_come_or_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (.+)$", text, re.MULTILINE)
    assert newest[1] in ("Unreleased", refiner.__version__)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == refiner.__version__
    assert citation["license"] == "Apache-2.0"
    papers = {reference["url"] for reference in citation["references"]}
    assert papers == {"https://arxiv.org/abs/2206.13644", "https://arxiv.org/abs/2109.07161"}


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_issue_forms_are_as_github_takes_them(form) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    if form.stem == "config":
        assert content == {"blank_issues_enabled": True}
        return
    assert content["name"]
    assert content["description"]
    ids = [field["id"] for field in content["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["type"] in ("input", "textarea") and field["attributes"]["label"] for field in content["body"])


def test_hooks_before_a_commit_are_the_first_steps_of_ci() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    steps = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for hook in hooks:
        assert re.search(rf"^{hook['entry']}\b", steps, re.MULTILINE), hook["entry"]


def test_files_named_exist() -> None:
    for page in (ROOT / "docs/architecture.md", ROOT / "docs/devices.md", ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`((?:refiner|lama|tests|configs|benchmarks|docs)/[\w/.-]+)`", text)
        assert named
        assert not [path for path in named if not (ROOT / path).exists()], page.name
