"""Hooks on models that were compiled before: compiled code pays no heed to such hooks."""

from contextlib import nullcontext, suppress

import pytest
import torch
from torch import nn

from dissect.hooks import edit, layer_names, plain_copy, record, resolve_layer

ONE = torch.ones(1, 1)


class Pure(nn.Module):
    """1 goes to 2, 6."""

    def __init__(self):
        super().__init__()
        self.twice = nn.Linear(1, 1, bias=False)
        self.thrice = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.twice.weight.fill_(2.0)
            self.thrice.weight.fill_(3.0)

    def forward(self, x):
        return self.thrice(self.twice(x))


GRAPHS = []


def counting(graph, inputs):
    """A backend that compiles nothing and counts the graphs that it is given."""
    GRAPHS.append(graph)
    return graph


def _compiled_whole():
    return torch.compile(Pure(), backend=counting)


def _compiled_in_place():
    model = Pure()
    model.compile(backend=counting)
    return model


def _compiled_layer():
    model = Pure()
    model.twice = torch.compile(model.twice, backend=counting)
    return model


def _compiled_layer_in_place():
    model = Pure()
    model.twice.compile(backend=counting)
    return model


def _compiled_forward():
    model = Pure()
    model.forward = torch.compile(model.forward, backend=counting)
    return model


def _compiled_class():
    class Decorated(Pure):
        @torch.compile(backend=counting)
        def forward(self, x):
            return self.thrice(self.twice(x))

    return Decorated()


COMPILED = [
    _compiled_whole,
    _compiled_in_place,
    _compiled_layer,
    _compiled_layer_in_place,
    _compiled_forward,
    _compiled_class,
]


@pytest.fixture
def _fresh_dynamo():
    torch._dynamo.reset()
    GRAPHS.clear()
    yield
    torch._dynamo.reset()
    GRAPHS.clear()


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize("compiled", COMPILED)
def test_compiled_models_are_recorded_and_edited_and_stay_compiled(compiled):
    model = compiled()
    assert model(ONE).item() == 6
    attributes, graphs = [dict(vars(m)) for m in model.modules()], len(GRAPHS)
    with record(model, "twice") as acts:
        assert model(ONE).item() == 6
    assert acts["twice"].item() == 2
    with record(model, "twice", stop=True) as acts:
        assert model(ONE) is None
    assert acts["twice"].item() == 2
    with edit(model, {"twice": lambda a: a + 1}):
        assert model(ONE).item() == 9
    assert model(ONE).item() == 6
    assert len(GRAPHS) == graphs
    for module, before in zip(model.modules(), attributes, strict=True):
        assert vars(module).keys() == before.keys()
        for name in ("forward", "_compiled_call_impl"):
            assert vars(module).get(name) is before.get(name)


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize("compiled", COMPILED)
def test_compiled_models_have_the_names_of_plain_ones(compiled):
    assert layer_names(compiled()) == ["twice", "thrice"]


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("inside", [True, False])
def test_a_plain_copy_of_a_compiled_model_is_a_model_of_its_own(compiled, inside):
    model = compiled()
    model(ONE)
    with edit(model, {"twice": torch.neg}) if inside else nullcontext():
        twin = plain_copy(model)
        model(ONE)
    with torch.no_grad():
        resolve_layer(twin, "twice").weight.fill_(7.0)
    assert (twin(ONE).item(), model(ONE).item()) == (21, 6)
    assert "forward" not in vars(resolve_layer(twin, "twice"))
    assert list(twin.state_dict()) == ["twice.weight", "thrice.weight"]


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.parametrize("first_call_inside", [False, True])
@pytest.mark.parametrize("around", ["function", "module"])
def test_a_model_inside_compiled_code_of_others_is_recorded_and_edited(around, first_call_inside):
    model = Pure()
    if around == "function":
        fast = torch.compile(lambda x: model(x) * 10, backend="eager")
    else:
        fast = torch.compile(nn.Sequential(model, nn.Hardtanh(-600.0, 600.0)), backend="eager")
    scale = 10 if around == "function" else 1
    if not first_call_inside:
        assert fast(ONE).item() == 6 * scale
    with edit(model, {"twice": lambda a: a + 1}), record(model, "twice") as acts:
        assert fast(ONE).item() == 9 * scale
        assert fast(2 * ONE).item() == 15 * scale
    assert [a.item() for a in acts.calls("twice")] == [3, 5]
    # What surrounds the model may be given None, and may not take it.
    with record(model, "twice", stop=True) as acts, suppress(TypeError):
        fast(ONE)
    assert acts["twice"].item() == 2
    assert fast(ONE).item() == 6 * scale


@pytest.mark.usefixtures("_fresh_dynamo")
def test_the_function_of_an_edit_stays_out_of_the_graph():
    model, traced = Pure(), []
    fast = torch.compile(lambda x: model(x), backend=counting)

    def double(activation):
        traced.append(torch.compiler.is_compiling())
        return activation * 2

    with edit(model, {"twice": double}):
        assert fast(ONE).item() == 12
    assert traced == [False]
