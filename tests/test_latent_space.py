import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dissect.attributes import AttributeReader, Realism
from dissect.errors import DissectError
from dissect.latent_space import (
    Direction,
    Exemplars,
    Term,
    between,
    calibrated,
    clearest,
    combined,
    ends,
    from_components,
    from_exemplars,
    from_regression,
    measured,
    meeting,
    neighbours,
    parse_conditions,
    parse_expression,
    pixel_sum,
    random_like,
    read_rows,
    scored,
    segment_reader,
    steered,
    step_sizes,
    walk_rows,
)
from dissect.latent_space.memory import crossfades, nearest
from dissect.segment import Segmenter

# --- expressions


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


# --- paths


def test_a_linear_path_by_hand():
    path = between(torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), 5)
    assert path.tolist() == [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]]


def test_a_spherical_path_keeps_its_length_and_turns_evenly():
    path = between(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0]), 5, "spherical")
    lengths = path.norm(dim=1)
    assert torch.allclose(lengths, torch.tensor([3.0, 3.5, 4.0, 4.5, 5.0]))
    angles = torch.rad2deg(torch.atan2(path[:, 1], path[:, 0]))
    assert torch.allclose(angles, torch.tensor([0.0, 22.5, 45.0, 67.5, 90.0]))


def test_a_spherical_path_between_opposite_ends_is_straight():
    path = between(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]), 3, "spherical")
    assert torch.allclose(path, torch.tensor([[1.0, 0], [0, 0], [-1, 0]]))


def test_each_row_of_a_walk_begins_where_the_last_ended():
    points = torch.randn(5, 7)
    rows = walk_rows(points, 4)
    assert rows.shape == (4, 4, 7)
    assert torch.equal(rows[1:, 0], rows[:-1, -1])
    assert torch.equal(rows[:, 0], points[:-1])


def test_impossible_walks_are_refused():
    with pytest.raises(DissectError, match="at least 2"):
        walk_rows(torch.zeros(1, 3), 4)
    with pytest.raises(DissectError, match="at least 2"):
        between(torch.zeros(3), torch.ones(3), 1)
    with pytest.raises(DissectError, match="linear or spherical"):
        between(torch.zeros(3), torch.ones(3), 4, "round")


def test_step_sizes_by_hand():
    sizes = step_sizes(torch.tensor([[[0.0, 0], [3, 4], [3, 4]], [[0, 0], [1, 1], [2, 2]]]))
    step = (25 / 2) ** 0.5
    assert sizes.mean == pytest.approx((step / 2, 1))
    assert sizes.largest == pytest.approx((step, 1))
    assert sizes.ratios == pytest.approx((2, 1))


class Two:
    """A source of two images, one black, one white."""

    name, size = "two", 4

    def __len__(self):
        return 2

    def images(self, indices):
        return np.stack([np.full((4, 4, 3), 255 * i, np.uint8) for i in indices])


def test_a_generator_that_copies_is_told_from_one_that_does_not():
    grey = torch.linspace(-1, 1, 9)[:, None, None, None].expand(9, 3, 4, 4)
    copies = nearest(grey, Two(), 2)
    assert copies[:, 0, 0, 0].tolist()[:4] == [-1] * 4
    assert copies[:, 0, 0, 0].tolist()[5:] == [1] * 4
    assert step_sizes(copies[None]).ratio == pytest.approx(8)
    assert step_sizes(grey[None]).ratio == pytest.approx(1)
    faded = crossfades(copies[None][:, [0, -1]], 9)
    assert torch.allclose(faded[0], grey)


# --- exemplars and conditions

READER = AttributeReader(("turn", "smile", "hat"), lambda images: images[:, :3, 0, 0])


def test_conditions_by_hand():
    conditions = parse_conditions("smile>0.5, turn<-.25", READER.names)
    assert [str(condition) for condition in conditions] == ["smile>0.5", "turn<-0.25"]
    values = torch.tensor([[-1.0, 0.6, 0], [-1, 0.5, 0], [0, 0.9, 0], [-0.3, 0.51, 1]])
    assert meeting(values, conditions, READER).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("smile", "no condition"), ("smile=1", "no condition"), ("smlie>1", "'smile'"), ("", "no co")],
)
def test_malformed_conditions_are_refused(text, wrong):
    with pytest.raises(DissectError, match=wrong):
        parse_conditions(text, READER.names)


