import pytest
import torch
from torch import nn

from dissect._utils.errors import DissectError
from dissect.latent_space import (
    METHODS,
    Direction,
    Exemplars,
    direction_from_list,
    evaluate_direction,
    find_directions,
    from_components,
    from_exemplars,
    from_regression,
    optimize_latents,
    random_direction_like,
    readout_rows,
    scale_to_effect,
    score_direction,
)
from dissect.models import fingerprint, latents_for
from dissect.segmentation import AttributeReader

READER = AttributeReader(("turn", "smile", "hat"), lambda images: images[:, :3, 0, 0])


class Turner(nn.Module):
    """Latents (N, 6): component 2 turns, 4 smiles, and both put the hat on."""

    latent_size = 6

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, z):
        z = self.layer(z)
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
    symmetric = direction.applied(z, torch.tensor([-1.0, 0, 1]), symmetric=True)
    assert symmetric.tolist() == [[[1, -2], [1, 0], [1, 2]]]
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


def test_the_ends_of_a_direction_are_as_long_as_ordinary_latents():
    direction = Direction(torch.tensor([0.3, 0.4]), "yaw", "exemplars")
    ordinary = torch.tensor([[3.0, -4], [0, 10]])
    # 7.5 long; what leaves the range of ordinary components, -4 to 10, is drawn back into it.
    assert torch.allclose(direction.ends(ordinary), torch.tensor([[-4.0, -4], [4.5, 6]]))
    assert direction.chosen_extremes is None
    named = Direction(direction.vector, "yaw", "x", about={"ends": {"left": [1], "right": [2]}})
    assert named.chosen_extremes == ("left", "right")
    found = Direction(direction.vector, "yaw", "x", about={"ends": {"low": [1], "high": [2]}})
    assert found.chosen_extremes is None


def test_a_direction_of_no_length_is_refused():
    with pytest.raises(DissectError, match="both ends are alike|its ends are the same"):
        Direction(torch.zeros(3), "yaw", "exemplars")


def test_a_straight_turn_scores_one_and_its_companions_drift():
    z = torch.rand(50, 6) * 2 - 1
    positions = torch.linspace(-1, 1, 5)
    direction = Direction(unit(2), "turn", "regression")
    values = readout_rows(Turner(), READER, z, direction, positions)
    random = [
        readout_rows(Turner(), READER, z, other, positions)
        for other in random_direction_like(direction, 40)
    ]
    score = score_direction(values, positions, direction, READER, torch.ones(3), random)
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
    still = [torch.zeros(3, 5, 3)]
    score = score_direction(there_and_back, positions, direction, READER, torch.ones(3), still)
    assert score.monotone == 0.5
    assert (score.random_monotone, score.random_reach, score.random_r_squared) == (0, 0, 0)
    with pytest.raises(DissectError, match="odd number"):
        score_direction(
            there_and_back[:, :4], positions[:4], direction, READER, torch.ones(3), still
        )


def test_random_directions_move_evenly_too_but_nowhere():
    z = torch.rand(600, 6) * 2 - 1
    direction = Direction(2 * unit(2), "turn", "regression")
    values = readout_rows(Turner(), READER, z, direction, torch.linspace(-1, 1, 5))
    score = evaluate_direction(Turner(), READER, values, direction, z, torch.ones(3), seed=1)
    ways = [float(other.vector[2]) for other in random_direction_like(direction, 3, seed=1)]
    assert score.reach == pytest.approx(4)
    assert score.random_reach == pytest.approx(sum(2 * abs(way) for way in ways) / 3, abs=1e-4)
    assert score.random_r_squared == pytest.approx(1)
    assert score.random_monotone == pytest.approx(sum(way > 0 for way in ways) / 3)


