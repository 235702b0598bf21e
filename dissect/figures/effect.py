"""The effect of an edit as a picture: samples, dose and response, and what it cost and kept."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect.figures.sheet import labelled_rows
from dissect.figures.style import BLUE, GREY, INK, ORANGE, mpl_style, rasterized

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dissect.effect.measure import Effect
    from dissect.effect.report import EffectReport
    from dissect.effect.study import EffectStudy
    from dissect.effect.summary import Summary
    from dissect.surgery.intervention import Intervention

__all__ = ["effect_figure", "effect_sheet"]

_LOOKS = {"everywhere": (ORANGE, "s"), "probe": (BLUE, "o"), "filled": (INK, "D")}
_NAMES = {
    "everywhere": "removed everywhere",
    "probe": "only where the probe sees it",
    "filled": "its cells filled as elsewhere",
}
_DOTS_PER_INCH = 160
# Classes below this share of what the concept became are left to the table.
_SHARE_SHOWN = 0.005


def effect_sheet(
    rows: Mapping[str, NDArray[np.uint8]], figure: "Figure", *, caption: str = ""
) -> Image.Image:
    """Samples in rows, pixel by pixel, and below them the plots, in one picture.

    Args:
        rows: by name, images (N, H, W, 3) uint8: before, after each edit, and the control.
        figure: what `effect_figure` gives.
        caption: a line above the samples.
    """
    samples = labelled_rows(rows, columns=12, caption=caption)
    plots = rasterized(figure, dots_per_inch=_DOTS_PER_INCH)
    page = Image.new(
        "RGB", (max(samples.width, plots.width), samples.height + plots.height), (255, 255, 255)
    )
    page.paste(samples, (0, 0))
    page.paste(plots, ((page.width - plots.width) // 2, samples.height))
    return page


def effect_figure(report: "EffectReport", made: Mapping[str, "Intervention"]) -> "Figure":
    """Above what is removed by which dose and at what cost, below what was kept and replaced.

    Args:
        report: what was measured of the edits `everywhere`, `probe` or both.
        made: those edits.
    """
    from matplotlib.figure import Figure

    study, edits, random = report.study, report.edits, report.random
    concept = next(iter(edits.values())).concept
    with mpl_style():
        figure = Figure(figsize=(16.2, 9.2), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.0, 1.12))
        above, below = halves
        number, dose, cost = above.subplots(1, 3)
        _doses(number, study.by_units, study.random, {k: len(e.units) for k, e in made.items()})
        _doses(dose, study.by_strength, study.random, {k: e.strength for k, e in made.items()})
        _costs(cost, study)
        number.set_xscale("log", base=2)
        ticks = max((list(curve) for curve in study.by_units.values()), key=len)
        number.set(
            xticks=ticks,
            xticklabels=[str(tick) for tick in ticks],
            xlabel="units removed, strongest first",
            ylabel=f"share of {concept} pixels removed",
            title="Dose: number of units",
        )
        dose.set(
            xlabel="factor of each unit's own strength"
            if any(edit.unit_strengths is not None for edit in made.values())
            else "strength (1: gone, 2: sign turned)",
            ylabel=f"share of {concept} pixels removed",
            title=f"Dose: strength of all {_numbers(made)}",
        )
        cost.set(
            xlabel=f"share of {concept} pixels removed",
            ylabel=f"mean change outside any {concept}",
            title="What it costs elsewhere, as the number of units grows",
        )
        kept, replaced = below.subplots(1, 2, width_ratios=(1.25, 1.0))
        _kept(kept, edits, random)
        _replacements(replaced, edits, concept)
        handles, labels = cost.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5)
        return figure


def _numbers(made: Mapping[str, "Intervention"]) -> str:
    return " or ".join(str(count) for count in dict.fromkeys(len(e.units) for e in made.values()))


def _doses(
    axes: "Axes",
    curves: Mapping[str, Mapping[int, "Effect"]] | Mapping[str, Mapping[float, "Effect"]],
    random: Mapping[str, Sequence["Effect"]],
    own: Mapping[str, float],
) -> None:
    """The share removed by dose, and what the controls removed at each edit's own."""
    for gate, curve in curves.items():
        colour, marker = _LOOKS[gate]
        at = list(curve)
        removed = [found.removal() for found in curve.values()]
        ends = [found.estimate("removal").interval for found in curve.values()]
        axes.fill_between(
            at, [low for low, _ in ends], [high for _, high in ends], color=colour, alpha=0.2
        )
        axes.plot(at, removed, marker=marker, color=colour)
    for gate, controls in random.items():
        shares = [found.removal() for found in controls]
        axes.plot([own[gate]] * len(shares), shares, **_control_look(gate))
    axes.axhline(0, color="black", linewidth=0.6)


