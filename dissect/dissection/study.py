"""Network dissection of a generator: every unit of its layers against every concept.

    found = network_dissection(G, ["layer8x8"], segmenter)
    found.detectors()                                       # {"window": 31, "bed": 0, ...}
    found["layer8x8"].iou                                   # (512, K)

In two passes over latents, and in memory that does not grow with their number. The first, which
ends with the last of the layers, chooses each unit's threshold; the second, on other latents,
counts. Both can be split over processes: each pass is a sum of what its parts give, and no bit of
it depends on how it was split, as long as the parts are the same batches of latents.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from dissect._utils.distributed import ProcessGroup
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.running_stats import RunningMoments, RunningQuantile, RunningTopK
from dissect.dissection.iou import OBSERVED, PERMUTED, ConceptCounts, Thresholds
from dissect.dissection.result import Dissection, LayerUnits
from dissect.dissection.single_unit import UnitEffects, unit_effects
from dissect.dissection.upsampling import Upsampling
from dissect.hooks import record
from dissect.models import fingerprint, generate, latents_for
from dissect.segmentation import Segmenter
from dissect.surgery.frame import Frame, in_picture, picture_frame

__all__ = [
    "ActivationStats",
    "LayerCounts",
    "activation_stats",
    "count_units",
    "network_dissection",
]

# Samples drawn at once, and samples of which all maps are held upsampled.
_BATCH, _PART = 50, 10

# The AUC is counted between so many quantiles of each unit's activation.
_EDGES = tuple(step / 256 for step in range(1, 256))


@dataclass(frozen=True)
class ActivationStats:
    """What the first pass keeps of a layer: the levels of its units' activations.

    Attributes:
        pixels: quantiles of the upsampled activations.
        cells: quantiles of the activations.
        moments: their means and deviations.
        upsampling: from the layer's grid to the image.
    """

    pixels: RunningQuantile
    cells: RunningQuantile
    moments: RunningMoments
    upsampling: Upsampling

    def update(self, acts: Tensor) -> None:
        """Look at activations (N, C, h, w)."""
        flat = acts.transpose(0, 1).flatten(1)
        self.cells.update(flat)
        self.moments.update(flat)
        for part in acts.float().split(_PART):
            large = torch.stack([self.upsampling(maps) for maps in part], 1)
            self.pixels.update(large.flatten(1))

    def of_all(self, group: ProcessGroup) -> "ActivationStats":
        """What all processes looked at."""
        return ActivationStats(
            group.reduce(self.pixels),
            group.reduce(self.cells),
            group.reduce(self.moments),
            self.upsampling,
        )

    def thresholds(self, quantile: float) -> Thresholds:
        """Thresholds at this quantile of the upsampled activation, and the edges for the AUC."""
        return Thresholds.from_quantiles(self.pixels.result(quantile), self.cells.results(_EDGES))


@dataclass(frozen=True)
class LayerCounts:
    """What the second pass keeps of a layer: counts against the concepts, and the top samples."""

    concepts: ConceptCounts
    top: RunningTopK

    def of_all(self, group: ProcessGroup) -> "LayerCounts":
        """What all processes counted."""
        return LayerCounts(group.reduce(self.concepts), group.reduce(self.top))


def network_dissection(
    model: nn.Module,
    layers: Sequence[str],
    segmenter: Segmenter,
    *,
    n: int = 2_000,
    quantile: float = 0.995,
    concepts: Iterable[str] = (),
    effect_n: int = 0,
    top: int = 5,
    seed: int = 0,
    group: ProcessGroup | None = None,
    progress: ProgressCallback = no_progress,
) -> Dissection:
    """Every unit of the layers against every concept (Bau et al. 2019, sections 3.1 and 4.1).

    Args:
        model: a generator in eval mode.
        layers: names of layers that give grids (N, C, h, w); at least one.
        segmenter: images to concepts.
        n: counted on latents 0 to n - 1 of the seed; thresholds are chosen on n to 2n - 1.
        quantile: a unit is on where its activation, upsampled to the image, is above this
            quantile of it, in (0, 1).
        concepts: which of the segmenter's classes; all without it.
        effect_n: on how many further latents each unit is removed alone, to see what goes with it;
            0 leaves that out. It takes units times effect_n images.
        top: how many of each unit's strongest samples are kept.
        seed: of the latents.
        group: the processes that share out the work, all of which call this and get the result.
        progress: called with what was done since the last call, by any process; all of it is
            `steps(...)`.

    Raises:
        DissectError: no layers, no such layer or one without a grid, an unknown concept, or a
            number out of its range.
    """
    names = tuple(dict.fromkeys(concepts)) or segmenter.classes
    numbers = [segmenter.class_id(name) for name in names]
    _check(n, quantile, effect_n, top)
    levels = activation_stats(model, layers, n, seed, start=n, group=group, progress=progress)
    thresholds = {layer: found.thresholds(quantile) for layer, found in levels.items()}
    counts = count_units(
        model, thresholds, segmenter, n, seed, top=top, group=group, progress=progress
    )

    def unit_progress(units: int, note: str = "", /) -> None:
        progress(units * effect_n, "effects")

    effects: dict[str, UnitEffects] = {}
    for layer in layers if effect_n else ():
        z = latents_for(model, effect_n, seed, start=2 * n)
        effects[layer] = unit_effects(
            model, layer, z, segmenter, group=group, progress=unit_progress
        )
    shown = counts[layers[0]].concepts.shown().cpu().numpy()[numbers]
    found = tuple(
        _layer_units(layer, levels[layer], counts[layer], effects.get(layer), numbers)
        for layer in counts
    )
    return Dissection(names, found, shown, n, seed, quantile, effect_n, fingerprint(model))


def steps(n: int, units: int, effect_n: int) -> int:
    """How many steps a dissection is: the samples that it looks at, all told."""
    return 2 * n + units * effect_n


def activation_stats(
    model: nn.Module,
    layers: Sequence[str],
    n: int,
    seed: int = 0,
    *,
    start: int = 0,
    group: ProcessGroup | None = None,
    progress: ProgressCallback = no_progress,
) -> dict[str, ActivationStats]:
    """The levels of all units of the layers on `n` latents from `start` on: the first pass.

    Raises:
        DissectError: no layers, no such layer, or one without a grid.
    """
    if not layers:
        raise DissectError("name at least one layer to dissect")
    group = group or ProcessGroup()
    with record(model, *layers) as acts:
        size = _image_size(model)
    frames = {layer: _frame(model, layer, acts[layer]) for layer in layers}
    levels = {
        layer: _levels(layer, in_picture(acts[layer], frames[layer]), size) for layer in layers
    }
    for first, count in _shared_batches(start, n, group, progress, "thresholds"):
        z = latents_for(model, count, seed, start=first)
        with torch.inference_mode(), record(model, *layers, stop=True) as acts:
            model(z)
        for layer, found in levels.items():
            found.update(in_picture(acts[layer], frames[layer]))
    return {layer: found.of_all(group) for layer, found in levels.items()}


def count_units(
    model: nn.Module,
    thresholds: dict[str, Thresholds],
    segmenter: Segmenter,
    n: int,
    seed: int = 0,
    *,
    start: int = 0,
    top: int = 5,
    group: ProcessGroup | None = None,
    progress: ProgressCallback = no_progress,
) -> dict[str, LayerCounts]:
    """All units against all concepts on `n` latents from `start` on: the second pass.

    For the baseline the units of a sample meet the masks of the next one, so that parts of a
    series of latents add up to the whole, wherever it is cut.

    Args:
        model: a generator in eval mode.
        thresholds: of each layer that is to be counted.
        segmenter: images to concepts.
        n, seed, start: which latents.
        top: how many of each unit's strongest samples are kept.
        group: the processes that share out the work.
        progress: called with how many samples were counted, by any process.
    """
    group = group or ProcessGroup()
    counts: dict[str, LayerCounts] = {}
    for layer, cut in thresholds.items():
        device = cut.edges.device
        counts[layer] = LayerCounts(
            ConceptCounts(cut, len(segmenter.classes)),
            RunningTopK(len(cut.threshold), top, device),
        )
    upsampling: dict[str, Upsampling] = {}
    frames = {layer: picture_frame(model, layer) for layer in thresholds}
    for first, count in _shared_batches(start, n, group, progress, "counting"):
        z = latents_for(model, count + 1, seed, start=first)
        with record(model, *thresholds) as acts:
            labels = segmenter.labels(generate(model, z, batch_size=len(z)))
        keys = torch.arange(first, first + count, device=labels.device)
        for layer, found in counts.items():
            given = in_picture(acts[layer][:count], frames[layer])
            values = given.float()
            if layer not in upsampling:
                upsampling[layer] = _upsampling(values, (labels.shape[1], labels.shape[2]))
            found.concepts.update(values, labels[:count], labels[1:], upsampling[layer])
            found.top.update(given.amax((2, 3)).T, keys)
    return {layer: found.of_all(group) for layer, found in counts.items()}


def _shared_batches(
    start: int, n: int, group: ProcessGroup, progress: ProgressCallback, note: str
) -> Iterator[tuple[int, int]]:
    """First index and size of each batch that is this process's; `progress` is called for all."""
    end = start + n
    batches = [(first, min(_BATCH, end - first)) for first in range(start, end, _BATCH)]

    def done(batches: Sequence[tuple[int, int]]) -> None:
        progress(sum(count for _, count in batches), note)

    for batch in group.split(batches, on_others=done):
        yield batch
        done([batch])


