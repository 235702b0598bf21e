import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# A busy machine is no reason to fail.
settings.register_profile("dissect", deadline=None)
settings.load_profile("dissect")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for trying things out; it lies beside the repository and is not part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real data is not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(autouse=True)
def _seed_and_threads() -> Iterator[None]:
    """Every test begins alike, whatever ran before it."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    """A client of a server of the studio, what it serves, and the folder that it writes in."""
    from helpers.studio import running, workspace

    folder = tmp_path_factory.mktemp("studio")
    made = workspace(folder)
    with running(made) as client:
        yield client, made, folder


@pytest.fixture(scope="session")
def browser():
    """Debian's chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium: on Debian, apt-get install chromium")
    with playwright.sync_playwright() as driver:
        # In a container without user namespaces chromium starts only without its sandbox; it
        # visits no page but ours.
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """A function that opens a tab at an address; errors in the page fail the test.

    It is an address of a studio of the test's own, or of the `client` that is given.
    """
    from helpers.studio import running, workspace

    tabs, errors = [], []
    with running(workspace(tmp_path)) as own:

        def opened(where="", *, client=own, viewport=(1280, 720), **options):
            width, height = viewport
            page = browser.new_page(viewport={"width": width, "height": height}, **options)
            tabs.append(page)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(client.url + where)
            page.wait_for_selector("body[data-ready]")
            return page

        yield opened
        if folder := os.environ.get("DISSECT_SCREENSHOTS"):
            test = os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0]
            for number, page in enumerate(tabs):
                page.screenshot(
                    path=Path(folder) / f"{re.sub(r'[^0-9a-z]+', '-', test)}{number}.png"
                )
        for page in tabs:
            page.close()
    assert errors == []
