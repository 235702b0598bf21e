"""One set of weights that all processes of a machine see, for training on the CPU.

DistributedDataParallel sends every gradient to every process, each of which then makes the whole
step of the optimiser. Processes of one machine can do with less: weights and moments lie once, in
memory that all of them see; of every tensor each process owns some rows, for which the others hand
it their gradients and for which it alone makes the step (Rajbhandari et al. 2020, "ZeRO: Memory
optimizations toward training trillion parameter models", section 5, where what was updated is then
sent back; here it is there already). The weights come out the same, within the order of a sum.
"""

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from dissect._utils.distributed import World

__all__ = ["SharedWeights"]

_MOMENTS = ("exp_avg", "exp_avg_sq")


class SharedWeights:
    """Adam's steps for several networks, each made by all processes together."""

    def __init__(self, parts: "dict[int, _Part]") -> None:
        """Of the parts by the `id` of the optimiser; use `of`."""
        self._parts = parts

    @classmethod
    def of(
        cls, optimizers: Sequence[torch.optim.Adam], world: World, device: torch.device
    ) -> "SharedWeights | None":
        """The weights and moments of `optimizers`, moved to memory that the whole world sees.

        The first process's values count. None where there is no such memory: on a GPU, over
        several machines, or where the system gives none to share. All processes call this.

        Args:
            optimizers: Adam, of parameters that lie dense in memory.
            world: the processes, joined.
            device: where the networks are.
        """
        if world.size == 1 or device.type != "cpu" or not world.is_on_one_machine:
            return None
        asked = []
        for optimizer in optimizers:
            numbers = sum(parameter.numel() for parameter in _parameters(optimizer))
            # The first process's file begins with the weights and the two moments.
            asked.append(_memories(numbers * (4 if world.rank == 0 else 1), world))
        given = [memories for memories in asked if memories is not None]
        if len(given) < len(asked):
            return None
        parts = {
            id(optimizer): _Part(optimizer, memories, world)
            for optimizer, memories in zip(optimizers, given, strict=True)
        }
        return cls(parts)

    def step(self, optimizer: torch.optim.Adam) -> None:
        """What `optimizer.step()` does with the gradients' means over all processes."""
        self._parts[id(optimizer)].step()


class _Rows(NamedTuple):
    """Some rows of a parameter, all owned by one process."""

    parameter: Tensor
    rows: slice
    owner: int
    # Of each process, where it puts its gradients for the owner.
    handed: list[Tensor]

    @property
    def gradient(self) -> Tensor:
        assert self.parameter.grad is not None
        return self.parameter.grad[self.rows]


class _Part:
    """One network's weights."""

    def __init__(self, optimizer: torch.optim.Adam, memories: list[Tensor], world: World) -> None:
        self._optimizer, self._world = optimizer, world
        parameters = _parameters(optimizer)
        numbers = sum(parameter.numel() for parameter in parameters)
        shared = memories[0].split(numbers)[:3]
        boxes = [memory[-numbers:] for memory in memories]
        self._pieces: list[_Rows] = []
        self._steps: list[Tensor] = []
        own: dict[Tensor, dict[str, Tensor]] = {}
        first = 0
        for parameter in parameters:
            state = optimizer.state[parameter]
            _move(parameter, state, [_laid_out(part, first, parameter) for part in shared], world)
            self._steps.append(state["step"])
            handed = [_laid_out(box, first, parameter) for box in boxes]
            cuts = [_cut(parameter, first, numbers, k / world.size) for k in range(world.size + 1)]
            for owner, (begin, end) in enumerate(pairwise(cuts)):
                rows = slice(begin, end)
                if begin < end:
                    boxed = [box[rows] for box in handed]
                    self._pieces.append(_Rows(parameter, rows, owner, boxed))
                if begin < end and owner == world.rank:
                    moments = {name: state[name][rows] for name in _MOMENTS}
                    leaf = parameter.detach()[rows].requires_grad_()
                    own[leaf] = {"step": state["step"].clone(), **moments}
            first += parameter.numel()
        self._mine = [piece for piece in self._pieces if piece.owner == world.rank]
        self._own = None
        if own:
            self._own = torch.optim.Adam(list(own), **optimizer.defaults)
            self._own.state.update(own)
        self._world.meet()

    def step(self) -> None:
        """All processes call this; when it returns, all see the new weights."""
        self._hand_over()
        self._world.meet()  # what the others have written before can be read after
        if self._own is not None:
            (group,) = self._own.param_groups
            group["lr"] = self._optimizer.param_groups[0]["lr"]
            for piece, leaf in zip(self._mine, group["params"], strict=True):
                leaf.grad = self._mean(piece)
            self._own.step()
        for count in self._steps:
            count += 1
        self._world.meet()

    def _hand_over(self) -> None:
        """Put the gradients of others' rows where their owners find them."""
        for piece in self._pieces:
            if piece.owner != self._world.rank:
                piece.handed[self._world.rank].copy_(piece.gradient)

    def _mean(self, piece: _Rows) -> Tensor:
        """That of all processes' gradients of some rows of this one's."""
        gradient = piece.gradient
        for rank, handed in enumerate(piece.handed):
            if rank != self._world.rank:
                gradient += handed
        return gradient.div_(self._world.size)


def _move(parameter: Tensor, state: dict[str, Tensor], places: list[Tensor], world: World) -> None:
    """Let a parameter and its moments lie at `places`, with what they are in the first process."""
    weights, *moments = places
    if world.rank == 0:
        weights.copy_(parameter.detach())
        for name, moment in zip(_MOMENTS, moments, strict=True):
            moment.copy_(state[name]) if name in state else moment.zero_()
    parameter.data = weights
    state.setdefault("step", torch.zeros(()))
    state |= dict(zip(_MOMENTS, moments, strict=True))


def _parameters(optimizer: torch.optim.Adam) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _laid_out(memory: Tensor, first: int, like: Tensor) -> Tensor:
    """The numbers of `memory` from `first` on, as a tensor that lies as `like` does."""
    return memory.as_strided(like.shape, like.stride(), memory.storage_offset() + first)


def _cut(parameter: Tensor, first: int, numbers: int, share: float) -> int:
    """The row of `parameter` nearest to that share of all `numbers`, which begin `first` before."""
    row = parameter.numel() // len(parameter)
    return min(len(parameter), max(0, round((share * numbers - first) / row)))


def _memories(numbers: int, world: World) -> list[Tensor] | None:
    """Of each process so many float32 numbers that all can see, as many as it asked for; or None.

    The memory has no name: it is gone when the last process that sees it has ended, however it
    ends. It does not count against the size of /dev/shm, which is small in containers.
    """
    file = -1
    try:
        file = os.memfd_create("dissect-training")
        os.truncate(file, numbers * torch.float32.itemsize)
    except (AttributeError, OSError):  # not on Linux, or there is none
        pass
    try:
        mine = torch.tensor([os.getpid(), file, numbers])
        everyone = world.gathered({f"{world.rank}": mine})
        places = [everyone[f"{rank}"].tolist() for rank in range(world.size)]
        memories = [_seen(*place) for place in places]
        failed = world.any(any(memory is None for memory in memories), torch.device("cpu"))
    finally:
        if file >= 0:
            os.close(file)  # what is mapped stays
    return None if failed else [memory for memory in memories if memory is not None]


def _seen(process: int, file: int, numbers: int) -> Tensor | None:
    """The memory behind a file that a process has open."""
    try:
        path = f"/proc/{process}/fd/{file}"
        return torch.from_file(path, shared=True, size=numbers, dtype=torch.float32)
    except RuntimeError:
        return None
