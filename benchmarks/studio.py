"""How long a hand waits in the studio: for the page, and for the picture after an edit.

Needs chromium and Playwright. The bundled model, the probe's 126 units, one 64x64 sample; every
figure is a median, and the slowest is beside it.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from playwright.sync_api import Browser, Page, sync_playwright

STARTS = 5
EDITS = 40


def started(*words: str) -> tuple["subprocess.Popen[str]", str]:
    command = [sys.executable, "-m", "dissect", *words, "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("http"):
            return process, line.strip()
    raise SystemExit(f"the command ended with {process.wait()}")


def usable(browser: Browser, words: list[str], selector: str) -> float:
    """Seconds from the command to a page that shows the first picture."""
    page = browser.new_page()
    began = time.perf_counter()
    process, url = started(*words)
    page.goto(url)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    page.wait_for_selector(selector)
    seconds = time.perf_counter() - began
    page.close()
    process.terminate()
    process.wait()
    return seconds


def waits(page: Page) -> list[float]:
    """Milliseconds from each gesture to its picture, as the page itself measures them."""
    found: list[float] = page.evaluate(
        "performance.getEntriesByName('edit').map((entry) => entry.duration)"
    )
    page.evaluate("performance.clearMeasures()")
    return found


def edits(browser: Browser, words: list[str]) -> dict[str, list[float]]:
    """What is waited for after a unit is switched, and after a cell is brushed."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    process, url = started("studio", *words)
    page.goto(url)
    page.wait_for_selector("body[data-ready]", timeout=60_000)
    page.wait_for_timeout(2_000)
    waits(page)
    for edit in range(EDITS):
        page.locator("#units input").nth(edit % 5).click()
        page.wait_for_timeout(150)
    switched = waits(page)
    page.keyboard.press("b")
    page.wait_for_timeout(500)
    waits(page)
    bounds = page.locator(".pane .view").first.bounding_box()
    assert bounds is not None
    for edit in range(EDITS):
        x = bounds["x"] + (edit % 8 + 0.5) * bounds["width"] / 8
        y = bounds["y"] + (edit // 8 + 0.5) * bounds["height"] / 8
        page.mouse.click(x, y)
        page.wait_for_timeout(150)
    brushed = waits(page)
    page.close()
    process.terminate()
    process.wait()
    return {"a unit switched": switched, "a cell brushed": brushed}


def told(values: list[float], unit: str, digits: int) -> str:
    median, most = statistics.median(values), max(values)
    return f"{median:.{digits}f} {unit} (slowest of {len(values)}: {most:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segmenter", help="weights of a segmenter, to count windows with")
    segmenter = parser.parse_args().segmenter
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium: on Debian, apt-get install chromium")
    eyes = ["--segmenter", segmenter] if segmenter else []
    print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        out = ["--out", folder]
        pages = [usable(browser, ["annotate", *out], "#stage img") for _ in range(STARTS)]
        print(f"from the command to a page to draw on: {told(pages, 's', 2)}", flush=True)
        for gesture, times in edits(browser, [*out, *eyes]).items():
            print(f"from {gesture} to the picture: {told(times, 'ms', 0)}", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
