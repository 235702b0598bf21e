"""The strongest images of features, the concepts in them, the random control, and the command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import dissect
from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect.attribution import (
    FeaturePictures,
    concept_fractions,
    max_activations,
    random_init_copy,
    receptive_field,
    study_features,
)
from dissect.cli import main
from dissect.data import RenderedSource, Renderer, source
from dissect.figures import concepts_figure, guided_sheet
from dissect.models import Discriminator, Generator, load, save_checkpoint

SIZE = 16
CLASSES = ("ground", "red", "blue", "absent")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def squares(index, seed, size):
    """A red and a blue square of 4 pixels on grey, the red one brighter with the index."""
    random = np.random.default_rng((seed, index))
    image, mask = np.full((size, size, 3), 128, np.uint8), np.zeros((size, size), np.uint8)
    for label, left in ((1, 0), (2, 8)):
        row, column = random.integers(0, size - 4), left + random.integers(0, 4)
        image[row : row + 4, column : column + 4] = 0
        image[row : row + 4, column : column + 4, 0 if label == 1 else 2] = 155 + index
        mask[row : row + 4, column : column + 4] = label
    return image, mask


def pictures_of(count=40, render=squares):
    renderer = Renderer(render.__name__, render, CLASSES, "1")
    return RenderedSource(renderer, count=count, size=SIZE, seed=0, workers=1)


class Finder(nn.Module):
    """Unit 0 sums redness over 4 x 4 pixels, unit 1 blueness; each sees 8 x 8 at most."""

    def __init__(self):
        super().__init__()
        self.colour = nn.Conv2d(3, 2, 1)
        self.activation = nn.LeakyReLU(0.2)
        self.sum = nn.Conv2d(2, 2, 4, stride=4)
        with torch.no_grad():
            self.colour.weight.copy_(
                torch.tensor([[1.0, -0.5, -0.5], [-0.5, -0.5, 1.0]]).reshape(2, 3, 1, 1)
            )
            self.colour.bias.fill_(-0.1)
            self.sum.weight.copy_(torch.eye(2).reshape(2, 2, 1, 1).expand(2, 2, 4, 4))
            self.sum.bias.zero_()

    def forward(self, x):
        return self.sum(self.activation(self.colour(x)))


def test_the_strongest_images_are_those_of_the_largest_response():
    images = pictures_of()
    found = max_activations(Finder().eval(), "sum", images, k=5, batch_size=7)
    acts = dissect.activations(Finder().eval(), "sum", to_tensor(images.images(range(40))))
    for unit in range(2):
        largest = acts[:, unit].flatten(1).max(1)
        order = largest.values.argsort(descending=True, stable=True)[:5]
        assert found.image[unit].tolist() == order.tolist()
        np.testing.assert_array_equal(found.activation[unit], largest.values[order].numpy())
        for image, (row, column) in zip(found.image[unit], found.position[unit], strict=True):
            assert acts[image, unit, row, column] == acts[image, unit].max()
    assert (found.total, found.grid, found.units) == (2, (4, 4), (0, 1))


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_of_equal_responses_the_earlier_image_comes_first(batch_size):
    images = pictures_of(render=grey)
    found = max_activations(Finder().eval(), "sum", images, [1], k=4, batch_size=batch_size)
    assert found.image.tolist() == [[0, 1, 2, 3]]
    assert found.position.tolist() == [[[0, 0]] * 4]


def grey(index, seed, size):
    return np.full((size, size, 3), 128, np.uint8), np.zeros((size, size), np.uint8)


def test_a_unit_answers_to_what_it_sums():
    images = pictures_of()
    found = max_activations(Finder().eval(), "sum", images, k=10)
    fractions = concept_fractions(Finder().eval(), images, found, batch_size=7)
    # All that is red lies in red squares, and most of what the unit sees is such a square.
    assert fractions.energy[0].mean(0).tolist() == pytest.approx([0, 1, 0, 0])
    assert fractions.energy[1].mean(0).tolist() == pytest.approx([0, 0, 1, 0])
    for k, (image, (row, column)) in enumerate(zip(found.image[0], found.position[0], strict=True)):
        seen = images.masks([image])[0][4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert fractions.area[0, k, 1] == pytest.approx((seen == 1).mean())
    # Each image counts alike, whatever the area.
    assert fractions.over_area[0, 1] == pytest.approx((1 / fractions.area[0, :, 1]).mean())
    assert fractions.n_images.tolist()[0][3] == 0
    assert np.isnan(fractions.over_chance[:, 3]).all(), "a class that is nowhere cannot be judged"
    np.testing.assert_allclose(fractions.chance.sum(2), 1)
    assert fractions.count_reaching(fractions.over_area, 1.0)["blue"] == 1


def test_a_unit_without_a_gradient_is_not_judged():
    model = Finder().eval()
    with torch.no_grad():
        model.colour.bias.fill_(-9)
    images = pictures_of()
    fractions = concept_fractions(model, images, max_activations(model, "sum", images, k=3))
    assert np.isnan(fractions.energy).all()
    assert np.isnan(fractions.over_chance).all()
    assert fractions.count_reaching(fractions.over_chance) == dict.fromkeys(CLASSES, 0)


def test_the_receptive_field_is_what_the_place_sees():
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.LeakyReLU(0.2)),
    ).eval()
    field = receptive_field(model, "3", (1, 2), SIZE)
    # Position 1 sees 1 to 3 of the grid of 8, and those 1 to 7 of the image; position 2, 5 to 11.
    seen = np.zeros((SIZE, SIZE), bool)
    seen[1:8, 5:12] = True
    np.testing.assert_array_equal(field > 0, seen)
    assert field.sum() == pytest.approx(1)
    np.testing.assert_array_equal(field, receptive_field(model, "3", (1, 2), SIZE))


def test_the_random_init_copy_is_drawn_anew_and_calibrated():
    images = pictures_of()
    torch.manual_seed(1)
    model = Discriminator(width=4, image_size=SIZE, kernel=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin = random_init_copy(model, images, seed=3)
    assert type(twin) is Discriminator
    assert not twin.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, parameter in twin.named_parameters():
        drawn = parameter.ndim >= 2 or name.endswith("norm.weight")
        assert torch.equal(parameter, before[name]) != drawn, name
    again = random_init_copy(model, images, seed=3)
    other = random_init_copy(model, images, seed=4)
    for name, value in twin.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(twin.layer4x4.conv.weight, other.layer4x4.conv.weight)
    # Its batch norm knows what these images, which are fewer than a batch, give it.
    acts = dissect.activations(twin, "layer4x4.conv", to_tensor(images.images(range(40))))
    norm = twin.layer4x4.norm
    torch.testing.assert_close(norm.running_mean, acts.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, acts.var((0, 2, 3)), rtol=1e-2, atol=1e-6)


def test_what_the_bundled_features_answer_to_is_not_chance():
    images = source("bedrooms", count=300)
    model = load("bedrooms64", network="discriminator")
    trained = study_features(model, "layer4x4", images, range(8), k=10).fractions
    random = study_features(
        random_init_copy(model, images), "layer4x4", images, range(8), k=10
    ).fractions
    control = random.count_reaching(random.over_chance)
    assert control["window"] == control["bed"] == 0
    found = sum(trained.count_reaching(trained.over_chance).values())
    assert found >= max(5, 4 * sum(control.values()))
    judged = random.over_chance[~np.isnan(random.over_chance)]
    assert 0.8 < np.median(judged) < 1.25, "random filters have what chance gives them"


@pytest.mark.parametrize(
    ("layer", "units", "k", "said"),
    [
        ("sum", [0, 2], 5, "has 2 units, 0 to 1; there is no 2"),
        ("sum", None, 41, "offers 40 images, fewer than the 41"),
        ("sum", None, 0, "at least 1 image a unit"),
        ("total", None, 5, "has no layer 'total'"),
    ],
)
def test_what_cannot_be_looked_for(layer, units, k, said):
    with pytest.raises(DissectError, match=said):
        max_activations(Finder().eval(), layer, pictures_of(), units, k=k)


def test_the_sheet_shows_each_image_over_its_gradient_with_zero_in_grey():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    gradients = np.zeros((2, 3, 8, 8, 3), np.float32)
    gradients[:, :, 0, 0] = 1.0
    shown = FeaturePictures((4, 7), images, gradients, np.zeros((2, 3, 2), np.int64), (4, 4))
    sheet = np.asarray(guided_sheet(shown, shown, notes=["bed 2.0", "x"], caption="c", scale=1))
    found = [
        (y, x)
        for y in range(sheet.shape[0] - 8)
        for x in range(sheet.shape[1] - 8)
        if (sheet[y + 2 : y + 8, x : x + 8] == images[1, 2, 2:]).all()
    ]
    # The frame of the place covers its first rows.
    assert len(found) == 2, "on both sides"
    for y, x in found:
        below = sheet[y + 10 : y + 18, x : x + 8]
        assert (below[0, 0] == 255).all()
        assert (below[1:] == 128).all()
    with pytest.raises(DissectError, match="as many features"):
        guided_sheet(shown, FeaturePictures((4,), images[:1], gradients[:1], None, (4, 4)))


def test_the_dots_leave_out_what_cannot_be_judged():
    values = {"bed": np.array([2.0, np.nan]), "door": np.array([np.nan, np.nan])}
    axes = concepts_figure(values, values).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["bed"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    save_checkpoint(folder / "d.safetensors", Discriminator(width=4, image_size=32, kernel=4))
    save_checkpoint(folder / "g.safetensors", Generator(width=4, image_size=32, kernel=4))
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        (folder / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
    return folder


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["guided", *words])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def test_the_command_draws_the_figure_and_counts(capsys, checkpoint, tmp_path):
    words = ["--model", str(checkpoint / "d.safetensors"), "--images", "30", "--strongest", "4"]
    status, out, err = run(capsys, *words, "--unit-range", "all", "--out", str(tmp_path), "--json")
    assert status == 0, err
    result = json.loads(out)
    assert (result["layer"], result["n_images"], result["n_units"]) == ("layer4x4", 30, 16)
    assert [row["unit"] for row in result["units"]] == list(range(16))
    first = result["units"][0]
    assert len(first["strongest"]) == 4
    assert set(first["concepts"]["window"]) == {
        *("energy", "chance", "area", "over_chance", "over_area", "n_images")
    }
    assert sum(one["energy"] for one in first["concepts"].values()) == pytest.approx(1)
    assert len(result["random"]) == 16
    assert result["reaching"]["classes"]["bed"]["random_over_chance"] == 0
    assert [file.rpartition("/")[2] for file in result["files"]] == [
        *("guided.png", "guided-concepts.png")
    ]
    # Six rows of an image over a gradient, of 32 pixels enlarged twice.
    assert Image.open(tmp_path / "guided.png").height > 6 * 2 * 64
    run(capsys, *words, "--unit-range", "all", "--out", str(tmp_path / "again"))
    for name in ("guided.png", "guided-concepts.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_photographs_have_no_concepts(capsys, checkpoint, tmp_path):
    words = ["--model", str(checkpoint / "d.safetensors"), "--strongest", "5"]
    photos = f"folder:{checkpoint / 'photos'}"
    status, out, err = run(
        capsys, photos, *words, "--unit-range", "3,1", "--out", str(tmp_path), "--json"
    )
    assert status == 0, err
    result = json.loads(out)
    assert result["n_images"] == 12
    assert [row["unit"] for row in result["units"]] == [3, 1]
    assert result["units"][0]["concepts"] is None
    assert result["reaching"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unit-range", "0,16"], "has 16 units, 0 to 15; there is no 16"),
        (["--unit-range", "six"], "use 0-5, 3,17,40 or all"),
        (["--unit-range", "5-1"], "a range goes up"),
        (["--layer", "layer5x5"], "has no layer 'layer5x5'"),
        (["--layer", "score"], "no units on a grid"),
        (["--layer", "layer16x16.conv", "--unit-range", "0"], "no nn.ReLU or nn.LeakyReLU runs"),
        (["--relu-rule", "loose"], "use strict or leaky"),
        (["--images", "13"], "has 12 images, fewer than the 13 asked for"),
        (["--strongest", "13"], "offers 12 images, fewer than the 13 strongest"),
        (["--model", "g.safetensors"], "holds a generator, and a discriminator is needed"),
        (["--model", "gone.safetensors"], "no model"),
        (["folder:gone"], "no folder"),
        (["birds"], "unknown source 'birds'"),
    ],
)
def test_mistakes_are_one_line(capsys, checkpoint, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(checkpoint)
    given = ["--model", "d.safetensors", "--strongest", "5", "--out", str(tmp_path / "out")]
    spec = [] if "folder:gone" in words or "birds" in words else ["folder:photos"]
    status, out, err = run(capsys, *spec, *given, *words)
    assert status == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
