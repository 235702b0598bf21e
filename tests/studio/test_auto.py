"""The edit that rule `auto` chose, brought into the page."""

import base64
from functools import partial

import pytest
import torch
from helpers.studio import GOOD, auto, running, spot_of, until, workspace

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.annotations import Annotations, annotation_file
from dissect.cli.studio import chosen_by_auto
from dissect.models import bundled_file, load
from dissect.selection.stored import load_results
from dissect.studio import ExploreSession, GeneratorSession
from dissect.studio.sessions.explore import nothing_chosen
from dissect.studio.sessions.page_edit import PageEdit

SENT = {**{key: GOOD[key] for key in ("model", "layer", "concept", "seed")}, "where": "auto"}
UNITS = "api/units?model=toy&layer=layer8x8&concept=spot+(given)"


def test_the_page_is_told_what_auto_chose_and_draws_it(studio):
    client, made, _ = studio
    status, answer = client.get(UNITS)
    assert status == 200
    assert answer["auto"] == {
        "units": [2, 0],
        "strength": 1.5,
        "threshold": 0.2,
        "opened": False,
    }
    session = made.explore_sessions["toy"]
    generator, study = session.generator, session.study("layer8x8", "spot (given)")
    for index in range(6):
        sent = {**SENT, **answer["auto"], "index": index}
        drawn = base64.b64decode(client.post("api/edit", sent)[1]["pixels"])
        with auto(study.probe).applied(generator.model):
            wanted = generator.pixels(generator.latent(0, index))
        assert drawn == wanted.tobytes()
        drawn = base64.b64decode(client.post("api/edit", {**sent, "control": 3})[1]["pixels"])
        with auto(study.probe).control(3).applied(generator.model):
            wanted = generator.pixels(generator.latent(0, index))
        assert drawn == wanted.tobytes()


def test_a_unit_keeps_the_strength_that_auto_chose_for_it(studio):
    _, made, _ = studio
    session = made.explore_sessions["toy"]
    study = session.study("layer8x8", "spot (given)")
    chosen = auto(study.probe)
    # Another order, and a unit beside them, which has the common strength.
    page_edit = PageEdit(units=(0, 3, 2), strength=0.8, where="auto", threshold=0.2)
    edit = page_edit.intervention(study, session.units(study, page_edit.units), chosen)
    assert edit.units.indices == (2, 0, 3)
    assert (edit.strength, edit.unit_strengths) == (0.8, (0.5, 1.2, 1.0))


def test_where_autos_gate_is_open_is_not_where_the_probe_sees_the_concept(studio):
    client, _, _ = studio
    asked = "api/strengths?model=toy&layer=layer8x8&concept=spot+(given)&seed=0&index=3"
    gates = client.get(asked)[1]["gates"]
    open_at = {name: list(base64.b64decode(cells)) for name, cells in gates.items()}
    assert open_at["auto"] == 32 * [round(0.4 * 255)] + 32 * [0]
    assert open_at["probe"] != open_at["auto"]


def test_the_edit_of_auto_takes_other_units_and_another_strength(studio):
    _, made, _ = studio
    session = made.explore_sessions["toy"]
    study = session.study("layer8x8", "spot (given)")
    rows = [spot_of(session.generator, index).y for index in range(12)]
    above, below = rows.index(min(rows)), rows.index(max(rows))

    def left(index, **more):
        page_edit = PageEdit(units=(0,), where="auto", threshold=0.2, **more)
        edit = session.intervention(study, page_edit)
        return int((session.after(edit, 0, index).labels == 1).sum())

    assert left(above) == 0
    assert left(below) == 64  # the gate is shut there
    assert left(above, strength=0.0) == 64


def test_where_nothing_was_chosen_the_page_is_told_why(tmp_path):
    with running(workspace(tmp_path, chosen=nothing_chosen)) as client:
        _, answer = client.get(UNITS)
        assert answer["auto"] == {"none": "rule auto has chosen nothing for this model"}
        status, answer = client.post("api/edit", {**GOOD, "where": "auto"})
    assert (status, answer["error"]) == (422, "rule auto has chosen nothing for this model")


