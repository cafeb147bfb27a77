"""A real JupyterLab in headless Chromium; any complaint of the browser, the server or a kernel fails the test."""

import os
import re
from pathlib import Path

import chromium
import pytest
from front.page import fixture
from front.panel_page import panel_data
from front_page import explorers
from lab import Lab, Server, in_earnest
from panel_view import Panels
from playwright.sync_api import sync_playwright


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.failed = report.failed
    return report


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory, request):
    """Give the folder for screenshots: $VIZKIT_SCREENSHOTS, else a temporary one."""
    named = os.environ.get("VIZKIT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    request.config.vizkit_screenshots = folder
    if hasattr(request.config, "workeroutput"):  # a worker's: it tells the one that sums up
        request.config.workeroutput["screenshots"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def browser():
    """Give a headless Chromium; `make test` sees to it that there is one."""
    path = chromium.find()
    if path is None:
        pytest.fail("no Chromium on this machine: `python tests/browser/chromium.py` installs one")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=chromium.LAUNCH_ARGS)
        yield running
        running.close()


@pytest.fixture
def explorer(browser, tmp_path):
    """Return a function that opens a page of the front end alone, without a kernel."""
    yield from explorers(browser, tmp_path)


@pytest.fixture(scope="session")
def small():
    """Give made-up data for the front end: 2,000 images on one map."""
    return fixture(2000)


@pytest.fixture(scope="module")
def panels(browser, tmp_path_factory):
    """Give what opens pages with the panel alone."""
    found = Panels(browser, tmp_path_factory.mktemp("panel"))
    yield found
    found.close()


@pytest.fixture
def panel(panels):
    """Return a function that opens a panel; afterwards nothing may have gone wrong."""
    yield panels.open
    assert panels.problems() == []


@pytest.fixture(scope="session")
def two_dozen():
    """Give made-up data for the panel: 24 images."""
    return panel_data()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Give a JupyterLab server with a copy of the notebooks."""
    running = Server(tmp_path_factory.mktemp("jupyter"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def page(browser):
    """Give a browser page that fails the test for every error in it."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)  # a busy machine of two cores may take its time
    complaints = []

    def on_console(message):
        if message.type == "error":
            complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def on_response(response):
        if response.status >= 400:
            complaints.append(f"response {response.status}: {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"page error: {error.stack or error}"))
    page.on("requestfailed", lambda request: complaints.append(f"request failed: {request.url} {request.failure}"))
    page.on("response", on_response)
    page.complaints = complaints
    yield page
    heard = in_earnest(complaints)
    context.close()
    assert not heard, "the browser complained:\n" + "\n".join(heard)


@pytest.fixture
def lab(page, server, screenshots, request):
    """Give a JupyterLab page; its kernels end with the test."""
    session = Lab(page, server, screenshots)
    yield session
    if getattr(request.node, "failed", False):
        session.screenshot(f"failed-{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)}")
    complaints = session.complaints()
    page.close()  # before the kernels, or the page complains that they are gone
    server.end_kernels()
    heard = in_earnest(complaints + session.complaints())
    assert not heard, "the server or a kernel complained:\n" + "\n".join(heard)
