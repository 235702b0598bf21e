"""Rules compared: what they remove against what that changes elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dissect._utils.stats import Estimate
from dissect.effect.summary import summarize
from dissect.figures.style import BLUE, GREEN, GREY, INK, OCHRE, ORANGE, PURPLE, mpl_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dissect.effect.curves import RuleCurve

__all__ = ["rules_figure"]

# Colour and marker of each rule, apart in grey print by the marker.
_LOOKS = {
    "auto": (INK, "o"),
    "positive": (ORANGE, "s"),
    "iou": (GREEN, "^"),
    "ace": (PURPLE, "v"),
    "causal": (BLUE, "D"),
    "gradient": (OCHRE, "P"),
    "random": (GREY, "x"),
}
_TITLES = {"everywhere": "Edited everywhere", "probe": "Edited where a probe sees it"}


def rules_figure(curves: Sequence["RuleCurve"], concept: str) -> "Figure":
    """Above the change elsewhere, below what was kept, against what was removed; a column a gate.

    Each line is a rule that takes more and more units; bars are 95% intervals over images. The
    ring is the number of units that a rule takes by itself.

    Args:
        curves: every rule under every gate.
        concept: what was to be removed.
    """
    from matplotlib.figure import Figure

    gates = list(dict.fromkeys(curve.where for curve in curves))
    with mpl_style():
        figure = Figure(figsize=(7.4 * len(gates), 9.6), layout="constrained")
        panels = figure.subplots(2, len(gates), squeeze=False, sharex=True)
        for column, gate in enumerate(gates):
            mine = [curve for curve in curves if curve.where == gate]
            for curve in mine:
                _draw(panels[0][column], panels[1][column], curve)
            panels[0][column].set(
                title=_TITLES.get(gate, gate), ylabel=f"mean change outside any {concept}"
            )
            panels[1][column].set(
                xlabel=f"share of {concept} pixels removed",
                ylabel="kept: mean IoU of the other classes",
            )
            # Beyond what removes everything, lines only go up.
            reach = max((_cost(curve) for curve in mine if curve.rule != "random"), default=0.1)
            panels[0][column].set_ylim(0, max(1.15 * reach, 0.001))
            panels[1][column].set_ylim(top=1.0)
            for row in (0, 1):
                panels[row][column].set_xlim(-0.1, 1.03)
                panels[row][column].axvline(0.98, color=GREY, linewidth=0.8, linestyle=":")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure


def _draw(above: "Axes", below: "Axes", curve: "RuleCurve") -> None:
    colour, marker = _LOOKS.get(curve.rule, (INK, "."))
    found = [summarize([effect], resamples=200) for effect in curve.effects]
    removed = [one.removed for one in found]
    strong = curve.rule == "auto"
    for axes, figures in (
        (above, [one.outside_change for one in found]),
        (below, [one.kept_mean for one in found]),
    ):
        axes.errorbar(
            [one.value for one in removed],
            [one.value for one in figures],
            xerr=_reach(removed),
            yerr=_reach(figures),
            color=colour,
            marker=marker,
            markersize=5 if strong else 4,
            linewidth=2.2 if strong else 1.2,
            elinewidth=0.7,
            zorder=3 if strong else 2,
            label=curve.rule,
        )
        if curve.own is not None:
            at = curve.sizes.index(curve.own)
            axes.plot(
                removed[at].value,
                figures[at].value,
                marker="o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor=colour,
                zorder=4,
            )


def _reach(found: Sequence[Estimate]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How far intervals reach to either side, (2, n)."""
    return np.array(
        [
            [max(one.value - one.low, 0.0) for one in found],
            [max(one.high - one.value, 0.0) for one in found],
        ]
    )


def _cost(curve: "RuleCurve") -> float:
    """What the first size costs that removes 98%, or the last size."""
    position = curve.first_removing()
    return curve.effects[-1 if position is None else position].change()
