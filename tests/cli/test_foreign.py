"""Commands on a generator of the user's own, with boxes of a concept that no segmenter knows."""

import json
from pathlib import Path

import pytest
import torch
from helpers import foreign
from helpers.command_line import run

import dissect
from dissect import Annotations, Box
from dissect.annotations import AnnotatedImage
from dissect.surgery.edited import save_edited

FILE = Path(foreign.__file__)


@pytest.fixture
def eyes(tmp_path):
    """Boxes in the middle of every other sample, 16 pixels wide, and the options to use them."""
    drawn = tuple(
        AnnotatedImage(16, 16, (Box(4, 4, 8, 8),) if row % 2 else (), seed=0, index=row)
        for row in range(20)
    )
    Annotations("eye", drawn).save(tmp_path / "eye.json")
    named = ["--model", f"{FILE}:plain", "--layer", "up", "--concept", "eye", "--json"]
    return [*named, "--boxes", tmp_path / "eye.json", "--out", tmp_path]


@pytest.mark.parametrize(
    "words",
    [
        ("ablate", "--rule", "iou:4", "--n", 2),
        ("insert", "--k", 8, "--region", "0,0,8,8", "--n", 2),
        ("ablate", "--batch-size", 1, "--n", 2),
    ],
)
def test_boxes_are_all_that_choosing_and_drawing_take(capsys, eyes, words):
    status, out, error = run(capsys, *words, *eyes)
    assert status == 0, error
    assert '"files"' in out


def test_what_needs_a_segmenter_says_so(capsys, eyes):
    status, _, error = run(capsys, "insert", "--n", 2, *eyes)
    assert status == 2
    assert "does not know 'eye'" in error


def test_an_input_of_the_wrong_form_is_refused(capsys, eyes):
    status, _, error = run(capsys, "ablate", "--input", "label", *eyes)
    assert status == 2
    assert "is not name=value" in error


def test_layers_lists_shapes_runs_and_reasons(capsys):
    status, out, _ = run(capsys, "layers", "--model", f"{FILE}:cropped", "--json")
    assert status == 0
    first = json.loads(out)["layers"][0]
    assert (first["layer"], first["shape"], first["runs"]) == ("layer", [8, 36, 36], 1)
    assert first["picture"] == [10, 26, 10, 26]
    assert first["recorded"]
    status, out, _ = run(capsys, "layers", "--model", f"{FILE}:cropped")
    assert "the picture is the 16 x 16 cells" in out


def test_a_layer_that_is_not_there_names_those_inside_a_wrapper(capsys):
    status, _, error = run(capsys, "units", "--model", f"{FILE}:wrapped", "--n", 10)
    assert status == 2
    assert "inner.up" in error


@pytest.mark.parametrize("name", ["blocks", "conditional_blocks"])
def test_an_edit_of_a_foreign_generator_is_exported_and_comes_back(capsys, tmp_path, name):
    model = dissect.load(f"{FILE}:{name}")
    gate = dissect.MaskGate(torch.eye(8))
    units = dissect.Units("up", (0, 3), 16, model=dissect.fingerprint(model))
    edit = dissect.Intervention(units, gate)
    edit.save(tmp_path / "edit.json")
    words = ["--model", f"{FILE}:{name}", "--out", tmp_path, "--json"]
    status, out, error = run(capsys, "export", tmp_path / "edit.json", *words)
    assert status == 0, error
    assert json.loads(out)["difference"] == 0
    again = dissect.load(tmp_path / "edited.json")
    z = dissect.latents_for(model, 3, seed=1)
    assert torch.equal(dissect.generate(again, z), dissect.generate(model, z, edit=edit))
    assert not torch.equal(dissect.generate(again, z), dissect.generate(model, z))
    status, _, error = run(capsys, "sample", "--n", 4, "--model", tmp_path / "edited.json")
    assert status == 0, error


def test_an_edit_of_other_weights_does_not_come_back(tmp_path):
    factory = tmp_path / "own.py"
    code = """
import torch
from torch import nn


def make():
    torch.manual_seed(SEED)
    model = nn.Sequential(
        nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 8, 8), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 3, 1), nn.Tanh(),
    )
    model.latent_size = 4
    return model
"""
    factory.write_text(code.replace("SEED", "0"))
    model = dissect.load(f"{factory}:make")
    edit = dissect.Intervention(dissect.Units("3", (1,), 8))
    save_edited(tmp_path / "edited.json", f"{factory}:make", model, edit)
    z = dissect.latents_for(model, 2)
    wanted = dissect.generate(model, z, edit=edit)
    assert torch.allclose(dissect.generate(dissect.load(tmp_path / "edited.json"), z), wanted)
    factory.write_text(code.replace("SEED", "1"))
    with pytest.raises(dissect.DissectError, match="its weights or settings have changed"):
        dissect.load(tmp_path / "edited.json")
