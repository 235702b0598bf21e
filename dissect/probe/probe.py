"""The paper's probe: logistic regression from a layer's units to a concept, scored honestly."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.parallel import single_threaded_blas
from dissect._utils.result import Result
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file
from dissect._utils.stats import cluster_interval, stratified_counts
from dissect.probe.cells import (
    Cells,
    ProbeSettings,
    fit_logistic,
    label_cells,
    score_held_out,
    sign_stability,
)
from dissect.probe.ranking import Floats, Interval, Ints, Ranking
from dissect.surgery.gates import LinearGate
from dissect.units import Units, parse_rule, rank_units

__all__ = [
    "Probe",
    "ProbeFile",
    "ProbeScore",
    "ProbeSettings",
    "fit_probe",
    "note_of_few_images",
]

# With fewer images of the concept a warning is given.
_FEW_IMAGES = 10
# By how much the variance of a cross-validated score is above that over its images: each image
# scores in one fold and trains the others. Where a probe knows little, the two weigh alike, since
# of the products x_i . x_j that a score on noise consists of each counts twice (see also Bengio and
# Grandvalet 2004).
_CROSS_VALIDATED = 2.0


@dataclass(frozen=True, repr=False)
class ProbeScore(Result):
    """How well the probe finds the concept on images that it was not fitted to.

    Cross-validated by image: no image has cells on both sides. Scored over every cell of the
    held-out images that lies in a box (coverage of at least `inside`) or outside all boxes. The
    intervals are 95%, from resampling images, not cells, because the cells of an image are alike;
    they are Student's, for few images (`cluster_interval`). On noise they hold 0.5 in 95% of fits
    or more, from 5 images with the concept on (`benchmarks/coverage.py`).

    Attributes:
        auc, auc_ci: area under the ROC curve.
        average_precision, average_precision_ci: the same for the precision-recall curve.
        prevalence: fraction of the scored cells that are positive, which is also the average
            precision of a probe that knows nothing.
        shuffled_auc, shuffled_auc_ci: the baseline. The same after the labels of all cells were
            shuffled: mean over the shuffles, and 1.96 standard deviations either way.
        position_auc: the other baseline. A map of where boxes lie on the training images, which
            sees no activation at all.
        n_images: images; n_images_with: those of them with a positive cell.
        n_positive, n_negative: cells that the probe was fitted to.
        n_scored: cells that the score is over.
        folds: in how many parts the images were split.
    """

    auc: float
    auc_ci: Interval
    average_precision: float
    average_precision_ci: Interval
    prevalence: float
    shuffled_auc: float
    shuffled_auc_ci: Interval
    position_auc: float
    n_images: int
    n_images_with: int
    n_positive: int
    n_negative: int
    n_scored: int
    folds: int


class ProbeFile(FileModel):
    """`probe.json`, and the probe inside other files; `Probe` says what the fields are."""

    KIND: ClassVar[str] = "probe"

    layer: NonEmpty
    concept: str = ""
    model: NonEmpty | None = None
    settings: ProbeSettings
    score: ProbeScore
    bias: float
    weight: Annotated[tuple[float, ...], Field(min_length=1)]
    scale: tuple[float, ...]
    sign_stability: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Probe(Result):
    """A linear classifier of cells: how much each unit of a layer is evidence for a concept.

    Attributes:
        layer: the layer that it reads.
        concept: what it finds; empty where nobody said.
        weight: (C,) float64, in units of the activations.
        bias: a number.
        scale: (C,) float64, the standard deviation of each unit over all cells of the images.
        sign_stability: (C,) float64 in [0, 1], the fraction of probes fitted to resampled images in
            which the weight has the same sign; 0 for a unit whose weight is 0.
        score: on held-out images.
        model: the fingerprint of the generator, where that is known.
        settings: how it was fitted.
    """

    layer: str
    concept: str
    weight: Tensor
    bias: float
    scale: Tensor
    sign_stability: Tensor
    score: ProbeScore
    model: str | None = None
    settings: ProbeSettings = field(default_factory=ProbeSettings)

    def units(self, rule: str = "positive") -> Units:
        """The units that draw the concept, by a rule, the strongest first.

        The strength of a unit is its weight times its standard deviation, so that a unit with
        large numbers gains nothing by them.

        Args:
            rule: `positive`, every unit whose weight is above 0 (the paper, section 6.3.1), or
                `top:K`, the K strongest.

        Raises:
            DissectError: a rule that is unknown or none of the probe's, or K above the number of
                units.
        """
        parsed = parse_rule(rule)
        if parsed.name not in ("positive", "top"):
            raise DissectError(f"the probe has no rule {rule!r}: use 'positive' or 'top:K'")
        return rank_units(
            (self.weight * self.scale).tolist(),
            layer=self.layer,
            rule=parsed,
            keep=(self.weight > 0).tolist() if parsed.name == "positive" else None,
            concept=self.concept or None,
            model=self.model,
        )

    def gate(self) -> LinearGate:
        """Where the probe calls a cell the concept: the gate of an edit, without its score."""
        return LinearGate(self.layer, self.weight, self.bias)

    def probability(self, activations: Tensor) -> Tensor:
        """The probability of the concept at every cell, (N, H, W) in [0, 1].

        Args:
            activations: (N, C, H, W) of the probe's layer, on any device, of any float type.

        Raises:
            DissectError: another number of units.
        """
        return self.gate().probability(activations)

    def summary(self) -> dict[str, Any]:
        """The layer, the concept, the number of units and the held-out AUC."""
        named = {"layer": self.layer, "concept": self.concept}
        return {**named, "units": len(self.weight), "auc": self.score.auc}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each unit: its weight, its standard deviation, and how stable its sign is."""
        columns = (self.weight.tolist(), self.scale.tolist(), self.sign_stability.tolist())
        return [
            {"unit": unit, "weight": weight, "scale": scale, "sign_stability": stability}
            for unit, (weight, scale, stability) in enumerate(zip(*columns, strict=True))
        ]

    @classmethod
    def from_dict(cls, fields: Any, where: str = "probe") -> "Probe":
        """The probe of such fields.

        Args:
            fields: what `to_dict` gives.
            where: what they are called in an error.

        Raises:
            DissectError: a field that is missing, unknown, or of a wrong type, value or size.
        """
        return cls.from_file(parse(ProbeFile, fields, where), where)

    @classmethod
    def from_file(cls, file: ProbeFile, where: str = "probe") -> "Probe":
        """The probe of fields that were read, which are called `where` in an error."""
        vectors = {}
        for name in ("weight", "scale", "sign_stability"):
            values = getattr(file, name)
            if len(values) != len(file.weight):
                raise DissectError(
                    f"{where}: {name!r} must hold {len(file.weight)} numbers, as 'weight' does, "
                    f"not {len(values)}"
                )
            vectors[name] = torch.tensor(values, dtype=torch.float64)
        return cls(**{**dict(file), **vectors})

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the probe as JSON, its numbers to the last digit."""
        return write_file(path, parse(ProbeFile, self.to_dict(), "probe"))

    @classmethod
    def load(cls, path: str | Path) -> "Probe":
        """The probe that `save` wrote.

        Raises:
            DissectError: no such file, not a file of a probe, or a field of a wrong type or size.
        """
        return cls.from_file(read_file(path, ProbeFile), str(path))


def fit_probe(
    activations: Tensor | npt.NDArray[Any],
    coverage: Tensor | npt.NDArray[Any],
    *,
    layer: str,
    concept: str = "",
    model: str | None = None,
    seed: int = 0,
    inside: float = 0.5,
    negatives_per_positive: float = 2.0,
    negatives_from: Literal["all", "boxed"] = "all",
    C: float = 0.003,  # noqa: N803 - the field's name for it
    folds: int = 5,
    resamples: int = 200,
    shuffles: int = 5,
    sign_fits: int = 50,
    max_cells: int = 12_000,
) -> Probe:
    """A probe of the concept that the boxes are around, with its score on held-out images.

    Cells inside boxes are positive, cells drawn at random outside every box of the same images
    negative, and logistic regression separates them (Radford et al. 2015, section 6.3.1).
    Everything else is a function of the activations, the coverage and the arguments alone: the
    same on every run, whatever the number of threads.

    Args:
        activations: (N, C, H, W), of one layer on N images.
        coverage: (N, H, W) in [0, 1], from `Annotations.coverage`.
        layer: its name.
        concept: what the boxes are around.
        model: the generator's fingerprint, to be handed on to the units.
        seed: of everything that is drawn at random.
        inside: the coverage from which a cell is positive, in (0, 1]. Cells that are covered
            less, yet touched, are neither positive nor negative.
        negatives_per_positive: how many negative cells are drawn for every positive one, as far
            as there are that many. The paper does not say.
        negatives_from: the images that negative cells come from: `all` the annotated ones, or
            only those with a box (`boxed`). The paper's "same images" can be read either way.
        C: the inverse strength of the L2 penalty, on units of standard deviation 1. A strong one:
            units that carry the same information share the weight, where a weak one gives some of
            them a negative weight, and the paper's rule leaves those out.
        folds: of the cross-validation; fewer where fewer images show the concept.
        resamples: of images, for the intervals of the score.
        shuffles: of labels, for the baseline.
        sign_fits: of probes to resampled images, for the stability of signs.
        max_cells: the most cells that a probe is fitted to; beyond it, positive and negative
            ones are thinned at random alike. Neighbours on a fine grid say nearly the same.

    Raises:
        DissectError: shapes that do not match, activations that are not finite or all constant,
            no positive or no negative cell, fewer than two images with the concept.

    A warning is given where fewer than 10 images show the concept.
    """
    settings = ProbeSettings(
        seed=seed,
        inside=inside,
        negatives_per_positive=negatives_per_positive,
        negatives_from=negatives_from,
        C=C,
        folds=folds,
        resamples=resamples,
        shuffles=shuffles,
        sign_fits=sign_fits,
        max_cells=max_cells,
    )
    cells = label_cells(activations, coverage, settings)
    n_images_with = int(cells.shows.sum())
    if resamples > 1 and (note := note_of_few_images(n_images_with)):
        warnings.warn(note, stacklevel=2)
    # Each part draws from its own stream, so that more shuffles leave the folds as they were.
    of_rows, of_folds, of_scores, of_shuffles, of_signs = (
        np.random.default_rng([seed, part]) for part in range(5)
    )
    with single_threaded_blas():
        rows = cells.drawn(cells.label, settings, of_rows)
        scale = cells.scale()
        weight, bias = fit_logistic(cells, cells.label, rows, scale, C, exact=True)
        fold = cells.folds(folds, of_folds)
        held = score_held_out(cells, cells.label, rows, fold, settings)
        counts = stratified_counts(cells.shows, resamples, of_scores)
        shuffled = _shuffled_aucs(cells, fold, settings, of_shuffles)
        sign_counts = stratified_counts(cells.shows, sign_fits, of_signs)
        stability = sign_stability(cells, rows, scale, weight, C, sign_counts)
        auc, precision = held.auc(), held.average_precision()
        auc_ci, precision_ci = (
            cluster_interval(resampled, float(on_all[0]), n_images_with, inflation=_CROSS_VALIDATED)
            for resampled, on_all in (
                (held.auc(counts), auc),
                (held.average_precision(counts), precision),
            )
        )
    chance, spread = float(shuffled.mean()), 1.96 * float(shuffled.std(ddof=1))
    score = ProbeScore(
        auc=float(auc[0]),
        auc_ci=auc_ci,
        average_precision=float(precision[0]),
        average_precision_ci=precision_ci,
        prevalence=float(cells.label.mean()),
        shuffled_auc=chance,
        shuffled_auc_ci=(chance - spread, chance + spread),
        position_auc=_position_auc(cells, fold),
        n_images=len(fold),
        n_images_with=n_images_with,
        n_positive=int(cells.label[rows].sum()),
        n_negative=int((~cells.label[rows]).sum()),
        n_scored=len(cells.label),
        folds=int(fold.max()) + 1,
    )
    return Probe(
        layer=layer,
        concept=concept,
        weight=torch.from_numpy(weight),
        bias=bias,
        scale=torch.from_numpy(scale),
        sign_stability=torch.from_numpy(stability),
        score=score,
        model=model,
        settings=settings,
    )


def note_of_few_images(n_images_with: int) -> str:
    """One sentence where a score is over few images of the concept; empty where it is not."""
    if n_images_with >= _FEW_IMAGES:
        return ""
    return (
        f"the concept is on {n_images_with} images: the score of such a probe says little, and "
        f"chance may give it; label the concept on at least {_FEW_IMAGES}, better 20"
    )


def _shuffled_aucs(
    cells: Cells, fold: Ints, settings: ProbeSettings, rng: np.random.Generator
) -> Floats:
    """The area under the curve for each of several shuffles of all labels."""
    areas = np.empty(settings.shuffles)
    for shuffle in range(settings.shuffles):
        label = rng.permutation(cells.label)
        rows = cells.drawn(label, settings, rng)
        areas[shuffle] = score_held_out(cells, label, rows, fold, settings).auc()[0]
    # No pair to compare, possible on a handful of cells, is as good as a coin.
    return np.nan_to_num(areas, nan=0.5)


def _position_auc(cells: Cells, fold: Ints) -> float:
    """The area under the curve of the mean coverage of the training images at each position."""
    score = np.empty(len(cells.label))
    for number in np.unique(fold):
        held = fold[cells.image] == number
        score[held] = cells.coverage[fold != number].mean(0)[cells.position[held]]
    return float(Ranking(score, cells.label, cells.image, fold).auc()[0])
