"""What edits change, how blocks lie within one another, and what they leave behind."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
from helpers.hooks import AddInPlace, Times, by_2_3_5, chain, hooks_of, ones
from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks import edit, layer_names, plain_copy, record

# Edits and nesting


def test_an_edit_changes_what_follows_and_ends_with_its_block():
    model = by_2_3_5()
    with edit(model, {"layer0": lambda a: a + 1, "layer1": lambda a: -a}):
        assert model(ones()).item() == -45
    assert model(ones()).item() == 30


def test_hooks_act_in_the_order_of_their_blocks():
    model = by_2_3_5()
    with edit(model, {"layer0": lambda a: a + 1}), edit(model, {"layer0": lambda a: a * 10}):
        assert model(ones()).item() == 30 * 15


def test_a_record_inside_an_edit_sees_the_edit_and_one_outside_does_not():
    model = by_2_3_5()
    with (
        record(model, "layer0") as before,
        edit(model, {"layer0": lambda a: a + 1}),
        record(model, "layer0") as after,
    ):
        model(ones())
    assert (before["layer0"].item(), after["layer0"].item()) == (2, 3)


@pytest.mark.parametrize("stop", [False, True])
def test_a_record_keeps_the_activation_from_an_edit_in_place_inside_it(stop):
    model = by_2_3_5()
    with (
        record(model, "layer0", stop=stop) as before,
        edit(model, {"layer0": lambda a: a.add_(1)}),
        record(model, "layer0", stop=stop) as after,
    ):
        model(ones())
    assert (before["layer0"].item(), after["layer0"].item()) == (2, 3)


def test_recordings_that_stop_within_one_another_all_see_their_layer():
    model = by_2_3_5()
    with (
        record(model, "layer0", "layer1", stop=True) as outer,
        record(model, "layer1", stop=True) as inner,
    ):
        assert model(ones()) is None
        assert model(ones()) is None
    assert [a.item() for a in outer.calls("layer1")] == [6, 6]
    assert [a.item() for a in inner.calls("layer1")] == [6, 6]
    assert model(ones()).item() == 30


@pytest.mark.parametrize(("outer", "inner"), [("layer0", "layer1"), ("layer1", "layer0")])
def test_of_two_early_stops_the_first_to_come_ends_the_pass(outer, inner):
    model = by_2_3_5()
    with record(model, outer, stop=True), record(model, inner, stop=True) as acts:
        assert model(ones()) is None
    assert model.layer1.runs == 0
    assert ("layer0" in acts) == (inner == "layer0")
    assert model(ones()).item() == 30


def test_an_early_stop_of_the_whole_passes_through_that_of_a_part():
    model = chain(by_2_3_5(), Times(7.0))
    with (
        record(model, "layer0.layer1", stop=True) as whole,
        record(model.layer0, "layer1", "layer2", stop=True) as part,
    ):
        assert model(ones()) is None
    assert (whole["layer0.layer1"].item(), part["layer1"].item()) == (6, 6)
    assert "layer2" not in part


def test_an_edit_may_not_change_shape_dtype_or_device_nor_forget_to_return():
    model = by_2_3_5()
    wrong = {
        r"returned float32 \(1,\) on cpu: it must return float32 \(1, 1\) on cpu": lambda a: a[0],
        r"returned float64 \(1, 1\) on cpu": lambda a: a.double(),
        r"returned float32 \(1, 1\) on meta": lambda a: a.to("meta"),
        "returned NoneType: return the new activation": lambda a: None,
    }
    for message, function in wrong.items():
        with pytest.raises(DissectError, match=message), edit(model, {"layer1": function}):
            model(ones())
    assert model(ones()).item() == 30


def test_a_tensor_that_an_edit_returns_is_safe_from_a_successor_in_place():
    model, patch = chain(Times(2.0), AddInPlace()), 7 * ones()
    with edit(model, {"layer0": lambda a: patch}):
        assert model(ones()).item() == 107
    assert patch.item() == 7


def test_an_edit_in_place_does_not_reach_the_input_of_the_model():
    model, x = chain(nn.Flatten(), Times(2.0)), ones()
    with edit(model, {"layer0": lambda a: a.mul_(50)}):
        assert model(x).item() == 100
    assert x.item() == 1


def test_a_block_may_be_entered_again_but_not_within_itself():
    model = by_2_3_5()
    louder = edit(model, {"layer0": lambda a: a + 1})
    for _ in range(2):
        with louder:
            assert model(ones()).item() == 45
            with pytest.raises(DissectError, match="open already"):
                louder.__enter__()
        assert model(ones()).item() == 30


def test_an_edit_that_never_acts_warns_and_one_that_acts_does_not():
    model = by_2_3_5()
    with pytest.warns(UserWarning, match="nothing was edited: layer 'layer2' did not run") as seen:
        with edit(model, {"layer0": torch.neg, "layer2": torch.neg}):
            model.layer0(ones())
    assert seen[0].filename == __file__
    with warnings.catch_warnings(), edit(model, {"layer0": torch.neg}):
        warnings.simplefilter("error")
        model(ones())


# What is left behind


def test_hooks_of_others_stay_in_their_order_and_see_what_they_saw():
    model, seen = by_2_3_5(), []
    before = model.layer1.register_forward_hook(lambda m, i, o: seen.append(("before", o.item())))
    with edit(model, {"layer1": lambda a: a + 1}), record(model, "layer1") as acts:
        inside = model.layer1.register_forward_hook(
            lambda m, i, o: seen.append(("inside", o.item()))
        )
        model(ones())
    assert seen == [("before", 6), ("inside", 7)]
    assert acts["layer1"].item() == 7
    assert list(model.layer1._forward_hooks) == [before.id, inside.id]
    model(ones())
    assert seen[2:] == [("before", 6), ("inside", 6)]


class Breaks(nn.Module):
    def forward(self, x):
        raise ValueError("broken on purpose")


@pytest.mark.parametrize("block", ["record", "stop", "edit"])
@pytest.mark.parametrize("in_model", [True, False])
def test_an_exception_leaves_the_model_as_it_was_and_reaches_the_user(block, in_model):
    model = chain(Times(2.0), Breaks(), Times(3.0))
    model.layer0.register_forward_hook(lambda *_: None)
    attributes, hooks = [dict(vars(m)) for m in model.modules()], hooks_of(model)
    entered = {
        "record": lambda: record(model, "layer0", "layer2"),
        "stop": lambda: record(model, "layer0", "layer2", stop=True),
        "edit": lambda: edit(model, {"layer0": torch.neg}),
    }[block]()
    with pytest.raises(ValueError, match="broken on purpose"), entered:
        if in_model:
            model(ones())
        raise ValueError("broken on purpose")
    assert hooks_of(model) == hooks
    assert [list(vars(m)) for m in model.modules()] == [list(a) for a in attributes]
    model.layer1 = Times(3.0)
    assert model(ones()).item() == 18


def test_a_mistake_in_the_second_layers_name_registers_nothing():
    model = by_2_3_5()
    with pytest.raises(DissectError), record(model, "layer0", "layer7"):
        pass
    assert hooks_of(model) == [{}] * 4


def test_early_stop_goes_on_after_an_error_in_the_model():
    model = chain(Times(2.0), Times(3.0))
    with record(model, "layer0", stop=True):
        with pytest.raises(TypeError):
            model("not a tensor")
        assert model(ones()) is None


@pytest.mark.parametrize("block", ["record", "stop", "edit", "error", "names"])
def test_nothing_keeps_the_model_or_the_activations_alive(block):
    model = by_2_3_5()
    gone = [weakref.ref(model), weakref.ref(model.layer0)]
    gc.collect()
    gc.disable()
    try:
        if block == "edit":
            with edit(model, {"layer0": torch.neg}):
                model(ones())
        elif block == "error":
            with pytest.raises(DissectError), edit(model, {"layer0": lambda a: None}):
                model(ones())
            gc.collect()  # pytest's record of the exception is a cycle of its own
        elif block == "names":
            layer_names(model)
        else:
            with record(model, "layer0", "layer1", stop=block == "stop") as acts:
                model(ones())
                gone.append(weakref.ref(acts["layer0"]))
                gone.append(weakref.ref(acts["layer1"]))
            del model
            assert [r() is None for r in gone] == [True, True, False, False]
            del acts
        model = None
        assert [r() for r in gone] == [None] * len(gone)
    finally:
        gc.enable()


def test_a_copy_made_in_a_block_is_not_hooked():
    model = by_2_3_5()
    with edit(model, {"layer0": torch.neg}), record(model, "layer1", stop=True) as acts:
        twin = copy.deepcopy(model)
        assert twin(ones()).item() == 30
        assert len(acts) == 0
        model(ones())
    assert acts["layer1"].item() == -6


def test_a_plain_copy_has_the_hooks_of_others_only():
    model, seen = by_2_3_5(), []
    model.layer0.register_forward_hook(lambda m, i, o: seen.append(o.item()))
    with edit(model, {"layer0": torch.neg}), record(model, "layer1", stop=True):
        twin = plain_copy(model)
        model(ones())
    assert [len(hooks) for hooks in hooks_of(twin)] == [0, 1, 0, 0]
    assert len(twin.layer0._forward_hooks_with_kwargs) == 0
    assert twin(ones()).item() == 30
    assert seen == [2, 2]


# Gradients


def test_by_default_no_graph_is_kept():
    model = by_2_3_5()
    with record(model, "layer1") as acts:
        model(ones().requires_grad_())
    assert not acts["layer1"].requires_grad


@pytest.mark.parametrize("successor", [Times(5.0), AddInPlace()])
def test_with_the_graph_the_output_depends_on_what_is_recorded(successor):
    model, z = chain(Times(2.0), Times(3.0), successor), ones().requires_grad_()
    with record(model, "layer1", detach=False) as acts:
        out = model(z)
    assert acts["layer1"].item() == 6
    slope = 5 if isinstance(successor, Times) else 1
    by_act, by_z = torch.autograd.grad(out.sum(), (acts["layer1"], z))
    assert (by_act.item(), by_z.item()) == (slope, 6 * slope)


def test_with_the_graph_and_early_stop_gradients_reach_the_latent():
    model, z = by_2_3_5(), ones().requires_grad_()
    with record(model, "layer1", stop=True, detach=False) as acts:
        model(z)
    assert torch.autograd.grad(acts["layer1"].sum(), z)[0].item() == 6


def test_gradients_pass_through_an_edit():
    model, z = by_2_3_5(), ones().requires_grad_()
    with edit(model, {"layer1": lambda a: a * a}):
        out = model(z)
    assert torch.autograd.grad(out.sum(), z)[0].item() == 5 * 2 * 36  # 5 (6 z)^2
