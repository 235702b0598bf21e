"""The probe as a picture: which units speak for the concept, and what they answer to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from dissect.figures.style import BLUE, GREY, ORANGE, mpl_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dissect.annotations.boxes import Box
    from dissect.probe import Probe

__all__ = ["draw_weights", "layer_scores_figure", "probe_figure"]

_ENLARGED = 4


def probe_figure(
    probe: "Probe",
    images: NDArray[np.uint8],
    boxes: Sequence[Sequence["Box"]],
    activations: Tensor,
    *,
    strongest: int = 5,
) -> "Figure":
    """Left the weights, sorted; right the strongest units on samples, with the boxes.

    Args:
        probe: a fitted probe.
        images: (N, H, W, 3) uint8, the samples to show.
        boxes: the boxes of each of them.
        activations: (N, C, h, w) of the probe's layer on them.
        strongest: how many units to show.
    """
    from matplotlib.figure import Figure

    units = probe.units("positive")
    shown = units.indices[:strongest]
    maps = activations[:, list(shown)].float().cpu().numpy()
    tiles = [[_with_boxes(image, drawn) for image, drawn in zip(images, boxes, strict=True)]]
    for place in range(len(shown)):
        top = float(maps[:, place].max()) or 1.0
        tiles.append(
            [
                _with_boxes(_heated(image, values / top), drawn)
                for image, values, drawn in zip(images, maps[:, place], boxes, strict=True)
            ]
        )
    with mpl_style():
        figure = Figure(figsize=(5.0 + 1.02 * len(images), 1.02 * len(tiles) + 0.8))
        left, right = figure.subplots(1, 2, width_ratios=(4.2, 1.02 * len(images) + 0.8))
        draw_weights(left, probe)
        # One picture for all tiles: an axes for each would take seconds to draw.
        sheet = _sheet(tiles)
        right.imshow(sheet, interpolation="antialiased")
        step = sheet.shape[0] / len(tiles)
        names = ["sample", *(f"unit {unit}" for unit in shown)]
        right.set(xticks=[], yticks=[step * (row + 0.5) for row in range(len(names))])
        right.set_yticklabels(names)
        right.tick_params(length=0)
        for spine in right.spines.values():
            spine.set_visible(False)
        right.set_title(
            f"The {len(shown)} strongest units over {len(images)} annotated samples "
            f"(yellow: box around a {probe.concept or 'concept'})"
        )
        return figure


def layer_scores_figure(scores: Sequence[tuple[str, float, float, float, float]]) -> "Figure":
    """Held-out AUC of each layer with its interval, and the shuffled baseline.

    Args:
        scores: (layer, auc, low, high, shuffled auc) of each layer, in the order of the network.
    """
    from matplotlib.figure import Figure

    names = [row[0] for row in scores]
    auc, low, high, chance = (np.array([row[k] for row in scores]) for k in range(1, 5))
    places = np.arange(len(names))
    with mpl_style():
        figure = Figure(figsize=(1.8 + 1.1 * len(names), 3.4))
        axes = figure.subplots()
        axes.errorbar(
            places, auc, (auc - low, high - auc), fmt="o", color=BLUE, capsize=3, label="boxes"
        )
        axes.plot(places, chance, "x", color=ORANGE, label="shuffled labels")
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axes.set(
            xticks=places,
            xticklabels=names,
            ylim=(0.35, 1.02),
            xlim=(-0.5, len(names) - 0.5),
            ylabel="AUC on held-out images",
            title="Where the concept can be read",
        )
        axes.legend(loc="center right")
        return figure


def draw_weights(axes: Any, probe: "Probe") -> None:
    """On `axes`, the weights of the units in the order of their strength, and the score."""
    strength = (probe.weight * probe.scale).numpy()
    order = np.argsort(-strength, kind="stable")
    sorted_strength = strength[order]
    positive = int((sorted_strength > 0).sum())
    rank = np.arange(1, len(strength) + 1)
    axes.bar(rank[:positive], sorted_strength[:positive], 1.0, color=BLUE)
    axes.bar(rank[positive:], sorted_strength[positive:], 1.0, color=GREY)
    axes.axhline(0, color="black", linewidth=0.6)
    low, high = probe.score.auc_ci
    axes.set(
        xlabel=f"units of {probe.layer}, by weight",
        ylabel="weight (per standard deviation of the unit)",
        title=f"{probe.concept or 'concept'}: {positive} of {len(strength)} weights above 0\n"
        f"AUC {probe.score.auc:.3f} ({low:.3f} to {high:.3f}), "
        f"shuffled {probe.score.shuffled_auc:.2f}",
    )
    axes.margins(x=0.01)


def _heated(image: NDArray[np.uint8], share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A pale grey image under the colours of an activation, given as a share of its largest."""
    import matplotlib as mpl

    height, width = image.shape[:2]
    rows = np.arange(height) * share.shape[0] // height
    columns = np.arange(width) * share.shape[1] // width
    large = np.clip(share, 0, 1)[rows][:, columns]
    colour = mpl.colormaps["inferno"](large)[..., :3]
    grey = (0.35 + 0.4 * image.mean(2, keepdims=True) / 255).repeat(3, 2)
    alpha = np.sqrt(large)[..., None]
    mixed: NDArray[np.uint8] = np.rint((alpha * colour + (1 - alpha) * grey) * 255).astype(np.uint8)
    return mixed


def _with_boxes(image: NDArray[np.uint8], boxes: Sequence["Box"]) -> NDArray[np.uint8]:
    """The image enlarged, each pixel as it is, with the boxes drawn on it."""
    large = Image.fromarray(image).resize(
        (image.shape[1] * _ENLARGED, image.shape[0] * _ENLARGED), Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(large)
    for box in boxes:
        x0, y0, x1, y1 = (round(edge * _ENLARGED) for edge in (box.x, box.y, box.right, box.bottom))
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=(255, 212, 0), width=2)
    return np.asarray(large)


def _sheet(tiles: list[list[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """All tiles on white, a little apart."""
    height, width, _ = tiles[0][0].shape
    gap = 2 * _ENLARGED
    sheet = np.full((len(tiles) * (height + gap), len(tiles[0]) * (width + gap), 3), 255, np.uint8)
    for row, images in enumerate(tiles):
        for column, tile in enumerate(images):
            top, left = row * (height + gap) + gap // 2, column * (width + gap) + gap // 2
            sheet[top : top + height, left : left + width] = tile
    return sheet
