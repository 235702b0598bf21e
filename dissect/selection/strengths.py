"""The strength at which each unit is removed, optimised by gradient.

GAN Dissection's ACE (Bau et al. 2019, section 3.2, equations 5 to 7) optimises a strength in
[0, 1] for every unit of a layer at once, and ranks the units by it. `optimize_strengths` is that,
for any gate and for strengths up to 2, with a price on changes elsewhere and on the replacement.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.hooks import edit
from dissect.selection.samples import Samples, in_autocast

__all__ = ["StrengthObjective", "optimize_strengths"]

_CLOSE_TO_1 = 1 - 1e-4


@dataclass(frozen=True)
class StrengthObjective:
    """What is minimised, and how. The defaults are those of ACE.

    The sum of: what is left of the concept; `outside` times the mean absolute change outside the
    concept's region, on the [-1, 1] scale; `outlines` times the fraction of the pixels there by
    which the classes of `keep` moved; `inpainting` times the mean absolute difference, where the
    concept was, to the image with that region inpainted; `l2` times the sum of the squared
    strengths; and `l1` times their mean.

    Attributes:
        keep: classes of the segmenter whose outlines are to stay.
        log: whether what is left is measured by -log(1 - probability), which still pulls where the
            segmenter is sure; otherwise by the probability, as in ACE.
        all_pixels: whether it is summed over all pixels, so that a concept that newly appears
            counts, with half of each batch from samples without the concept; otherwise over the
            concept's pixels.
        max_strength: the largest strength: 1 removes a unit, 2 turns its sign.
        steps, batch_size, learning_rate: of Adam.
        seed: of the batches.
    """

    outside: float = 0.0
    outlines: float = 0.0
    keep: tuple[str, ...] = ()
    inpainting: float = 0.0
    l2: float = 0.005
    l1: float = 0.0
    log: bool = False
    all_pixels: bool = False
    max_strength: float = 1.0
    steps: int = 250
    batch_size: int = 24
    learning_rate: float = 0.02
    seed: int = 0


def optimize_strengths(
    samples: Samples,
    objective: StrengthObjective,
    *,
    start: Tensor | float = 0.5,
    among: Tensor | None = None,
    open_cells: Tensor | None = None,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """The strength of every unit at which the concept is removed best, (C,) from 0.

    The mean over the second half of the steps, so that units at the end of the range have an order
    too. At open cells the activation a of a unit becomes a - strength * a.

    Args:
        samples: to learn on.
        objective: what is minimised.
        start: the strengths to start from, one or (C,).
        among: (C,) bool, the units that may have a strength above 0; None is all.
        open_cells: (N, h, w) bool, where the edit acts; None is everywhere.
        progress: called with 1 after each step.

    Raises:
        DissectError: a segmenter without probabilities or without a class of `objective.keep`,
            or no sample with the concept at an open cell.
    """
    probability = samples.segmenter.probability
    if probability is None:
        raise DissectError("this rule follows gradients, and the segmenter gives no probabilities")
    units, device = samples.acts.shape[1], samples.acts.device
    mask, outside = samples.mask, ~samples.region
    kept = [samples.segmenter.class_id(name) for name in objective.keep]
    with_it, without = _pools(samples, open_cells)
    allowed = torch.ones(units, device=device) if among is None else among.to(device).float()
    strengths = torch.full((units,), start) if isinstance(start, float) else start.float().clone()
    strengths = (strengths.to(device) * allowed).clamp(0, objective.max_strength).requires_grad_()
    optimizer = torch.optim.Adam([strengths], objective.learning_rate)
    random = torch.Generator().manual_seed(objective.seed)
    late, counted = torch.zeros(units), 0
    for step in range(objective.steps):
        left = 1 - step / objective.steps
        for group in optimizer.param_groups:
            group["lr"] = objective.learning_rate * min(1.0, 2 * left)
        rows, weight = _batch(objective, with_it, without, random)
        amount = strengths.reshape(1, -1, 1, 1)
        if open_cells is not None:
            amount = amount * open_cells[rows].unsqueeze(1).to(device)

        def change(activation: Tensor, amount: Tensor = amount) -> Tensor:
            return activation - amount * activation

        with in_autocast(device):
            with edit(samples.tail, {samples.layer: change}, copy=False):
                images = samples.tail(samples.inputs[rows.to(device)])
            chances = probability(images)
        chances, images = chances.float().cpu(), images.float().cpu()
        weight = weight.reshape(-1, 1, 1)
        apart = weight * outside[rows]
        loss = _left(chances[:, samples.number], mask[rows], weight, objective)
        if objective.outside:
            moved = (images - samples.observed.images[rows]).abs().mean(1)
            loss = loss + objective.outside * _mean(moved, apart)
        if objective.inpainting:
            off = (images - samples.inpainted[rows]).abs().mean(1)
            loss = loss + objective.inpainting * _mean(off, weight * mask[rows])
        for number in kept:
            was = (samples.observed.labels[rows] == number).float()
            loss = loss + objective.outlines * _mean((chances[:, number] - was).abs(), apart)
        loss = (
            loss.to(device)
            + objective.l2 * strengths.square().sum()
            + objective.l1 * strengths.mean()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            strengths.mul_(allowed).clamp_(0, objective.max_strength)
            if 2 * (step + 1) > objective.steps:
                late, counted = late + strengths.cpu(), counted + 1
        progress(1)
    return late / counted


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1)


def _left(chance: Tensor, mask: Tensor, weight: Tensor, objective: StrengthObjective) -> Tensor:
    """What is left of the concept: 1 (or more) for all of it, 0 for none."""
    cost = -torch.log1p(-chance.clamp(max=_CLOSE_TO_1)) if objective.log else chance
    counted = weight if objective.all_pixels else weight * mask
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
    objective: StrengthObjective, with_it: Tensor, without: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Row numbers, and a weight for each, by which both kinds count as in all samples."""
    halves = [with_it, without] if objective.all_pixels and len(without) else [with_it]
    size = max(1, objective.batch_size // len(halves))
    rows = [pool[torch.randint(len(pool), (size,), generator=random)] for pool in halves]
    weights = [torch.full((size,), len(pool) / size) for pool in halves]
    return torch.cat(rows), torch.cat(weights)