def _costs(axes: "Axes", study: "EffectStudy") -> None:
    """What is changed elsewhere against what is removed; the one panel that has everything."""
    for gate, curve in study.by_units.items():
        colour, marker = _LOOKS[gate]
        removed, cost = zip(*((e.removal(), e.change()) for e in curve.values()), strict=True)
        axes.plot(removed, cost, marker=marker, color=colour, label=f"the units, {_NAMES[gate]}")
    for name, found in study.edits.items():
        if name not in study.by_units:
            colour, marker = _LOOKS[name]
            at = ([found.removal()], [found.change()])
            axes.plot(*at, marker, color=colour, label=_NAMES[name])
    for gate, controls in study.random.items():
        removed, cost = zip(*((e.removal(), e.change()) for e in controls), strict=True)
        axes.plot(removed, cost, label=f"random units, {_NAMES[gate]}", **_control_look(gate))
    axes.set_ylim(bottom=0)


def _kept(axes: "Axes", edits: Mapping[str, "Summary"], random: Mapping[str, "Summary"]) -> None:
    """IoU of every other class before and after, with intervals."""
    first = next(iter(edits.values()))
    names = sorted(first.kept, key=lambda name: first.kept[name].value)
    lanes = len(edits) + len(random)
    looks: list[tuple[str, Summary, dict[str, Any]]] = [
        *((gate, one, {"color": _LOOKS[gate][0]}) for gate, one in edits.items()),
        *((gate, one, {"color": GREY, "markerfacecolor": "white"}) for gate, one in random.items()),
    ]
    for lane, (gate, summary, look) in enumerate(looks):
        found = [summary.kept[name] for name in names]
        axes.errorbar(
            [one.value for one in found],
            np.arange(len(names)) + 0.3 - 0.6 * lane / max(lanes - 1, 1),
            xerr=(
                [max(one.value - one.low, 0.0) for one in found],
                [max(one.high - one.value, 0.0) for one in found],
            ),
            fmt=_LOOKS[gate][1],
            markersize=4,
            linewidth=1,
            **look,
        )
    axes.set(
        yticks=range(len(names)),
        yticklabels=names,
        xlim=(0, 1.01),
        xlabel="IoU before and after (95% intervals; of random units over sets, too)",
        title="What was kept",
    )
    axes.margins(y=0.01)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color=GREY, alpha=0.12, linewidth=0)


def _replacements(axes: "Axes", edits: Mapping[str, "Summary"], concept: str) -> None:
    """What the concept's pixels are now."""
    shares = {
        name: max(one.replaced_by[name].value for one in edits.values())
        for name in next(iter(edits.values())).replaced_by
    }
    names = sorted(
        (name for name, share in shares.items() if share >= _SHARE_SHOWN),
        key=lambda name: shares[name],
    )
    height = 0.8 / len(edits)
    for lane, (gate, summary) in enumerate(edits.items()):
        found = [summary.replaced_by[name] for name in names]
        axes.barh(
            np.arange(len(names)) + 0.4 - height * (lane + 0.5),
            [one.value for one in found],
            height,
            color=_LOOKS[gate][0],
        )
    axes.set(
        yticks=range(len(names)),
        yticklabels=[f"{name} (left)" if name == concept else name for name in names],
        xlabel=f"share of what was {concept}",
        title=f"What the {concept} pixels are now",
    )


def _control_look(gate: str) -> dict[str, Any]:
    return {
        "linestyle": "none",
        "marker": _LOOKS[gate][1],
        "markersize": 4,
        "markerfacecolor": "none",
        "markeredgecolor": GREY,
    }