def test_what_is_chosen_while_the_page_is_open_is_there_after_a_reload(tmp_path):
    now = [nothing_chosen]
    with running(workspace(tmp_path, chosen=lambda probe: now[0](probe))) as client:
        assert "none" in client.get(UNITS)[1]["auto"]
        now[0] = auto
        assert client.get(UNITS)[1]["auto"]["units"] == [2, 0]


@pytest.fixture(scope="module")
def bedrooms():
    generator = GeneratorSession("bedrooms64", load("bedrooms64"))
    return generator, Annotations.load(annotation_file("bedrooms64", "window"))


def test_the_bundled_models_edit_is_drawn_as_the_file_says(bedrooms, tmp_path):
    generator, boxes = bedrooms
    session = ExploreSession(
        generator,
        {"window": lambda: boxes},
        None,
        tmp_path,
        chosen=partial(chosen_by_auto, generator, tmp_path),
    )
    study = session.study("layer8x8", "window")
    found = session.auto(study)
    page_edit = PageEdit(
        units=found.units.indices,
        strength=found.strength,
        where="auto",
        threshold=found.threshold,
    )
    choice = load_results(bundled_file("bedrooms64", "auto-window-layer8x8.json"))["probe"]
    with choice.intervention.applied(generator.model), torch.inference_mode():
        wanted = to_images(generator.model(generator.latent(1, 36)))[0]
    # The page lists units in another order, which must make no difference.
    assert session.units(study, page_edit.units).indices != choice.intervention.units.indices
    assert (session.after(session.intervention(study, page_edit), 1, 36).pixels == wanted).all()
    other = session.study("layer16x16", "window")
    with pytest.raises(
        DissectError, match="dissect search --model bedrooms64 --concept window --layer layer16x16"
    ):
        session.auto(other)


def test_a_damaged_file_of_choices_is_told_and_the_rest_works(bedrooms, tmp_path):
    generator, boxes = bedrooms
    (tmp_path / "search.json").write_text("{")
    session = ExploreSession(
        generator,
        {"window": lambda: boxes},
        None,
        tmp_path,
        chosen=partial(chosen_by_auto, generator, tmp_path),
    )
    with pytest.raises(DissectError, match="search.json"):
        session.auto(session.study("layer8x8", "window"))


def test_auto_comes_into_the_page_in_one_step(open_page):
    page = open_page("#explore?seed=0&index=3&units=2&where=brush&remove=1")
    page.locator("#auto").click()
    until(page, "document.getElementById('strength-value').textContent === '1.50'")
    assert page.locator("#chosen").inner_text() == "2 of 4"
    assert page.locator("#threshold-value").inner_text() == "0.20"
    assert page.locator("#where input:checked").get_attribute("value") == "auto"
    until(page, "location.hash.includes('units=5&where=auto&strength=1.5&threshold=0.2')")
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("#where input:checked").get_attribute("value") == "auto"
    page.locator("#none").click()
    page.keyboard.press("a")
    assert page.locator("#chosen").inner_text() == "2 of 4"
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert page.locator("#chosen").inner_text() == "2 of 4"


def test_one_undo_takes_all_of_auto_back(open_page):
    page = open_page("#explore?seed=0&index=3&units=2&where=brush&remove=1")
    page.locator("#auto").click()
    page.keyboard.press("Control+z")
    assert page.locator("#chosen").inner_text() == "1 of 4"
    assert page.locator("#strength-value").inner_text() == "1.00"
    assert page.locator("#where input:checked").get_attribute("value") == "brush"
    assert page.locator("#undo-edit").is_disabled()


def test_without_a_choice_the_button_says_why(open_page, tmp_path):
    with running(workspace(tmp_path / "other", chosen=nothing_chosen)) as client:
        page = open_page("#explore?seed=0&index=3&units=1&where=auto", client=client)
        assert page.locator("#auto").is_disabled()
        reason = "rule auto has chosen nothing for this model"
        assert page.locator("#auto").get_attribute("title") == reason
        assert page.locator("#where input:checked").get_attribute("value") == "everywhere"
        assert page.locator("#where input[value=auto]").is_hidden()
        page.keyboard.press("a")
        assert page.locator(".notice").inner_text().startswith("Rule auto has chosen nothing")
