"""Blocks belong to their context, end in any order, and leave nothing in the model."""

import _thread
import asyncio
import copy
import io
import pickle
import threading

import pytest
import torch
from helpers.hooks import Times, by_2_3_5, chain, hooks_of, ones
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.checkpoint import checkpoint

from dissect._utils.errors import DissectError
from dissect._utils.parallel import parallel_map
from dissect.hooks import edit, record


def features(model):
    with record(model, "layer1", stop=True) as acts:
        while True:
            model(ones())
            yield acts["layer1"].item()


def test_blocks_that_end_in_the_order_they_began_leave_the_model_as_it_was():
    model = by_2_3_5()
    attributes, kinds = [dict(vars(m)) for m in model.modules()], [type(m) for m in model.modules()]
    first, second = features(model), features(model)
    assert (next(first), next(second)) == (6, 6)
    first.close()
    assert model(ones()) is None
    second.close()
    assert model(ones()).item() == 30
    assert [type(m) for m in model.modules()] == kinds
    assert [list(vars(m)) for m in model.modules()] == [list(a) for a in attributes]
    assert hooks_of(model) == [{}] * 4


def test_tasks_do_not_see_each_others_blocks_and_threads_of_a_task_see_its_own():
    model = by_2_3_5()

    async def doubled(factor):
        with edit(model, {"layer0": lambda a: a * factor}), record(model, "layer1") as acts:
            await asyncio.sleep(0)
            await asyncio.to_thread(model, ones())
            await asyncio.sleep(0)
            model(ones())
        return [a.item() for a in acts.calls("layer1")]

    async def both():
        return await asyncio.gather(doubled(10), doubled(100))

    assert asyncio.run(both()) == [[60, 60], [600, 600]]