def test_exemplars_are_kept_and_checked(tmp_path):
    picked = Exemplars({"a": (3, 1), "b": (0,)}, seed=4, n=10, fingerprint="ff", how="by eye")
    again = Exemplars.load(picked.save(tmp_path / "e.json"))
    assert again == picked
    assert again.indices("a") == (3, 1)
    with pytest.raises(DissectError, match="has no concept 'c'; it has: 'a', 'b'"):
        again.indices("c")
    again.check("ff")
    with pytest.raises(DissectError, match="another model"):
        again.check("00")
    values = json.loads((tmp_path / "e.json").read_text())
    values["concepts"]["a"] = [10]
    (tmp_path / "e.json").write_text(json.dumps(values))
    with pytest.raises(DissectError, match="10 of 'a' is out of range: there are 10, 0 to 9"):
        Exemplars.load(tmp_path / "e.json")


def test_the_ends_are_extreme_and_otherwise_alike():
    values = torch.randn(400, 3)
    low, high = ends(values, 0, 4, among=40)
    ordered = values[:, 0].sort().values
    assert float(values[low, 0].max()) <= float(ordered[39])
    assert float(values[high, 0].min()) >= float(ordered[-40])
    apart = (values[low].mean(0) - values[high].mean(0)).abs()
    assert float(apart[1:].max()) < 0.25
    assert len(set(low.tolist())) == len(set(high.tolist())) == 4


def test_ends_are_alike_in_latents_too():
    z = torch.randn(800, 10)
    values = torch.cat([z[:, :1] + 0.5 * torch.randn(800, 1), torch.randn(800, 2)], 1)

    def astray(low, high):
        return float((z[low].mean(0) - z[high].mean(0))[1:].norm())

    assert astray(*ends(values, 0, 4, z=z)) < 0.5 * astray(*ends(values, 0, 4))


def test_the_clearest_lie_deepest_inside_the_concept():
    z = torch.rand(600, 5) * 2 - 1
    values = torch.stack([z[:, 0] + 0.3 * torch.randn(600), z[:, 1], z[:, 2]], 1)
    conditions = parse_conditions("turn>0.3,smile<0,hat>-0.5,hat<0.5", READER.names)
    rows = clearest(z, values, conditions, READER)
    met = meeting(values, conditions, READER)
    assert bool(met[rows].all())
    assert len(rows) == max(20, round(0.25 * int(met.sum())))
    margins = torch.minimum(z[:, 0], -z[:, 1])
    assert float(margins[rows].mean()) > float(margins[met].mean()) + 0.1
    everyone = clearest(z, values, conditions, READER, share=1)
    assert sorted(everyone.tolist()) == met.nonzero()[:, 0].tolist()
    assert everyone[: len(rows)].tolist() == rows.tolist()
    with pytest.raises(DissectError, match="above 0, up to 1"):
        clearest(z, values, conditions, READER, share=0)


class Bent(nn.Module):
    """Images of three pixels: a turn that drags the smile along, by a slope that changes."""

    def forward(self, z):
        turn, smile, hat = z[:, 0], z[:, 1] + z[:, 0] ** 2 + 0.5 * z[:, 0], z[:, 2]
        return torch.stack([torch.tanh(turn), smile, hat], 1)[:, :, None, None]


def test_steering_brings_one_attribute_to_its_targets_and_holds_the_others():
    def through(images):
        return images[:, :3, 0, 0]

    reader = AttributeReader(READER.names, through, slopes_through=through)
    z = torch.rand(7, 5) - 0.5
    targets = torch.linspace(-0.6, 0.6, 5)
    paths = steered(Bent(), reader, z, 0, targets, torch.ones(3))
    assert paths.shape == (7, 5, 5)
    shown = through(Bent()(paths.flatten(0, 1))).reshape(7, 5, 3)
    assert torch.allclose(shown[:, :, 0], targets.expand(7, 5), atol=0.02)
    own = through(Bent()(z))[:, None, 1:].expand(7, 5, 2)
    assert torch.allclose(shown[:, :, 1:], own, atol=0.03)
    assert torch.allclose(paths[:, :, 3:], z[:, None, 3:].expand(7, 5, 2))  # the shortest way
    with pytest.raises(DissectError, match="differentiated"):
        steered(Bent(), READER, z, 0, targets, torch.ones(3))
    with pytest.raises(DissectError, match="odd number"):
        steered(Bent(), reader, z, 0, targets[:4], torch.ones(3))


