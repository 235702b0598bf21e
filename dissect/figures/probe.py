"""The probe as a picture: which units speak for the concept, and what they answer to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dissect.figures.style import BLUE, GREY, ORANGE, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dissect.annotations.boxes import Box
    from dissect.probe import Probe

__all__ = ["layer_scores_figure", "probe_figure"]


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
    columns = len(images)
    with house_style():
        figure = Figure(figsize=(4.6 + 1.02 * columns, 1.02 * (len(shown) + 1) + 0.8))
        parts: Any = figure.subfigures(1, 2, width_ratios=(4.2, 1.02 * columns + 0.4))
        left, right = parts
        _weights(left.subplots(), probe)
        grid = right.subplots(len(shown) + 1, columns, squeeze=False)
        right.suptitle(
            f"The {len(shown)} strongest units over {columns} annotated samples "
            f"(yellow: box drawn around a {probe.concept or 'concept'})",
            fontsize=11,
        )
        _samples(grid[0], images, boxes)
        for row, unit in zip(grid[1:], shown, strict=True):
            _unit(row, images, boxes, activations[:, unit].float().cpu().numpy())
            row[0].set_ylabel(f"unit {unit}", rotation=0, ha="right", va="center")
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
    with house_style():
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


def _weights(axes: Any, probe: "Probe") -> None:
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


def _samples(row: Any, images: NDArray[np.uint8], boxes: Sequence[Sequence["Box"]]) -> None:
    for axes, image, drawn in zip(row, images, boxes, strict=True):
        axes.imshow(image)
        _outline(axes, drawn)
        _bare(axes)
    row[0].set_ylabel("sample", rotation=0, ha="right", va="center")


def _unit(
    row: Any,
    images: NDArray[np.uint8],
    boxes: Sequence[Sequence["Box"]],
    maps: NDArray[np.float32],
) -> None:
    height, width = images.shape[1:3]
    top = float(maps.max()) or 1.0
    for axes, image, drawn, values in zip(row, images, boxes, maps, strict=True):
        grey = image.mean(2, keepdims=True).repeat(3, 2) / 255
        axes.imshow(0.35 + 0.4 * grey)
        axes.imshow(
            values,
            cmap="inferno",
            alpha=np.clip(values / top, 0, 1) ** 0.5,
            vmin=0,
            vmax=top,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        _outline(axes, drawn)
        _bare(axes)


def _outline(axes: Any, boxes: Sequence["Box"]) -> None:
    from matplotlib.patches import Rectangle

    for box in boxes:
        # Pixel p covers p to p + 1 in a box's measures, and p - 0.5 to p + 0.5 in the plot's.
        corner = (box.x - 0.5, box.y - 0.5)
        axes.add_patch(
            Rectangle(corner, box.width, box.height, fill=False, color="#ffd400", linewidth=1.2)
        )


def _bare(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
