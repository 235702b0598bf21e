"""The page in a real browser: Debian's chromium, driven by Playwright."""

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from studio_tools import running, spot_of, workspace

from dissect.annotations import Annotations, Box

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium: on Debian, apt-get install chromium"
)
SIZE = {"width": 1280, "height": 720}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # In a container without user namespaces chromium starts only without its sandbox; it
        # visits no page but ours.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def client(tmp_path):
    with running(workspace(tmp_path)) as made:
        yield made


@pytest.fixture
def open_page(browser, client):
    """A function that opens a tab at an address; errors in the page fail the test."""
    tabs, errors = [], []

    def opened(where="", **options):
        page = browser.new_page(viewport=options.pop("viewport", SIZE), **options)
        tabs.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(client.url + where)
        page.wait_for_selector("body[data-ready]")
        return page

    yield opened
    if folder := os.environ.get("DISSECT_SCREENSHOTS"):
        name = re.sub(r"\W+", "-", os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0])
        for number, page in enumerate(tabs):
            page.screenshot(path=Path(folder) / f"{name}{number}.png")
    for page in tabs:
        page.close()
    assert errors == []


def drag(page, start, end):
    """Draw from one pixel of the picture to another."""
    bounds = page.locator("#stage svg").bounding_box()
    scale = bounds["width"] / 32
    page.mouse.move(bounds["x"] + start[0] * scale, bounds["y"] + start[1] * scale)
    page.mouse.down()
    page.mouse.move(bounds["x"] + end[0] * scale, bounds["y"] + end[1] * scale, steps=3)
    page.mouse.up()


