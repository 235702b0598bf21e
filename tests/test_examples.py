"""The scripts of examples/, and two foreign generators through the same commands as our own."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, leaky_relu

import dissect
from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.models import generate, latents_for, load
from dissect.units import Units

FACE = "examples/foreign/face_dcgan.py"
SVHN = "examples/foreign/svhn_dcgan.py"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[1])


@pytest.mark.parametrize("name", ["arithmetic", "turn", "walk", "window_free"])
def test_a_script_draws_its_picture(name, tmp_path, monkeypatch, capsys):
    script = Path("examples", f"{name}.py").resolve()
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    assert f"wrote out/{name}.png" in capsys.readouterr().out
    assert (tmp_path / "out" / f"{name}.png").is_file()


def authors_logits(images, folder):
    """How real the authors' own discriminator finds a batch (batch statistics, as they had it)."""
    files = sorted(folder.glob("200_discrim_params.jl_*.npy"))
    w1, w2, g2, b2, w3, g3, b3, dense = (torch.from_numpy(np.load(file)) for file in files)
    x = leaky_relu(conv2d(images, w1.flip(2, 3), None, 2, 2), 0.2)
    for w, g, b in ((w2, g2, b2), (w3, g3, b3)):
        x = conv2d(x, w.flip(2, 3), None, 2, 2)
        x = leaky_relu(batch_norm(x, None, None, g, b, training=True, eps=1e-8), 0.2)
    return x.flatten(1) @ dense


def test_faces_are_sampled_recorded_and_ablated(shared_data):
    model = load(f"{FACE}:generator")
    images = generate(model, latents_for(model, 16))
    assert images.shape == (16, 3, 32, 32)
    z = latents_for(model, 16)
    with dissect.record(model, "generator_deconv.2", stop=True) as acts:
        model(z)
    assert acts["generator_deconv.2"].shape == (16, 64, 8, 8)
    units = Units("generator_deconv.2", tuple(range(20)), 64)
    with torch.inference_mode(), dissect.ablated(model, units):
        ablated = model(z)
    assert float((ablated - images).abs().mean()) > 0.01
    with torch.inference_mode():
        assert torch.equal(model(z), images)
        assert torch.equal(dissect.bake(model, units)(z), ablated)


def test_house_numbers_need_their_kernels_flipped(shared_data):
    model = load(f"{SVHN}:generator")
    right = generate(model, latents_for(model, 32))
    for module in model.modules():
        if isinstance(module, torch.nn.ConvTranspose2d):
            module.weight.data = module.weight.data.flip(2, 3)
    wrong = generate(model, latents_for(model, 32))
    assert right.shape == (32, 3, 32, 32)
    folder = shared_data / "svhn-dcgan-authors"
    assert authors_logits(right, folder).mean() > authors_logits(wrong, folder).mean() + 2


def test_house_numbers_are_recorded_and_ablated(shared_data):
    model = load(f"{SVHN}:generator")
    z = latents_for(model, 4, seed=2)
    assert float(z.abs().max()) > 1.5, "the authors drew normal latents"
    acts = dissect.activations(model, "layer8x8", z)
    assert acts.shape == (4, 128, 8, 8)
    units = Units("layer8x8", tuple(range(128)), 128)
    with torch.inference_mode(), dissect.ablated(model, units):
        nothing = model(z)
    # Without any unit of the layer, every latent gives the same image.
    assert torch.allclose(nothing[0], nothing[1], atol=1e-6)
    assert not torch.allclose(*generate(model, latents_for(model, 2)), atol=1e-2)


def test_the_command_line_takes_a_factory(shared_data, capsys, tmp_path):
    words = ["sample", "--model", f"{FACE}:generator", "--n", "9", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["n"] == 9


@pytest.mark.parametrize(("file", "name"), [(FACE, "FACE_DCGAN"), (SVHN, "SVHN_DCGAN")])
def test_absent_weights_are_named(file, name, monkeypatch, tmp_path):
    monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(DissectError, match=f"set {name} to the folder"):
        load(f"{file}:generator")
