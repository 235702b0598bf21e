"""What the supervised trainings share: a step of the optimiser, and the report of every tenth."""

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback

__all__ = ["Fit", "one_cycle"]

_REPORTED = 10


@dataclass
class Fit:
    """Steps of an optimiser whose learning rate follows a schedule.

    Attributes:
        steps: how many there will be.
        batch_size: images of a step.
        progress: called every ten steps with their number, and the loss and images/s in words.
        clock: when the last report was made.
    """

    steps: int
    batch_size: int
    progress: ProgressCallback
    clock: float = field(default_factory=time.perf_counter)

    def descend(
        self,
        step: int,
        loss: Tensor,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        """Take step number `step`, counted from 1.

        Raises:
            DissectError: the loss is not a number.
        """
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % _REPORTED == 0 or step == self.steps:
            value = loss.item()
            if not math.isfinite(value):
                raise DissectError(f"training broke down at step {step}: the loss is not a number")
            rate = self.batch_size * _REPORTED / (time.perf_counter() - self.clock)
            self.progress(_REPORTED, f"{rate:.0f} images/s, loss {value:.3f}")
            self.clock = time.perf_counter()


def one_cycle(
    optimizer: torch.optim.Optimizer, rate: float, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """One cycle of the learning rate, a tenth of it rising."""
    # torch divides by the length of the rise, less one step.
    rising = 0.2 if steps == 10 else 0.1
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=rising)
