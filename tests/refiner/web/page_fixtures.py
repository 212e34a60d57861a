"""A server as a program, a browser, and visitors at its page."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")  # a visitor sees nothing of another
def address(tmp_path_factory):
    from web_server import program

    with program(tmp_path_factory.mktemp("server")) as (_, address):
        yield address


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    from page_driver import ARGUMENTS
    from web_server import chromium

    if chromium() is None:
        pytest.skip("needs Chromium: apt-get install chromium, or its path in CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page as another visitor each time; whatever it complains of is an error."""
    contexts, complaints = [], []

    def open_page(**options: object):
        context = options.pop("beside", None)  # a further tab of the same visitor
        if context is None:
            context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, "locale": "en-US", **options})
            contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector(".card")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not [line for line in complaints if not line.startswith("Failed to load resource")]  # as asked for
