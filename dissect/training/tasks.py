"""Auxiliary tasks: what else the discriminator may learn from real images, without labels.

A task asks a question about real images to which the answer is known, because it was made by
chance. Who answers it must know what is on an image, and goes on knowing it while the game against
the generator changes. The convolutions are the discriminator's; the last layers are the task's own,
and are left behind when the networks are saved. Not part of the DCGAN paper, and off by default.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dissect._utils.distributed import World
from dissect.models.dcgan import Discriminator, initialize
from dissect.training.contrast import contrast_loss, other_views, views
from dissect.training.rotations import TURNS, turned

__all__ = ["TASKS", "Reader", "Task", "TaskState"]

_HIDDEN, _DESCRIBED = 512, 128  # of the contrast's head: SimCLR's is as deep, and ends as wide


class _Pose(Protocol):
    def __call__(
        self, images: Tensor, key: tuple[int, ...], *, first: int, total: int
    ) -> tuple[Tensor, Tensor]:
        """The pictures (M, C, S, S) that are asked about, and the right answers, int64.

        Args:
            images: real ones (N, C, S, S).
            key: what chance is drawn from.
            first, total: where they lie in a batch that several processes share.
        """


class Task(NamedTuple):
    """A question about real images."""

    part: int  # tells the draws of a step apart: 0 to 2 are the game's augmentations
    # How the head reads the 4x4 grid, of so many values.
    head: Callable[[int], nn.Module]
    pose: _Pose
    # From what the head read of the pictures, float32 (M, D), the right answers, and who reads the
    # rest of the batch, to the loss; what counts is the mean of its gradients over the processes.
    loss: Callable[[Tensor, Tensor, World], Tensor]
    # Whether the pictures are augmented like everything else that the discriminator sees.
    augmented: bool


def _views(
    images: Tensor, key: tuple[int, ...], *, first: int, total: int
) -> tuple[Tensor, Tensor]:
    return views(images, key, first=first, total=total), other_views(total, images.device)


# By the field of the configuration that holds the task's weight.
TASKS = {
    "rotations": Task(
        3,
        lambda values: nn.Sequential(nn.Flatten(), nn.Linear(values, TURNS)),
        turned,
        lambda read, quarters, _: cross_entropy(read, quarters),
        True,
    ),
    "contrast": Task(
        4,
        lambda values: nn.Sequential(
            nn.Flatten(), nn.Linear(values, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _DESCRIBED)
        ),
        _views,
        contrast_loss,
        False,
    ),
}


class Reader(nn.Sequential):
    """Images as the discriminator takes them to what a task's head reads in them.

    Its convolutions are the discriminator's own, not copies.

    Args:
        discriminator: whose features are read.
        task: whose head, freshly drawn, reads them.
    """

    def __init__(self, discriminator: Discriminator, task: Task) -> None:
        *features, score = discriminator.children()
        linear = score.get_submodule("linear")
        assert isinstance(linear, nn.Linear)
        super().__init__(*features, task.head(linear.in_features))
        initialize(self.head)

    @property
    def head(self) -> nn.Module:
        """The part that is not the discriminator's."""
        return self[-1]


class TaskState(NamedTuple):
    """A task as it is learnt in a run."""

    reader: Reader
    optimizer: torch.optim.Adam  # of the reader's head
