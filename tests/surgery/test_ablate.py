import numpy as np
import pytest
import torch
from helpers.surgery import UNITS, Z, small_generator
from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations, record
from dissect.surgery import ablated, bake, mean_activation
from dissect.units import Units


@pytest.fixture
def generator():
    return small_generator()


class Table(nn.Module):
    """One layer that hands on what comes in, so that numbers can be worked by hand."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x)


HAND = torch.tensor([[[[1.0, 2.0]], [[3.0, -4.0]]]])  # 1 sample, 2 units, 1 x 2 cells


def hand(**settings):
    model = Table().eval()
    with ablated(model, Units("layer", (1,), 2), **settings):
        return model(HAND)[0].squeeze(1).tolist()


def test_numbers_worked_by_hand():
    assert hand() == [[1, 2], [0, 0]]
    assert hand(where="everywhere") == [[1, 2], [0, 0]]
    assert hand(strength=0.5) == [[1, 2], [1.5, -2]]
    assert hand(strength=2) == [[1, 2], [-3, 4]]
    assert hand(replacement=torch.tensor([1.0])) == [[1, 2], [1, 1]]
    assert hand(replacement=torch.tensor([1.0]), strength=0.5) == [[1, 2], [2, -1.5]]
    assert hand(where=torch.tensor([[0.0, 1.0]])) == [[1, 2], [3, 0]]
    assert hand(where=torch.tensor([[[True, False]]])) == [[1, 2], [0, -4]]


class FirstUnitAbove:
    """A gate: open where the first unit is above 1.5."""

    def probability(self, acts):
        return (acts[:, 0] > 1.5).float()


def test_a_gate_reads_the_activation_before_the_edit():
    assert hand(where=FirstUnitAbove()) == [[1, 2], [3, 0]]
    model = Table().eval()
    with ablated(model, Units("layer", (0,), 2), where=FirstUnitAbove()):
        assert model(HAND)[0, 0].tolist() == [[1, 0]]


def test_strength_zero_changes_no_bit(generator):
    before = generator(Z)
    with ablated(generator, UNITS, strength=0):
        assert torch.equal(generator(Z), before)
    assert torch.equal(generator(Z), before)


def test_other_units_and_closed_cells_keep_every_bit(generator):
    before = activations(generator, "layer8x8", Z)
    gate = torch.zeros(8, 8)
    gate[2:4, 3:6] = 1
    with ablated(generator, UNITS, where=gate):
        after = activations(generator, "layer8x8", Z)
    others = [unit for unit in range(6) if unit not in UNITS.indices]
    assert torch.equal(after[:, others], before[:, others])
    closed = gate == 0
    assert torch.equal(after[:, :, closed], before[:, :, closed])
    assert float(after[:, list(UNITS.indices)][:, :, ~closed].abs().max()) == 0
    assert float(before[:, list(UNITS.indices)][:, :, ~closed].abs().max()) > 0


def test_zeroing_before_the_batch_norm_does_not_remove_the_unit(generator):
    with torch.no_grad():
        generator.layer8x8.norm.bias[1] = 2.0
        generator.layer8x8.norm.running_mean[1] = 0.0
    edited = bake(generator, Units("layer8x8", (), 6))
    with torch.no_grad():
        edited.layer8x8.conv.weight[:, 1] = 0.0
        acts = edited.layer8x8(edited.layer4x4(Z[:, :, None, None]))
    shift = generator.layer8x8.norm
    alone = shift.bias - shift.running_mean * shift.weight / (shift.running_var + shift.eps).sqrt()
    assert torch.allclose(acts[:, 1], alone[1].relu().expand_as(acts[:, 1]), atol=1e-6)
    assert float(acts[:, 1].abs().max()) > 0


def test_mean_ablation_keeps_the_mean(generator):
    means = mean_activation(generator, UNITS, Z, batch_size=2)
    acts = activations(generator, "layer8x8", Z)
    assert torch.allclose(means, acts.mean((0, 2, 3))[[1, 4]], atol=1e-6)
    with ablated(generator, UNITS, replacement=means):
        after = activations(generator, "layer8x8", Z)
    assert torch.allclose(after.mean((0, 2, 3)), acts.mean((0, 2, 3)), atol=1e-5)


def test_edits_nest_and_end(generator):
    before = generator(Z)
    with ablated(generator, UNITS), ablated(generator, Units("layer16x16", (0,), 3)):
        inner = generator(Z)
    with ablated(generator, UNITS):
        assert not torch.equal(generator(Z), inner)
    with pytest.raises(RuntimeError), ablated(generator, UNITS):
        raise RuntimeError
    assert torch.equal(generator(Z), before)


def test_an_ablation_is_the_same_in_any_batch(generator):
    with ablated(generator, UNITS, where=FirstUnitAbove()), torch.no_grad():
        assert torch.allclose(generator(Z)[2:3], generator(Z[2:3]), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 2.5}, "strength must be from 0 to 2"),
        ({"threshold": 1.0}, "threshold must be"),
        ({"where": "here"}, "'everywhere', a probe or a tensor"),
        ({"replacement": "mean"}, "'zero' or a tensor"),
        ({"replacement": torch.zeros(3)}, "one value for each of the 2 units"),
        ({"where": torch.zeros(4, 4)}, r"the gate has shape \(4, 4\)"),
        ({"where": torch.zeros(3, 8, 8)}, r"the gate has shape \(3, 8, 8\)"),
    ],
)
def test_wrong_arguments_are_one_line(generator, settings, message):
    with (
        pytest.raises(DissectError, match=message) as caught,
        ablated(generator, UNITS, **settings),
    ):
        generator(Z)
    assert "\n" not in str(caught.value)


def test_units_of_another_layer_are_refused(generator):
    with (
        pytest.raises(DissectError, match="the units are of a layer of 7"),
        ablated(generator, Units("layer8x8", (1,), 7)),
    ):
        generator(Z)
    with (
        pytest.raises(DissectError, match="layer8x8"),
        ablated(generator, Units("layer9", (1,), 7)),
    ):
        generator(Z)


def test_strength_two_turns_the_sign_and_a_replacement_is_put_to_the_bit(generator):
    before = activations(generator, "layer8x8", Z)[:, [1, 4]]
    with ablated(generator, UNITS, strength=2):
        assert torch.equal(activations(generator, "layer8x8", Z)[:, [1, 4]], -before)
    third = torch.tensor([1 / 3, -1e-7])
    with ablated(generator, UNITS, replacement=third):
        after = activations(generator, "layer8x8", Z)[:, [1, 4]]
    assert torch.equal(after, third[:, None, None].expand_as(after))


def test_infinite_values_are_removed_and_stay_where_the_gate_is_closed():
    model = Table().eval()
    wild = torch.tensor([[[[float("inf"), float("inf")]], [[float("nan"), -0.0]]]])
    for strength in (0.5, 1.0, 2.0):
        closed = ablated(
            model, Units("layer", (0, 1), 2), where=torch.zeros(1, 2), strength=strength
        )
        with closed:
            out = model(wild)
        assert out.numpy().tobytes() == wild.numpy().tobytes()
    with ablated(model, Units("layer", (0, 1), 2), strength=0):
        assert model(wild).numpy().tobytes() == wild.numpy().tobytes()
    with ablated(model, Units("layer", (0, 1), 2)):
        assert model(wild).abs().max() == 0
    with ablated(model, Units("layer", (0, 1), 2), where=torch.ones(1, 2)):
        assert model(wild).abs().max() == 0


def test_no_units_are_no_edit():
    model = Table().eval()
    with ablated(model, Units("layer", (), 2)):
        assert torch.equal(model(HAND), HAND)


def test_the_activation_that_came_in_is_not_written_to():
    model, x = Table().eval(), HAND.clone()
    with record(model, "layer") as before, ablated(model, Units("layer", (0, 1), 2)):
        model(x)
    assert torch.equal(before["layer"], HAND)
    assert torch.equal(x, HAND)


def test_features_without_a_grid_can_be_ablated_but_not_gated():
    model, x = Table().eval(), torch.tensor([[1.0, 2.0]])
    with ablated(model, Units("layer", (1,), 2), replacement=torch.tensor([7.0])):
        assert model(x).tolist() == [[1, 7]]
    gated = ablated(model, Units("layer", (1,), 2), where=torch.ones(1, 1))
    with (
        pytest.raises(DissectError, match=r"a grid \(N, C, H, W\), and layer 'layer' gives"),
        gated,
    ):
        model(x)


def test_gradients_reach_the_units_only_where_they_are_left():
    model, x = Table().eval(), HAND.clone().requires_grad_()
    with ablated(model, Units("layer", (1,), 2), where=torch.tensor([[1.0, 0.0]]), strength=0.5):
        out = model(x)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert slope.tolist() == [[[[1, 1]], [[0.5, 1]]]]


@pytest.mark.parametrize("where", [None, torch.ones(1, 2)])
def test_gradients_pass_the_other_units_of_a_relu(where):
    # A ReLU looks at its own output on the way back, which must be as it left it.
    model, x = nn.Sequential(nn.ReLU()), HAND.clone().requires_grad_()
    with ablated(model, Units("0", (0,), 2), where=where):
        out = model(x)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert slope.tolist() == [[[[0, 0]], [[1, 0]]]]


class Weighted:
    """A gate with weights of its own, and the layer that they are for."""

    layer = "layer8x8"

    def __init__(self, device="cpu"):
        self.weight = torch.ones(6, device=device, requires_grad=True)

    def probability(self, acts):
        assert not acts.requires_grad
        return torch.einsum("nchw,c->nhw", acts, self.weight).sigmoid()


def test_a_gate_is_for_the_layer_of_the_units(generator):
    with ablated(generator, UNITS, where=Weighted()):
        assert generator(Z.clone().requires_grad_()).requires_grad
    with pytest.raises(DissectError, match="reads 'layer8x8' and the units are of 'layer16x16'"):
        ablated(generator, Units("layer16x16", (0,), 3), where=Weighted())


def test_the_threshold_is_that_of_the_gate():
    gate = torch.tensor([[0.2, 0.8]])
    assert hand(where=gate, threshold=0.1) == [[1, 2], [0, 0]]
    assert hand(where=gate) == [[1, 2], [3, 0]]
    assert hand(where=gate, threshold=0.8) == [[1, 2], [3, -4]]


def test_mistakes_are_told_before_the_block_is_entered(generator):
    for settings, message in [
        ({"where": np.ones((8, 8))}, "use 'everywhere', a probe or a tensor"),
        ({"strength": float("nan")}, "strength must be from 0 to 2"),
        ({"replacement": [0.0, 0.0]}, "use 'zero' or a tensor"),
        ({"replacement": torch.tensor([0.0, float("nan")])}, "must be finite"),
    ]:
        with pytest.raises(DissectError, match=message):
            ablated(generator, UNITS, **settings)


def test_training_mode_is_refused_unless_asked_for(generator):
    generator.train()
    with pytest.raises(DissectError, match="training mode"):
        ablated(generator, UNITS).__enter__()
    with ablated(generator, UNITS, allow_training=True):
        generator(Z)


def test_an_ablation_that_never_acts_warns_where_it_was_written(generator):
    never = "nothing was edited: layer 'layer8x8' did not run"
    with pytest.warns(UserWarning, match=never) as seen, ablated(generator, UNITS):
        pass
    assert seen[0].filename == __file__


def test_a_mean_needs_latents_and_units_of_the_layer(generator):
    with pytest.raises(DissectError, match="at least 1 latent"):
        mean_activation(generator, UNITS, Z[:0])
    with pytest.raises(DissectError, match="of a layer of 7"):
        mean_activation(generator, Units("layer8x8", (1,), 7), Z)
    with pytest.raises(DissectError, match="at least 1 input, not 0"):
        mean_activation(generator, UNITS, Z, batch_size=0)
