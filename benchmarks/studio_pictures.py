"""The pictures of docs/studio.md, taken of the page in chromium (needs Playwright, too).

It takes the direction that this command writes:
dissect turn bed_side --model bedrooms64 --method regression --among 1000 --measured 40
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from studio import started

# By the name of the picture: the address, and what is waited for before it is taken.
PICTURES = {
    "studio": ("explore?seed=1&index=36&where=probe&strength=1.5", "#metrics b"),
    "studio-iou": (
        "explore?seed=1&index=36&where=probe&strength=1.5&sort=iou&units=0&mask=all",
        "#ranked[hidden]",
    ),
    "studio-walk": ("walk?from=1.36&to=1.3&share=0.3&moved=1", "#strip canvas"),
}


def taken(browser: Browser, url: str, where: str, awaited: str, path: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(600_000)
    page.goto(f"{url}#{where}")
    page.wait_for_selector("body[data-ready]", timeout=600_000)
    page.wait_for_selector(awaited, state="attached", timeout=600_000)
    if "units=0&" in where:
        page.locator("#top").fill("24")
        page.locator("#take-top").click()
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(2_000)
    page.screenshot(path=path)
    print(path)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directions", type=Path, default=Path("out"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium: on Debian, apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        words = ["--directions", str(given.directions), "--out", folder]
        process, url = started("studio", *words)
        for name, (where, awaited) in PICTURES.items():
            taken(browser, url, where, awaited, given.out / f"{name}.png")
        process.terminate()
        process.wait()
        browser.close()


if __name__ == "__main__":
    main()
