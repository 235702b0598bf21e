"""What the page saves."""

import base64
from dataclasses import replace

import pytest
import torch
from helpers.studio import GOOD, running, workspace
from PIL import Image

from dissect._utils.errors import DissectError
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.models import Generator, fingerprint, load
from dissect.studio import ExploreSession, GeneratorSession
from dissect.studio.sessions.page_edit import PageEdit
from dissect.surgery import Intervention
from dissect.units import Units


def test_what_is_saved_loads_and_is_never_written_over(tmp_path):
    made = workspace(tmp_path)
    sent = {**GOOD, "units": [2, 0], "where": "everywhere"}
    with running(made) as client:
        for what in ("edit", "picture", "edit"):
            assert client.post("api/save", {**sent, "what": what})[0] == 200
        status, answer = client.post("api/save", {**sent, "what": "checkpoint"})
        assert status == 422
        assert "only generators of dissect" in answer["error"]
    units = Intervention.load(tmp_path / "saved" / "edit-1.json").units
    assert (units.indices[0], set(units.indices), units.total) == (0, {0, 2}, 4)
    assert units.model == fingerprint(made.explore_sessions["toy"].generator.model)
    assert (tmp_path / "saved" / "edit-2.json").exists()
    assert Image.open(tmp_path / "saved" / "picture-1.png").size == (2 * 32 * 4, 32 * 4)


@pytest.mark.parametrize(
    ("page_edit", "how"),
    [
        (PageEdit(units=(0, 2)), "weights"),
        (PageEdit(units=(0, 2), strength=1.5), "module"),
        (PageEdit(units=(0, 2), where="probe", threshold=0.3, strength=1.5), "module"),
        (PageEdit(units=(0, 2), where="auto", threshold=0.3, strength=1.5), "module"),
        (PageEdit(units=(0, 2), where="brush", remove=(5, 6), insert=(9,)), "module"),
    ],
)
def test_an_edited_generator_in_a_file_draws_what_the_page_draws(tmp_path, page_edit, how):
    torch.manual_seed(0)
    generator = GeneratorSession("small", Generator(latent_size=4, width=4, image_size=16).eval())
    drawn = tuple(
        AnnotatedImage(16, 16, (Box(2 * index, 4, 6, 6),), seed=0, index=index)
        for index in range(5)
    )
    boxes = Annotations("spot", drawn, generator.fingerprint)

    def chosen(probe):
        return Intervention(probe.units("positive"), replace(probe, bias=probe.bias - 0.5))

    session = ExploreSession(generator, {"spot": lambda: boxes}, None, tmp_path, chosen=chosen)
    study = session.study("layer4x4", "spot")
    edit = session.intervention(study, page_edit)
    saved = session.save_generator(edit, 0, 1)
    assert (saved.how, saved.difference) == (how, 0)
    again = GeneratorSession("saved", load(str(saved.path)))
    opened = Intervention.load(session.save_edit(edit))
    for index in range(4):
        pixels = session.after(edit, 3, index).pixels
        assert (again.image(3, index) == pixels).all()
        assert (session.after(opened, 3, index).pixels == pixels).all()
    with pytest.raises(DissectError, match="nothing is edited yet"):
        session.save_generator(session.intervention(study, PageEdit(units=())), 0, 1)
    with pytest.raises(DissectError, match="nothing is edited yet"):
        session.save_edit(session.intervention(study, PageEdit(units=(1,), where="brush")))


def test_an_edit_that_was_saved_is_opened_again(open_page, tmp_path):
    made = workspace(tmp_path / "first")
    session = made.explore_sessions["toy"]
    study = session.study("layer8x8", "spot (given)")
    page_edit = PageEdit(units=(0,), strength=1.5, where="brush", remove=(5, 6), insert=(60,))
    path = session.save_edit(session.intervention(study, page_edit))
    edit = Intervention.load(path)
    with running(workspace(tmp_path / "second", edit=edit)) as client:
        page = open_page("#explore?seed=0&index=3", client=client)
        assert page.locator("#where input:checked").get_attribute("value") == "auto"
        assert page.locator("#strength-value").inner_text() == "1.50"
        assert page.locator("#auto").inner_text() == "File"
        sent = {**GOOD, "index": 3, "units": [0], "strength": 1.5, "where": "auto"}
        del sent["control"]
        pixels = client.post("api/edit", sent)[1]["pixels"]
    assert base64.b64decode(pixels) == session.after(edit, 0, 3).pixels.tobytes()


def test_an_edit_of_another_model_or_layer_is_refused(tmp_path):
    for units in (Units("layer8x8", (0,), 4, model="0" * 16), Units("layer9x9", (0,), 4)):
        with pytest.raises(DissectError, match="0000|layer9x9"):
            workspace(tmp_path, edit=Intervention(units))
