"""The page in a real browser: what a photographer does with it."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_driver import downloaded, draw, open_photo, remove, set_steps, wait, work_long
from PIL import Image, ImageCms
from test_snap import overlap, scene
from web_server import answers, file_of, opened, picture, program

pytest_plugins = "page_fixtures"
TIMES = "\N{MULTIPLICATION SIGN}"
LATENCY = 50  # milliseconds from the pointer's event to its paint


def mask_of(page) -> np.ndarray:
    """What the shown round's mask and its growth cover, from the server."""
    state = "refinerPage.state"
    made = page.evaluate(f"({{photo: {state}.photo.id, ...{state}.photo.rounds[{state}.round]}})")
    answer = page.request.get(f"{page.url.partition('#')[0]}api/photos/{made['photo']}/masks/{made['mask']}")
    from refiner.images.masks import MaskOptions, read_mask
    from refiner.images.picture import Picture

    mask = opened(answer.body()) > 0
    return read_mask(mask, Picture(np.zeros((*mask.shape, 3), np.uint8)), MaskOptions(dilate=made["grow"])).mask


def test_a_jpeg_from_upload_to_download(visit, tmp_path) -> None:
    """Uploads, draws, undoes, redoes, sees the first scale, stops, removes again, compares, downloads."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = picture((600, 440))
    data = file_of(source, "JPEG", exif=exif.tobytes(), icc_profile=profile, dpi=(240, 240), quality=92)
    (tmp_path / "Am Meer.jpg").write_bytes(data)
    page = visit()
    open_photo(page, tmp_path / "Am Meer.jpg")
    assert f"Am Meer.jpg · 600 {TIMES} 440 · JPEG RGB" in page.inner_text("#name")
    assert page.is_disabled("#remove")
    draw(page, (200, 200), (300, 220))
    assert page.is_enabled("#remove")
    page.keyboard.press("Control+z")
    assert page.is_disabled("#remove")
    page.keyboard.press("Control+Shift+Z")
    wait(page, "document.querySelector('#plan').textContent.includes('works on')")
    work_long(page)
    page.click("#remove")
    wait(page, "refinerPage.state.overlays.length")  # the first look is on the screen
    assert page.is_visible("#working")
    wait(page, "refinerPage.state.job?.progress?.scale > 1")
    page.click("#stop")
    wait(page, "!refinerPage.state.job")
    page.wait_for_selector("#history .entry:nth-child(2) .shot[aria-current=true]")
    wait(page, "document.querySelector('#toast').textContent.startsWith('Stopped')")
    set_steps(page, 2)
    draw(page, (450, 100), (500, 150))
    remove(page)
    assert page.locator("#history .shot").count() == 3
    page.click("#compare")
    page.locator("#handle").press("ArrowRight")
    assert page.evaluate("refinerPage.state.split") == pytest.approx(0.52)
    page.click("#compare")
    page.keyboard.down("h")
    assert page.inner_text("#badge") == "Original"
    page.keyboard.up("h")
    assert page.inner_text("#badge") == "Round 2"
    with Image.open(io.BytesIO(downloaded(page))) as image, Image.open(io.BytesIO(data)) as before:
        assert (image.format, image.size) == ("JPEG", (600, 440))
        assert image.getexif()[0x010F] == "Camera"
        assert image.info["icc_profile"] == profile
        assert image.info["dpi"] == (240, 240)
        assert image.quantization == before.quantization
        changed = np.abs(np.asarray(image).astype(int) - np.asarray(before)).max(axis=2) > 24
    assert changed[190:230, 200:300].mean() > 0.3
    assert changed[90:160, 440:510].mean() > 0.3
    assert not changed[300:].any()
    page.click("#history .entry:first-child .shot")
    assert downloaded(page) == data


def test_a_tiff_of_16_bits_with_an_object_snapped_to(visit, tmp_path) -> None:
    image, ball = scene()
    values = np.asarray(image).astype(np.uint16)[..., ::-1] * 257
    values += np.random.default_rng(0).integers(0, 200, values.shape, dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.tif"), values)
    page = visit()
    open_photo(page, tmp_path / "deep.tif")
    assert "16 bits" in page.inner_text("#name")
    draw(page, (380, 300), (560, 310))
    page.keyboard.press("s")
    wait(page, "refinerPage.state.marks.current.at(-1)?.kind === 'mask'")
    draw(page, (330, 170), (340, 170), button="right")  # erases a little
    assert page.evaluate("refinerPage.state.marks.current.at(-1).erase")
    remove(page)
    hole = mask_of(page)
    assert overlap(hole, ball) > 0.85
    (tmp_path / "out.tif").write_bytes(downloaded(page))
    after = cv2.imread(str(tmp_path / "out.tif"), cv2.IMREAD_UNCHANGED)
    assert (after.dtype, after.shape) == (np.uint16, values.shape)
    assert np.array_equal(after[~hole], values[~hole])
    assert (after[hole] != values[hole]).any(axis=-1).mean() > 0.9
    png = downloaded(page, ".png")
    (tmp_path / "out.png").write_bytes(png)
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED), after)


def test_a_reload_finds_mask_photo_and_job_again(visit, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(file_of(picture((600, 440))))
    page = visit()
    open_photo(page, tmp_path / "a.png")
    draw(page, (200, 200), (300, 220))
    work_long(page)
    page.reload()
    wait(page, "refinerPage.state.marks?.current.length === 1")
    page.click("#remove")
    wait(page, "refinerPage.state.job?.state === 'working'")
    page.reload()
    wait(page, "refinerPage.state.job?.state === 'working'")
    assert page.is_visible("#working")
    page.keyboard.press("Escape")
    wait(page, "!refinerPage.state.job && !document.querySelector('#toast').hidden")
    assert "nothing was changed" in page.inner_text("#toast")
    assert page.evaluate("refinerPage.state.marks.current.length") == 1


def test_two_browsers_do_not_see_each_others_photos(visit, tmp_path) -> None:
    (tmp_path / "mine.png").write_bytes(file_of(picture()))
    one, two = visit(), visit()
    open_photo(one, tmp_path / "mine.png")
    two.goto(one.url)
    two.wait_for_selector("#toast:not([hidden])")
    assert "no longer on the server" in two.inner_text("#toast")
    assert two.locator("#recent-list .card").count() == 0
    one.goto(one.url.partition("#")[0])
    one.wait_for_selector("#recent-list .card")


def test_a_stroke_is_drawn_at_once_at_4k(visit, tmp_path) -> None:
    picture((3840, 2160)).save(tmp_path / "large.jpg", quality=90)
    page = visit()
    open_photo(page, tmp_path / "large.jpg")
    page.evaluate("refinerPage.stage.latencies.length = 0")
    draw(page, *[(400 + 90 * i, 800 + 300 * (i % 3)) for i in range(30)])
    latencies = page.evaluate("refinerPage.stage.latencies")
    assert len(latencies) > 60
    assert float(np.median(latencies)) < LATENCY
    assert page.evaluate("refinerPage.stage.layers[0].width") <= 1200  # the canvas has the window's size
    page.keyboard.press("1")
    tiles = "[...refinerPage.state.picture.tiles.values()]"
    wait(page, f"{tiles}.length > 0 && {tiles}.every(tile => tile.complete)")
    assert page.inner_text("#zoom-value") == "100 %"
    assert page.evaluate("refinerPage.state.picture.tiles.size") < 20


def test_steps_by_scale(visit, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(file_of(picture((600, 440))))
    page = visit()
    open_photo(page, tmp_path / "a.png")
    for typed, kept in (("12, 8,4", [12, 8, 4]), ("7", 7), ("7,", 7), ("many", 7), ("2", None)):
        set_steps(page, typed)
        assert page.evaluate("refinerPage.state.choices.settings.steps ?? null") == kept, typed
    set_steps(page, "2, 1")
    draw(page, (200, 200), (300, 220))
    remove(page)


def test_by_keyboard_alone(visit, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(file_of(picture((600, 440))))
    page = visit()
    open_photo(page, tmp_path / "a.png")
    set_steps(page, 2)
    page.focus("#stage")
    for key in ("b", "]", "]", "Enter", *["ArrowRight"] * 6, *["ArrowDown"] * 3, "Enter"):
        page.keyboard.press(key)
    mark = page.evaluate("refinerPage.state.marks.current[0]")
    assert mark["kind"] == "stroke"
    assert len(mark["points"]) == 20
    assert page.inner_text("#speech") == "Brush up"
    page.keyboard.press("Control+Enter")
    wait(page, "refinerPage.state.photo.rounds.length === 2 && !refinerPage.state.job")
    page.keyboard.press("c")
    assert page.get_attribute("#compare", "aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert page.get_attribute("#compare", "aria-pressed") == "false"
    page.keyboard.press("o")
    wait(page, "refinerPage.state.outlined !== null")


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
def test_everything_has_a_name_and_fits_a_phone(visit, tmp_path, language) -> None:
    (tmp_path / "a.png").write_bytes(file_of(picture((600, 440))))
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, locale=language)
    open_photo(page, tmp_path / "a.png")
    page.click("#more")
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input:not([hidden]), select, [tabindex], nav, [role]')]
        .filter(node => !/progressbar|status|alert/.test(node.role))
        .filter(node => !(node.ariaLabel || node.textContent.trim() || node.labels?.[0]?.textContent.trim()))
        .map(node => node.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    rights = page.evaluate("[...document.querySelectorAll('button')].map(node => node.getBoundingClientRect().right)")
    assert max(rights) <= 390
    assert page.evaluate("document.documentElement.lang") == language[:2]
    page.click("#drawer-close")
    before = page.inner_text("#remove")
    page.select_option("#language", "fr")
    assert page.inner_text("#remove") == "Retirer" != before


def test_masks_are_saved_and_loaded(visit, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(file_of(picture((600, 440))))
    page = visit()
    open_photo(page, tmp_path / "a.png")
    page.keyboard.press("l")
    draw(page, (100, 100), (300, 100), (300, 300))
    page.keyboard.press("r")
    draw(page, (400, 100), (500, 200))
    page.keyboard.press("m")
    with page.expect_download() as download:
        page.click("#mask-save")
    mask = opened(Path(download.value.path()).read_bytes()) > 0
    assert mask[150, 250]
    assert not mask[250, 150]
    assert mask[105:195, 405:495].all()
    Image.fromarray(mask).save(tmp_path / "mask.png")
    page.click("#drawer-close")
    page.keyboard.press("Delete")
    assert page.is_disabled("#remove")
    page.set_input_files("#mask-file", tmp_path / "mask.png")
    wait(page, "refinerPage.state.marks.current.at(-1)?.kind === 'mask'")
    assert page.is_enabled("#remove")


def test_bad_files_are_told_in_one_line(visit, tmp_path) -> None:
    (tmp_path / "not.jpg").write_bytes(b"hello")
    page = visit()
    page.set_input_files("#file", tmp_path / "not.jpg")
    page.wait_for_selector("#toast:not([hidden])")
    assert page.inner_text("#toast").startswith("not.jpg: is not an image that can be read")
    assert page.is_visible("#start")


def test_a_server_that_is_killed_is_waited_for(browser, tmp_path) -> None:
    """The page tells so, tries again, and finds photo, mask and results when the server is back."""
    root = tmp_path / "cache"
    (tmp_path / "a.png").write_bytes(file_of(picture((600, 440))))
    context = browser.new_context(locale="en-US")
    with program(root) as (process, address):
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector(".card")
        open_photo(page, tmp_path / "a.png")
        draw(page, (200, 200), (300, 220))
        work_long(page)
        page.click("#remove")
        wait(page, "refinerPage.state.job?.state === 'working'", 90)
        process.kill()
        wait(page, "document.querySelector('#toast').textContent.includes('does not answer')")
    with program(root, port=int(address.rstrip("/").rsplit(":", 1)[1])) as (_, address):
        answers(address)
        wait(page, "document.querySelector('#toast').textContent.includes('in the middle of the work')", 60)
        assert page.evaluate("refinerPage.state.marks.current.length") == 1
        assert page.is_enabled("#remove")
        context.close()
