"""What makes the page pleasant: fills, clicks, a way back, progress that moves, large targets, languages."""

from __future__ import annotations

import time

import numpy as np
import pytest
from page_driver import at, draw, open_photo, remove, set_steps, wait, work_long
from test_proposals import shaded
from test_snap import overlap, scene
from web_server import file_of, opened, picture

pytest_plugins = "page_fixtures"
STATE = "refinerPage.state"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(file_of(picture((300, 220))))
    return path


def mask_at(page, number: int = -1) -> np.ndarray:
    found = page.evaluate(f"{STATE}.marks.current.at({number}).id")
    answer = page.request.get(f"{page.url.partition('#')[0]}api/photos/{page.url.partition('#')[2]}/masks/{found}")
    return opened(answer.body()) > 0


def test_another_fill_and_keys_to_choose(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    set_steps(page, 2)
    draw(page, (100, 100), (150, 110))
    remove(page)
    assert page.locator("#fills .shot").count() == 0
    page.click("#another")
    page.keyboard.press("a")  # a second one, while the first is at work
    wait(page, f"{STATE}.photo.rounds.length === 4 && !{STATE}.job", 90)
    assert page.locator("#fills .shot").count() == 3
    assert page.locator("#history .shot").count() == 2  # one hole, one entry
    faults = page.evaluate(f"{STATE}.photo.rounds.slice(1).map(round => [round.number, round.faults])")
    order = [number for number, _ in sorted(faults, key=lambda each: each[1])]
    for place, number in enumerate(order, start=1):
        page.keyboard.press(str(place))
        assert page.evaluate(f"{STATE}.round") == number
        current = page.locator("#fills .shot[aria-current=true]")
        assert current.inner_text() == str(place)
    draw(page, (200, 50), (220, 60))  # goes on from the one that was chosen
    remove(page)
    assert page.evaluate(f"{STATE}.photo.rounds.at(-1).parent") == order[-1]
    page.keyboard.press("1")
    assert page.inner_text("#zoom-value") == "100 %"  # with one fill, 1 shows the photo at 1:1 as ever


def test_undo_goes_back_through_removals(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    set_steps(page, 2)
    draw(page, (100, 100), (150, 110))
    remove(page)
    draw(page, (200, 50), (220, 60))
    where = f"[{STATE}.round, {STATE}.marks.current.length]"
    for expected in ([1, 0], [0, 1], [0, 0], [0, 0]):
        page.keyboard.press("Control+z")
        assert page.evaluate(where) == expected
    assert page.is_disabled("#undo")
    for expected in ([0, 1], [1, 0], [1, 0]):
        page.keyboard.press("Control+Shift+Z")
        assert page.evaluate(where) == expected
    page.keyboard.press("Control+z")
    draw(page, (20, 20), (40, 40))  # another way: the old one is no longer ahead
    page.keyboard.press("Control+Shift+Z")
    assert page.evaluate(where) == [0, 2]
    assert page.is_disabled("#redo")


def test_a_removal_is_deleted_from_the_history(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    set_steps(page, 2)
    for x in (60, 200):
        draw(page, (x, 100), (x + 30, 110))
        remove(page)
    page.hover("#history .entry:nth-child(3)")
    page.click("#history .entry:nth-child(3) .cross")
    page.click("#confirm-yes")
    wait(page, f"{STATE}.photo.rounds.length === 2 && {STATE}.round === 1")
    page.keyboard.press("m")
    page.click("#round-delete")
    page.click("#confirm-yes")
    wait(page, f"{STATE}.photo.rounds.length === 1 && {STATE}.round === 0")
    assert page.is_hidden("#history")


def test_an_object_is_selected_by_clicks(visit, tmp_path) -> None:
    image, ball = scene()
    image.save(tmp_path / "ball.png")
    page = visit()
    open_photo(page, tmp_path / "ball.png")
    y, x = (int(each.mean()) for each in np.nonzero(ball))
    page.keyboard.press("w")
    page.mouse.click(*at(page, x, y))
    wait(page, f"{STATE}.marks.current.length === 1 && {STATE}.marks.current[0].clicks")
    assert overlap(mask_at(page), ball) > 0.75
    page.mouse.click(*at(page, x, y - 130), button="right")  # takes away what is there
    wait(page, f"{STATE}.marks.current[0].clicks.length === 2")
    assert page.evaluate(f"{STATE}.marks.current[0].clicks[1].plus") is False
    assert page.evaluate(f"{STATE}.marks.current.length") == 1
    page.keyboard.press("Control+z")
    assert page.evaluate(f"{STATE}.marks.current[0].clicks.length") == 1
    page.mouse.click(*at(page, x, y))  # on what is selected: takes away too
    wait(page, f"{STATE}.marks.current[0].clicks.length === 2")
    assert page.evaluate(f"{STATE}.marks.current[0].clicks[1].plus") is False


def test_the_shadow_is_added_to_what_is_painted(visit, tmp_path) -> None:
    pixels, ball, shadow = shaded()
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "ball.png")
    Image.fromarray(ball).save(tmp_path / "mask.png")
    page = visit()
    open_photo(page, tmp_path / "ball.png")
    assert page.is_disabled("#shadow")
    page.set_input_files("#mask-file", tmp_path / "mask.png")
    wait(page, f"{STATE}.marks.current.length === 1")
    page.keyboard.press("d")
    wait(page, f"{STATE}.marks.current.length === 2")
    found = mask_at(page)
    assert found[ball].mean() > 0.99
    assert found[shadow].mean() > 0.8


def test_progress_moves_from_the_first_second_and_cancel_is_at_once(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    draw(page, (100, 100), (150, 110))
    work_long(page)
    page.click("#remove")
    wait(page, f"{STATE}.job?.state === 'working'", 90)
    width = "parseFloat(document.querySelector('#working .meter i').style.width)"
    seen = []
    for _ in range(10):
        seen.append(page.evaluate(width))
        page.wait_for_timeout(150)
    assert seen == sorted(seen)
    assert len(set(seen)) > 4
    assert 0 < seen[-1] < 100
    started = time.monotonic()
    page.keyboard.press("Escape")
    wait(page, f"!{STATE}.job && !document.querySelector('.dock .row').classList.contains('off')")
    assert time.monotonic() - started < 1.5  # 0.2 where nothing else runs


@pytest.mark.parametrize(("width", "height"), [(390, 844), (844, 390)])
@pytest.mark.parametrize("locale", ["en-US", "de-DE"])
def test_on_a_phone_nothing_is_cut_off(visit, tmp_path, width, height, locale) -> None:
    page = visit(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True, locale=locale)
    inside = "(node => node.getBoundingClientRect().bottom <= innerHeight)(document.querySelector('#choose'))"
    assert page.evaluate(inside)  # what to press first is in sight
    cut = "(node => node.scrollHeight > node.clientHeight + 1)(document.querySelector('#plan'))"
    (tmp_path / "photo.jpg").write_bytes(file_of(picture((800, 600)), "JPEG"))
    open_photo(page, tmp_path / "photo.jpg")
    assert page.inner_text("#plan")
    assert not page.evaluate(cut)
    draw(page, (100, 100), (150, 110))
    set_steps(page, 2)
    remove(page)
    assert "a .png keeps them exactly" in page.inner_text("#plan")
    assert not page.evaluate(cut)
    label = "(node => node.getBoundingClientRect().right <= node.parentNode.getBoundingClientRect().right)"
    assert page.evaluate(f"{label}(document.querySelector('#history .shot span'))")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (844, 390)])
def test_on_a_phone_everything_is_large_enough_and_has_a_name(visit, photo, width, height) -> None:
    page = visit(viewport={"width": width, "height": height}, has_touch=True, is_mobile=True)
    open_photo(page, photo)
    draw(page, (100, 100), (150, 110))
    set_steps(page, 2)
    remove(page)
    page.click("#more")
    small = page.evaluate(
        """[...document.querySelectorAll('button, select, input[type=range]')].map(node => {
          const box = node.getBoundingClientRect();
          return [node.id || node.dataset.tool || node.className, box.width, box.height];
        }).filter(([, width, height]) => width && (width < 44 || height < 44))"""
    )
    assert small == []
    page.click("#drawer-close")
    for tool in ("brush", "select"):
        label = page.locator(f"[data-tool={tool}] small")
        assert label.is_visible()
        assert label.inner_text() == {"brush": "Brush", "select": "Click"}[tool]
    beyond = page.evaluate(
        """[...document.querySelectorAll('#editor button')].filter(node => node.offsetParent).map(node => {
          const box = node.getBoundingClientRect();
          return [node.id, box.right > innerWidth + 0.5 || box.bottom > innerHeight + 0.5 || box.left < 0];
        }).filter(([, out]) => out)"""
    )
    assert beyond == []


@pytest.mark.parametrize(
    ("locale", "word"),
    [
        ("de-CH", "Foto wählen"),
        ("fr-CA", "Choisir une photo"),
        ("es-MX", "Elegir una foto"),
        ("ja-JP", "写真を選ぶ"),
        ("it-IT", "Choose a photo"),
    ],
)
def test_the_page_speaks_the_browsers_language(visit, locale, word) -> None:
    page = visit(locale=locale)
    assert page.inner_text("#choose") == word
    page.select_option("#language", "zh")
    assert page.inner_text("#choose") == "选择照片"
    page.reload()
    page.wait_for_selector(".card")
    assert page.inner_text("#choose") == "选择照片"
    assert page.evaluate("document.documentElement.lang") == "zh"