# --- arithmetic


def test_sums_by_hand():
    terms = parse_expression("a - b + 0.5 * c")
    means = {"a": torch.tensor([1.0, 2]), "b": torch.tensor([3.0, 0]), "c": torch.tensor([4.0, 4])}
    assert combined(terms, means).tolist() == [0, 4]


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
    realism = Realism.of(COLOURS, Flat()(torch.rand(400, 3) * 2 - 1))
    terms = parse_expression("red - plain + blue")
    wanted = parse_conditions("red>0.5,blue>0.5", COLOURS.names)
    score = measured(Flat(), COLOURS, terms, pools, wanted, realism, exemplars=3, n=20)
    assert (score.n, score.exemplars, score.wanted) == (20, 3, 1)
    assert score.both == score.ordinary
    opposite = parse_conditions("red<0.5", COLOURS.names)
    score = measured(Flat(), COLOURS, terms, pools, opposite, realism, exemplars=3, n=20)
    assert (score.wanted, score.both) == (0, 0)
    with pytest.raises(DissectError, match="6 exemplars to draw from, fewer than 7"):
        measured(Flat(), COLOURS, terms, pools, wanted, realism, exemplars=7)


def test_realism_knows_what_is_ordinary():
    samples = torch.rand(1000, 3) * 2 - 1
    images = Flat()(samples) + torch.randn(1000, 3, 4, 4) * 0.05
    realism = Realism.of(COLOURS, images[:800])
    assert 0.88 < float(realism.ordinary(images[800:]).float().mean()) <= 1
    stripes = images[800:].clone()
    stripes[..., ::2] += 0.6
    assert float(realism.ordinary(stripes).float().mean()) < 0.05
    means = images[:800].unflatten(0, (100, 8)).mean(1)
    assert float(realism.ordinary(means).float().mean()) < 0.5
    with pytest.raises(DissectError, match="at least 200"):
        Realism.of(COLOURS, images[:100])


# --- directions


class Turner(nn.Module):
    """Latents (N, 6): component 2 turns, 4 smiles, and both put the hat on."""

    latent_size = 6

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, z):
        hat = 0.5 * z[:, 2] + 0.5 * z[:, 4]
        values = torch.stack([z[:, 2], z[:, 4], hat], 1)
        return values[:, :, None, None].expand(-1, -1, 2, 2)


def unit(k):
    return torch.eye(6)[k]


def test_exemplars_give_half_the_way_between_their_means():
    vector = from_exemplars(torch.tensor([[0.0, 0], [2, 0]]), torch.tensor([[1.0, 4], [1, 8]]))
    assert vector.tolist() == [0, 3]


def test_regression_finds_the_component_that_turns():
    z = torch.rand(3000, 6) * 2 - 1
    values = READER.read(Turner()(z))
    assert float(from_regression(z, values, 0) @ unit(2)) > 0.999
    mixed = from_regression(z, values, 2)
    assert float(mixed @ (unit(2) + unit(4))) == pytest.approx(2**0.5, abs=0.01)
    with pytest.raises(DissectError, match="12 samples or more"):
        from_regression(z[:11], values[:11], 0)


def test_held_regression_leaves_other_attributes_alone():
    z = torch.rand(3000, 6) * 2 - 1
    tilted = READER.read(Turner()(z))[:, :2]
    tilted[:, 0] += 0.7 * tilted[:, 1]
    held = from_regression(z, tilted, 0, held=True)
    assert abs(float(held @ unit(4))) < 0.02
    assert float(held @ unit(2)) > 0.99
    assert float(from_regression(z, tilted, 0) @ unit(4)) > 0.5


def test_components_of_activations_lead_back_to_latents():
    z = torch.rand(2000, 6) * 2 - 1
    activations = z * torch.tensor([1.0, 1, 4, 1, 1, 1])
    values = READER.read(Turner()(z))
    vector, number = from_components(z, activations, values, 0, components=3)
    assert number == 0
    assert float(vector @ unit(2)) > 0.99


