"""How quickly the page answers a photographer: in a real browser, with the example of 4K and the default model.

    python -m benchmarks.page [--photo FILE --mask FILE] [--repeats 5] [--out FILE.json]

It starts `refiner web` and drives Chromium with Playwright. Seconds are medians; a stroke's milliseconds are from the
pointer's event to its paint. Each removal is canceled after its first look, so that the next one starts from the photo.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from benchmarks.measure import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

ROOT = Path(__file__).parents[1]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
_WINDOW = (1440, 900)  # pixels; the docs' picture is 4/5 of that
_MARK = 8  # lines of the stroke that is measured


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--photo", type=Path, default=ROOT / "examples/otter.jpg")
    parser.add_argument("--mask", type=Path, default=ROOT / "examples/otter_mask.png")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--screenshot", type=Path, help="also make the picture of the docs, from the example")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as (process, address):
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
            page = browser.new_page(viewport={"width": _WINDOW[0], "height": _WINDOW[1]})
            page.goto(address)
            page.wait_for_selector(".card")
            figures = _figures(page, arguments)
            if arguments.screenshot is not None:
                _screenshot(page, arguments.screenshot, arguments.mask)
            browser.close()
        figures["server_memory_gb"] = round(process.memory_info().rss / 1e9, 2)
    text = json.dumps({"machine": machine(torch.device("cpu")), **figures}, indent=2)
    print(text)  # noqa: T201  a script's result
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")


def _figures(page: Page, arguments: argparse.Namespace) -> dict[str, Any]:
    opened = _seconds(lambda: _open(page, arguments.photo))
    strokes = _strokes(page)
    page.keyboard.press("Delete")
    _load_mask(page, arguments.mask)
    first, canceled = [], []
    for _ in range(arguments.repeats):
        page.click("#remove")
        first.append(_wait(page, "refinerPage.work.firstAfter") / 1000)
        _wait(page, "refinerPage.state.job?.progress")
        canceled.append(_seconds(lambda: _cancel(page)))
    snapped = [_seconds(lambda: _snap(page)) for _ in range(arguments.repeats)]
    return {
        "photo": arguments.photo.name,
        "upload_to_screen_s": round(opened, 2),
        "stroke_ms": {"median": statistics.median(strokes), "p95": sorted(strokes)[int(0.95 * len(strokes))]},
        "first_look_s": {"median": round(statistics.median(first), 2), "all": [round(value, 2) for value in first]},
        "cancel_s": round(statistics.median(canceled), 2),
        "snap_s": round(statistics.median(snapped), 2),
        "load": psutil.getloadavg(),
    }


def _open(page: Page, photo: Path) -> None:
    page.set_input_files("#file", photo)
    _wait(page, "refinerPage.state.picture?.preview.naturalWidth")


def _strokes(page: Page) -> list[float]:
    """Draw a long stroke; gives the milliseconds of each event."""
    box = page.locator("#stage").bounding_box()
    assert box is not None  # noqa: S101  it is on the page
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    for step in range(40 * _MARK):
        x, y = step % 40 * 20, step // 40 * 40
        page.mouse.move(box["x"] + 200 + x, box["y"] + 200 + y)
    page.mouse.up()
    latencies: list[float] = page.evaluate("refinerPage.stage.latencies")
    return latencies


def _load_mask(page: Page, mask: Path) -> None:
    page.set_input_files("#mask-file", mask)
    _wait(page, "refinerPage.state.marks.current.at(-1)?.kind === 'mask'")
    _wait(page, "/GB|MB/.test(document.querySelector('#plan').textContent)")  # the plan is made


def _cancel(page: Page) -> None:
    page.click("#cancel")
    _wait(page, "!refinerPage.state.job")


def _snap(page: Page) -> None:
    before = page.evaluate("refinerPage.state.marks.done.length")
    page.click("#snap")
    _wait(page, f"refinerPage.state.marks.done.length > {before}")


def _screenshot(page: Page, path: Path, mask: Path) -> None:
    """Make the docs' picture: the marked object removed, the slider over the place where it was."""
    page.keyboard.press("Delete")
    _load_mask(page, mask)
    page.click("#remove")
    _wait(page, "!refinerPage.state.job && refinerPage.state.round === 1")
    _wait(page, "document.getElementById('toast').textContent.startsWith('Done')")
    page.evaluate("document.getElementById('toast').hidden = true")
    page.click("#compare")
    x, y = _at(page, 2100, 1000)
    page.mouse.move(_at(page, 1920, 0)[0], y)
    page.mouse.down()
    page.mouse.move(x, y, steps=5)
    page.mouse.up()
    time.sleep(1)  # for the last tile
    with Image.open(io.BytesIO(page.screenshot())) as image:
        smaller = image.convert("RGB").resize((1152, 720), Image.Resampling.LANCZOS)
        smaller.save(path, quality=88, subsampling=0, optimize=True)


def _at(page: Page, x: float, y: float) -> tuple[float, float]:
    """The place on the screen of a pixel of the photo."""
    left, top, scale = page.evaluate("(({x, y, scale}) => [x, y, scale])(refinerPage.view)")
    box = page.locator("#stage").bounding_box()
    assert box is not None  # noqa: S101  it is on the page
    return box["x"] + left + x * scale, box["y"] + top + y * scale


def _wait(page: Page, what: str, seconds: float = 100) -> Any:
    end = time.monotonic() + seconds
    while not (value := page.evaluate(what)):
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds} s")
        time.sleep(0.01)
    return value


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    """Run the server as a program of its own, warmed up; gives its process and its address."""
    environment = {**os.environ, "REFINER_CACHE": str(folder), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "refiner", "web", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  this very interpreter
        assert process.stdout is not None  # noqa: S101  it is a pipe
        address = process.stdout.readline().strip()
        _until_healthy(address)
        time.sleep(20)  # in which the server loads and tries the model, as it does at its start
        try:
            yield psutil.Process(process.pid), address
        finally:
            process.terminate()


def _until_healthy(address: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}healthz"):  # noqa: S310  our own
            return
        time.sleep(0.1)
    raise SystemExit(f"{address}: does not answer")


if __name__ == "__main__":
    main()
