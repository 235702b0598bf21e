import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dissect._utils.errors import DissectError
from dissect.latent_space import (
    Term,
    evaluate_arithmetic,
    neighbours,
    parse_conditions,
    parse_expression,
    pixel_sum,
    random_sum,
    vector_sum,
)
from dissect.segmentation import AttributeReader, Realism


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a", [("a", 1)]),
        ("smiling woman - neutral woman + neutral man", None),
        ("-a + b", [("a", -1), ("b", 1)]),
        ("0.5 * red-haired man + 2*(x - y)", [("red-haired man", 0.5), ("x", 2), ("y", -2)]),
        ("a - (b - (c + d))", [("a", 1), ("b", -1), ("c", 1), ("d", 1)]),
        ("a + b + a", [("a", 2), ("b", 1)]),
        ("a   b + a b", [("a b", 2)]),
    ],
)
def test_sums_are_read_as_written(text, terms):
    if terms is None:
        terms = [("smiling woman", 1), ("neutral woman", -1), ("neutral man", 1)]
    assert parse_expression(text) == tuple(Term(concept, factor) for concept, factor in terms)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("", "[here]"),
        ("a - - b", "a - [here]- b"),
        ("a +", "a +[here]"),
        ("(a + b", "(a + b[here]"),
        ("a b )", "a b [here])"),
        ("a + $b", "a + [here]$b"),
        ("2 * 3", "2 * [here]3"),
    ],
)
def test_the_place_of_a_mistake_is_marked(text, marked):
    with pytest.raises(DissectError) as caught:
        parse_expression(text)
    assert repr(marked) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cancels_is_refused():
    with pytest.raises(DissectError, match="cancels"):
        parse_expression("a - a")


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_words(text):
    try:
        terms = parse_expression(text)
    except DissectError:
        return
    assert terms
    assert all(term.concept and np.isfinite(term.factor) for term in terms)


def test_a_thousand_parentheses_are_refused():
    with pytest.raises(DissectError, match="parentheses"):
        parse_expression("(" * 1000 + "a" + ")" * 1000)


def test_sums_by_hand():
    terms = parse_expression("a - b + 0.5 * c")
    means = {"a": torch.tensor([1.0, 2]), "b": torch.tensor([3.0, 0]), "c": torch.tensor([4.0, 4])}
    assert vector_sum(terms, means).tolist() == [0, 4]


def test_pixels_are_summed_as_light():
    black, white = torch.full((3, 2, 2), -1.0), torch.ones(3, 2, 2)
    sum_of = {"a": white, "b": black, "c": white}
    assert torch.equal(pixel_sum(parse_expression("a - b"), sum_of), white)
    assert torch.equal(pixel_sum(parse_expression("a + c"), sum_of), white)
    assert torch.equal(pixel_sum(parse_expression("b - a"), sum_of), black)


def test_neighbours_lie_within_the_noise():
    z = torch.arange(100.0)
    around = neighbours(z, 8, scale=0.25, seed=3)
    assert around.shape == (8, 100)
    away = (around - z).abs()
    assert 0.2 < float(away.max()) <= 0.25 + 1e-5
    assert torch.equal(around, neighbours(z, 8, scale=0.25, seed=3))
    assert not torch.equal(around, neighbours(z, 8, scale=0.25, seed=4))


def test_random_sums_are_as_far_from_the_last_term():
    result, last = torch.randn(50, 7), torch.randn(50, 7)
    away = random_sum(result, last, seed=2) - last
    assert torch.allclose(away.norm(dim=1), (result - last).norm(dim=1), atol=1e-5)
    assert abs(float(torch.cosine_similarity(away, result - last).mean())) < 0.3
    assert torch.equal(random_sum(result, last, seed=2), away + last)
    assert not torch.equal(random_sum(result, last, seed=3), away + last)


class Flat(nn.Module):
    """Latents (N, 3) to images whose every pixel has the latent's colour."""

    latent_size = 3

    def forward(self, z):
        return z[:, :, None, None].expand(-1, -1, 4, 4).clamp(-1, 1)


COLOURS = AttributeReader(
    ("red", "green", "blue"),
    lambda images: images.mean((2, 3)),
    lambda images: torch.cat([images.mean((2, 3)), images.std((2, 3))], 1),
)


def test_trials_count_what_sums_show():
    # Red without green, less plain, plus blue: shows red and blue.
    pools = {
        "red": torch.tensor([[0.9, 0, 0]]).repeat(6, 1) + torch.randn(6, 3) * 0.01,
        "plain": torch.zeros(6, 3) + torch.randn(6, 3) * 0.01,
        "blue": torch.tensor([[0, 0, 0.9]]).repeat(6, 1) + torch.randn(6, 3) * 0.01,
    }
    realism = Realism.from_samples(COLOURS, Flat()(torch.rand(400, 3) * 2 - 1))
    terms = parse_expression("red - plain + blue")
    wanted = parse_conditions("red>0.5,blue>0.5", COLOURS.names)
    score = evaluate_arithmetic(Flat(), COLOURS, terms, pools, wanted, realism, exemplars=3, n=20)
    assert (score.n, score.exemplars, score.latent.wanted) == (20, 3, 1)
    assert score.latent.both == score.latent.ordinary
    # Blue and a step of that length in any direction is seldom red.
    assert score.random.wanted < 0.5
    opposite = parse_conditions("red<0.5", COLOURS.names)
    score = evaluate_arithmetic(Flat(), COLOURS, terms, pools, opposite, realism, exemplars=3, n=20)
    assert (score.latent.wanted, score.latent.both) == (0, 0)
    assert score.pixels.wanted == 0
    with pytest.raises(DissectError, match="6 exemplars to draw from, fewer than 7"):
        evaluate_arithmetic(Flat(), COLOURS, terms, pools, wanted, realism, exemplars=7)


def test_realism_knows_what_is_ordinary():
    samples = torch.rand(1000, 3) * 2 - 1
    images = Flat()(samples) + torch.randn(1000, 3, 4, 4) * 0.05
    realism = Realism.from_samples(COLOURS, images[:800])
    assert 0.88 < float(realism.is_ordinary(images[800:]).float().mean()) <= 1
    stripes = images[800:].clone()
    stripes[..., ::2] += 0.6
    assert float(realism.is_ordinary(stripes).float().mean()) < 0.05
    means = images[:800].unflatten(0, (100, 8)).mean(1)
    assert float(realism.is_ordinary(means).float().mean()) < 0.5
    with pytest.raises(DissectError, match="at least 200"):
        Realism.from_samples(COLOURS, images[:100])
