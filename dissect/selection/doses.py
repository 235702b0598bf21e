"""How much of each unit to take away, learned by gradient.

GAN Dissection's ACE (Bau et al. 2019, section 3.2, equations 5 to 7) learns a dose in [0, 1] for
every unit of a layer at once, and ranks the units by it. `learned_doses` is that, for any gate,
strength and replacement, with a price on what changes elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dissect.errors import DissectError
from dissect.hooks import edit
from dissect.selection.samples import Samples, quickly

__all__ = ["Lesson", "learned_doses"]

_CLOSE_TO_1 = 1 - 1e-4


@dataclass(frozen=True)
class Lesson:
    """What is minimised, and how. The defaults are those of ACE.

    The sum of: what is left of the concept; `elsewhere` times the mean absolute change outside
    the concept's region, on the [-1, 1] scale; `square` times the sum of the squared doses;
    `few` times their mean; and, growing over the second half, `decided` times the mean of
    dose * (1 - dose), for in the end a unit is edited or not.

    Attributes:
        log: what is left is measured by -log(1 - probability), which still pulls where the
            segmenter is sure; otherwise by the probability, as in ACE.
        beyond: it is summed over all pixels, so that concepts that come up anew count, and half
            of each batch are samples without the concept; otherwise over the concept's pixels.
        steps, batch, rate: of Adam.
        seed: of the batches.
    """

    elsewhere: float = 0.0
    square: float = 0.005
    few: float = 0.0
    decided: float = 0.0
    log: bool = False
    beyond: bool = False
    steps: int = 250
    batch: int = 24
    rate: float = 0.02
    seed: int = 0


def learned_doses(
    samples: Samples,
    lesson: Lesson,
    *,
    start: Tensor | float = 0.5,
    open_cells: Tensor | None = None,
    strength: float = 1.0,
    replacement: Tensor | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """The dose of every unit, (C,) in [0, 1], that removes the concept best.

    The mean over the second half of the steps, so that units at the end of the range have an order
    too. At open cells the activation a of a unit becomes a - dose * strength * (a - replacement).

    Args:
        samples: to learn on.
        lesson: what is minimised.
        start: the doses to start from, one or (C,).
        open_cells: (N, h, w) bool, where the edit acts; None is everywhere.
        strength: of a dose of 1.
        replacement: (C,), what stands in a unit's place; None is zero.
        watch: called with 1 after each step.

    Raises:
        DissectError: a segmenter without probabilities, or no sample with the concept at an open
            cell.
    """
    probability = samples.segmenter.probability
    if probability is None:
        raise DissectError("this rule follows gradients, and the segmenter gives no probabilities")
    units, device = samples.acts.shape[1], samples.acts.device
    mask, outside = samples.mask, ~samples.region
    with_it, without = _pools(samples, open_cells)
    target = torch.zeros(units, device=device) if replacement is None else replacement.to(device)
    target = target.reshape(1, -1, 1, 1)
    doses = torch.full((units,), 0.5, device=device)
    doses = (doses.fill_(start) if isinstance(start, float) else start.to(doses).clone()).clamp(
        0, 1
    )
    doses.requires_grad_()
    optimizer = torch.optim.Adam([doses], lesson.rate)
    random = torch.Generator().manual_seed(lesson.seed)
    late, counted = torch.zeros(units), 0
    for step in range(lesson.steps):
        left = 1 - step / lesson.steps
        for group in optimizer.param_groups:
            group["lr"] = lesson.rate * min(1.0, 2 * left)
        rows, weight = _batch(lesson, with_it, without, random)
        amount = strength * doses.reshape(1, -1, 1, 1)
        if open_cells is not None:
            amount = amount * open_cells[rows].unsqueeze(1).to(device)

        def change(activation: Tensor, amount: Tensor = amount) -> Tensor:
            return activation - amount * (activation - target)

        with quickly(device):
            with edit(samples.rest, {samples.layer: change}, copy=False):
                images = samples.rest(samples.inputs[rows.to(device)])
            chance = probability(images)[:, samples.number]
        chance, images = chance.float().cpu(), images.float().cpu()
        weight = weight.reshape(-1, 1, 1)
        loss = _left(chance, mask[rows], weight, lesson)
        if lesson.elsewhere:
            moved = (images - samples.seen.images[rows]).abs().mean(1)
            apart = weight * outside[rows]
            loss = loss + lesson.elsewhere * (moved * apart).sum() / apart.sum().clamp_min(1)
        loss = loss.to(device) + lesson.square * doses.square().sum() + lesson.few * doses.mean()
        loss = loss + lesson.decided * max(0.0, 1 - 2 * left) * (doses * (1 - doses)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            doses.clamp_(0, 1)
            if 2 * (step + 1) > lesson.steps:
                late, counted = late + doses.cpu(), counted + 1
        watch(1)
    return late / counted


def _left(chance: Tensor, mask: Tensor, weight: Tensor, lesson: Lesson) -> Tensor:
    """What is left of the concept: 1 (or more) for all of it, 0 for none."""
    cost = -torch.log1p(-chance.clamp(max=_CLOSE_TO_1)) if lesson.log else chance
    counted = weight if lesson.beyond else weight * mask
    return (cost * counted).sum() / (weight * mask).sum().clamp_min(1)


def _pools(samples: Samples, open_cells: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows with the concept, and rows without it, of those that the edit can change."""
    touched = torch.ones(len(samples), dtype=torch.bool)
    if open_cells is not None:
        touched = open_cells.flatten(1).any(1).cpu()
    shows = samples.mask.flatten(1).any(1)
    with_it, without = ((touched & rows).nonzero().squeeze(1) for rows in (shows, ~shows))
    if not len(with_it):
        raise DissectError(
            f"the gate opens on no sample with a {samples.concept}: lower its threshold"
        )
    return with_it, without


def _batch(
    lesson: Lesson, with_it: Tensor, without: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Row numbers, and a weight for each, by which both kinds count as in all samples."""
    halves = [with_it, without] if lesson.beyond and len(without) else [with_it]
    size = max(1, lesson.batch // len(halves))
    rows = [pool[torch.randint(len(pool), (size,), generator=random)] for pool in halves]
    weights = [torch.full((size,), len(pool) / size) for pool in halves]
    return torch.cat(rows), torch.cat(weights)
