"""The effect of an edit as a picture: dose and response, and what removing costs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dissect.figures.style import BLUE, GREY, ORANGE, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dissect.effect import Effect

__all__ = ["effect_figure"]

_LOOKS = {"everywhere": (ORANGE, "s"), "probe": (BLUE, "o")}
_NAMES = {"everywhere": "everywhere (the paper)", "probe": "where the probe sees it"}


def effect_figure(
    by_units: Mapping[str, Mapping[int, "Effect"]],
    by_strength: Mapping[str, Mapping[float, "Effect"]],
    random: Mapping[str, Sequence["Effect"]],
    *,
    concept: str,
    units: int,
    strength: float,
) -> "Figure":
    """What is removed by how many units and at what strength, and what that changes elsewhere.

    Args:
        by_units: by gate (`everywhere`, `probe`), the effect of each number of units.
        by_strength: by gate, the effect of all units at each strength.
        random: by gate, the controls: `units` random units at `strength`.
        concept: what was to be removed.
        units: the size of the whole set.
        strength: of the edits in `by_units`.
    """
    from matplotlib.figure import Figure

    with house_style():
        figure = Figure(figsize=(12.6, 3.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for gate, curve in by_units.items():
            _line(left, list(curve), list(curve.values()), gate)
            removed = [found.removed() for found in curve.values()]
            cost = [found.change() for found in curve.values()]
            colour, marker = _LOOKS[gate]
            right.plot(removed, cost, marker=marker, color=colour)
        for gate, doses in by_strength.items():
            _line(middle, list(doses), list(doses.values()), gate)
        for gate, controls in random.items():
            shares = [found.removed() for found in controls]
            marker = _LOOKS[gate][1]
            label = f"{units} random units, {'everywhere' if gate == 'everywhere' else 'gated'}"
            look = {"marker": marker, "s": 14, "facecolors": "none", "edgecolors": GREY}
            left.scatter([units] * len(shares), shares, label=label, **look)
            middle.scatter([strength] * len(shares), shares, **look)
            right.scatter(shares, [found.change() for found in controls], **look)
        for panel in (left, middle):
            panel.axhline(0, color="black", linewidth=0.6)
            panel.set_ylabel(f"share of {concept} pixels removed")
        left.set_xscale("log", base=2)
        ticks = list(next(iter(by_units.values())))
        left.set(
            xticks=ticks,
            xticklabels=[str(tick) for tick in ticks],
            xlabel="units removed, strongest first",
            title="Dose: number of units",
        )
        middle.set(xlabel="strength (1: gone, 2: sign turned)", title="Dose: strength")
        right.set(
            xlabel=f"share of {concept} pixels removed",
            ylabel=f"mean change outside the {concept}s",
            title="What it costs elsewhere",
        )
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        return figure


def _line(axes: "Axes", doses: Sequence[float], effects: Sequence["Effect"], gate: str) -> None:
    colour, marker = _LOOKS[gate]
    ends = [found.interval(lambda e, rows: e.removed(rows)) for found in effects]
    axes.fill_between(
        doses, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.2
    )
    removed = [found.removed() for found in effects]
    axes.plot(doses, removed, marker=marker, color=colour, label=_NAMES[gate])