def _layer_units(
    layer: str,
    levels: ActivationStats,
    counts: LayerCounts,
    effects: UnitEffects | None,
    numbers: list[int],
) -> LayerUnits:
    def table(values: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return values.double().cpu().numpy()

    concepts = counts.concepts
    mean, std = levels.moments.result()
    values, keys = counts.top.result()
    error = table(concepts.auc_error())[:, numbers]
    removed = None
    if effects is not None:
        removed = effects.removals()[:, numbers]
    return LayerUnits(
        layer=layer,
        grid=levels.upsampling.grid,
        threshold=table(concepts.thresholds.threshold),
        above=table(concepts.above()),
        mean=table(mean),
        std=table(std),
        iou=table(concepts.iou())[:, numbers],
        iou_shuffled=table(concepts.iou(PERMUTED))[:, numbers],
        auc=table(concepts.auc(OBSERVED))[:, numbers],
        auc_shuffled=table(concepts.auc(PERMUTED))[:, numbers],
        cells=concepts.positives().cpu().numpy()[numbers],
        auc_error=float(np.nanmax(error, initial=0.0)),
        removed=removed,
        change=None if effects is None else effects.change,
        top=keys.cpu().numpy(),
        top_values=table(values),
    )


def _frame(model: nn.Module, layer: str, acts: Tensor) -> Frame | None:
    return picture_frame(model, layer) if acts.ndim == 4 else None


def _levels(layer: str, acts: Tensor, size: tuple[int, int]) -> ActivationStats:
    if acts.ndim != 4:
        raise DissectError(f"layer {layer!r} gives {tuple(acts.shape)}, not a grid of units")
    units, device = acts.shape[1], acts.device
    return ActivationStats(
        RunningQuantile(units, device),
        RunningQuantile(units, device),
        RunningMoments(units),
        _upsampling(acts, size),
    )


def _upsampling(acts: Tensor, size: tuple[int, int]) -> Upsampling:
    return Upsampling((acts.shape[2], acts.shape[3]), size, acts.device)


def _image_size(model: nn.Module) -> tuple[int, int]:
    height, width = generate(model, latents_for(model, 1)).shape[2:]
    return height, width


def _check(n: int, quantile: float, effect_n: int, top: int) -> None:
    if n < 1 or effect_n < 0 or top < 1:
        raise DissectError(
            f"a dissection needs n and top of at least 1 and effect_n of at least 0; got n={n}, "
            f"top={top}, effect_n={effect_n}"
        )
    if not 0 < quantile < 1:
        raise DissectError(f"the quantile must lie between 0 and 1, not {quantile}")
