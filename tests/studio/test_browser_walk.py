"""Samples walked between and turned, in a real browser."""

from helpers.studio import until


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
