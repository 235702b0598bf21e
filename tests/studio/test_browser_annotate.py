"""Boxes drawn in a real browser."""

from helpers.studio import until

from dissect.annotations import Annotations, Box


def drag(page, start, end):
    """Draw from one pixel of the picture to another."""
    bounds = page.locator("#stage svg").bounding_box()
    scale = bounds["width"] / 32
    page.mouse.move(bounds["x"] + start[0] * scale, bounds["y"] + start[1] * scale)
    page.mouse.down()
    page.mouse.move(bounds["x"] + end[0] * scale, bounds["y"] + end[1] * scale, steps=3)
    page.mouse.up()


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
    assert page.locator("#progress").inner_text() == "1 of 12 looked at, 1 box of spot"


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


def test_a_second_pass_that_cannot_be_read_is_told_and_the_first_stays(open_page, tmp_path):
    (tmp_path / "boxes" / "passes").mkdir(parents=True)
    (tmp_path / "boxes" / "passes" / "spot-second.json").write_text("{")
    page = open_page("#annotate")
    page.locator("#second").click()
    page.wait_for_selector(".notice")
    assert "spot-second.json" in page.locator(".notice").inner_text()
    assert not page.locator("#second").is_checked()
    drag(page, (4, 4), (12, 12))
    saved(page)
    assert boxes(tmp_path)[0] == (Box(4, 4, 8, 8),)


def test_coming_back_to_the_room_goes_on_with_the_same_pass(open_page):
    page = open_page("#annotate")
    page.locator("#second").check()
    page.get_by_role("button", name="Explore").click()
    page.get_by_role("button", name="Annotate").click()
    assert page.locator("#second").is_checked()
