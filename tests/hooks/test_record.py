"""What is recorded of the layers of a model, and up to where it runs."""

import pytest
import torch
from helpers.hooks import AddInPlace, Times, by_2_3_5, chain, ones
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations, record

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
