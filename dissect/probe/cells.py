"""Cells of a layer's grid labelled by boxes, and logistic regression over them."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.probe.ranking import Bools, Floats, Ints, Ranking

__all__ = [
    "Cells",
    "ProbeSettings",
    "fit_logistic",
    "label_cells",
    "score_held_out",
    "sign_stability",
]

# The gradient at which the solver stops. Of the probe itself the weights are given as they are;
# of all other fits only ranks and signs are used, and those no longer move below the looser one
# (started afresh each time: a start at the probe's own weights would pull the signs towards it).
_EXACT, _LOOSE = 1e-7, 1e-4

# A unit that varies less than this fraction of its mean shows rounding errors alone.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is fitted and scored; `fit_probe` says what each setting means.

    Raises:
        DissectError: a setting out of its range.
    """

    seed: int = 0
    inside: float = 0.5
    negatives_per_positive: float = 2.0
    negatives_from: Literal["all", "boxed"] = "all"
    C: float = 0.003
    folds: int = 5
    resamples: int = 200
    shuffles: int = 5
    sign_fits: int = 50
    max_cells: int = 12_000

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", 0),
            ("folds", 2),
            ("resamples", 1),
            ("shuffles", 2),
            ("sign_fits", 1),
            ("max_cells", 2),
        ):
            if getattr(self, name) < least:
                raise DissectError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 0 < self.inside <= 1:
            raise DissectError(f"inside must be above 0 and at most 1, not {self.inside}")
        for name in ("negatives_per_positive", "C"):
            if not 0 < getattr(self, name) < float("inf"):
                raise DissectError(f"{name} must be above 0 and finite, not {getattr(self, name)}")
        if self.negatives_from not in ("all", "boxed"):
            raise DissectError(
                f"negatives_from must be 'all' or 'boxed', not {self.negatives_from!r}"
            )


@dataclass(frozen=True, repr=False)
class Cells(ShortRepr):
    """The cells of all images that are either the concept or not; the doubtful ones left out.

    Attributes:
        value: (n, C) activations.
        label: (n,) whether the cell is the concept.
        image: (n,) the image of the cell.
        position: (n,) its position in the grid, row by row.
        candidate: (n,) whether it may be drawn as a negative cell.
        coverage: (N, H * W) of all cells of all images.
        mean, mean_square: (N, C) of every image, over all its cells, after `centre` was taken off.
        centre: (C,) the mean over all images.
    """

    value: npt.NDArray[np.floating[Any]]
    label: Bools
    image: Ints
    position: Ints
    candidate: Bools
    coverage: Floats
    mean: Floats
    mean_square: Floats
    centre: Floats

    @property
    def shows(self) -> Bools:
        """Whether each image has a positive cell, (N,)."""
        return np.isin(np.arange(len(self.coverage)), self.image[self.label])

    def scale(self, images: Bools | None = None) -> Floats:
        """The standard deviation of each unit over the cells of the images, (C,); 0 if constant."""
        chosen = slice(None) if images is None else images
        mean = self.mean[chosen].mean(0)
        scale: Floats = np.sqrt(np.maximum(self.mean_square[chosen].mean(0) - mean**2, 0.0))
        scale[scale <= _ROUNDING * np.abs(self.centre + mean)] = 0.0
        return scale

    def folds(self, wanted: int, rng: np.random.Generator) -> Ints:
        """The fold of every image, (N,): images with and without the concept dealt in turn.

        Fewer folds than wanted where fewer images show the concept, so that every fold does.
        """
        count = min(wanted, int(self.shows.sum()))
        fold = np.empty(len(self.coverage), dtype=np.int64)
        for members in (np.flatnonzero(self.shows), np.flatnonzero(~self.shows)):
            fold[rng.permutation(members)] = np.arange(len(members)) % count
        return fold

    def drawn(self, label: Bools, settings: ProbeSettings, rng: np.random.Generator) -> Ints:
        """The cells to fit to: the positive ones and negative ones drawn at random, in order."""
        positive = np.flatnonzero(label)
        negative = np.flatnonzero(~label & self.candidate)
        n_positive = len(positive)
        n_negative = min(len(negative), round(n_positive * settings.negatives_per_positive))
        fraction = min(1.0, settings.max_cells / (n_positive + n_negative))
        if fraction < 1:
            positive = rng.choice(positive, max(1, round(n_positive * fraction)), replace=False)
        # Shuffled labels may leave no cell that can be negative.
        wanted = min(len(negative), max(1, round(n_negative * fraction)))
        drawn = rng.choice(negative, wanted, replace=False)
        return np.sort(np.concatenate([positive, drawn]))