@pytest.mark.parametrize("stop", [False, True])
def test_threads_that_share_a_model_each_get_their_own_values(stop):
    model, wrong = chain(Times(2.0), nn.ReLU(), Times(3.0)), []

    def work(value):
        x = torch.full((1, 1), value)
        for _ in range(300):
            with (
                edit(model, {"layer0": lambda a: a + value}),
                record(model, "layer1", stop=stop) as acts,
            ):
                out = model(x)
            if [a.item() for a in acts.calls("layer1")] != [3 * value]:
                wrong.append(acts)
            if not (out is None if stop else out.item() == 9 * value):
                wrong.append(out)

    threads = [threading.Thread(target=work, args=(float(k),)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert hooks_of(model) == [{}] * 4
    assert type(model) is nn.Sequential
    assert model(ones()).item() == 6


def test_a_pass_in_another_thread_is_not_recorded_and_the_reason_is_given():
    model = by_2_3_5()
    with record(model, "layer0") as acts:
        thread = threading.Thread(target=model, args=(ones(),))
        thread.start()
        thread.join()
    with pytest.raises(DissectError, match="'layer0' did not run.*another thread"):
        acts["layer0"]


def test_blocks_act_in_the_threads_that_the_package_starts():
    model = by_2_3_5()
    with edit(model, {"layer0": lambda a: a + 1}):
        assert parallel_map(lambda x, _: model(x * ones()).item(), [1, 2]) == [45, 75]


def test_an_edit_acts_in_threads_that_python_did_not_start():
    # On a GPU autograd computes checkpointed activations again in such a thread.
    model, outputs, done = by_2_3_5(), [], threading.Event()

    def run():
        outputs.append(model(ones()).item())
        done.set()

    with edit(model, {"layer0": lambda a: a + 1}):
        _thread.start_new_thread(run, ())
        assert done.wait(20)
    assert outputs == [45]


def test_a_model_saved_in_a_block_is_the_model_without_it():
    model, file = nn.Sequential(nn.Linear(2, 3), nn.ReLU()), io.BytesIO()
    x = torch.tensor([[1.0, -2.0]])
    right = model(x)
    with edit(model, {"0": torch.neg}), record(model, "1", stop=True):
        torch.save(model, file)
        model(x)
    assert b"dissect" not in file.getvalue()
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert type(loaded) is nn.Sequential
    assert torch.equal(loaded(x), right)


def note(layer, args, output):
    """A hook of the user's that can be pickled."""


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_made_in_a_block_has_nothing_of_it(copied):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[1].register_forward_hook(note)
    attributes = [vars(module).keys() for module in model.modules()]
    x = torch.ones(1, 2)
    right = model[0](x)
    with record(model, "0", "1", stop=True) as acts:
        whole, part = copied(model), copied(model[0])
        assert torch.equal(part(x), right)
        if copied is not copy.copy:  # whose layers are those of the model
            whole(x)
        assert len(acts) == 0
    for twin in (whole, *whole, part):
        assert not any("dissect" in type(hook).__module__ for hook in twin._forward_hooks.values())
        assert type(twin) in (nn.Sequential, nn.Linear, nn.ReLU)
    assert [vars(module).keys() for module in whole.modules()] == attributes
    assert list(whole[1]._forward_hooks.values()) == [note]
    part.weight = nn.Parameter(torch.zeros(2, 2))
    assert torch.equal(part(x)[0], model[0].bias)


def test_a_replica_made_in_a_block_computes_with_its_own_weights():
    # As `nn.DataParallel` makes them, one a device.
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    with record(model, "0", stop=True) as acts:
        replica = model[0]._replicate_for_data_parallel()
        replica.weight, replica.bias = torch.zeros(2, 2), None
        assert replica(torch.ones(1, 2)).abs().sum() == 0
        assert len(acts) == 0


class Answers(nn.Module):
    """A model that does something about every exception of its layer."""

    def __init__(self, kind):
        super().__init__()
        self.layer, self.kind, self.attempts = Times(2.0), kind, 0

    def forward(self, x):
        while True:
            self.attempts += 1
            try:
                return self.layer(x)
            except Exception as error:
                if self.kind == "raises":
                    raise RuntimeError("the layer failed") from error
                if self.kind == "fails":
                    return None * 2
                if self.kind == "gives":
                    return x
                # It tries again, for ever.
            finally:
                if self.kind == "forgets":
                    return x  # noqa: B012


@pytest.mark.parametrize("kind", ["raises", "fails", "gives", "tries again", "forgets"])
def test_an_early_stop_ends_the_call_whatever_the_model_does_about_it(kind):
    model = chain(Answers(kind), Times(3.0))
    with record(model, "layer0.layer", stop=True) as acts:
        assert model(ones()) is None
        assert model(2 * ones()) is None
    assert [a.item() for a in acts.calls("layer0.layer")] == [2, 4]
    assert model.layer1.runs == 0
    assert model(ones()).item() == (3 if kind == "forgets" else 6)


def test_an_early_stop_runs_hooks_that_are_always_called():
    model, ran = chain(by_2_3_5(), Times(7.0)), []
    for module in (model, model.layer0):
        module.register_forward_hook(lambda *_: ran.append(1), always_call=True)
        module.register_forward_hook(
            lambda m, args, kwargs, out: ran.append(out), always_call=True, with_kwargs=True
        )
    everywhere = register_module_forward_hook(lambda *_: ran.append(2), always_call=True)
    with record(model, "layer0.layer0", stop=True):
        assert model(ones()) is None
    everywhere.remove()
    assert ran == [2, 2, 1, None, 2, 1, None]


def test_a_hook_that_is_always_called_does_not_reach_what_is_recorded():
    model = by_2_3_5()
    with record(model, "layer0", stop=True) as acts:
        hook = model.layer0.register_forward_hook(lambda m, i, o: o.zero_(), always_call=True)
        model(ones())
        hook.remove()
    assert acts["layer0"].item() == 2


class Keeps(nn.Module):
    """Gives a tensor that it holds, through a new one on the same memory where `hidden`."""

    def __init__(self, hidden):
        super().__init__()
        self.hidden = hidden
        self.constant = torch.ones(1, 3)
        self.inner = nn.BatchNorm1d(3)

    def forward(self, x):
        if self.hidden == "buffer":
            return self.inner.running_var
        return self.constant.detach() if self.hidden == "detached" else self.constant


@pytest.mark.parametrize("hidden", ["attribute", "detached", "buffer"])
def test_an_edit_in_place_does_not_reach_what_a_layer_holds(hidden):
    model = chain(Keeps(hidden), Times(2.0)).eval()
    with edit(model, {"layer0": lambda a: a.zero_()}):
        assert model(ones()).sum() == 0
    with record(model, "layer0", stop=True) as acts:
        model(ones())
    acts["layer0"].zero_()
    assert model(ones()).sum() == 6


@pytest.mark.parametrize(
    "part", [nn.LSTM(2, 2, 2, dropout=0.5), nn.MultiheadAttention(2, 1, dropout=0.5)]
)
def test_dropout_inside_a_layer_is_refused_in_training_mode(part):
    model = chain(nn.Identity(), part)
    with pytest.raises(DissectError, match="layer1.*training mode"), record(model, "layer0"):
        pass


@pytest.mark.parametrize(
    "normed", [nn.utils.spectral_norm, nn.utils.parametrizations.spectral_norm]
)
def test_spectral_norm_is_refused_in_training_mode(normed):
    model = chain(nn.Identity(), normed(nn.Linear(4, 4)))
    with pytest.raises(DissectError, match="layer1.*training mode"), record(model, "layer0"):
        pass
    with record(model.eval(), "layer0") as acts:
        model(ones(1, 4))
    assert acts["layer0"].sum() == 4


def test_layers_are_chosen_by_a_function_of_their_name():
    model = by_2_3_5()
    with record(model, lambda name: name != "layer1", stop=True) as acts:
        model(ones())
    assert list(acts) == ["layer0", "layer2"]
    with pytest.raises(DissectError, match="accepts no layer"), record(model, lambda name: False):
        pass


def test_an_edit_of_two_arguments_is_given_the_layers_name():
    model, names = by_2_3_5(), []

    def change(activation, name):
        names.append(name)
        return activation + 1

    with edit(model, {"layer0": change, "layer1": lambda a, factor=10: a * factor}):
        assert model(ones()).item() == 5 * 10 * 9
    assert names == ["layer0"]


class Checkpointed(nn.Module):
    """Two parts that are computed again in the backward pass; `twice` runs in both."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.reentrant = reentrant
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 3)
        self.once, self.twice = nn.Tanh(), nn.Tanh()

    def forward(self, x):
        for part in (self.first, self.second):
            x = self.part(self.whole(part), x)
        return x

    def whole(self, part):
        def run(x):
            x = self.twice(part(x))
            return self.once(x) if part is self.second else 2 * x

        return run

    def part(self, run, x):
        if self.reentrant is None:
            return run(x)
        return checkpoint(run, x, use_reentrant=self.reentrant)


def gradient(model, layer):
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    with edit(model, {layer: lambda a: 3 * a * a}), record(model, layer) as acts:
        model(x).sum().backward()
    assert len(acts.calls(layer)) == 1
    return x.grad


@pytest.mark.parametrize("reentrant", [False, True])
def test_an_edit_acts_again_where_checkpointing_computes_a_layer_again(reentrant):
    torch.manual_seed(0)
    plain, model = Checkpointed(), Checkpointed(reentrant)
    model.load_state_dict(plain.state_dict())
    torch.testing.assert_close(gradient(model, "once"), gradient(plain, "once"))
    with pytest.raises(DissectError, match="Tanh that runs 2 times.*turn checkpointing off"):
        gradient(model, "twice#2")
