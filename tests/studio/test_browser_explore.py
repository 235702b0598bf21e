"""Units switched off and brushed with, in a real browser."""

from helpers.studio import spot_of, until, workspace


def view(page, number, cell):
    """The middle of a cell of a pane, on the page."""
    bounds = page.locator(".panel .view").nth(number).bounding_box()
    side = bounds["width"] / 8
    return bounds["x"] + (cell[0] + 0.5) * side, bounds["y"] + (cell[1] + 0.5) * side


def removed(page, text):
    until(page, f"document.querySelector('#metrics b')?.textContent === '{text}'")


def test_a_spot_is_brushed_away_and_the_share_removed_rises(open_page, tmp_path):
    page = open_page("#explore?seed=0&index=3&units=1&where=brush")
    generator = workspace(tmp_path / "same").explore_sessions["toy"].generator
    spot = spot_of(generator, 3)
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
    page.locator("#save-edit").click()
    page.wait_for_selector(".notice.good")
    assert (tmp_path / "saved" / "edit-1.json").exists()


def test_a_stroke_is_one_step_to_undo(open_page):
    page = open_page("#explore?seed=0&index=3&units=1&where=brush")
    page.mouse.move(*view(page, 0, (0, 0)))
    page.mouse.down()
    page.mouse.move(*view(page, 0, (5, 0)))
    page.mouse.up()
    assert page.locator(".panel").first.locator(".brushed").count() == 6
    page.keyboard.press("Control+z")
    assert page.locator(".panel").first.locator(".brushed").count() == 0
    page.keyboard.press("Control+Shift+z")
    assert page.locator(".panel").first.locator(".brushed").count() == 6


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
    assert page.locator(".panel figcaption").first.inner_text() == "Before\nunit 0"
    page.keyboard.press("c")
    page.wait_for_selector(".panel:nth-child(3):not([hidden])")


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
    page.locator(".panel .view").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert page.locator(".panel").first.locator(".brushed").count() == 2


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


def test_an_address_that_was_garbled_opens_what_there_is_and_says_what_is_not(open_page):
    garbled = (
        "#explore?layer=bogus&concept=no&seed=-4&index=99999999999&units=zz&where=no&strength=x"
    )
    page = open_page(garbled)
    until(page, "location.hash.includes('layer=layer8x8')")
    assert "seed=0&index=999999&" in page.evaluate("location.hash")
    assert [notice.split("\n")[0] for notice in page.locator(".notice").all_inner_texts()] == [
        "There is no layer \u201cbogus\u201d here; layer8x8 is shown.",
        "There is no concept \u201cno\u201d here; spot (given) is shown.",
    ]


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


def test_the_list_of_units_is_one_stop_of_the_tab_key_and_arrows_lead_on(open_page):
    page = open_page("#explore?seed=0&index=3&units=1")
    page.locator("#none").focus()
    focused = "document.activeElement.getAttribute('aria-label')"
    page.keyboard.press("Tab")
    first = page.locator(".unit input").first.get_attribute("aria-label")
    assert page.evaluate(focused) == first
    page.keyboard.press("ArrowDown")
    second = page.locator(".unit input").nth(1).get_attribute("aria-label")
    assert page.evaluate(focused) == second
    assert page.locator(".panel figcaption").first.inner_text().startswith("Before\nunit")
    page.keyboard.press("Space")
    until(page, "document.getElementById('chosen').textContent === '2 of 4'")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Previous sample"
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(focused) == second


def test_pictures_take_the_keys_only_while_one_brushes(open_page):
    page = open_page("#explore?seed=0&index=3&units=1")
    view = page.locator(".panel .view").first
    assert (view.get_attribute("role"), view.get_attribute("tabindex")) == ("img", None)
    page.keyboard.press("b")
    assert (view.get_attribute("role"), view.get_attribute("tabindex")) == ("application", "0")