def label_cells(
    activations: Tensor | npt.NDArray[Any],
    coverage: Tensor | npt.NDArray[Any],
    settings: ProbeSettings,
) -> Cells:
    """The labelled cells of activations (N, C, H, W) under a coverage (N, H, W).

    Raises:
        DissectError: shapes that do not match, numbers that are not finite, a coverage outside
            [0, 1], constant activations, no positive or no negative cell, fewer than two images
            with a positive cell.
    """
    values, covered = _array(activations), _array(coverage).astype(np.float64)
    if values.ndim != 4 or 0 in values.shape:
        raise DissectError(f"activations are (N, C, H, W), not {values.shape}")
    n_images, n_units, rows, columns = values.shape
    if covered.shape != (n_images, rows, columns):
        raise DissectError(
            f"activations of {values.shape} need a coverage of {(n_images, rows, columns)}, "
            f"not {covered.shape}"
        )
    if not np.isfinite(values).all():
        raise DissectError("some activations are not finite numbers (NaN or infinite)")
    if not (covered.min() >= 0 and covered.max() <= 1):
        raise DissectError("coverage is the fraction of each cell's area, from 0 to 1")
    positive, outside = covered >= settings.inside, covered == 0
    if not positive.any():
        raise DissectError(
            f"no cell is covered by {settings.inside:g} or more (the most is {covered.max():.2g}): "
            "lower 'inside', take a layer of a finer grid, or draw more boxes"
        )
    if np.count_nonzero(positive.any(axis=(1, 2))) < 2:
        raise DissectError("the concept is on 1 image only: a score needs at least 2, better 20")
    candidate = outside.copy()
    if settings.negatives_from == "boxed":
        candidate[~covered.reshape(n_images, -1).any(axis=1)] = False
    if not candidate.any():
        raise DissectError("no cell is outside every box: there is nothing to tell apart")
    centre = values.mean(axis=(0, 2, 3), dtype=np.float64)
    mean, mean_square = np.empty((2, n_images, n_units))
    for image, maps in enumerate(values):
        off_centre = maps.reshape(n_units, -1) - centre[:, None]
        mean[image] = off_centre.mean(1)
        mean_square[image] = np.square(off_centre).mean(1)
    decided = np.flatnonzero(positive | outside)
    cells = Cells(
        value=values.transpose(0, 2, 3, 1).reshape(-1, n_units)[decided],
        label=positive.reshape(-1)[decided],
        image=decided // (rows * columns),
        position=decided % (rows * columns),
        candidate=candidate.reshape(-1)[decided],
        coverage=covered.reshape(n_images, -1),
        mean=mean,
        mean_square=mean_square,
        centre=centre,
    )
    if not cells.scale().any():
        raise DissectError("every unit is constant over all cells: there is nothing to fit")
    return cells


