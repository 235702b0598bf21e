"""Which run of a module a name means, where it runs several times in a pass."""

import threading

import pytest
import torch
from helpers.hooks import Times, ones
from torch import nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations, edit, layer_names, record


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


def test_runs_are_counted_anew_after_an_exception():
    model, fail = Twice(), iter([True])

    def broken(layer, args):
        if next(fail, False):
            raise RuntimeError

    with record(model, "times#2", stop=True) as acts:
        handle = model.times.register_forward_pre_hook(
            lambda layer, args: broken(layer, args) if args[0].item() == 2 else None
        )
        with pytest.raises(RuntimeError):
            model(ones())  # at its second run
        handle.remove()
        model(ones())
    assert [a.item() for a in acts.calls("times#2")] == [4]


def test_runs_are_counted_in_every_thread_by_itself():
    model, inside = Twice(), threading.Barrier(2, timeout=30)
    found = {}

    def meet(*_):
        inside.wait()  # both threads run the layer at once

    model.times.register_forward_hook(meet)

    def recorded(value):
        with record(model, "times#2", stop=True) as acts:
            model(value * ones())
        found[value] = acts["times#2"].item()

    threads = [threading.Thread(target=recorded, args=(value,)) for value in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: 4, 3: 12}


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
