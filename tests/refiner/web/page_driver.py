"""Driving the page in Debian's Chromium with Playwright."""

from __future__ import annotations

import time
from pathlib import Path

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def wait(page, what: str, seconds: float = 30):
    """Wait until an expression is true; the page's own policy forbids Playwright's way of waiting for one."""
    end = time.monotonic() + seconds
    while not (value := page.evaluate(what)):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


def open_photo(page, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_selector("#editor:not([hidden])")
    wait(page, "refinerPage.state.formats.length > 0 && refinerPage.state.picture.preview.complete")


def at(page, x: float, y: float) -> tuple[float, float]:
    """Where a place of the photo is on the screen."""
    view = page.evaluate("(() => { const {x, y, scale} = refinerPage.view; return [x, y, scale]; })()")
    box = page.locator("#stage").bounding_box()
    return box["x"] + view[0] + x * view[2], box["y"] + view[1] + y * view[2]


def draw(page, *points: tuple[float, float], button: str = "left") -> None:
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down(button=button)
    for point in points[1:]:
        page.mouse.move(*at(page, *point), steps=4)
    page.mouse.up(button=button)


def set_steps(page, steps: int | str) -> None:
    page.keyboard.press("m")
    if not page.is_visible("#form input[name=steps]"):
        page.click("#drawer summary")
    page.fill("#form input[name=steps]", str(steps))
    page.keyboard.press("Tab")
    page.click("#drawer-close")


def work_long(page) -> None:
    """Have removals take many seconds: the network's features at every scale, in as many steps as a server allows."""
    page.keyboard.press("m")
    if not page.is_visible("#form input[name=steps]"):
        page.click("#drawer summary")
    page.fill("#form input[name=steps]", "200")
    page.select_option("#form select[name=start]", "model")
    page.select_option("#form select[name=detail]", "features")
    page.keyboard.press("Tab")
    page.click("#drawer-close")


def remove(page) -> None:
    before = page.evaluate("refinerPage.state.photo.rounds.length")
    page.click("#remove")
    wait(page, f"refinerPage.state.round === {before} && !refinerPage.state.job && refinerPage.state.marks.empty", 90)


def downloaded(page, suffix: str | None = None) -> bytes:
    with page.expect_download() as download:
        if suffix is None:
            page.click("#download")
        else:
            page.click("#formats")
            page.click(f"#format-list button:has-text('({suffix})')")
    return Path(download.value.path()).read_bytes()
