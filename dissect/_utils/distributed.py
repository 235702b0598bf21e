"""Several processes that do the work of one, as `torchrun` starts them.

    group = ProcessGroup.from_environment()
    with group.connect():
        for item in group.split(items):         # each item in one of the processes
            running.update(work(item))
        running = group.reduce(running)         # in all of them: the statistic of all items

Everything that asks for nothing but the rank works before torch is imported.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from dissect._utils.errors import DissectError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["ProcessGroup", "Statistic", "is_main_process", "is_peer_failure", "print_once"]

# A process that does not answer for so long counts as lost; one that ends is missed at once.
TIMEOUT = timedelta(minutes=30)
# How long the other processes wait for the one that prints its last words.
_PRINT_TIMEOUT = timedelta(seconds=10)

_Item = TypeVar("_Item")


class Statistic(Protocol):
    """A statistic that can be split over processes (see `dissect._utils.running_stats`)."""

    def state_dict(self) -> dict[str, "Tensor"]:
        """All that it holds."""

    @classmethod
    def from_state_dict(cls, state: dict[str, "Tensor"]) -> Self:
        """The statistic with this state."""

    def merge(self, other: Self) -> None:
        """Take in what `other` saw."""


_Statistic = TypeVar("_Statistic", bound=Statistic)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that work together, and which of them this one is.

    All processes call its methods in the same order, inside `connect`; in a group of one they
    return at once.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "ProcessGroup":
        """The group that `torchrun` describes in the environment; without it, one process."""
        rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
        return cls(int(rank), int(size)) if rank.isdigit() and size.isdigit() else cls()

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    @contextmanager
    def connect(
        self, device: "torch.device | None" = None, *, timeout: timedelta = TIMEOUT
    ) -> Iterator[None]:
        """In the block the processes can exchange values.

        Args:
            device: where the exchanged tensors are: over NCCL on a GPU, else over gloo.
            timeout: how long a process may not answer before it counts as lost.

        Raises:
            DissectError: the processes do not find one another.
        """
        if self.size == 1:
            yield
            return
        import torch
        import torch.distributed as dist

        on_gpu = device is not None and device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        try:
            dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
        except (RuntimeError, ValueError) as error:
            raise DissectError(
                f"the {self.size} processes that RANK and WORLD_SIZE name cannot join: {error}; "
                "unset both to run alone"
            ) from error
        try:
            yield
        finally:
            dist.destroy_process_group()

    @contextmanager
    def communicating(self) -> Iterator[None]:
        """The block does nothing but exchange values; another process lost is a `DissectError`."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not is_peer_failure(error):
                raise
            reason = str(error).partition("\n")[0]  # what follows is a stack of C++
            raise DissectError(f"another process was lost: {reason}") from error

    def split(
        self,
        items: Sequence[_Item],
        on_others: Callable[[Sequence[_Item]], None] = lambda _: None,
    ) -> Iterator[_Item]:
        """The items of this process: every `size`-th, from `rank` on.

        Args:
            items: the same in all processes.
            on_others: called after each item with those that the other processes work on
                meanwhile, so that a progress bar can show the work of all.
        """
        for start in range(0, len(items), self.size):
            step = items[start : start + self.size]
            if self.rank < len(step):
                yield step[self.rank]
            if others := [*step[: self.rank], *step[self.rank + 1 :]]:
                on_others(others)

    def batch_rows(self, batch_size: int) -> slice:
        """Which rows of a batch are this process's.

        Raises:
            DissectError: the batch cannot be divided evenly.
        """
        if batch_size % self.size:
            raise DissectError(
                f"a batch of {batch_size} cannot be split evenly over {self.size} processes; give "
                f"a --batch-size that is a multiple of {self.size}"
            )
        rows = batch_size // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def all_gather_object(self, value: _Item) -> list[_Item]:
        """The `value` of every process, by rank, in all of them."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            import torch.distributed as dist

            with self.communicating():
                dist.all_gather_object(values, value)
        return values

    def reduce(self, statistic: _Statistic) -> _Statistic:
        """What the statistics of all processes are together, in all of them."""
        if self.size == 1:
            return statistic
        own = statistic.state_dict()
        states = self.all_gather_object({name: value.cpu() for name, value in own.items()})
        first, *others = map(type(statistic).from_state_dict, states)
        for other in others:
            first.merge(other)
        return type(statistic).from_state_dict(
            {name: value.to(own[name].device) for name, value in first.state_dict().items()}
        )

    def sum(self, values: "Tensor") -> "Tensor":
        """The sum of `values` over the processes."""
        if self.size == 1:
            return values
        import torch.distributed as dist

        values = values.clone()
        with self.communicating():
            dist.all_reduce(values)
        return values

    def mean(self, values: "Tensor") -> "Tensor":
        """The mean of `values` over the processes."""
        return self.sum(values) / self.size

    def any(self, flag: bool, device: "torch.device") -> bool:
        """Whether `flag` is set in any process; all get the same answer."""
        if self.size == 1:
            return flag
        import torch

        return bool(self.sum(torch.tensor(float(flag), device=device)))

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.all_gather_object(None)

    def local_device(self, device: str) -> str:
        """The device of this process: `torchrun` gives each process of a machine its own GPU."""
        local_rank = os.environ.get("LOCAL_RANK")
        if local_rank is None or device not in ("auto", "cuda"):
            return device
        import torch

        return f"cuda:{local_rank}" if torch.cuda.is_available() else device


def is_peer_failure(error: BaseException) -> bool:
    """Whether an error of an exchange means that another process is gone, by its type.

    gloo has no error of its own: it raises a plain RuntimeError for a closed connection and for a
    timeout. What torch raises for other reasons, such as too little memory, has a type of its own.
    """
    from torch.distributed import DistError

    return isinstance(error, DistError) or type(error) is RuntimeError


def is_main_process() -> bool:
    """Whether this process is the one that writes and prints."""
    return ProcessGroup.from_environment().is_main_process


def print_once(line: str) -> None:
    """Print `line` to stderr in the process that gets here first, before any goes on.

    For last words: `torchrun` ends all processes as soon as one has failed, so that whichever
    fails first must print. Where `torchrun` keeps no store to ask, every process prints.
    """
    group = ProcessGroup.from_environment()
    if group.size == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        print(line, file=sys.stderr, flush=True)
        return
    from torch.distributed import DistError
    from torch.distributed.rendezvous import rendezvous

    # Without an answer, `torchrun` is gone, or the process that was to print is.
    with suppress(DistError):
        store, _, _ = next(rendezvous("env://", timeout=_PRINT_TIMEOUT))
        if store.add("dissect/printing", 1) > 1:
            store.wait(["dissect/printed"], _PRINT_TIMEOUT)
            return
        print(line, file=sys.stderr, flush=True)
        store.set("dissect/printed", "")
