"""What is recorded of the layers of a model, and up to where it runs."""

import pytest
import torch
from helpers.hooks import AddInPlace, Times, by_2_3_5, chain, ones
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations, edit, layer_names, record

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


RUNS = {"first.0": 2, "second.0": 4, "first.0#1": 2, "first.0#2": 4, "second.0#1": 2}


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_a_name_of_a_shared_module_means_one_of_its_runs(name, stop):
    model = Shares()
    with record(model, name, stop=stop) as acts:
        model(ones())
        model(3 * ones())
    assert [a.item() for a in acts.calls(name)] == [RUNS[name], 3 * RUNS[name]]
    assert model.last.runs == (0 if stop else 2)
    assert activations(model, name, ones(3, 1), batch_size=2).tolist() == [[RUNS[name]]] * 3


def test_all_names_of_a_shared_module_are_recorded_at_once():
    model = Shares()
    with record(model, *RUNS, stop=True) as acts:
        model(ones())
    assert model.last.runs == 0
    assert {name: value.item() for name, value in acts.items()} == RUNS


class Twice(nn.Module):
    """One module under one name that runs two times; 1 goes to 2, 4, 40."""

    def __init__(self):
        super().__init__()
        self.times, self.last = Times(2.0), Times(10.0)

    def forward(self, x):
        return self.last(self.times(self.times(x)))


@pytest.mark.parametrize("stop", [False, True])
def test_a_plain_name_means_the_first_run_for_records_and_edits(stop):
    model = Twice()
    with record(model, "times", stop=stop) as acts:
        model(ones())
    assert acts["times"].item() == 2
    assert activations(model, "times", ones()).item() == 2
    with edit(model, {"times": lambda a: a + 1}), record(model, "times") as acts:
        assert model(ones()).item() == 60  # 1 -> 2 + 1 -> 6 -> 60
    assert acts["times"].item() == 3


def test_every_run_can_be_edited_by_its_own_function():
    model = Twice()
    with edit(model, {"times": lambda a: a + 1, "times#2": lambda a: a - 3}):
        assert model(ones()).item() == 30  # 1 -> 2 + 1 -> 6 - 3 -> 30
        assert model(ones()).item() == 30
    assert model(ones()).item() == 40


def test_a_part_called_by_itself_counts_no_runs():
    model = Twice()
    with record(model, "times") as acts:
        model(ones())
        model.times(ones())
        model.times(5 * ones())
    assert [a.item() for a in acts.calls("times")] == [2, 2, 10]
    with edit(model, {"times": lambda a: a + 1}):
        assert model.times(ones()).item() == model.times(ones()).item() == 3


def test_runs_are_counted_anew_in_every_thread_and_after_an_exception():
    model = Twice()
    with record(model, "times#2", stop=True) as acts:
        with pytest.raises(RuntimeError):
            model(torch.ones(1, 2, 3) @ torch.ones(2, 2))
        model(ones())
    assert [a.item() for a in acts.calls("times#2")] == [4]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("times#0", "the second run in a pass"),
        ("times#x", "the second run in a pass"),
        ("time#2", "no layer 'time'.*did you mean 'times'"),
    ],
)
def test_a_number_that_is_no_run_is_one_line(name, message):
    with pytest.raises(DissectError, match=message), record(Twice(), name):
        pass


def test_a_run_that_never_comes_is_named():
    model = Twice()
    with record(model, "times#3") as acts:
        model(ones())
    with pytest.raises(DissectError, match="'times#3' did not run in the block: its layer runs"):
        acts["times#3"]


def test_layer_names_list_a_shared_module_under_each_name():
    assert layer_names(Shares()) == ["first", "first.0", "second", "second.0", "last"]


def test_a_shared_module_is_edited_under_one_name():
    model = Shares()
    with edit(model, {"second.0": lambda a: a + 1}):
        assert model(ones()).item() == 50  # 1 -> 2 -> 4 + 1 -> 50
    with edit(model, {"first.0": lambda a: a + 1, "second.0": lambda a: a - 3}):
        assert model(ones()).item() == 30  # 1 -> 2 + 1 -> 6 - 3 -> 30
    with (
        pytest.raises(DissectError, match="'first.0' and 'second.0#1' are one module"),
        edit(model, {"first.0": torch.relu, "second.0#1": torch.relu}),
    ):
        pass


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
