"""How much of each unit to take away, learned by gradient.

GAN Dissection's ACE (Bau et al. 2019, section 3.2, equations 5 to 7) learns a dose in [0, 1] for
every unit of a layer at once, and ranks the units by it. `learned_doses` is that, for any gate
and for doses up to 2, with a price on what changes elsewhere and on what comes instead.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.hooks import edit
from dissect.selection.samples import Samples, quickly

__all__ = ["Lesson", "learned_doses"]

_CLOSE_TO_1 = 1 - 1e-4


@dataclass(frozen=True)
class Lesson:
    """What is minimised, and how. The defaults are those of ACE.

    The sum of: what is left of the concept; `elsewhere` times the mean absolute change outside
    the concept's region, on the [-1, 1] scale; `outlines` times the share of the pixels there by
    which the classes of `keep` moved; `around` times the mean absolute difference, where the
    concept was, to the colours around it; `square` times the sum of the squared doses; and `few`
    times their mean.

    Attributes:
        keep: classes of the segmenter whose outlines are to stay.
        log: what is left is measured by -log(1 - probability), which still pulls where the
            segmenter is sure; otherwise by the probability, as in ACE.
        beyond: it is summed over all pixels, so that concepts that come up anew count, and half
            of each batch are samples without the concept; otherwise over the concept's pixels.
        most: the largest dose: 1 removes a unit, 2 turns its sign.
        steps, batch, rate: of Adam.
        seed: of the batches.
    """

    elsewhere: float = 0.0
    outlines: float = 0.0
    keep: tuple[str, ...] = ()
    around: float = 0.0
    square: float = 0.005
    few: float = 0.0
    log: bool = False
    beyond: bool = False
    most: float = 1.0
    steps: int = 250
    batch: int = 24
    rate: float = 0.02
    seed: int = 0


def learned_doses(
    samples: Samples,
    lesson: Lesson,
    *,
    start: Tensor | float = 0.5,
    among: Tensor | None = None,
    open_cells: Tensor | None = None,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """The dose of every unit, (C,) in [0, lesson.most], that removes the concept best.

    The mean over the second half of the steps, so that units at the end of the range have an order
    too. At open cells the activation a of a unit becomes a - dose * a.

    Args:
        samples: to learn on.
        lesson: what is minimised.
        start: the doses to start from, one or (C,).
        among: (C,) bool, the units that may have a dose above 0; None is all.
        open_cells: (N, h, w) bool, where the edit acts; None is everywhere.
        progress: called with 1 after each step.

    Raises:
        DissectError: a segmenter without probabilities or without a class of `lesson.keep`, or no
            sample with the concept at an open cell.
    """
    probability = samples.segmenter.probability
    if probability is None:
        raise DissectError("this rule follows gradients, and the segmenter gives no probabilities")
    units, device = samples.acts.shape[1], samples.acts.device
    mask, outside = samples.mask, ~samples.region
    kept = [samples.segmenter.class_id(name) for name in lesson.keep]
    with_it, without = _pools(samples, open_cells)
    allowed = torch.ones(units, device=device) if among is None else among.to(device).float()
    doses = torch.full((units,), start) if isinstance(start, float) else start.float().clone()
    doses = (doses.to(device) * allowed).clamp(0, lesson.most).requires_grad_()
    optimizer = torch.optim.Adam([doses], lesson.rate)
    random = torch.Generator().manual_seed(lesson.seed)
    late, counted = torch.zeros(units), 0
    for step in range(lesson.steps):
        left = 1 - step / lesson.steps
        for group in optimizer.param_groups:
            group["lr"] = lesson.rate * min(1.0, 2 * left)
        rows, weight = _batch(lesson, with_it, without, random)
        amount = doses.reshape(1, -1, 1, 1)
        if open_cells is not None:
            amount = amount * open_cells[rows].unsqueeze(1).to(device)

        def change(activation: Tensor, amount: Tensor = amount) -> Tensor:
            return activation - amount * activation

        with quickly(device):
            with edit(samples.rest, {samples.layer: change}, copy=False):
                images = samples.rest(samples.inputs[rows.to(device)])
            chances = probability(images)
        chances, images = chances.float().cpu(), images.float().cpu()
        weight = weight.reshape(-1, 1, 1)
        apart = weight * outside[rows]
        loss = _left(chances[:, samples.number], mask[rows], weight, lesson)
        if lesson.elsewhere:
            moved = (images - samples.seen.images[rows]).abs().mean(1)
            loss = loss + lesson.elsewhere * _mean(moved, apart)
        if lesson.around:
            off = (images - samples.around[rows]).abs().mean(1)
            loss = loss + lesson.around * _mean(off, weight * mask[rows])
        for number in kept:
            was = (samples.seen.labels[rows] == number).float()
            loss = loss + lesson.outlines * _mean((chances[:, number] - was).abs(), apart)
        loss = loss.to(device) + lesson.square * doses.square().sum() + lesson.few * doses.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            doses.mul_(allowed).clamp_(0, lesson.most)
            if 2 * (step + 1) > lesson.steps:
                late, counted = late + doses.cpu(), counted + 1
        progress(1)
    return late / counted


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1)


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
