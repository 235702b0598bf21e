import copy
import gc
import warnings
import weakref
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dissect.errors import DissectError
from dissect.hooks import (
    activations,
    edit,
    layer_names,
    plain_copy,
    record,
    resolve_layer,
)


class Times(nn.Module):
    """Multiplies by a number and counts its runs."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x * self.factor


class AddInPlace(nn.Module):
    def forward(self, x):
        return x.add_(100)


def chain(*modules):
    return nn.Sequential(OrderedDict((f"layer{i}", m) for i, m in enumerate(modules)))


def by_2_3_5():
    """1 goes to 2, 6, 30."""
    return chain(Times(2.0), Times(3.0), Times(5.0))


def ones(*shape):
    return torch.ones(shape or (1, 1))


def hooks_of(model):
    return [dict(m._forward_hooks) for m in model.modules()]


# What is recorded


def test_records_what_each_layer_gave():
    model = by_2_3_5()
    with record(model, "layer0", "layer1") as acts:
        out = model(ones())
    assert (acts["layer0"].item(), acts["layer1"].item(), out.item()) == (2, 6, 30)


def test_every_call_is_kept_in_order_and_the_name_gives_the_last():
    model = by_2_3_5()
    with record(model, "layer1") as acts:
        model(ones())
        model(2 * ones())
    assert [a.item() for a in acts.calls("layer1")] == [6, 12]
    assert acts["layer1"].item() == 12


def test_recording_is_a_mapping_of_the_layers_that_ran():
    model = by_2_3_5()
    with record(model, "layer0", "layer2", stop=True) as acts:
        assert len(acts) == 0
        assert "layer0" not in acts
        assert acts.get("layer0") is None
        model.layer0(ones())
        assert list(acts) == ["layer0"]
    assert repr(acts) == "Recording(layer0: (1, 1))"


def test_a_layer_that_did_not_run_says_so():
    model = by_2_3_5()
    with record(model, "layer0") as acts:
        pass
    with pytest.raises(DissectError, match="'layer0' did not run in the block"):
        acts["layer0"]
    with pytest.raises(DissectError, match="'layer1' was not asked for; recorded here: layer0"):
        acts["layer1"]


@pytest.mark.parametrize("stop", [False, True])
def test_successor_in_place_does_not_reach_what_is_recorded(stop):
    model = chain(Times(2.0), AddInPlace(), Times(5.0))
    asked = ("layer0", "layer1") if stop else ("layer0",)
    with record(model, *asked, stop=stop) as acts:
        model(ones())
    assert acts["layer0"].item() == 2


@pytest.mark.parametrize("detach", [True, False])
def test_what_is_recorded_is_never_the_input_of_the_model(detach):
    # Identity gives the very tensor it was given: not to be kept without a copy, for it is ours.
    model, x = chain(nn.Identity(), Times(2.0)), ones()
    with record(model, "layer0", stop=True, detach=detach) as acts:
        model(x)
    x.zero_()
    assert acts["layer0"].item() == 1


class First(nn.Module):
    def forward(self, xs):
        return xs[0]


def test_what_is_recorded_is_no_part_of_a_list_that_came_in():
    model, x = First(), ones()
    with record(model, "", stop=True) as acts:
        model([x])
    x.zero_()
    assert acts[""].item() == 1


class Constant(nn.Module):
    """As StyleGAN begins: the output is the weight itself."""

    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.ones(1, 3))

    def forward(self, x):
        return self.constant


@pytest.mark.parametrize("layer", ["", "layer0"])
def test_a_recorded_weight_is_not_the_weight(layer):
    model = chain(Constant())
    with record(model, layer, stop=True) as acts:
        model(ones())
    acts[layer].zero_()
    assert model.layer0.constant.sum() == 3


class Window(nn.Module):
    def forward(self, x):
        return torch.zeros(1000, 10)[:1]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_window_into_a_large_tensor_does_not_keep_all_of_it(mode):
    model = Window()
    with mode(), record(model, "", stop=True) as acts:
        model(ones())
    assert acts[""].untyped_storage().nbytes() == 10 * 4


def test_early_stop_keeps_the_layers_own_output_without_a_copy():
    model, addresses = by_2_3_5(), []
    model.layer1.register_forward_hook(lambda m, i, o: addresses.append(o.data_ptr()))
    with record(model, "layer1", stop=True) as acts:
        model(ones())
    assert acts["layer1"].data_ptr() == addresses[0]


def test_copies_go_to_the_dtype_asked_for():
    model = by_2_3_5()
    with record(model, "layer1", to=torch.float64) as acts:
        model(ones())
    assert acts["layer1"].dtype == torch.float64
    with record(model, "layer1", to="meta", stop=True) as acts:
        model(ones())
    assert acts["layer1"].device.type == "meta"
    with pytest.raises(DissectError, match="no device 'gpu'"), record(model, "layer1", to="gpu"):
        pass


def test_a_destination_where_the_output_already_is_does_not_spare_the_copy():
    model = chain(Times(2.0), AddInPlace())
    with record(model, "layer0", to="cpu") as acts:
        model(ones())
    assert acts["layer0"].item() == 2


# Early stop


@settings(max_examples=40, deadline=None)
@given(
    factors=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    data=st.data(),
)
def test_early_stop_runs_up_to_the_last_layer_asked_for_and_no_further(factors, data):
    model = chain(*map(Times, factors))
    asked = data.draw(
        st.lists(st.integers(0, len(factors) - 1), min_size=1, unique=True), label="asked"
    )
    with record(model, *(f"layer{i}" for i in asked), stop=True) as acts:
        assert model(ones()) is None
    for i in asked:
        assert acts[f"layer{i}"].item() == torch.tensor(factors[: i + 1]).prod()
    assert [m.runs for m in model] == [int(i <= max(asked)) for i in range(len(factors))]


def test_stopped_calls_return_none_and_the_block_goes_on():
    model = by_2_3_5()
    with record(model, "layer1", stop=True) as acts:
        returned = [model(ones()), model(2 * ones())]
        after = True
    assert returned == [None, None]
    assert after
    assert [a.item() for a in acts.calls("layer1")] == [6, 12]
    assert model(ones()).item() == 30


def test_early_stop_passes_through_a_model_that_catches_every_exception():
    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.later = Times(2.0), Times(3.0)

        def forward(self, x):
            try:
                x = self.inner(x)
            except Exception:
                x = torch.zeros(())
            return self.later(x)

    model = Catches()
    with record(model, "inner", stop=True):
        assert model(ones()) is None
    assert model.later.runs == 0


def test_early_stop_does_not_hand_none_to_a_hook_of_the_model():
    model, seen = by_2_3_5(), []
    model.register_forward_hook(lambda m, i, o: seen.append(o.item()))
    with record(model, "layer0", stop=True):
        model(ones())
    assert seen == []
    model(ones())
    assert seen == [30]


def test_the_model_itself_may_be_the_last_layer():
    model = by_2_3_5()
    with record(model, "", "layer0", stop=True) as acts:
        assert model(ones()) is None
    assert acts[""].item() == 30


def test_a_part_called_by_itself_runs_to_its_end():
    model = chain(by_2_3_5())
    with record(model, "layer0.layer0", stop=True) as acts:
        assert model.layer0(ones()).item() == 30
        assert model(ones()) is None
        assert model.layer0(ones()).item() == 30
    assert [a.item() for a in acts.calls("layer0.layer0")] == [2, 2, 2]


def test_a_wrapper_is_recorded_by_the_names_that_it_has():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return -self.module(x)

    wrapper = Wrapper(by_2_3_5())
    with record(wrapper, "module.layer0", stop=True) as acts:
        assert wrapper(ones()) is None
    assert acts["module.layer0"].item() == 2


def test_a_layer_that_never_runs_stops_nothing():
    class Skips(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = Times(2.0), Times(3.0)

        def forward(self, x):
            return self.used(x)

    model = Skips()
    with record(model, "used", "unused", stop=True) as acts:
        assert model(ones()) is None
    assert acts["used"].item() == 2
    with pytest.raises(DissectError, match="'unused' did not run"):
        acts["unused"]


# Shared modules


class Shares(nn.Module):
    """Two blocks that use one module; 1 goes to 2, 4."""

    def __init__(self):
        super().__init__()
        times = Times(2.0)
        self.first, self.second = nn.Sequential(times), nn.Sequential(times)
        self.last = Times(10.0)

    def forward(self, x):
        return self.last(self.second(self.first(x)))


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", ["first.0", "second.0"])
def test_a_shared_module_is_recorded_under_either_name_once_a_block(name, stop):
    model = Shares()
    with record(model, name, stop=stop) as acts:
        model(ones())
    assert [a.item() for a in acts.calls(name)] == [2, 4]
    assert model.last.runs == (0 if stop else 1)


def test_both_names_of_a_shared_module_give_the_same_calls():
    model = Shares()
    with record(model, "first.0", "second.0") as acts:
        model(ones())
    assert [a.item() for a in acts.calls("first.0")] == [2, 4]
    assert [a.item() for a in acts.calls("second.0")] == [2, 4]


def test_layer_names_list_a_shared_module_under_each_name():
    assert layer_names(Shares()) == ["first", "first.0", "second", "second.0", "last"]


def test_a_shared_module_is_edited_under_one_name():
    model = Shares()
    with edit(model, {"second.0": lambda a: a + 1}):
        assert model(ones()).item() == 70  # 1 -> 2 + 1 -> 6 + 1 -> 70
    with (
        pytest.raises(DissectError, match="'first.0' and 'second.0' are one module"),
        edit(model, {"first.0": torch.relu, "second.0": torch.relu}),
    ):
        pass


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


@pytest.mark.parametrize("output", [(1, 2), {"x": 1}, [ones()]])
def test_layers_that_do_not_give_one_tensor_say_what_to_do(output):
    class Gives(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Times(2.0)

        def forward(self, x):
            self.inner(x)
            return output

    model = chain(Gives())
    words = f"'layer0' gives {type(output).__name__}, not one tensor.*such as 'layer0.inner'"
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


# Batches


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_activations_of_many_inputs_do_not_depend_on_the_batch_size(batch_size):
    model, x = by_2_3_5(), torch.arange(5.0).reshape(5, 1)
    acts = activations(model, "layer1", x, batch_size=batch_size)
    assert torch.equal(acts, 6 * x)
    assert model.layer2.runs == 0


def test_activations_keep_no_graph_and_can_be_trained_on():
    model = chain(nn.Linear(2, 3), Times(2.0))
    acts = activations(model, "layer0", torch.rand(4, 2))
    assert not acts.requires_grad
    weight = torch.ones(3, requires_grad=True)
    (acts @ weight).sum().backward()
    assert torch.allclose(weight.grad, acts.sum(0))


def test_activations_of_a_shared_module_are_those_of_its_last_run():
    assert activations(Shares(), "first.0", ones(3, 1), batch_size=2).tolist() == [[4]] * 3


def test_activations_of_no_inputs_have_the_right_shape():
    assert activations(chain(nn.Linear(2, 3)), "layer0", ones(0, 2)).shape == (0, 3)


def test_activations_move_inputs_to_the_model_and_the_result_where_it_is_wanted():
    model = chain(nn.Linear(2, 3)).to("meta")
    assert activations(model, "layer0", ones(4, 2)).device.type == "meta"
    half = activations(chain(nn.Linear(2, 3)), "layer0", ones(4, 2), to=torch.float16)
    assert half.dtype == torch.float16


def test_activations_need_one_row_for_each_input():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(0)

    with pytest.raises(DissectError, match=r"gives \(1,\) for 3 inputs: choose a layer"):
        activations(chain(Mean()), "layer0", ones(3, 1))
    with pytest.raises(DissectError, match="at least 1 input, not 0"):
        activations(by_2_3_5(), "layer0", ones(3, 1), batch_size=0)
