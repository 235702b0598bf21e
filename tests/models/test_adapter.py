"""Generators from elsewhere: what they take and give, and what is refused."""

import warnings
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from helpers import foreign

import dissect
from dissect import DissectError
from dissect.models import generate, latents_for, load
from dissect.models.noise import FixedNoise

FILE = Path(foreign.__file__)


def opened(name, **inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(f"{FILE}:{name}", inputs=inputs)


@pytest.mark.parametrize(
    "name",
    ["plain", "grey", "sigmoid", "stated", "transparent", "half", "brain", "double", "conditional"]
    + [
        "batch_mean",
        "third",
        "mixed",
        "noisy",
        "a_tuple",
        "largest",
        "styled",
        "two_axes",
        "cropped",
    ],
)
def test_images_are_colours_in_one_range_that_depend_on_their_latent_alone(name):
    model = opened(name)
    z = latents_for(model, 5, seed=1)
    images = generate(model, z)
    assert images.shape[:2] == (5, 3)
    assert images.dtype in (torch.float32, torch.float64)
    assert name == "batch_mean" or (-1 <= images.min() < 0 and images.max() <= 1)
    alone = torch.cat([generate(model, latents_for(model, 1, 1, start=row)) for row in range(5)])
    assert torch.allclose(images, alone, atol=0.02 if name in ("half", "brain") else 1e-5)
    flat = generate(model, z.flatten(1))
    assert torch.allclose(images, flat, atol=1e-5)
    assert torch.allclose(generate(deepcopy(model), z), images, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two_arguments", "(n, seed, start)"),
        ("without_start", "ignores `start`"),
        ("one_draw", "a whole batch from one generator"),
        ("unseeded", "other latents each time"),
        ("without_seed", "ignores `seed`"),
        ("numpy_noisy", "draws noise in a way that a seed does not reach"),
        ("pyramid", "several images (0 (2, 3, 16, 16), 1 (2, 3, 8, 8))"),
        ("unnamed_size", "latent_size=model.z_dim"),
        ("closed_over", "use the model that it is given"),
    ],
)
def test_what_would_be_wrong_in_silence_is_refused(name, words):
    with pytest.raises(DissectError) as error:
        opened(name)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("conditional", "takes y, too, and nothing says what: 0 is taken"),
        ("noisy", "draws noise"),
        ("batch_mean", "depends on its batch-mates"),
        ("sigmoid", "are brought to [-1, 1]"),
        ("clamped", "value_range=(0, 1)"),
    ],
)
def test_what_was_assumed_is_said(name, words):
    with pytest.warns(UserWarning, match=".") as given:
        load(f"{FILE}:{name}")
    assert words in str(given[0].message)


def test_inputs_are_read_as_text_and_are_part_of_the_fingerprint():
    plain, three = opened("conditional"), opened("conditional", y="3")
    z = latents_for(three, 3)
    y = torch.full((3,), 3)
    assert torch.equal(generate(three, z), three(z, y))
    assert not torch.allclose(generate(plain, z), generate(three, z))
    assert dissect.fingerprint(three).endswith(" y=3")
    assert dissect.fingerprint(three) == dissect.fingerprint(opened("third"))
    assert dissect.fingerprint(plain).split()[0] == dissect.fingerprint(three).split()[0]


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("conditional", {"label": "3"}, "no input 'label'; it takes: 'y'"),
        ("plain", {"label": "3"}, "latents alone"),
        ("conditional", {"y": "10"}, "y=10: IndexError"),
        ("third", {"y": "a"}, "a whole number"),
        ("styled", {"psi": "a"}, "a number"),
        ("styled", {"space": "y"}, "use z, w, w+"),
    ],
)
def test_an_input_that_cannot_be_is_refused(name, inputs, words):
    with pytest.raises(DissectError) as error:
        opened(name, **inputs)
    assert words in str(error.value)


def test_a_bundled_model_takes_no_inputs():
    with pytest.raises(DissectError, match="latents alone"):
        load("bedrooms64", inputs={"label": "3"})


def test_the_three_spaces_of_a_mapping_give_the_same_images():
    images = {}
    for space in ("z", "w", "w+"):
        model = opened("styled", space=space, psi="0.5")
        images[space] = generate(model, latents_for(model, 4, seed=2))
    assert latents_for(opened("styled", space="w+"), 2).shape == (2, 3, 16)
    assert torch.allclose(images["z"], images["w"], atol=1e-6)
    assert torch.equal(images["w"], images["w+"])


def test_an_edit_reaches_a_copy_of_an_adapted_model():
    model = opened("third")
    z = latents_for(model, 3)
    units, where = dissect.Units("up", tuple(range(16)), 16), torch.eye(16)
    with torch.no_grad(), dissect.ablated(model, units, where=where):
        inside = model(z)
    baked = dissect.bake(model, units, where=where)
    assert torch.equal(generate(baked, z), inside)
    assert not torch.allclose(generate(model, z), inside)


def test_activations_of_an_adapted_model_have_the_names_of_its_own_layers():
    model = opened("third")
    z = latents_for(model, 4)
    acts = dissect.activations(model, "up", z, batch_size=3)
    with dissect.record(model, "up") as whole:
        model(z, torch.full((4,), 3))
    assert torch.equal(acts, whole["up"].detach())


class Labelled(foreign.Plain):
    def __init__(self, label):
        super().__init__()
        self.label, self.calls = label, 0
        self.one_hot = torch.eye(4)[label]

    def forward(self, z):
        self.calls += 1
        return super().forward(z + self.label)


def test_plain_attributes_count_in_the_fingerprint_but_what_a_pass_changes_does_not():
    one, two = (foreign.seeded(lambda label=label: Labelled(label)) for label in (1, 2))
    assert dissect.fingerprint(one) != dissect.fingerprint(two)
    from dissect.models.check import check_generator

    check_generator(one.eval())
    before = dissect.fingerprint(one)
    one(latents_for(one, 1))
    assert dissect.fingerprint(one) == before
    with dissect.record(one, "up"):
        assert dissect.fingerprint(one) == before


@pytest.mark.parametrize(
    "draw",
    [
        torch.randn_like,
        torch.rand_like,
        lambda x: torch.randn(*x.shape),
        lambda x: torch.rand(x.shape),
        lambda x: torch.normal(0.0, 2.0, x.shape),
        lambda x: torch.empty_like(x).normal_(1, 2),
        lambda x: torch.empty_like(x).uniform_(-1, 1),
        lambda x: torch.bernoulli(torch.full_like(x, 0.5)),
        lambda x: torch.nn.functional.dropout(torch.ones_like(x), 0.5),
        lambda x: torch.nn.functional.dropout2d(torch.ones_like(x), 0.5),
    ],
)
def test_noise_is_the_same_for_every_image_and_of_its_distribution(draw):
    drawn = []
    for n in (1, 5):
        with FixedNoise(3, n):
            drawn.append(draw(torch.zeros(n, 40, 30, 30)))
    first, several = drawn
    assert all(torch.equal(row, first[0]) for row in several)
    free = draw(torch.zeros(5, 40, 30, 30))
    assert abs(float(first.mean() - free.mean())) < 0.35
    assert abs(float(first.std() - free.std())) < 0.1
