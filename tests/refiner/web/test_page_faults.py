"""What must not happen on the page: nothing painted is lost, nothing of one photo is shown with another."""

from __future__ import annotations

import time

import numpy as np
import pytest
from page_driver import at, draw, open_photo, remove, set_steps, wait, work_long
from PIL import Image
from web_server import file_of, picture

pytest_plugins = "page_fixtures"
STATE = "refinerPage.state"
TOAST = "document.querySelector('#toast')"
PHONE = {"has_touch": True, "is_mobile": True}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(file_of(picture((600, 440))))
    return path


def working(page) -> None:
    work_long(page)
    page.click("#remove")
    wait(page, f"{STATE}.job?.state === 'working'", 90)  # the server may still be warming up


def test_another_photo_shows_nothing_of_the_job_of_the_first(visit, photo, tmp_path) -> None:
    (tmp_path / "b.png").write_bytes(file_of(picture((500, 300), seed=5)))
    page = visit()
    open_photo(page, photo)
    draw(page, (200, 200), (300, 220))
    working(page)
    first = page.evaluate(f"{STATE}.photo.id")
    page.click("#home")
    open_photo(page, tmp_path / "b.png")
    assert page.evaluate(f"[{STATE}.job, {STATE}.overlays.length, {STATE}.marks.done.length]") == [None, 0, 0]
    assert page.is_visible("#tools")
    assert not page.is_visible("#cancel")
    assert page.inner_text("#name").startswith("b.png")
    page.keyboard.press("Escape")
    draw(page, (100, 100), (150, 120))
    assert page.is_enabled("#remove")
    page.evaluate(f"location.hash = '{first}'")  # and back: the job is found again
    wait(page, f"{STATE}.photo?.id === '{first}' && {STATE}.job?.state === 'working'")
    assert page.is_visible("#cancel")
    assert not page.is_visible("#tools")
    page.click("#cancel")
    wait(page, f"!{STATE}.job")
    assert page.is_visible("#tools")


def test_leaving_at_once_after_asking_for_a_removal(visit, photo, tmp_path) -> None:
    page = visit()
    open_photo(page, photo)
    draw(page, (200, 200), (300, 220))
    work_long(page)

    def late(route) -> None:
        time.sleep(0.4)
        route.continue_()

    page.route("**/jobs", late)
    page.evaluate("document.querySelector('#remove').click(); document.querySelector('#home').click()")
    page.wait_for_selector("#recent-list .card")
    page.wait_for_timeout(900)
    assert page.evaluate(f"[{STATE}.job, {STATE}.photo]") == [None, None]
    assert page.is_visible("#start")
    assert not page.is_visible("#toast")
    page.click("#recent-list .card")
    wait(page, f"{STATE}.job?.state === 'working'", 90)
    page.click("#cancel")
    wait(page, f"!{STATE}.job")