def test_a_direction_is_applied_by_hand():
    direction = Direction(torch.tensor([0.0, 2]), "turn", "exemplars")
    z = torch.tensor([[1.0, 3]])
    moved = direction.applied(z, torch.tensor([-1.0, 0, 1]))
    assert moved.tolist() == [[[1, 1], [1, 3], [1, 5]]]
    centred = direction.applied(z, torch.tensor([-1.0, 0, 1]), centred=True)
    assert centred.tolist() == [[[1, -2], [1, 0], [1, 2]]]
    with pytest.raises(DissectError, match="another model"):
        direction.applied(torch.zeros(1, 3), torch.zeros(1))


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_directions_are_kept_in_files(tmp_path, suffix):
    direction = Direction(torch.randn(5), "yaw", "held", "abc", {"seed": 3})
    again = Direction.load(direction.save(tmp_path / f"d.{suffix}"))
    assert torch.equal(again.vector, direction.vector)
    assert (again.attribute, again.method, again.about) == ("yaw", "held", {"seed": 3})
    again.check("abc")
    with pytest.raises(DissectError, match="another model"):
        again.check("abd")
    for share in (0.0, 0.5, 0.95):
        data = (tmp_path / f"d.{suffix}").read_bytes()
        (tmp_path / f"x.{suffix}").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DissectError):
            Direction.load(tmp_path / f"x.{suffix}")
    with pytest.raises(DissectError, match="no such file"):
        Direction.load(tmp_path / f"none.{suffix}")


def test_a_direction_of_no_length_is_refused():
    with pytest.raises(DissectError, match="both ends are alike|its ends are the same"):
        Direction(torch.zeros(3), "yaw", "exemplars")


def test_a_straight_turn_scores_one_and_its_companions_drift():
    z = torch.rand(50, 6) * 2 - 1
    positions = torch.linspace(-1, 1, 5)
    direction = Direction(unit(2), "turn", "regression")
    values = read_rows(Turner(), READER, z, direction, positions)
    random = [
        read_rows(Turner(), READER, z, other, positions) for other in random_like(direction, 40)
    ]
    score = scored(values, positions, direction, READER, torch.ones(3), random)
    assert (score.r_squared, score.monotone) == pytest.approx((1, 1))
    assert score.reach == pytest.approx(2)
    assert score.drift["smile"] == pytest.approx(0, abs=1e-6)
    assert score.drift["hat"] == pytest.approx(0.5)
    # A random unit vector of 6 components: the mean of |component| is about 0.35.
    assert score.random_drift["smile"] == pytest.approx(0.35, abs=0.12)
    assert not score.cleaner_than_random


def test_a_turn_back_and_forth_is_not_monotone():
    positions = torch.linspace(-1, 1, 5)
    there_and_back = torch.tensor([[0.0, 1, 2, 1, 0], [0, 1, 2, 3, 4]])[:, :, None].repeat(1, 1, 3)
    direction = Direction(unit(2), "turn", "x")
    score = scored(there_and_back, positions, direction, READER, torch.ones(3), [])
    assert score.monotone == 0.5
    with pytest.raises(DissectError, match="odd number"):
        scored(there_and_back[:, :4], positions[:4], direction, READER, torch.ones(3), [])


class Saturating(Turner):
    """Turns no further than 1."""

    def forward(self, z):
        return torch.tanh(super().forward(z))


def test_a_direction_is_as_long_as_it_can_be_before_it_saturates():
    z = torch.rand(64, 6) * 0.2
    long = calibrated(Turner(), READER, z, Direction(unit(2), "turn", "x"))
    short = calibrated(Saturating(), READER, z, Direction(unit(2), "turn", "x"))
    assert long.length == pytest.approx(6)
    # The slope of tanh falls to 0.6 of its middle at 0.77; the ends are means over two steps.
    assert 0.6 <= short.length <= 1.25


def test_areas_and_sides_of_segmented_images():
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :, 3] = 1
    labels[1, :2, 0] = 1
    reader = segment_reader(Segmenter(("wall", "window"), lambda images: labels))
    values = reader.read(torch.zeros(2, 3, 4, 4))
    assert reader.names == ("wall", "window", "wall_side", "window_side")
    assert values[:, 1].tolist() == [0.25, 0.125]
    assert values[:, 3].tolist() == [1, -1]
    assert values[0, 2] == pytest.approx((4 - 8) / 12)
