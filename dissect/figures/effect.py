"""The effect of an edit as a picture: removed against kept, as the number of units grows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dissect.figures.style import BLUE, GREY, ORANGE, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dissect.effect import Effect

__all__ = ["effect_figure"]

_LOOKS = {"everywhere": (ORANGE, "s"), "probe": (BLUE, "o")}
_NAMES = {"everywhere": "everywhere (the paper)", "probe": "where the probe sees it"}


def effect_figure(
    curves: Mapping[str, Mapping[int, "Effect"]],
    random: Sequence["Effect"],
    *,
    concept: str,
    units: int,
) -> "Figure":
    """Left the share removed by the number of units, right what that cost.

    Args:
        curves: by gate (`everywhere`, `probe`), the effect of each number of units.
        random: the controls, all of `units` random units.
        concept: what was to be removed.
        units: the size of the whole set.
    """
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(9.6, 3.9))
        left, right = figure.subplots(1, 2)
        for gate, curve in curves.items():
            colour, marker = _LOOKS[gate]
            sizes = list(curve)
            removed = [found.removed() for found in curve.values()]
            ends = [found.interval(lambda e, rows: e.removed(rows)) for found in curve.values()]
            left.fill_between(
                sizes, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.2
            )
            left.plot(sizes, removed, marker=marker, color=colour, label=_NAMES[gate])
            kept = [found.kept_mean() for found in curve.values()]
            right.plot(removed, kept, marker=marker, color=colour, label=_NAMES[gate])
            for size, x, y in zip(sizes, removed, kept, strict=True):
                right.annotate(
                    str(size), (x, y), (0, 6), textcoords="offset points", ha="center", fontsize=8
                )
        control = [found.removed() for found in random]
        left.plot([units] * len(control), control, ".", color=GREY, label="random units")
        right.plot(control, [found.kept_mean() for found in random], ".", color=GREY)
        left.axhline(0, color="black", linewidth=0.6)
        left.set_xscale("log", base=2)
        ticks = list(next(iter(curves.values())))
        left.set(
            xticks=ticks,
            xticklabels=[str(tick) for tick in ticks],
            xlabel="units removed, strongest first",
            ylabel=f"share of {concept} pixels removed",
            title="Dose and response",
        )
        right.set(
            xlabel=f"share of {concept} pixels removed",
            ylabel="mean IoU of the other classes",
            title="What it costs (numbers: units)",
        )
        left.legend(loc="center left")
        return figure
