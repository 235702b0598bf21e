"""Several processes that do the work of one, as `torchrun` starts them.

    with joined(World.of_environment()) as world:
        for item in world.shared(items):                    # each item in one of the processes
            running.add(work(item))
        running = world.merged(running)                     # in all of them, what one would have

Which process works on which item is not told beforehand: whoever is free takes the next. So what
is merged must be the same however it was split, as the statistics of `dissect.dissection` are.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Protocol, Self, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from dissect._utils.errors import DissectError
from dissect._utils.voice import rank_and_size

__all__ = ["State", "Statistic", "World", "joined", "own_device"]

State = dict[str, Tensor]

_Item = TypeVar("_Item")

# Who does not answer for so long is taken for lost; who ends is missed at once.
PATIENCE = timedelta(minutes=30)


class _Store(Protocol):
    def add(self, key: str, amount: int) -> int: ...


class Statistic(Protocol):
    """What can be split over processes (see `dissect.dissection.running`)."""

    def state(self) -> State:
        """All that it holds."""

    @classmethod
    def of(cls, state: State) -> Self:
        """The statistic whose state this is."""

    def merge(self, other: Self) -> None:
        """Take in what `other` saw."""


_Statistic = TypeVar("_Statistic", bound=Statistic)


@dataclass(frozen=True)
class World:
    """The processes that work together, and which of them this one is.

    Its methods are called by all processes, in the same order, inside `joined`.
    """

    rank: int = 0
    size: int = 1
    _store: _Store | None = field(default=None, compare=False, repr=False)
    _rounds: Iterator[int] = field(default_factory=count, compare=False, repr=False)

    @classmethod
    def of_environment(cls) -> "World":
        """The world that `torchrun` describes in the environment; without it, one process."""
        return cls(*rank_and_size())

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share_of(self, batch_size: int) -> slice:
        """Which rows of a batch are this process's.

        Raises:
            DissectError: the batch cannot be divided evenly.
        """
        if batch_size % self.size:
            raise DissectError(
                f"a batch of {batch_size} cannot be shared evenly by {self.size} processes; give "
                f"a --batch-size that is a multiple of {self.size}"
            )
        rows = batch_size // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def shared(
        self,
        items: Sequence[_Item],
        others: Callable[[Sequence[_Item]], None] = lambda _: None,
    ) -> Iterator[_Item]:
        """The items that are this process's to work on: each time the next that none has taken.

        Args:
            items: the same in all processes.
            others: called now and then with the items that other processes have taken, so that a
                progress bar can show the work of all.
        """
        if self.size == 1:
            yield from items
            return
        assert self._store is not None, "shared outside joined"
        key = f"dissect/shared/{next(self._rounds)}"
        seen = 0
        while True:
            place = self._store.add(key, 1) - 1
            if theirs := items[seen:place]:
                others(theirs)
            if place >= len(items):
                return
            yield items[place]
            seen = place + 1

    def collected(self, state: State) -> Iterator[State]:
        """In the first process the states of the others, by rank and on the CPU; elsewhere none."""
        if self.rank:
            data = _packed(state)
            dist.send(torch.tensor(len(data)), 0)
            dist.send(data, 0)
            return
        for rank in range(1, self.size):
            length = torch.tensor(0)
            dist.recv(length, rank)
            data = torch.empty(int(length), dtype=torch.uint8)
            dist.recv(data, rank)
            yield _unpacked(data)

    def told(self, state: State) -> State:
        """The state of the first process, in all of them; tensors where those of `state` are."""
        if self.size == 1:
            return state
        data = _packed(state)
        length = torch.tensor(len(data))
        dist.broadcast(length, 0)
        if self.rank:
            data = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(data, 0)
        own = {name: value.device for name, value in state.items()}
        return {name: value.to(own.get(name, "cpu")) for name, value in _unpacked(data).items()}

    def gathered(self, state: State) -> State:
        """The tensors of all processes together, in all of them; no name stands for two."""
        if self.size == 1:
            return state
        whole = dict(state)
        for other in self.collected(state):
            whole |= other
        return self.told(whole)

    def merged(self, statistic: _Statistic) -> _Statistic:
        """What all the processes' statistics come to together; `statistic` is used up."""
        if self.size == 1:
            return statistic
        for state in self.collected(statistic.state()):
            statistic.merge(type(statistic).of(state))
        return type(statistic).of(self.told(statistic.state()))

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over the processes."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the processes."""
        return self.sum(values) / self.size

    def exchanged(self, values: Tensor) -> Tensor:
        """The `values` of each process, (processes, *values.shape), in all of them."""
        if self.size == 1:
            return values.unsqueeze(0)
        together = values.new_zeros(dist.get_world_size(), *values.shape)
        together[dist.get_rank()] = values
        dist.all_reduce(together)
        return together

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.exchanged(torch.zeros(1))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is set in any process: all get the same answer at the same step."""
        if self.size == 1:
            return flag
        found = torch.tensor(float(flag), device=device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def is_broken_by(self, error: Exception) -> bool:
        """Whether `error` says that another process does not answer any more."""
        words = str(error).lower()
        told = any(name in words for name in ("gloo", "nccl", "connection"))
        return self.size > 1 and (isinstance(error, dist.DistError) or told)


@contextmanager
def joined(
    world: World, device: torch.device | None = None, *, patience: timedelta = PATIENCE
) -> Iterator[World]:
    """`world`, whose processes can talk to one another in the block.

    Args:
        world: which processes.
        device: where what they exchange lies, for training: over NCCL where that is a GPU. Without
            it, and on the CPU, they talk over gloo.
        patience: who does not answer for so long is taken for lost.

    Raises:
        DissectError: they do not find one another, or one is lost in the block.
    """
    if world.size == 1:
        yield world
        return
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        store, _, _ = next(rendezvous("env://", timeout=patience))
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=store,
            rank=world.rank,
            world_size=world.size,
            timeout=patience,
        )
    except (RuntimeError, ValueError) as error:
        raise DissectError(f"the processes cannot join: {error}") from error
    try:
        yield replace(world, _store=store)
    except RuntimeError as error:
        if not world.is_broken_by(error):
            raise
        reason = str(error).partition("\n")[0]  # what follows is a stack of C++
        raise DissectError(f"another process was lost: {reason}") from error
    finally:
        dist.destroy_process_group()


def own_device(device: str) -> str:
    """The device of this process: where `torchrun` starts several, each has a GPU of its own."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{rank}"


def _packed(state: State) -> Tensor:
    """The tensors as bytes that need no unpickling."""
    data = save({name: value.cpu().contiguous() for name, value in state.items()})
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _unpacked(data: Tensor) -> State:
    tensors: State = load(data.numpy().tobytes())
    return tensors
