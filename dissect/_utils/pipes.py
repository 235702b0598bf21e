"""Pipes between the processes of one machine, for what they tell one another many times a second.

gloo is slow at that where every core is busy, because threads of its own have to get their turn
first. A process that reads from a pipe is woken by the one that writes.
"""

import os
import select
from datetime import timedelta

import torch
from torch import Tensor

__all__ = ["Pipes"]

# What a pipe takes at once, whole, even if another message lies in it unread.
_AT_ONCE = getattr(select, "PIPE_BUF", 512)


class Pipes:
    """One process's ends of pipes from and to every other.

    Args:
        rank: which process this is.
        inward: by rank, what the other writes to.
        outward: by rank, what the other reads from.
        patience: who does not write for so long is taken for lost.
    """

    def __init__(
        self, rank: int, inward: dict[int, int], outward: dict[int, int], patience: timedelta
    ) -> None:
        self._rank, self._inward, self._outward = rank, inward, outward
        self._patience = 1000 * patience.total_seconds()
        self._polls = {other: select.poll() for other in inward}
        for other, poll in self._polls.items():
            poll.register(inward[other], select.POLLIN)

    def exchange(self, together: Tensor) -> None:
        """Give the others this process's row of `together`, and fill in theirs.

        Args:
            together: (processes, ...), contiguous and on the CPU.

        Raises:
            RuntimeError: another process has ended, or is silent.
        """
        rows = [memoryview(row.reshape(-1).view(torch.uint8).numpy()) for row in together]
        mine = rows[self._rank]
        # In parts that no pipe refuses, or all would write and none would read.
        for first in range(0, len(mine), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            for other, end in self._outward.items():
                try:
                    os.write(end, mine[part])
                except BrokenPipeError as error:
                    raise RuntimeError(_lost(other)) from error
            for other in self._inward:
                self._fill(rows[other][part], other)

    def _fill(self, row: memoryview, other: int) -> None:
        while row:
            if not self._polls[other].poll(self._patience):
                raise RuntimeError(f"the connection to process {other} timed out")
            count = os.readv(self._inward[other], [row])
            if count == 0:
                raise RuntimeError(_lost(other))
            row = row[count:]

    def close(self) -> None:
        """Close this process's ends."""
        for end in (*self._inward.values(), *self._outward.values()):
            os.close(end)
        self._inward, self._outward = {}, {}


def _lost(other: int) -> str:
    return f"the connection to process {other} was closed"
