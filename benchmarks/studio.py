"""How long a hand waits in the studio: for the page, and for the picture after an edit.

Needs chromium and Playwright. The bundled model, the units of the paper's rule, one 64x64 sample;
every figure is a median, and the slowest is beside it, and where /proc tells it the server's own
processor time, which depends less on what else the machine does. The gestures are made twice: with
nothing else to do, and while the server measures in the background what each unit does.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from dissect.latent_space import Direction
from dissect.models import latents

STARTS = 5
EDITS = 40
PAUSE = 150  # milliseconds from one gesture to the next


def started(*words: str) -> tuple["subprocess.Popen[str]", str]:
    command = [sys.executable, "-m", "dissect", *words, "--no-browser"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("http"):
            return process, line.strip()
    raise SystemExit(f"the command ended with {process.wait()}")


def processor(process: "subprocess.Popen[str]") -> float:
    """Seconds of processor time that a process has had; NaN where the system does not say."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def usable(browser: Browser, words: list[str], selector: str) -> tuple[float, float]:
    """Seconds from the command to a page that shows the first picture; the server's own."""
    page = browser.new_page()
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    process, url = started(*words)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector(selector)
    seconds, own = time.perf_counter() - began, processor(process)
    page.close()
    process.terminate()
    process.wait()
    return seconds, own


def waits(page: Page, name: str = "edit") -> list[float]:
    """Milliseconds from each gesture to its picture, as the page itself measures them."""
    found: list[float] = page.evaluate(
        "(name) => performance.getEntriesByName(name).map((entry) => entry.duration)", name
    )
    page.evaluate("performance.clearMeasures()")
    return found


def switched(page: Page) -> list[float]:
    """A unit of the list, on or off."""
    waits(page)
    for edit in range(EDITS):
        page.locator("#units input").nth(edit % 5).click()
        page.wait_for_timeout(PAUSE)
    return waits(page)


def brushed(page: Page) -> list[float]:
    """A cell of the sample."""
    page.locator("#where input[value=brush]").check()
    page.locator("#clear").click()
    page.wait_for_timeout(500)
    waits(page)
    bounds = page.locator(".panel .view").first.bounding_box()
    assert bounds is not None
    for edit in range(EDITS):
        x = bounds["x"] + (edit % 8 + 0.5) * bounds["width"] / 8
        y = bounds["y"] + (edit // 8 + 0.5) * bounds["height"] / 8
        page.mouse.click(x, y)
        page.wait_for_timeout(PAUSE)
    return waits(page)


def turned(page: Page) -> list[float]:
    """A step of the slider of a direction."""
    page.get_by_role("button", name="Walk and turn").click()
    page.get_by_role("button", name="back to 0").click()
    page.locator("#turn0").focus()
    page.wait_for_timeout(1_000)
    waits(page, "walk")
    for _ in range(EDITS):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(PAUSE)
    page.get_by_role("button", name="Explore").click()
    return waits(page, "walk")


def gestures(page: Page, process: "subprocess.Popen[str]") -> None:
    page.wait_for_timeout(2_000)
    for gesture, make in (
        ("a unit switched", switched),
        ("a cell brushed", brushed),
        ("a slider of a direction moved", turned),
    ):
        before = processor(process)
        times = make(page)
        own = 1000 * (processor(process) - before) / EDITS
        print(
            f"from {gesture} to the picture: {told(times, 'ms', 0)}; processor {own:.0f} ms",
            flush=True,
        )


def measured(page: Page, by: str) -> float:
    """Seconds until the units can be sorted by what is measured."""
    began = time.perf_counter()
    page.locator("#sort").select_option(by)
    page.mouse.move(0, 0)
    while page.locator("#head").inner_text() == "probe weight":
        page.wait_for_timeout(200)
    return time.perf_counter() - began


def told(values: Sequence[float], unit: str, digits: int) -> str:
    median, most = statistics.median(values), max(values)
    return f"{median:.{digits}f} {unit} (slowest of {len(values)}: {most:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segmenter", help="weights of a segmenter, to count windows with")
    parser.add_argument("--rankings", action="store_true", help="time these, too: minutes")
    given = parser.parse_args()
    segmenter, rankings = given.segmenter, given.rankings
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium: on Debian, apt-get install chromium")
    eyes = ["--segmenter", segmenter] if segmenter else []
    print(f"load of the machine: {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        out = ["--out", folder]
        for words, selector, what in (
            (["annotate", *out], "#stage img", "draw on"),
            (["studio", *out, *eyes], "#units .unit", "explore"),
        ):
            pages = [usable(browser, words, selector) for _ in range(STARTS)]
            waited, own = zip(*pages, strict=True)
            print(f"from the command to a page to {what}: {told(waited, 's', 2)}; ", end="")
            print(f"processor {statistics.median(own):.2f} s", flush=True)
        direction = Direction(latents(1, seed=3)[0], "anything", "random")
        along = ["--directions", str(direction.save(Path(folder) / "direction.json"))]
        page = browser.new_page(viewport={"width": 1280, "height": 720})
        page.set_default_timeout(120_000)
        process, url = started("studio", *out, *eyes, *along)
        page.goto(url)
        page.wait_for_selector("body[data-ready]")
        gestures(page, process)
        for by in ("iou", "effect") if rankings else ():
            page.locator("#sort").select_option("weight")
            print(f"until units are sorted by {by}: {measured(page, by):.0f} s", flush=True)
        page.locator("#layer").select_option("layer16x16")
        page.locator("#sort").select_option("effect")
        print("and while the server measures every unit (of the next layer):", flush=True)
        gestures(page, process)
        browser.close()
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