def test_what_is_painted_while_the_result_loads_stays(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    set_steps(page, 2)
    draw(page, (200, 200), (300, 220))
    held = []
    page.route("**/rounds/1/preview", lambda route: held.append(route))  # noqa: PLW0108  Playwright wants a function
    page.click("#remove")
    wait(page, f"{STATE}.round === 1 && !{STATE}.job")
    draw(page, (400, 100), (450, 150))
    kept = page.evaluate(f"{STATE}.marks.done.length")
    assert kept == 1
    assert page.evaluate(f"{STATE}.overlays.length") == 1  # the last scale stands in for the preview
    held[0].continue_()
    wait(page, f"{STATE}.picture.preview.complete && {STATE}.overlays.length === 0")
    assert page.evaluate(f"{STATE}.marks.done.length") == 1
    assert page.is_enabled("#remove")


def touch(page, kind: str, number: int, x: float, y: float) -> None:
    left, top = at(page, x, y)
    options = f"pointerId: {number}, pointerType: 'touch', isPrimary: {str(number == 1).lower()}, bubbles: true"
    page.evaluate(
        f"document.querySelector('#stage').dispatchEvent(new PointerEvent('{kind}', {{{options}, button: 0, "
        f"buttons: 1, clientX: {left}, clientY: {top}}}))"
    )


def test_more_fingers_than_two_leave_nothing(visit, photo) -> None:
    page = visit(viewport={"width": 390, "height": 844}, **PHONE)
    open_photo(page, photo)
    page.evaluate("Element.prototype.setPointerCapture = () => {}")  # the fingers are made up
    for fingers in (3, 4):
        for number in range(1, fingers + 1):
            touch(page, "pointerdown", number, 100 * number, 100)
        for number in range(1, fingers + 1):
            touch(page, "pointermove", number, 100 * number + 20, 120)
        for number in range(fingers, 0, -1):
            touch(page, "pointerup", number, 100 * number + 20, 120)
        left = "[refinerPage.stage.drawing, refinerPage.stage.pointers.size, refinerPage.stage.panning]"
        assert page.evaluate(left) == [None, 0, False]
        page.wait_for_timeout(100)
        everything = "0, 0, refinerPage.view.width, refinerPage.view.height"
        painted = f"refinerPage.stage.mask.getImageData({everything}).data.some(value => value)"
        assert not page.evaluate(painted)
    touch(page, "pointerdown", 1, 200, 200)
    touch(page, "pointermove", 1, 260, 220)
    touch(page, "pointerup", 1, 260, 220)
    assert page.evaluate(f"{STATE}.marks.done.length") == 1  # one finger still paints


@pytest.mark.parametrize(("width", "height", "least"), [(390, 844, 400), (844, 390, 270)])
def test_the_photo_stays_where_it_is_on_a_phone(visit, tmp_path, width, height, least) -> None:
    (tmp_path / "palette with a rather long name.png").write_bytes(file_of(picture((600, 440)).convert("P")))
    page = visit(viewport={"width": width, "height": height}, **PHONE)
    open_photo(page, tmp_path / "palette with a rather long name.png")
    place = "refinerPage.view.x, refinerPage.view.y, refinerPage.view.scale"
    view = f"[{place}, document.querySelector('#stage').clientHeight]"
    before = page.evaluate(view)
    assert before[3] > least
    draw(page, (200, 200), (300, 220))
    for _ in range(12):
        assert page.evaluate(view) == before
        page.wait_for_timeout(100)
    page.evaluate("document.querySelector('#plan').textContent = 'A long line of words. '.repeat(30)")
    assert page.evaluate(view) == before
    set_steps(page, 2)
    page.click("#remove")
    wait(page, f"{STATE}.job")
    assert page.evaluate(view) == before
    wait(page, f"{STATE}.photo.rounds.length === 2 && !{STATE}.job", 90)
    page.wait_for_selector("#history .entry:nth-child(2)")
    assert page.evaluate(view) == before


def test_the_photo_stays_in_sight_while_the_result_loads(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    set_steps(page, 2)
    draw(page, (200, 200), (300, 220))
    held = []
    page.route("**/rounds/1/preview", lambda route: held.append(route))  # noqa: PLW0108  Playwright wants a function
    page.click("#remove")
    wait(page, f"{STATE}.round === 1 && !{STATE}.job", 90)
    page.wait_for_timeout(100)
    corner = "[refinerPage.view.x + 5, refinerPage.view.y + 5, 1, 1]"
    seen = f"[...refinerPage.stage.photo.getImageData(...{corner}).data]"
    assert page.evaluate(seen)[3] == 255
    held[0].continue_()
    wait(page, f"{STATE}.picture.preview.complete && {STATE}.picture.before === null")


def test_a_stop_is_answered_at_once(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    draw(page, (200, 200), (300, 220))
    working(page)
    wait(page, f"{STATE}.job?.progress", 90)  # before, there is nothing to keep
    held = []  # as if the server were busy
    page.route("**/stop", lambda route: held.append(route))  # noqa: PLW0108  Playwright wants a function
    page.click("#stop")
    assert page.inner_text("#working-text") == "Stopping after the step that is under way …"
    assert page.is_disabled("#stop")
    held[0].continue_()
    wait(page, f"!{STATE}.job", 90)
    assert page.evaluate(f"{STATE}.photo.rounds.length") == 2  # what there was is kept


def test_a_second_tab_learns_of_the_first_ones_work(visit, photo) -> None:
    one = visit()
    open_photo(one, photo)
    two = visit(beside=one.context)
    two.goto(one.url)
    wait(two, f"{STATE}.photo !== null && {STATE}.picture.preview.complete")
    draw(one, (200, 200), (300, 220))
    working(one)
    wait(two, f"{STATE}.job?.state === 'working'")
    assert two.is_visible("#cancel")
    two.click("#cancel")
    wait(one, f"!{STATE}.job")
    set_steps(one, 2)
    remove(one)
    wait(two, f"{STATE}.round === 1 && {STATE}.photo.rounds.length === 2 && !{STATE}.job")
    assert two.locator("#history .shot").count() == 2


def test_a_photo_is_deleted_on_the_page(visit, photo) -> None:
    page = visit()
    open_photo(page, photo)
    page.keyboard.press("m")
    page.click("#photo-delete")
    page.click("#confirm button:not(#confirm-yes)")
    assert page.is_visible("#editor")
    page.click("#photo-delete")
    page.click("#confirm-yes")
    page.wait_for_selector("#start:not([hidden])")
    assert page.locator("#recent-list .card").count() == 0
    assert "was deleted" in page.inner_text("#toast")
    open_photo(page, photo)
    page.click("#home")
    page.hover("#recent-list .kept")
    page.click("#recent-list .cross")
    page.click("#confirm-yes")
    wait(page, "document.querySelectorAll('#recent-list .card').length === 0")
    assert page.request.get(f"{page.url.partition('#')[0]}api/photos").json() == []


def test_a_bad_file_leaves_the_open_photo_open(visit, photo, tmp_path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"hello")
    page = visit()
    open_photo(page, photo)
    draw(page, (200, 200), (300, 220))
    page.set_input_files("#file", tmp_path / "bad.jpg")
    wait(page, f"{TOAST}.textContent.startsWith('bad.jpg: is not an image')")
    assert page.is_visible("#editor")
    assert page.inner_text("#name").startswith("a.png")
    assert page.evaluate(f"{STATE}.marks.current.length") == 1
    page.evaluate(f"{STATE}.config.upload_bytes = 3")
    page.set_input_files("#file", tmp_path / "bad.jpg")
    wait(page, f"{TOAST}.textContent.includes('this server takes')")
    assert page.is_visible("#editor")


def test_a_mask_of_another_shape_is_offered_to_be_stretched(visit, photo, tmp_path) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[25:50, 50:75] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    page = visit()
    open_photo(page, photo)
    page.set_input_files("#mask-file", tmp_path / "mask.png")
    page.wait_for_selector("#toast button")
    assert page.inner_text("#toast button") == "Stretch it to fit"
    page.click("#toast button")
    wait(page, f"{STATE}.marks.current.at(-1)?.kind === 'mask'")
    found = page.evaluate(f"{STATE}.marks.current.at(-1).id")
    answer = page.request.get(f"{page.url.partition('#')[0]}api/photos/{page.url.partition('#')[2]}/masks/{found}")
    import io

    with Image.open(io.BytesIO(answer.body())) as image:
        assert image.getbbox() == pytest.approx((300, 110, 450, 220), abs=3)
