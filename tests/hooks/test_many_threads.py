"""Many blocks in several threads at once on one model.

    DISSECT_BLOCKS=10000 python -m pytest tests/hooks/test_many_threads.py

opens as many blocks in four threads, three times over; without it, 400. No value may be wrong, no
hook may be left, and there may be no more objects than before.
"""

import copy
import gc
import os
import threading

import pytest
import torch
from helpers.hooks import Times, chain, hooks_of
from torch import nn

from dissect.hooks import activations, edit, record
from dissect.surgery import ablated
from dissect.units import Units

N_BLOCKS = int(os.environ.get("DISSECT_BLOCKS", "400"))
N_THREADS = 4


class Adds(nn.Module):
    """Gives a tuple, and runs twice in a pass."""

    def forward(self, x):
        return x + 1, x


class Whole(nn.Module):
    """x goes to 2 x, 2 x + 1, 2 x + 2, 3 (2 x + 2)."""

    def __init__(self):
        super().__init__()
        self.first, self.adds, self.last = chain(Times(2.0), nn.ReLU()), Adds(), Times(3.0)

    def forward(self, x):
        return self.last(self.adds(self.adds(self.first(x))[0])[0])


def blocks(model, number):
    """Blocks of every kind, and what is wrong with each."""
    value = float(number + 1)
    x = torch.full((1, 2), value)
    with record(model, "first", "adds", "adds#2") as acts:
        out = model(x)
    yield [acts[name][0, 0].item() for name in acts], [2 * value, 2 * value + 1, 2 * value + 2]
    yield out[0, 0].item(), 3 * (2 * value + 2)
    with record(model, "first", stop=True) as acts:
        yield model(x), None
    yield acts["first"].tolist(), [[2 * value] * 2]
    with edit(model, {"adds#2": lambda a: a * value}), record(model, "adds#2", stop=True) as acts:
        model(x)
    yield acts["adds#2"][0, 1].item(), value * (2 * value + 2)
    with ablated(model, Units("first", (1,), 2)):
        yield model(x).tolist(), [[3 * (2 * value + 2), 6]]
    yield activations(model, "first.layer0", x).tolist(), [[2 * value] * 2]
    with pytest.raises(ValueError, match="broken"), edit(model, {"first": torch.neg}):
        model(x)
        raise ValueError("broken")
    with record(model, "first") as acts:
        twin = copy.copy(model) if number % 50 == 0 else model
        yield twin(x)[0, 0].item(), 3 * (2 * value + 2)


N_KINDS = 7  # of blocks, one of each in `blocks`


def test_blocks_in_threads_are_right_and_leave_nothing():
    model, wrong = Whole().eval(), []

    def work(first):
        for number in range(first, N_BLOCKS // N_KINDS, N_THREADS):
            for found, right in blocks(model, number):
                if found != right:
                    wrong.append((number, found, right))

    def all_at_once():
        threads = [threading.Thread(target=work, args=(k,)) for k in range(N_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        return len(gc.get_objects())

    all_at_once()  # caches fill
    before = all_at_once()
    after = all_at_once()
    assert wrong == []
    assert hooks_of(model) == [{}] * 6
    assert type(model) is Whole
    assert after <= before
