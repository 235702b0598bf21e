"""What the page saves."""

from dataclasses import replace

import pytest
import torch
from helpers.studio import GOOD, running, workspace
from PIL import Image

from dissect._utils.errors import DissectError
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.models import Generator, fingerprint, load
from dissect.studio import ExploreSession, GeneratorSession
from dissect.studio.sessions.edits import Edit
from dissect.surgery.intervention import Intervention
from dissect.units import Units


def test_what_is_saved_loads_and_is_never_written_over(tmp_path):
    made = workspace(tmp_path)
    sent = {**GOOD, "units": [2, 0], "where": "everywhere"}
    with running(made) as client:
        for what in ("units", "picture", "units"):
            assert client.post("api/save", {**sent, "what": what})[0] == 200
        status, answer = client.post("api/save", {**sent, "what": "checkpoint"})
        assert status == 422
        assert "only generators of dissect" in answer["error"]
    units = Units.load(tmp_path / "saved" / "units-1.json")
    assert (units.indices[0], set(units.indices), units.total) == (0, {0, 2}, 4)
    assert units.model == fingerprint(made.explore_sessions["toy"].generator.model)
    assert (tmp_path / "saved" / "units-2.json").exists()
    assert Image.open(tmp_path / "saved" / "picture-1.png").size == (2 * 32 * 4, 32 * 4)


@pytest.mark.parametrize(
    ("edit", "how"),
    [
        (Edit((0, 2)), "weights"),
        (Edit((0, 2), strength=1.5), "module"),
        (Edit((0, 2), where="probe", threshold=0.3, strength=1.5), "module"),
        (Edit((0, 2), where="auto", threshold=0.3, strength=1.5), "module"),
        (Edit((0, 2), where="brush", remove=(5, 6), insert=(9,)), "module"),
    ],
)
def test_an_edited_generator_in_a_file_draws_what_the_page_draws(tmp_path, edit, how):
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
    saved = session.save_generator(study, edit, 0, 1)
    assert (saved.how, saved.difference) == (how, 0)
    again = GeneratorSession("saved", load(str(saved.path)))
    for index in range(4):
        assert (again.image(3, index) == session.after(study, edit, 3, index).pixels).all()
    with pytest.raises(DissectError, match="nothing is edited yet"):
        session.save_generator(study, Edit(()), 0, 1)
    with pytest.raises(DissectError, match="nothing is edited yet"):
        session.save_generator(study, Edit((1,), where="brush"), 0, 1)