def until(page, expression, seconds=30):
    """Wait until an expression is true; the page's own policy forbids Playwright's way."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(20)


def saved(page):
    until(page, "document.getElementById('saved').textContent === 'saved'")


def boxes(tmp_path, concept="spot"):
    path = tmp_path / "boxes" / f"{concept}.json"
    read = Annotations.load(path, concept, allow_empty=True)
    return {image.index: image.boxes for image in read.images}


def test_a_box_that_is_drawn_is_in_the_file_and_there_again_after_a_reload(open_page, tmp_path):
    page = open_page("#annotate")
    drag(page, (4, 6), (14, 18))
    saved(page)
    assert boxes(tmp_path) == {0: (Box(4, 6, 10, 12),)}
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#stage .box").count() == 1
    assert page.locator("#progress").inner_text() == "1 of 12 looked at, 1 boxes of spot"


def test_boxes_are_moved_resized_and_deleted_by_hand_and_by_keys(open_page, tmp_path):
    page = open_page("#annotate")
    drag(page, (4, 4), (12, 12))
    drag(page, (8, 8), (11, 10))  # by its middle
    saved(page)
    assert boxes(tmp_path)[0] == (Box(7, 6, 8, 8),)
    drag(page, (15, 14), (20, 20))  # by its corner
    saved(page)
    assert boxes(tmp_path)[0] == (Box(7, 6, 13, 14),)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    saved(page)
    assert boxes(tmp_path)[0] == (Box(8, 6, 13, 13),)
    page.keyboard.press("Delete")
    saved(page)
    assert boxes(tmp_path)[0] == ()


def test_everything_is_done_without_a_mouse(open_page, tmp_path):
    page = open_page("#annotate")
    page.keyboard.press("n")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")  # the first is done
    page.keyboard.press("Enter")  # on the second there is nothing
    page.keyboard.press("2")
    page.keyboard.press("n")
    saved(page)
    assert boxes(tmp_path) == {0: (Box(13, 14, 6, 6),), 1: ()}
    assert boxes(tmp_path, "door") == {2: (Box(13, 13, 6, 6),)}


def test_undo_and_redo(open_page, tmp_path):
    page = open_page("#annotate")
    drag(page, (4, 4), (12, 12))
    drag(page, (16, 16), (24, 30))
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Control+z")
    saved(page)
    assert boxes(tmp_path)[0] == (Box(4, 4, 8, 8),)
    assert page.locator("#place").input_value() == "1"  # back where it was drawn
    page.keyboard.press("Control+z")
    saved(page)
    assert boxes(tmp_path) == {}
    page.keyboard.press("Control+Shift+z")
    page.keyboard.press("Control+y")
    saved(page)
    assert boxes(tmp_path)[0] == (Box(4, 4, 8, 8), Box(16, 16, 8, 14))


def test_a_conflict_between_two_tabs_is_said_and_the_first_stays(open_page, tmp_path):
    one, other = open_page("#annotate"), open_page("#annotate")
    drag(one, (4, 4), (12, 12))
    saved(one)
    drag(other, (16, 16), (24, 24))
    other.wait_for_selector(".notice")
    assert "changed in another tab" in other.locator(".notice").inner_text()
    assert boxes(tmp_path)[0] == (Box(4, 4, 8, 8),)
    assert other.locator("#list").inner_text().startswith("8 \u00d7 8 at 4, 4")
    drag(other, (16, 16), (24, 24))  # now it has seen the first
    saved(other)
    assert len(boxes(tmp_path)[0]) == 2


def test_what_is_drawn_while_the_server_is_away_is_sent_when_it_is_back(open_page, tmp_path):
    page = open_page("#annotate")
    page.route("**/api/boxes", lambda route: route.abort())
    drag(page, (4, 4), (12, 12))
    page.wait_for_selector(".notice")
    drag(page, (16, 16), (24, 24))
    assert "Not saved" in page.locator(".notice").inner_text()
    page.unroute("**/api/boxes")
    saved(page)
    assert page.locator(".notice").count() == 0
    assert len(boxes(tmp_path)[0]) == 2


def test_the_second_pass_hides_the_first_and_tells_how_they_agree(open_page, tmp_path):
    page = open_page("#annotate")
    drag(page, (4, 4), (12, 12))
    saved(page)
    page.locator("#second").check()
    until(page, "document.querySelectorAll('#stage .box').length === 0")
    drag(page, (4, 4), (12, 8))
    until(page, "document.getElementById('agreement').textContent.includes('0.500')")
    assert boxes(tmp_path)[0] == (Box(4, 4, 8, 8),)
    assert "pass=second" in page.evaluate(
        "new Promise(r => setTimeout(() => r(location.hash), 400))"
    )


def test_the_probes_grid_shows_which_cells_will_be_positive(open_page):
    page = open_page("#annotate")
    drag(page, (4, 4), (14, 8))  # two cells and a half
    page.keyboard.press("g")
    until(page, "document.querySelectorAll('.cell.inside').length === 3")
    drag(page, (14, 6), (13, 6))  # a little less than half of the third
    until(page, "document.querySelectorAll('.cell.inside').length === 2")
    assert page.locator(".cell.touched").count() == 1


def test_the_contact_sheet_shows_every_picture_and_opens_one(open_page):
    page = open_page("#annotate")
    drag(page, (4, 4), (14, 8))
    page.keyboard.press("Escape")
    page.keyboard.press("s")
    assert page.locator(".thumb").count() == 12
    assert page.locator(".thumb").first.get_attribute("aria-label") == "Picture 1, 1 box"
    page.locator(".thumb").nth(5).click()
    assert page.locator("#place").input_value() == "6"


def view(page, number, cell):
    """The middle of a cell of a pane, on the page."""
    bounds = page.locator(".pane .view").nth(number).bounding_box()
    side = bounds["width"] / 8
    return bounds["x"] + (cell[0] + 0.5) * side, bounds["y"] + (cell[1] + 0.5) * side


def removed(page, text):
    until(page, f"document.querySelector('#meters b')?.textContent === '{text}'")


def test_a_spot_is_brushed_away_and_the_share_removed_rises(open_page, client, tmp_path):
    page = open_page("#explore?seed=0&index=3&units=1&where=brush")
    painter = workspace(tmp_path / "same").explorers["toy"].painter
    spot = spot_of(painter, 3)
    left, top = int(spot.x // 4), int(spot.y // 4)
    removed(page, "0%")
    page.mouse.move(*view(page, 0, (left, top)))
    page.mouse.down()
    removed(page, "25%")
    page.mouse.move(*view(page, 0, (left + 1, top)))
    removed(page, "50%")
    page.mouse.move(*view(page, 0, (left + 1, top + 1)))
    page.mouse.move(*view(page, 0, (left, top + 1)))
    page.mouse.up()
    removed(page, "100%")
    cells = [(top + down) * 8 + left + across for down in (0, 1) for across in (0, 1)]
    until(page, f"location.hash.endsWith('remove={sum(1 << cell for cell in cells):x}')")
    page.reload()
    removed(page, "100%")  # the address holds the edit
    page.locator("#save-units").click()
    page.wait_for_selector(".notice.good")
    assert (tmp_path / "saved" / "units-1.json").exists()


def test_a_stroke_is_one_step_to_undo(open_page):
    page = open_page("#explore?seed=0&index=3&units=1&where=brush")
    page.mouse.move(*view(page, 0, (0, 0)))
    page.mouse.down()
    page.mouse.move(*view(page, 0, (5, 0)))
    page.mouse.up()
    assert page.locator(".pane").first.locator(".brushed").count() == 6
    page.keyboard.press("Control+z")
    assert page.locator(".pane").first.locator(".brushed").count() == 0
    page.keyboard.press("Control+Shift+z")
    assert page.locator(".pane").first.locator(".brushed").count() == 6


def test_units_are_switched_and_looked_at(open_page):
    page = open_page("#explore?seed=0&index=3")
    first = page.locator(".unit").first
    assert first.locator(".number").inner_text() == "0"  # the unit that draws spots leads
    removed(page, "100%")
    first.locator("input").uncheck()
    removed(page, "0%")
    page.locator("#undo-edit").click()
    removed(page, "100%")
    first.hover()
    assert page.locator(".pane figcaption").first.inner_text() == "Before\nunit 0"
    page.keyboard.press("c")
    page.wait_for_selector(".pane:nth-child(3):not([hidden])")


def test_a_measurement_is_of_one_edit(open_page):
    page = open_page("#explore?seed=0&index=3&units=1")
    page.locator("#measure").click()
    said = "document.getElementById('measured').textContent"
    until(page, f"{said}.startsWith('On 48 fresh samples 100% of the spot removed')")
    page.locator(".unit input").nth(1).check()
    until(page, f"{said} === ''")
    page.keyboard.press("b")
    assert page.locator("#measure").is_hidden()


def test_cells_are_brushed_by_keys(open_page):
    page = open_page("#explore?seed=0&index=3&units=1&where=brush")
    page.locator(".pane .view").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert page.locator(".pane").first.locator(".brushed").count() == 2


def test_a_walk_moves_with_its_slider(open_page):
    page = open_page("#walk?from=0.1&to=0.2&share=0")
    at = "document.getElementById('walk-here').toDataURL()"
    start = page.evaluate(at)
    assert start == page.evaluate("document.getElementById('walk-start').toDataURL()")
    page.locator("#share").press("End")
    until(page, f"{at} === document.getElementById('walk-end').toDataURL()")


def test_a_sample_is_turned_along_a_saved_direction(open_page):
    page = open_page("#walk?from=0.1&to=0.2&share=0&moved=0")
    at = "document.getElementById('walk-here').toDataURL()"
    start = page.evaluate(at)
    slider = page.get_by_label("across held", exact=True)
    slider.press("ArrowRight")
    until(page, "location.hash.endsWith('moved=0.05')")
    slider.press("End")
    until(page, f"{at} !== {start!r}")
    told = "document.getElementById('walk-here').ariaLabel"
    until(page, f"{told} === 'The sample 0% of the way; across, held 2.00'")
    until(page, "document.getElementById('strip-title').textContent === 'All of across, held'")
    until(page, "location.hash.endsWith('moved=2')")
    moved = page.evaluate(at)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.evaluate(at) == moved
    page.get_by_label("across, held back to 0").click()
    until(page, f"{at} === {start!r}")


def test_units_are_sorted_by_what_is_measured_while_one_works(open_page):
    page = open_page("#explore?seed=0&index=3&units=1")
    page.locator("#sort").select_option("effect")
    page.wait_for_selector("#ranking:not([hidden])")
    page.locator(".unit input").nth(1).check()  # the page does not wait
    until(page, "document.getElementById('chosen').textContent === '2 of 4'")
    page.mouse.move(0, 0)
    page.locator(".unit input").nth(1).blur()
    until(page, "document.getElementById('head').textContent === 'its own effect'", 60)
    first = page.locator(".unit").first
    until(page, "document.querySelector('.unit .value').textContent === '100.0%'", 60)
    assert first.locator("input").get_attribute("aria-label") == "Unit 0, effect 100.0%"
    until(page, "document.getElementById('ranked').checkVisibility() === false", 60)
    assert "on 192 samples" in page.locator("#ranking-text").inner_text()
    page.locator("#top").fill("1")
    page.locator("#take-top").click()
    until(page, "location.hash.includes('units=1&')")
    until(page, "location.hash.includes('sort=effect')")


def test_the_masks_of_all_classes_come_with_their_names(open_page):
    page = open_page("#explore?seed=0&index=3&units=1&mask=all")
    page.wait_for_selector("#legend:not([hidden])")
    assert page.locator("#legend").inner_text().split() == ["wall", "spot"]
    page.keyboard.press("m")
    until(page, "document.getElementById('legend').hidden")
    until(page, "!location.hash.includes('mask')")


@pytest.mark.parametrize("room", ["annotate", "explore", "walk"])
@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_sticks_out_and_everything_has_a_name(open_page, room, width):
    page = open_page(f"#{room}", viewport={"width": width, "height": 720})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, select, [tabindex], img')]
        .filter((node) => node.checkVisibility())
        .filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim()
            || node.getAttribute('aria-label') || (node.tagName === 'IMG')))
        .map((node) => node.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page, scheme):
    page = open_page("#walk", color_scheme=scheme)
    colours = """(names) => names.map((name) => {
        const node = document.createElement('i');
        node.style.color = `var(${name})`;
        document.body.append(node);
        const found = getComputedStyle(node).color;
        node.remove();
        return found.match(/[\\d.]+/g).slice(0, 3).map(Number);
    })"""
    pairs = [("--ink", "--panel"), ("--ink", "--ground"), ("--quiet", "--panel")]
    pairs += [("--quiet", "--ground"), ("--on-accent", "--accent"), ("--bad", "--bad-ground")]
    pairs += [("--good", "--panel")]
    for names in pairs:
        dark, light = sorted(luminance(one) for one in page.evaluate(colours, list(names)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, names  # WCAG 2, level AA


def luminance(colour):
    linear = [
        one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4
        for one in (part / 255 for part in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_an_address_that_was_garbled_opens_what_there_is(open_page):
    garbled = (
        "#explore?layer=bogus&concept=no&seed=-4&index=99999999999&units=zz&where=no&strength=x"
    )
    page = open_page(garbled)
    until(page, "location.hash.includes('layer=layer8x8')")
    assert "seed=0&index=999999&" in page.evaluate("location.hash")
    assert page.locator(".notice").count() == 0


def test_a_slide_is_one_step_to_undo(open_page):
    page = open_page("#explore?seed=0&index=3&units=1")
    slider = page.locator("#strength")
    slider.evaluate(
        """(node) => {
            for (const value of [0.8, 0.5, 0.2]) {
                node.value = value;
                node.dispatchEvent(new Event('input'));
            }
            node.dispatchEvent(new Event('change'));
        }"""
    )
    assert page.locator("#strength-value").inner_text() == "0.20"
    page.locator("#undo-edit").click()
    assert page.locator("#strength-value").inner_text() == "1.00"
