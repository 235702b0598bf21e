"""Scores of every unit of a layer for a concept, by the rules that a segmenter makes possible.

Each gives (C,) finite numbers, larger for units that rather draw the concept; `rank_units` makes
`Units` of them.
"""

import numpy as np
import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.dissection import network_dissection, unit_effects
from dissect.dissection.upsampling import Upsampling
from dissect.effect.measure import is_shown
from dissect.hooks import plain_copy
from dissect.models import generate, latents_for
from dissect.segmentation import Segmenter
from dissect.selection.samples import SEARCH_SEED, Samples
from dissect.selection.strengths import StrengthObjective, optimize_strengths

__all__ = ["ace_scores", "causal_scores", "gradient_scores", "iou_scores", "iou_with_masks"]

_BLOCK = 100  # latents looked through at a time


def iou_scores(
    model: nn.Module,
    layer: str,
    segmenter: Segmenter,
    concept: str,
    *,
    n: int = 1_000,
    quantile: float = 0.995,
    seed: int = SEARCH_SEED,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """How well each unit's strongest places match the concept: `iou:K`.

    The intersection over union, over all pixels of `n` samples, of the concept's mask and the
    places where the unit's activation, upsampled to the image, is above its own quantile (Bau et
    al. 2019, section 3.1).

    Raises:
        DissectError: an unknown concept, or no such layer.
    """
    found = network_dissection(
        model,
        [layer],
        segmenter,
        n=n,
        quantile=quantile,
        concepts=[concept],
        seed=seed,
        progress=progress,
    )
    return torch.from_numpy(np.nan_to_num(found.layers[0].iou[:, 0]))


def iou_with_masks(acts: Tensor, masks: Tensor, *, quantile: float = 0.995) -> Tensor:
    """The same with masks of the samples themselves, such as drawn boxes: (C,).

    Args:
        acts: (N, C, h, w) of the layer on the samples.
        masks: (N, H, W) bool, the concept's pixels.
        quantile: of a unit's cells, above which it is on.
    """
    acts = acts.detach().float().cpu()
    grid, size = (acts.shape[2], acts.shape[3]), (masks.shape[1], masks.shape[2])
    upsampling = Upsampling(grid, size)
    found = []
    for maps in acts.transpose(0, 1):
        threshold = np.quantile(maps.numpy(), quantile)
        above = upsampling(maps) > float(threshold)
        union = (above | masks).sum()
        found.append(float((above & masks).sum() / union) if union else 0.0)
    return torch.tensor(found)


def ace_scores(
    samples: Samples, start: Tensor, *, progress: ProgressCallback = no_progress
) -> Tensor:
    """The strength of each unit when all are optimised at once: `ace:K`.

    GAN Dissection's optimised alphas (Bau et al. 2019, section 3.2): the ablation's part of their
    objective, everywhere, with their L2 penalty, by Adam, from strengths proportional to the units'
    IoU, as in their code.

    Args:
        samples: to optimise on.
        start: (C,) the units' IoU.
        progress: called with 1 after each step.
    """
    largest = float(start.max())
    first = start.float() / largest if largest > 0 else torch.full((len(start),), 0.5)
    return optimize_strengths(samples, StrengthObjective(), start=first, progress=progress)


def causal_scores(
    model: nn.Module,
    layer: str,
    segmenter: Segmenter,
    concept: str,
    *,
    n: int = 100,
    seed: int = SEARCH_SEED,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """What each unit alone removes of the concept, over what it changes in all: `causal:K`.

    Measured by removing every unit, one at a time, everywhere, on `n` samples that show the
    concept (see `unit_effects`). To the change, the median change of all units is added: below
    that, a unit is no better for changing nothing.

    Args:
        model: the generator, in eval mode.
        layer: whose units.
        segmenter: the segmenter.
        concept: one of its classes.
        n: samples.
        seed: of the latents.
        progress: called with 1 after each unit.

    Raises:
        DissectError: an unknown concept, no such layer, or a concept seen in no sample.
    """
    z = _latents_with(model, segmenter, concept, n, seed)
    found = unit_effects(model, layer, z, segmenter, progress=progress)
    cost = found.change + max(float(np.median(found.change)), 1e-12)
    return torch.from_numpy(found.removal(concept) / cost)


def gradient_scores(samples: Samples, *, batch: int = 25) -> Tensor:
    """How much of the segmenter's score for the concept is attributed to each unit: `gradient:K`.

    Gradient times activation (captum's `LayerGradientXActivation`), summed over the grid and
    averaged over the samples that show the concept. The score is the mean log-odds of the concept
    over its pixels, which no sureness of the segmenter flattens.

    Raises:
        DissectError: a segmenter without probabilities.
    """
    from captum.attr import LayerGradientXActivation

    probability = samples.segmenter.probability
    if probability is None:
        raise DissectError("this rule follows gradients, and the segmenter gives no probabilities")
    rest = plain_copy(samples.tail)
    total = torch.zeros(samples.acts.shape[1], dtype=torch.float64)
    rows = samples.rows_with_concept()
    masks = samples.mask.float()

    def score(inputs: Tensor, mask: Tensor) -> Tensor:
        chance = probability(rest(inputs))[:, samples.number].clamp(1e-6, 1 - 1e-6)
        odds: Tensor = (torch.logit(chance) * mask).sum((1, 2)) / mask.sum((1, 2))
        return odds

    for part in rows.split(batch):
        # A fresh explainer each time: captum keeps what it hooked.
        explainer = LayerGradientXActivation(score, rest.get_submodule(samples.layer))
        inputs = samples.inputs[part.to(samples.inputs.device)].clone().requires_grad_()
        found = explainer.attribute(inputs, additional_forward_args=masks[part].to(inputs.device))
        total += found.detach().sum((2, 3)).sum(0).cpu().double()
    return total / len(rows)


def _latents_with(
    model: nn.Module, segmenter: Segmenter, concept: str, n: int, seed: int
) -> Tensor:
    """The first `n` latents whose images show the concept, of at most 50 times as many."""
    number = segmenter.class_id(concept)
    found: list[Tensor] = []
    for start in range(0, 50 * n, _BLOCK):
        z = latents_for(model, _BLOCK, seed, start=start)
        shows = is_shown(segmenter.labels(generate(model, z)) == number)
        found.append(z[shows.to(z.device)])
        if sum(map(len, found)) >= n:
            break
    rows = torch.cat(found)[:n]
    if not len(rows):
        raise DissectError(f"the segmenter sees no {concept} in any of {50 * n} samples")
    return rows
