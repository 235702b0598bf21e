"""How the page is laid out, in a real browser: widths, names, contrast."""

import pytest


@pytest.mark.parametrize("room", ["annotate", "explore", "walk"])
@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_sticks_out_and_everything_has_a_name(open_page, room, width):
    page = open_page(f"#{room}", viewport=(width, 720))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, select, [tabindex], img')]
        .filter((node) => node.checkVisibility())
        .filter((node) => !(node.ariaLabel || node.labels?.length || node.textContent.trim()
            || node.getAttribute('aria-label') || (node.tagName === 'IMG')))
        .map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_every_control_of_an_edit_is_in_sight_of_a_small_screen(open_page):
    page = open_page("#explore?seed=0&index=3&units=1&where=probe&mask=all")
    page.wait_for_selector("#legend:not([hidden])")
    bounds = page.locator("#save-checkpoint").bounding_box()
    assert bounds["y"] + bounds["height"] <= 720
    work = "document.querySelector('#explore .work')"
    assert page.evaluate(f"{work}.scrollHeight === {work}.clientHeight")


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
