"""The picture that a notebook shows below a result: one small plot, where there is one."""

from collections.abc import Mapping
from functools import singledispatch
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from dissect.dissection.result import Dissection
from dissect.effect.measure import Effect
from dissect.effect.study import EffectStudy
from dissect.effect.summary import Summary
from dissect.figures.placement import replacement_figure
from dissect.figures.probe import draw_weights
from dissect.figures.style import BLUE, INK, mpl_style, rasterized
from dissect.probe.probe import Probe
from dissect.surgery.intervention import Intervention
from dissect.units import Units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_of", "png_of"]

_DOTS_PER_INCH = 80
_WIDTH = 6.4
_CONCEPTS_SHOWN = 12


def png_of(result: Any) -> bytes | None:
    """What `figure_of` gives, as the bytes of a PNG."""
    figure = figure_of(result)
    if figure is None:
        return None
    stream = BytesIO()
    rasterized(figure, dots_per_inch=_DOTS_PER_INCH).save(stream, "PNG")
    return stream.getvalue()


@singledispatch
def figure_of(result: Any) -> "Figure | None":
    """The plot that says most about one result; None where none does.

    >>> from dissect.units import Units
    >>> figure_of(Units("layer8x8", (3, 1), 4, scores=(0.9, 0.2))).axes[0].get_xlabel()
    'units of layer8x8, by rank'
    """
    return None


@figure_of.register(Units)
def _(result: Units) -> "Figure | None":
    if not result.scores:
        return None
    with mpl_style():
        figure, axes = _plot()
        axes.bar(range(1, len(result) + 1), result.scores, 1.0, color=BLUE)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.set(xlabel=f"{result.noun} of {result.layer}, by rank", ylabel="score")
        axes.set_title(f"{result.concept or result.noun}: {result.text}")
        axes.margins(x=0.01)
        return figure


@figure_of.register(Probe)
def _(result: Probe) -> "Figure | None":
    with mpl_style():
        figure, axes = _plot(3.8)  # its labels are long
        draw_weights(axes, result)
        return figure


@figure_of.register(Intervention)
def _(result: Intervention) -> "Figure | None":
    return figure_of(result.units)


@figure_of.register(Effect)
def _(result: Effect) -> "Figure | None":
    return _replacements(result.concept, {"after the edit": result})


@figure_of.register(EffectStudy)
def _(result: EffectStudy) -> "Figure | None":
    return _replacements(next(iter(result.edits.values())).concept, result.edits)


@figure_of.register(Summary)
def _(result: Summary) -> "Figure | None":
    shares = {name: one.value for name, one in result.replaced_by.items()}
    return replacement_figure(result.concept, {"after the edit": shares})


@figure_of.register(Dissection)
def _(result: Dissection) -> "Figure | None":
    counts, chance = result.detectors(), result.detectors(shuffled=True)
    names = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    names = names[:_CONCEPTS_SHOWN]
    if not names:
        return None
    with mpl_style():
        figure, axes = _plot(0.28 * len(names) + 1.1)
        axes.barh(names, [counts[name] for name in names], color=BLUE, label="detectors")
        axes.plot([chance[name] for name in names], names, "|", color=INK, label="by chance")
        axes.invert_yaxis()
        axes.set(xlabel="units", title="Detectors of each concept")
        axes.legend(loc="lower right")
        return figure


def _replacements(concept: str, effects: Mapping[str, Effect]) -> "Figure | None":
    """What the concept's pixels became after each edit; None where no image shows the concept."""
    shares = {name: effect.figures().replacement[0] for name, effect in effects.items()}
    if any(np.isnan(share).any() for share in shares.values()):
        return None
    classes = next(iter(effects.values())).classes
    became = {
        name: dict(zip(classes, share.tolist(), strict=True)) for name, share in shares.items()
    }
    return replacement_figure(concept, became)


def _plot(height: float = 2.6) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots()
