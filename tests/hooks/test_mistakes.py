"""Layers and models that cannot be studied as they stand."""

from collections import OrderedDict

import pytest
import torch
from helpers.hooks import Times, by_2_3_5, chain, ones
from torch import nn
from torch.nn import functional as F

from dissect._utils.errors import DissectError
from dissect.hooks import activations, edit, record, resolve_layer

# Training mode


@pytest.mark.parametrize("unsteady", [nn.BatchNorm2d(1), nn.Dropout(0.5), nn.RReLU()])
def test_training_mode_is_refused_where_it_changes_what_is_studied(unsteady):
    model = chain(Times(2.0), unsteady)
    for block in (lambda: record(model, "layer0"), lambda: edit(model, {"layer0": torch.neg})):
        with pytest.raises(DissectError, match=r"layer1 \(\w+\) is in training mode.*eval\(\)"):
            block().__enter__()
    with pytest.raises(DissectError, match="training mode"):
        activations(model, "layer0", ones(2, 1, 1, 1))
    model.eval()
    with record(model, "layer0") as acts:
        model(ones(2, 1, 1, 1))
    assert acts["layer0"].sum() == 4


class Drops(nn.Module):
    """Does by functions what only training mode does."""

    def __init__(self, how):
        super().__init__()
        self.how, self.rate = how, 0.5
        self.register_buffer("seen", torch.ones(4))

    def forward(self, x):
        return self.how(self, x) if self.training else x


def drop_path(self, x):
    return x * x.new_empty(len(x), 1).bernoulli_(1 - self.rate) / (1 - self.rate)


def attention(self, x):
    x = x[None, None]
    return F.scaled_dot_product_attention(x, x, x, dropout_p=self.rate)[0, 0]


def power_iteration(self, x):
    self.seen.data.copy_(F.normalize(self.seen + x.detach().sum(0), dim=0))
    return x * self.seen


FUNCTIONAL = {
    "dropout": lambda self, x: F.dropout(x, self.rate),
    "dropout in place": lambda self, x: F.dropout(x * 1, self.rate, inplace=True),
    "alpha dropout": lambda self, x: F.alpha_dropout(x, self.rate, training=True),
    "drop path": drop_path,
    "attention": attention,
    "noise": lambda self, x: x + torch.randn_like(x),
    "power iteration": power_iteration,
    "running mean": lambda self, x: x - self.seen.lerp_(x.detach().mean(0), 0.1),
}


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", FUNCTIONAL)
def test_what_only_training_mode_does_is_refused_as_it_runs(name, stop):
    model, x = chain(Drops(FUNCTIONAL[name]), Times(2.0)), torch.ones(4, 4)
    words = r"layer0 \(Drops\) (draws|writes).*training mode.*model.eval\(\)"
    with pytest.raises(DissectError, match=words), record(model, "layer1", stop=stop):
        model(x)
    with pytest.raises(DissectError, match=words), edit(model, {"layer1": torch.neg}):
        model(x)
    with pytest.raises(DissectError, match=words):
        activations(model, "layer1", x)
    with record(model, "layer1", allow_training=True, stop=stop):
        model(x)
    with record(model.eval(), "layer1", stop=stop) as acts:
        model(x)
    assert acts["layer1"].sum() == 32


@pytest.mark.parametrize("name", ["in place", "without dropout", "eval"])
def test_a_model_in_training_mode_that_does_nothing_else_for_it_is_recorded(name):
    def how(self, x):
        if name == "in place":
            return x.mul(2).div_(2)
        if name == "without dropout":
            x = x[None, None]
            x = F.dropout(F.scaled_dot_product_attention(x, x, x), 0.0)
            return F.dropout(x, 0.5, training=False)[0, 0]
        return x

    model = chain(Drops(how), Times(2.0))
    with record(model, "layer1") as acts, edit(model, {"layer1": torch.neg}):
        model(torch.ones(4, 4))
    assert acts["layer1"].sum() == 32


@pytest.mark.parametrize(
    "part",
    [
        nn.RNN(4, 4, 2, dropout=0.5),
        nn.InstanceNorm1d(4, track_running_stats=True),
        nn.TransformerEncoderLayer(4, 2, 8),
        nn.FeatureAlphaDropout(),
    ],
)
def test_layers_that_train_are_refused_before_they_run(part):
    with pytest.raises(DissectError, match="training mode.*eval"):
        record(chain(part, Times(2.0)), "layer1")


def test_training_mode_may_be_asked_for():
    model = chain(nn.BatchNorm1d(1), Times(2.0))
    with record(model, "layer0", allow_training=True) as acts:
        model(torch.tensor([[1.0], [3.0]]))
    assert acts["layer0"].flatten().tolist() == pytest.approx([-1, 1], abs=1e-4)
    with edit(model, {"layer0": torch.zeros_like}, allow_training=True):
        assert model(torch.tensor([[1.0], [3.0]])).abs().sum() == 0


# Mistakes


def test_unknown_layers_are_answered_with_near_names():
    model = nn.Sequential(OrderedDict(layer4x4=nn.ReLU(), layer8x8=nn.ReLU(), rgb=nn.Tanh()))
    with pytest.raises(DissectError) as caught:
        resolve_layer(model, "layer8")
    assert str(caught.value).startswith("Sequential has no layer 'layer8': did you mean 'layer8x8'")
    with pytest.raises(DissectError, match="'8X8': did you mean 'layer8x8'\\?"):
        resolve_layer(model, "8X8")
    with pytest.raises(DissectError, match="its 3 layers include layer4x4, layer8x8, rgb"):
        resolve_layer(model, "qqq")
    with pytest.raises(DissectError, match="Tanh has no layer 'rgb': it has none"):
        resolve_layer(model.rgb, "rgb")
    assert resolve_layer(model, "rgb") is model.rgb
    assert resolve_layer(model, "") is model


def test_layers_are_given_by_name():
    model = by_2_3_5()
    with pytest.raises(DissectError, match="by its name, such as 'layer0', not as Times"):
        resolve_layer(model, model.layer0)
    with pytest.raises(DissectError, match="by its name, such as 'layer0', not as list"):
        record(model, ["layer0", "layer1"]).__enter__()
    with pytest.raises(DissectError, match="name layers to record, such as 'layer0'"):
        record(model).__enter__()


@pytest.mark.parametrize("output", [(1, 2), {"x": 1}, [None], "text"])
def test_layers_that_give_no_tensor_say_what_to_do(output):
    class Gives(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Times(2.0)

        def forward(self, x):
            self.inner(x)
            return output

    model = chain(Gives())
    words = f"'layer0' gives {type(output).__name__}, without a tensor.*such as 'layer0.inner'"
    with pytest.raises(DissectError, match=words), record(model, "layer0"):
        model(ones())
    with pytest.raises(DissectError, match=words), edit(model, {"layer0": lambda a: a}):
        model(ones())
    with record(model, "layer0.inner") as acts:
        model(ones())
    assert acts["layer0.inner"].item() == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused_where_hooks_cannot_reach():
    scripted = torch.jit.trace(nn.Sequential(nn.ReLU(), nn.Tanh()), ones())
    with pytest.raises(DissectError, match="'0' is out of reach inside TorchScript"):
        resolve_layer(scripted, "0")
    model = chain(scripted, Times(2.0))
    with pytest.raises(DissectError, match="'layer0.1' is out of reach inside TorchScript"):
        resolve_layer(model, "layer0.1")
    with record(model, "layer0") as acts:
        model(ones())
    assert acts["layer0"].item() == pytest.approx(0.7616, abs=1e-4)
