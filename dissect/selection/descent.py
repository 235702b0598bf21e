"""Gradient descent on an edit of a layer, through the rest of the generator and the segmenter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.hooks import edit
from dissect.selection.samples import Samples, in_autocast

__all__ = ["EditLoss", "minimize_loss"]

_CLOSE_TO_1 = 1 - 1e-4


@dataclass(frozen=True, repr=False)
class EditLoss(ShortRepr):
    """What an edit is to minimise, and how. The defaults are those of GAN Dissection's ACE.

    The sum of: `left` times what is left of the concept; `outside` times the mean absolute change
    outside the concept's region, on the [-1, 1] scale; `outlines` times the fraction of the pixels
    there by which the classes of `keep` moved; and `inpainting` times the mean absolute difference,
    where the concept was, to the image with that region inpainted.

    Attributes:
        keep: classes of the segmenter whose outlines are to stay.
        log: whether what is left is measured by -log(1 - probability), which still pulls where the
            segmenter is sure; otherwise by the probability, as in ACE.
        all_pixels: whether it is summed over all pixels, so that a concept that newly appears
            counts, with half of each batch from samples without the concept; otherwise over the
            concept's pixels.
        steps, batch_size, learning_rate: of Adam.
        seed: of the batches.
    """

    left: float = 1.0
    outside: float = 0.0
    outlines: float = 0.0
    keep: tuple[str, ...] = ()
    inpainting: float = 0.0
    log: bool = False
    all_pixels: bool = False
    steps: int = 250
    batch_size: int = 24
    learning_rate: float = 0.02
    seed: int = 0


def minimize_loss(
    samples: Samples,
    objective: EditLoss,
    parameters: Sequence[Tensor],
    change: Callable[[Tensor, Tensor], Tensor],
    *,
    penalized: Callable[[Tensor], Tensor] | None = None,
    after_step: Callable[[int], None] | None = None,
    open_cells: Tensor | None = None,
    progress: ProgressCallback = no_progress,
) -> None:
    """Change the parameters of an edit, in place, until it costs least.

    Args:
        samples: to learn on.
        objective: what is minimised.
        parameters: leaves that require gradients.
        change: gives the layer's activation after the edit, from what it was, (n, C, h, w), and
            the numbers of the samples in the batch, (n,).
        penalized: adds to the loss what the parameters cost in themselves.
        after_step: called with the number of each step once it is taken.
        open_cells: (N, h, w) bool, where the edit acts; None is everywhere.
        progress: called with 1 after each step.

    Raises:
        DissectError: a segmenter without probabilities or without a class of `objective.keep`,
            or no sample with the concept at an open cell.
    """
    probability = samples.segmenter.probability
    if probability is None:
        raise DissectError("this rule follows gradients, and the segmenter gives no probabilities")
    device = samples.acts.device
    mask, outside = samples.mask, ~samples.region
    kept = [samples.segmenter.class_id(name) for name in objective.keep]
    with_it, without = _pools(samples, open_cells)
    optimizer = torch.optim.Adam(parameters, objective.learning_rate)
    random = torch.Generator().manual_seed(objective.seed)
    for step in range(objective.steps):
        left = 1 - step / objective.steps
        for group in optimizer.param_groups:
            group["lr"] = objective.learning_rate * min(1.0, 2 * left)
        rows, weight = _batch(objective, with_it, without, random)

        def changed(activation: Tensor, rows: Tensor = rows) -> Tensor:
            return change(activation, rows)

        with in_autocast(device, exact=samples.exact):
            with edit(samples.tail, {samples.layer: changed}, copy=False):
                images = samples.tail(samples.inputs[rows.to(device)])
            chances = probability(images)
        chances, images = chances.float().cpu(), images.float().cpu()
        weight = weight.reshape(-1, 1, 1)
        apart = weight * outside[rows]
        loss = objective.left * _left(chances[:, samples.number], mask[rows], weight, objective)
        if objective.outside:
            moved = (images - samples.observed.images[rows]).abs().mean(1)
            loss = loss + objective.outside * _mean(moved, apart)
        if objective.inpainting:
            off = (images - samples.inpainted[rows]).abs().mean(1)
            loss = loss + objective.inpainting * _mean(off, weight * mask[rows])
        for number in kept:
            was = (samples.observed.labels[rows] == number).float()
            loss = loss + objective.outlines * _mean((chances[:, number] - was).abs(), apart)
        loss = loss.to(device)
        if penalized is not None:
            loss = penalized(loss)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if after_step is not None:
            with torch.no_grad():
                after_step(step)
        progress(1)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1)


def _left(chance: Tensor, mask: Tensor, weight: Tensor, objective: EditLoss) -> Tensor:
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
    objective: EditLoss, with_it: Tensor, without: Tensor, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Row numbers, and a weight for each, by which both kinds count as in all samples."""
    halves = [with_it, without] if objective.all_pixels and len(without) else [with_it]
    size = max(1, objective.batch_size // len(halves))
    rows = [pool[torch.randint(len(pool), (size,), generator=random)] for pool in halves]
    weights = [torch.full((size,), len(pool) / size) for pool in halves]
    return torch.cat(rows), torch.cat(weights)
