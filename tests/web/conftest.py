"""A real Chromium for the tests of the page; where there is none they are skipped, and say so."""

import shutil

import pytest


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is not tested without playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("the page is not tested without a Chromium: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def new_page(chromium):
    """A function that opens a page of the given size, by default without motion, which costs time; what a script of the
    page fails at fails the test."""
    contexts, problems = [], []

    def open_page(url, width=1000, height=700, **options):
        options = {"viewport": {"width": width, "height": height}, "reduced_motion": "reduce", **options}
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
