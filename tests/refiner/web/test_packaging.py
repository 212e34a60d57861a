"""What starts the page elsewhere: the container and the menu entry name a command that exists."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

from web_server import HERE  # skips where the extra is not installed

from refiner.cli.app import app

ROOT = Path(__file__).parents[3]
OPTIONS = {option for parameter in app.commands["web"].params for option in parameter.opts}


def test_the_container_starts_the_page() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    command = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[1])
    assert command[:2] == ["refiner", "web"]
    assert {word for word in command if word.startswith("--")} <= OPTIONS
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["refiner"]
    assert HERE.rpartition(":")[2] in command
    copied = [line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] == "!"]
    assert not [path for path in copied if not (ROOT / path).exists()]


def test_the_menu_entry_opens_a_photo() -> None:
    entry = configparser.ConfigParser(interpolation=None)
    entry.optionxform = str
    entry.read(ROOT / "packaging/refiner-web.desktop", encoding="utf-8")
    values = entry["Desktop Entry"]
    command = values["Exec"].split()
    assert command[:2] == ["refiner", "web"]
    assert command[-1] == "%f"
    assert {word for word in command if word.startswith("--")} <= OPTIONS
    assert {"image/jpeg", "image/tiff"} <= set(values["MimeType"].split(";"))
    assert (ROOT / f"packaging/{values['Icon']}.svg").read_bytes() == (ROOT / "refiner/web/page/icon.svg").read_bytes()
