"""Layers that take and give several values."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from helpers.hooks import chain, ones
from torch import Tensor, nn

from dissect.hooks import activations, edit, record

Pair = namedtuple("Pair", "values weights")


class OwnTuple(tuple):
    pass


class OwnDict(OrderedDict):
    pass


@dataclass(frozen=True)
class Sample:
    label: str
    values: Tensor


# What a layer makes of x, and how x is found in that again.
OUTPUTS = {
    "tuple": (lambda x: (x, 2 * x), lambda out: out[0]),
    "list": (lambda x: [x, 2 * x], lambda out: out[0]),
    "named tuple": (lambda x: Pair(x, 1), lambda out: out.values),
    "own tuple": (lambda x: OwnTuple((x, 1)), lambda out: out[0]),
    "torch's": (lambda x: torch.max(x[..., None], -1), lambda out: out.values),
    "mapping": (lambda x: {"n": None, "x": x}, lambda out: out["x"]),
    "own mapping": (lambda x: OwnDict(x=x), lambda out: out["x"]),
    "dataclass": (lambda x: Sample("a", x), lambda out: out.values),
    "nested": (lambda x: (None, (x, 3)), lambda out: out[1][0]),
}


class Gives(nn.Module):
    """Takes several inputs, some by keyword, and gives one of the outputs above."""

    def __init__(self, kind):
        super().__init__()
        self.pack, self.find = OUTPUTS[kind]

    def forward(self, x, *, scale, label=None):
        return self.pack(x * scale)


class Calls(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.block = Gives(kind)

    def forward(self, x):
        self.given = self.block(x, scale=3, label="a")
        return self.block.find(self.given) * 10


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_first_tensor_of_an_output_is_recorded_and_edited(kind):
    model, x = Calls(kind), ones()
    model(x)
    before = model.given
    with (
        record(model, "block") as outer,
        edit(model, {"block": lambda a: a.add_(1)}),
        record(model, "block") as inner,
    ):
        assert model(x).item() == 40
    assert (outer["block"].item(), inner["block"].item(), x.item()) == (3, 4, 1)
    assert type(model.given) is type(before)
    with record(model, "block", stop=True) as acts:
        assert model(x) is None
    assert acts["block"].item() == 3
    assert activations(model, "block", x).item() == 3


def test_the_other_values_of_an_output_are_those_that_the_layer_gave():
    model = chain(nn.LSTM(2, 3, batch_first=True)).eval()
    x = torch.randn(4, 5, 2)
    right, (h, c) = model(x)
    with edit(model, {"layer0": torch.zeros_like}), record(model, "layer0", detach=False) as acts:
        out, (h_edited, c_edited) = model(x)
    assert out.abs().sum() == 0
    assert torch.equal(h_edited, h)
    assert torch.equal(c_edited, c)
    with record(model, "layer0", detach=False) as acts:
        out, _ = model(x)
    assert torch.equal(acts["layer0"], right)
    assert torch.autograd.grad(out.sum(), acts["layer0"])[0].sum() == right.numel()


def test_an_edit_leaves_the_object_that_a_layer_gave_as_it_was():
    class Keeps(nn.Module):
        def forward(self, x):
            self.kept = {"x": x * 2}
            return self.kept

    model = chain(Keeps())
    with edit(model, {"layer0": lambda a: a + 1}):
        assert model(ones())["x"].item() == 3
    assert model.layer0.kept["x"].item() == 2