def fit_logistic(
    cells: Cells,
    label: Bools,
    rows: Ints,
    scale: Floats,
    C: float,  # noqa: N803 - the field's name for it
    *,
    exact: bool = False,
) -> tuple[Floats, float]:
    """Weights (C,) and bias of an L2 logistic regression on some cells, in raw units.

    Units are brought to standard deviation 1 first, so that the penalty treats them alike.

    Args:
        cells: all of them.
        label: (n,) of all cells.
        rows: the cells to fit to.
        scale: (C,) the standard deviations.
        C: the inverse strength of the penalty.
        exact: whether the weights matter to the last digits, and not only the ranks that they
            give to cells.

    Returns:
        Weights and a bias of 0 where all the cells are of one label, which teach nothing.
    """
    values, mean = _standardised(cells, rows, scale)
    if exact:
        weight, bias = _solve(values, label[rows], C, _EXACT)
    else:
        weight, bias = _solve(values.astype(np.float32), label[rows], C, _LOOSE)
    weight = weight / np.where(scale > 0, scale, 1.0)
    return weight, bias - float(weight @ mean)


def sign_stability(
    cells: Cells,
    rows: Ints,
    scale: Floats,
    weight: Floats,
    C: float,  # noqa: N803 - the field's name for it
    counts: Ints,
) -> Floats:
    """The fraction of resamples of images whose regression gives each unit the sign of its weight.

    Args:
        cells: all of them.
        rows: the cells that the regression was fitted to.
        scale: (C,) the standard deviations.
        weight: (C,) the weights; a weight of 0 has no sign, and a fraction of 0.
        C: the inverse strength of the penalty.
        counts: (resamples, N) how often each resample holds each image.
    """
    values = _standardised(cells, rows, scale)[0].astype(np.float32)
    label, image = cells.label[rows], cells.image[rows]
    same, fits = np.zeros(len(weight)), 0
    for count in counts:
        drawn = count[image] > 0
        if _has_both(label[drawn]):
            resampled, _ = _solve(values[drawn], label[drawn], C, _LOOSE, count[image][drawn])
            same += np.sign(resampled) * np.sign(weight) > 0
            fits += 1
    return same / max(fits, 1)


def score_held_out(
    cells: Cells, label: Bools, rows: Ints, fold: Ints, settings: ProbeSettings
) -> Ranking:
    """A score of every cell by a regression fitted to the images of the other folds."""
    score = np.zeros(len(label))
    for number in np.unique(fold):
        train = fold != number
        # Of training cells of one label every weight is 0, and so every score: an AUC of one half.
        weight, _ = fit_logistic(
            cells, label, rows[train[cells.image[rows]]], cells.scale(train), settings.C
        )
        held = np.flatnonzero(fold[cells.image] == number)
        score[held] = cells.value[held].astype(np.float64) @ weight
    return Ranking(score, label, cells.image, fold)


def _standardised(cells: Cells, rows: Ints, scale: Floats) -> tuple[Floats, Floats]:
    """The values of some cells, centred and scaled, and the mean that was taken off.

    The bias of the regression is not penalised, so that taking off the mean changes no weight,
    and the solver needs fewer steps.
    """
    values = cells.value[rows].astype(np.float64)
    mean: Floats = values.mean(0)
    values -= mean
    values /= np.where(scale > 0, scale, np.inf)
    return values, mean


def _solve(
    values: npt.NDArray[np.floating[Any]],
    label: Bools,
    C: float,  # noqa: N803 - the field's name for it
    tolerance: float,
    counts: Ints | None = None,
) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    if not _has_both(label):
        return np.zeros(values.shape[1]), 0.0
    model = LogisticRegression(C=C, tol=tolerance, max_iter=5000)
    model.fit(values, label, sample_weight=counts)
    return model.coef_[0].astype(np.float64), float(model.intercept_[0])


def _has_both(label: Bools) -> bool:
    return bool(label.any() and not label.all())


def _array(values: Tensor | npt.NDArray[Any]) -> npt.NDArray[np.floating[Any]]:
    if isinstance(values, Tensor):
        # NumPy knows no bfloat16.
        values = values if values.dtype == torch.float64 else values.float()
        values = values.numpy(force=True)
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
