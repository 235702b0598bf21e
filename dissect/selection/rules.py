"""Units by any rule, from what the rule needs: a probe, or a segmenter and samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress, with_note
from dissect.models import fingerprint
from dissect.probe import Probe
from dissect.probe.fit import labelled_cells
from dissect.segmentation import ConceptLabels, Segmenter
from dissect.selection import scores
from dissect.selection.closed_form import (
    inlp_directions,
    leace_directions,
    nmf_directions,
    pca_directions,
    probe_direction,
)
from dissect.selection.directions import DirectionObjective, optimize_directions
from dissect.selection.samples import Samples, draw_samples
from dissect.selection.strengths import StrengthObjective
from dissect.units import Directions, Rule, Units, parse_rule, rank_units

__all__ = ["DIRECTED", "SCORED", "Scorer", "scoring_steps"]

# Rules that score every unit with the segmenter's help, and rules that find directions.
SCORED = ("iou", "ace", "causal", "gradient")
DIRECTED = ("lowrank", "probe", "leace", "inlp", "pca", "nmf")
# Classes whose outlines an edit is to keep, where the segmenter knows them.
_KEEP = ("bed",)

_CLOSED_FORM: Mapping[str, Callable[[Samples, int], Directions]] = {
    "leace": leace_directions,
    "inlp": inlp_directions,
    "pca": pca_directions,
    "nmf": nmf_directions,
}


@dataclass(repr=False)
class Scorer(ShortRepr):
    """The scores of every unit by one rule after another; what they share is made once.

    Attributes:
        model: the generator, in eval mode.
        layer: whose units.
        concept: what the units should draw.
        probe: of that layer, for `positive` and `top`.
        segmenter: gives the segmenter, for the other rules; called when first needed.
        n: samples to choose on; `causal` removes every unit on a tenth as many.
        progress: called with steps done, and with what is being done.
        labels: where the concept is on samples of the model, for `iou` without the segmenter.
    """

    model: nn.Module
    layer: str
    concept: str
    probe: Probe
    segmenter: Callable[[], Segmenter]
    n: int = 1_000
    progress: ProgressCallback = no_progress
    labels: ConceptLabels | None = None
    _scores: dict[str, Tensor] = field(default_factory=dict)
    _samples: Samples | None = None

    def units(self, text: str) -> Units:
        """The units that the rule `text` chooses, best first.

        Raises:
            DissectError: an unknown rule, `auto` (which chooses more than units: see
                `search_edit`), K above the number of units, or a segmenter that does not know the
                concept or gives no probabilities where the rule needs them.
        """
        rule = parse_rule(text)
        if rule.name == "auto":
            raise DissectError(
                "auto chooses units, strength and gate together, where units alone are asked for: "
                "name another rule, such as causal:24"
            )
        if rule.name in DIRECTED:
            return self._directed(rule)
        total = len(self.probe.weight)
        if rule.count is not None and rule.count > total:
            raise DissectError(
                f"cannot take {rule.count} units of {self.layer!r}, which has {total}"
            )
        if rule.name not in SCORED:
            return self.probe.units(text)
        return self._ranked(rule)

    def ranking(self, name: str) -> Units:
        """All units in the order in which the rule of that name takes them.

        Of `positive`, those whose weight is above 0 alone, in the probe's order.
        """
        if name == "positive":
            return self.units("positive")
        return self.units(f"{name}:{len(self.probe.weight)}")

    def _ranked(self, rule: Rule) -> Units:
        return rank_units(
            self._scored(rule.name).tolist(),
            layer=self.layer,
            rule=rule,
            concept=self.concept,
            model=fingerprint(self.model),
        )

    def _directed(self, rule: Rule) -> Units:
        along = probe_direction(self.probe) if rule.name == "probe" else self._found(rule)
        return Units(
            layer=self.layer,
            indices=tuple(range(len(along))),
            total=len(along),
            concept=self.concept,
            rule=str(rule),
            model=fingerprint(self.model),
            directions=along,
        )

    def _found(self, rule: Rule) -> Directions:
        """The directions of a rule that looks at samples."""
        segmenter, k = self.segmenter(), rule.count or 1
        samples = self._drawn(segmenter)
        if rule.name != "lowrank":
            return _CLOSED_FORM[rule.name](samples, k)
        objective = DirectionObjective(keep=kept_classes(segmenter, self.concept))
        report = with_note(self.progress, "learning directions")
        return optimize_directions(samples, objective, k, progress=report)

    def _scored(self, name: str) -> Tensor:
        if name == "iou" and self.labels is not None:
            acts, _ = labelled_cells(self.model, self.labels, self.layer)
            return scores.iou_with_masks(acts, self.labels.pixel_masks())
        if name not in self._scores:
            segmenter = self.segmenter()
            where = (self.model, self.layer, segmenter, self.concept)
            report = partial(with_note, self.progress)
            if name == "iou":
                found = scores.iou_scores(*where, n=self.n, progress=report("IoU"))
            elif name == "ace":
                start = self._scored("iou")
                found = scores.ace_scores(self._drawn(segmenter), start, progress=report("ACE"))
            elif name == "causal":
                n = max(1, self.n // 10)
                found = scores.causal_scores(*where, n=n, progress=report("effects"))
            else:
                found = scores.gradient_scores(self._drawn(segmenter))
            self._scores[name] = found
        return self._scores[name]

    def _drawn(self, segmenter: Segmenter) -> Samples:
        if self._samples is None:
            self._samples = draw_samples(self.model, self.layer, segmenter, self.concept, self.n)
        return self._samples


def kept_classes(segmenter: Segmenter, concept: str) -> tuple[str, ...]:
    """The classes whose outlines an edit of the concept is to keep."""
    return tuple(name for name in _KEEP if name in segmenter.classes and name != concept)


def scoring_steps(names: tuple[str, ...], n: int, total: int) -> int:
    """How many steps a `Scorer` takes for rules of these names, for a progress bar."""
    steps = 0
    if "iou" in names or "ace" in names:
        steps += 2 * n
    if "ace" in names:
        steps += StrengthObjective().steps
    if "causal" in names:
        steps += total
    if "lowrank" in names:
        steps += DirectionObjective().steps
    return steps
