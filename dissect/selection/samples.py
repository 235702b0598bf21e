"""Samples on which rules choose: activations of a layer, and the segmenter's labels of them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from dissect._utils.device import autocast_dtype
from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.effect.measure import Observed, grown, observe
from dissect.hooks import activations
from dissect.hooks.modules import runs_class_forward
from dissect.models import Generator, latents_for
from dissect.models.batch_norm import fold_batch_norm
from dissect.segmentation import Segmenter
from dissect.selection.inpaint import inpaint_background
from dissect.surgery.split import split_at

__all__ = ["SEARCH_SEED", "HOLDOUT_SEED", "Samples", "in_autocast", "draw_samples"]

# Seeds of the latents that rules choose on, and on which `auto` tests its edit. Effects are
# measured on other seeds; nobody is likely to type one of these.
SEARCH_SEED, HOLDOUT_SEED = 900_001, 900_002

_ROUNDING = 1e-3


@dataclass(frozen=True, eq=False, repr=False)
class Samples(ShortRepr):
    """N samples of a generator, ready to be generated again under edits of one layer.

    Attributes:
        layer: the layer that is edited.
        concept: the concept to be removed.
        tail: a model in which `layer` can be edited; of a `Generator`, the part after the layer.
        inputs: what `tail` takes, one row per sample.
        acts: (N, C, h, w) of the layer.
        observed: the images, and the class of every pixel, before any edit.
        number: the concept's number among the segmenter's classes.
        segmenter: the segmenter.
        exact: whether `tail` computes in its own precision: a network of the user's may not bear
            another one.
    """

    layer: str
    concept: str
    tail: nn.Module
    inputs: Tensor
    acts: Tensor
    observed: Observed
    number: int
    segmenter: Segmenter
    exact: bool = True

    def __len__(self) -> int:
        return len(self.acts)

    @property
    def mask(self) -> Tensor:
        """(N, H, W) bool, the concept's pixels."""
        return self.observed.labels == self.number

    @property
    def coverage(self) -> Tensor:
        """(N, h, w) in [0, 1], the fraction of each cell that is the concept."""
        grid = (self.acts.shape[2], self.acts.shape[3])
        return adaptive_avg_pool2d(self.mask.float().unsqueeze(1), grid).squeeze(1)

    @property
    def region(self) -> Tensor:
        """(N, H, W) bool, the concept's pixels and those around it (see `dissect.effect`)."""
        return grown(self.mask)

    @cached_property
    def inpainted(self) -> Tensor:
        """(N, 3, H, W), the images with the region filled from its surroundings."""
        return inpaint_background(self.observed.images, self.region)

    def mean_inside(self) -> Tensor:
        """(C,) the mean of each unit where the concept is, on the CPU."""
        coverage = self.coverage.to(self.acts.device)
        total = torch.einsum("nchw,nhw->c", self.acts.float(), coverage)
        return (total / coverage.sum()).cpu()

    def rows_with_concept(self, min_pixels: int = 1) -> Tensor:
        """Numbers of the samples with at least `min_pixels` pixels of the concept."""
        return (self.mask.flatten(1).sum(1) >= min_pixels).nonzero().squeeze(1)


def draw_samples(
    model: nn.Module,
    layer: str,
    segmenter: Segmenter,
    concept: str,
    n: int,
    *,
    seed: int = SEARCH_SEED,
    start: int = 0,
    exact: bool = False,
    progress: ProgressCallback = no_progress,
) -> Samples:
    """`n` samples of `model`, split at `layer`, with the segmenter's labels.

    Args:
        model: the generator, in eval mode.
        layer: the layer whose units are to be chosen.
        segmenter: the segmenter.
        concept: one of its classes.
        n: how many.
        seed, start: which latents.
        exact: keep the network as it is; otherwise one of dissect's own may be folded (see
            `fold_batch_norm`) and compute in bfloat16.
        progress: called with the number of images after each batch.

    Raises:
        DissectError: an unknown concept, no such layer, a layer without a grid, or a concept that
            the segmenter sees in no sample.
    """
    number = segmenter.class_id(concept)
    exact = exact or not isinstance(model, Generator)
    z = latents_for(model, n, seed, start=start)
    head, tail = split_at(model, layer)
    inputs = head(z)
    acts = activations(model, layer, z) if tail is model else inputs
    if acts.ndim != 4:
        raise DissectError(f"layer {layer!r} gives {tuple(acts.shape)}, not a grid of units")
    # Hooks would see the folded network, and those of open blocks are not in a copy.
    if tail is not model and not exact and all(map(runs_class_forward, tail.modules())):
        tail, inputs = _folded_if_equal(tail, inputs)
    with in_autocast(inputs.device, exact=exact):
        seen = observe(tail, segmenter, inputs, progress=progress)
    if not bool((seen.labels == number).any()):
        raise DissectError(
            f"the segmenter sees no {concept} in any of {n} samples: there is nothing to choose by"
        )
    return Samples(layer, concept, tail, inputs, acts, seen, number, segmenter, exact)


@contextmanager
def in_autocast(device: torch.device, *, exact: bool = False) -> Iterator[None]:
    """A block that computes in bfloat16 where the device supports it natively.

    That is exact enough to choose by; what is reported of an edit is measured in float32.
    """
    dtype = None if exact else autocast_dtype(device)
    with nullcontext() if dtype is None else torch.autocast(device.type, dtype):
        yield


def _folded_if_equal(tail: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """The folded network, unless it turns out to compute something else."""
    light = fold_batch_norm(tail)
    laid_out = inputs.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        difference = (light(laid_out[:2]) - tail(inputs[:2])).abs().max()
    return (light, laid_out) if float(difference) < _ROUNDING else (tail, inputs)