def test_directions_are_found_by_every_method():
    z = torch.rand(3000, 6) * 2 - 1
    model = Turner()
    # The hat is left out: it cannot be held while one turns and does not smile.
    reader = AttributeReader(READER.names[:2], lambda images: images[:, :2, 0, 0])
    found = find_directions(model, reader, "turn", z, count=40)
    assert [direction.method for direction in found] == list(METHODS)
    for direction in found[:3]:
        cosine = direction.vector @ unit(2) / direction.length
        assert float(cosine) > 0.85, direction.method
        assert direction.attribute == "turn"
    low, high = found[0].about["ends"].values()
    assert torch.equal(found[0].vector, from_exemplars(z[low], z[high]))
    assert found[3].about["layer"] == "layer"
    (one,) = find_directions(model, reader, "turn", z, ["held"])
    assert torch.equal(one.vector, found[2].vector)
    with pytest.raises(DissectError, match="the same in all 50 samples"):
        find_directions(model, reader, "turn", z[:1].repeat(50, 1))


def test_a_direction_between_two_ends_picked_by_eye():
    model = Turner()
    picked = Exemplars({"left": (1, 2), "right": (5,)}, seed=3, n=9, fingerprint=fingerprint(model))
    direction = direction_from_list(picked, model, "turn")
    z = latents_for(model, 9, 3)
    assert torch.allclose(direction.vector, (z[5] - (z[1] + z[2]) / 2) / 2)
    assert direction.chosen_extremes == ("left", "right")
    direction.check(fingerprint(model))
    with pytest.raises(DissectError, match="must list two concepts"):
        direction_from_list(Exemplars({"left": (1,)}), model, "turn")
    with pytest.raises(DissectError, match="another model"):
        direction_from_list(Exemplars({"a": (1,), "b": (2,)}, fingerprint="0"), model, "turn")


class Jumping(Turner):
    """Turns from one side to the other at once."""

    def forward(self, z):
        return super().forward(z).sign()


def test_a_direction_of_what_jumps_is_left_as_long_as_it_is():
    direction = Direction(1.3 * unit(2), "turn", "x")
    assert scale_to_effect(Jumping(), READER, torch.rand(64, 6) - 0.5, direction) is direction


class Saturating(Turner):
    """Turns no further than 1."""

    def forward(self, z):
        return torch.tanh(super().forward(z))


def test_a_direction_is_as_long_as_it_can_be_before_it_saturates():
    z = torch.rand(64, 6) * 0.2
    long = scale_to_effect(Turner(), READER, z, Direction(unit(2), "turn", "x"))
    short = scale_to_effect(Saturating(), READER, z, Direction(unit(2), "turn", "x"))
    assert long.length == pytest.approx(6)
    # The slope of tanh falls to 0.6 of its middle at 0.77; the ends are means over two steps.
    assert 0.6 <= short.length <= 1.25


class Bent(nn.Module):
    """Images of three pixels: a turn that drags the smile along, by a slope that changes."""

    def forward(self, z):
        turn, smile, hat = z[:, 0], z[:, 1] + z[:, 0] ** 2 + 0.5 * z[:, 0], z[:, 2]
        return torch.stack([torch.tanh(turn), smile, hat], 1)[:, :, None, None]


def test_steering_brings_one_attribute_to_its_targets_and_holds_the_others():
    def through(images):
        return images[:, :3, 0, 0]

    reader = AttributeReader(READER.names, through, differentiable=through)
    z = torch.rand(7, 5) - 0.5
    targets = torch.linspace(-0.6, 0.6, 5)
    paths = optimize_latents(Bent(), reader, z, 0, targets, torch.ones(3))
    assert paths.shape == (7, 5, 5)
    shown = through(Bent()(paths.flatten(0, 1))).reshape(7, 5, 3)
    assert torch.allclose(shown[:, :, 0], targets.expand(7, 5), atol=0.02)
    own = through(Bent()(z))[:, None, 1:].expand(7, 5, 2)
    assert torch.allclose(shown[:, :, 1:], own, atol=0.03)
    assert torch.allclose(paths[:, :, 3:], z[:, None, 3:].expand(7, 5, 2))  # the shortest way
    with pytest.raises(DissectError, match="differentiated"):
        optimize_latents(Bent(), READER, z, 0, targets, torch.ones(3))
    with pytest.raises(DissectError, match="odd number"):
        optimize_latents(Bent(), reader, z, 0, targets[:4], torch.ones(3))
