"""Where a concept can be put in, and what became of one that was swapped."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dissect.figures.style import BLUE, GREY, mpl_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dissect.effect.placement import Placement

__all__ = ["replacement_figure", "placement_figure"]

# Okabe and Ito's colours: told apart by people who see few colours.
_CLASS_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_FEWEST_SHARE = 0.03


def placement_figure(
    placement: "Placement",
    images: NDArray[np.uint8],
    grid: tuple[int, int],
    patch: tuple[int, int],
) -> "Figure":
    """Left a map of where the concept can be added; right the same by what was there before.

    Every square of the map stands at the middle of its patch, over the mean of the images.

    Args:
        placement: of `place_everywhere`.
        images: (N, H, W, 3) uint8, the samples before.
        grid: rows and columns of the layer.
        patch: rows and columns of cells that were set at a time.
    """
    from matplotlib.figure import Figure

    concept = placement.concept
    surroundings = placement.by_surroundings()
    with mpl_style():
        figure = Figure(figsize=(11, max(4.0, 0.42 * len(surroundings) + 1.6)))
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1.1, 1), "wspace": 0.05})
        _map(left, placement, images, grid, patch)
        drawn = left.images[-1]
        bar = figure.colorbar(drawn, ax=left, fraction=0.046, pad=0.03, ticks=(0, 0.5, 1))
        bar.set_label(f"share of samples with a {concept} there after")
        bar.outline.set_visible(False)
        names = list(surroundings)
        places = np.arange(len(names))
        shares = np.array([surroundings[name][1].value for name in names])
        ends = np.array([surroundings[name][1].interval for name in names]).reshape(-1, 2).T
        right.barh(places, shares, color=BLUE, height=0.62)
        # A share outside its own interval by a rounding would be a bar of negative length.
        error = np.maximum([shares - ends[0], ends[1] - shares], 0)
        right.errorbar(shares, places, xerr=error, fmt="none", ecolor="black", capsize=3, lw=1)
        right.set(
            yticks=places,
            yticklabels=[f"{name} ({surroundings[name][0]:,})" for name in names],
            xlim=(0, 1),
            xlabel=f"share with a {concept} after (95% interval)",
            title=f"By what was there before\n(in brackets: patches without a {concept})",
        )
        right.invert_yaxis()
        right.tick_params(axis="y", length=0)
        return figure


def _map(
    axes: Any,
    placement: "Placement",
    images: NDArray[np.uint8],
    grid: tuple[int, int],
    patch: tuple[int, int],
) -> None:
    mean = images.astype(np.float64).mean((0, 3)) / 255
    height, width = mean.shape
    cell = (height / grid[0], width / grid[1])
    axes.imshow(mean, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    value = placement.probability()
    rows, columns = value.shape
    top, left = cell[0] * (patch[0] - 1) / 2, cell[1] * (patch[1] - 1) / 2
    extent = (left, left + columns * cell[1], top + rows * cell[0], top)
    axes.imshow(value, cmap="viridis", vmin=0, vmax=1, alpha=0.65, extent=extent)
    for row in range(rows):
        for column in range(columns):
            if np.isfinite(value[row, column]):
                axes.text(
                    left + (column + 0.5) * cell[1],
                    top + (row + 0.5) * cell[0],
                    f"{100 * value[row, column]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if value[row, column] > 0.6 else "white",
                )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_title(
        f"Where a {placement.concept} can be added, in % of samples\n"
        f"({patch[0]}x{patch[1]} cells set at a time, over the mean image)"
    )


def replacement_figure(concept: str, became: Mapping[str, Mapping[str, float]]) -> "Figure":
    """What the pixels of a concept became after several edits: one bar an edit.

    Args:
        concept: what they were.
        became: by edit, by class, the share of the concept's pixels that are of the class after.
    """
    from matplotlib.figure import Figure

    largest = {
        name: max(shares.get(name, 0.0) for shares in became.values()) for name in _all(became)
    }
    named = [name for name in sorted(largest, key=lambda name: -largest[name]) if name != concept]
    shown = [name for name in named if largest[name] >= _FEWEST_SHARE][: len(_CLASS_COLOURS)]
    with mpl_style():
        figure = Figure(figsize=(9.2, 0.62 * len(became) + 1.7))
        axes = figure.subplots()
        start = np.zeros(len(became))
        for name, colour in [
            (concept, "#333333"),
            *zip(shown, _CLASS_COLOURS, strict=False),
            ("other", GREY),
        ]:
            share = np.array(
                [_share(shares, name, (concept, *shown)) for shares in became.values()]
            )
            axes.barh(range(len(became)), share, left=start, color=colour, label=name, height=0.66)
            for place, (left, width) in enumerate(zip(start, share, strict=True)):
                if width >= 0.04:
                    axes.text(
                        left + width / 2,
                        place,
                        f"{100 * width:.0f}",
                        ha="center",
                        va="center",
                        color="white",
                        fontsize=9,
                    )
            start = start + share
        axes.set(
            yticks=range(len(became)),
            yticklabels=list(became),
            xlim=(0, 1),
            xticks=[],
            title=f"What the pixels of a {concept} became, in %",
        )
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=8, columnspacing=1.2)
        return figure


def _all(became: Mapping[str, Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for shares in became.values() for name in shares))


def _share(shares: Mapping[str, float], name: str, named: Sequence[str]) -> float:
    if name != "other":
        return shares.get(name, 0.0)
    return sum(share for other, share in shares.items() if other not in named)
