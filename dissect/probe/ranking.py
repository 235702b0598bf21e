"""How well scores rank what is there above what is not, with images as the unit of chance."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Floats", "Interval", "Ints", "Ranking", "bootstrap_counts", "interval"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Interval = tuple[float, float]

_INTERVAL = (2.5, 97.5)  # percent: a 95% interval


def bootstrap_counts(stratum: Bools, resamples: int, rng: np.random.Generator) -> Ints:
    """How often each image is drawn in each resample, (resamples, N).

    Images inside and outside the stratum are drawn apart, with replacement, as many as there
    are, so that no resample is without the concept.
    """
    counts = np.zeros((resamples, len(stratum)), dtype=np.int64)
    for members in (np.flatnonzero(stratum), np.flatnonzero(~stratum)):
        if len(members):
            drawn = rng.integers(len(members), size=(resamples, len(members)))
            for resample, places in enumerate(drawn):
                counts[resample] += np.bincount(members[places], minlength=len(stratum))
    return counts


@dataclass(frozen=True)
class Ranking:
    """Scores of cells that a cross-validation gave to held-out images.

    Only cells of the same fold are compared, because each fold has its own classifier and the
    scores of two classifiers share no zero.

    Attributes:
        score: (n,) larger means rather the concept.
        label: (n,) whether it is the concept.
        image: (n,) the image of the cell, 0 to n_images - 1.
        fold: (n_images,) the fold in which the image was held out.
    """

    score: Floats
    label: Bools
    image: Ints
    fold: Ints

    def auc(self, counts: Ints | None = None) -> Floats:
        """The area under the ROC curve, one value a row of `counts` (R, n_images): (R,).

        Over all pairs of a positive and a negative cell of one fold, the share in which the
        positive one scores higher (ties count half). NaN where a row leaves no pair.
        """
        concordant, pairs = self._pairs()
        weights = self._weights(counts)
        won: Floats = ((weights @ concordant) * weights).sum(1)
        held: Floats = ((weights @ pairs) * weights).sum(1)
        return _quotient(won, held)

    def average_precision(self, counts: Ints | None = None) -> Floats:
        """The average precision, one value a row of `counts` (R, n_images): (R,).

        The mean over folds, each weighing as many as it has positive cells. NaN where a row
        leaves no positive cell.
        """
        weights = self._weights(counts)
        total, positives = np.zeros(len(weights)), np.zeros(len(weights))
        for fold in np.unique(self.fold):
            cells = np.flatnonzero(self.fold[self.image] == fold)
            cells = cells[np.argsort(-self.score[cells], kind="stable")]
            label, image = self.label[cells], self.image[cells]
            # Cells of equal score pass the threshold together.
            last = np.flatnonzero(np.append(np.diff(self.score[cells]) != 0, True))
            for row, weight in enumerate(weights):
                weigh = weight[image]
                reached = np.cumsum(weigh)[last]
                found = np.cumsum(weigh * label)[last]
                precision = np.divide(found, reached, out=np.zeros(len(last)), where=reached > 0)
                total[row] += np.diff(found, prepend=0.0) @ precision
                positives[row] += found[-1]
        return _quotient(total, positives)

    def _weights(self, counts: Ints | None) -> Floats:
        if counts is None:
            return np.ones((1, len(self.fold)))
        return counts.astype(np.float64)

    def _pairs(self) -> tuple[Floats, Floats]:
        """Concordant and all pairs of a positive cell in image i and a negative one in image j.

        With these, a resample of images costs two small products instead of a sort.
        """
        n_images = len(self.fold)
        concordant = np.zeros((n_images, n_images))
        positive = np.flatnonzero(self.label)
        owner, score = self.image[positive], self.score[positive]
        same_fold = self.fold[:, None] == self.fold[None, :]
        for image in range(n_images):
            rivals = np.sort(self.score[(self.image == image) & ~self.label])
            beaten = np.searchsorted(rivals, score, "left") + np.searchsorted(
                rivals, score, "right"
            )
            concordant[:, image] = np.bincount(owner, beaten / 2, minlength=n_images)
        n_positive = np.bincount(owner, minlength=n_images)
        n_negative = np.bincount(self.image[~self.label], minlength=n_images)
        pairs = np.outer(n_positive, n_negative)
        return concordant * same_fold, pairs * same_fold


def interval(resampled: Floats, found: float) -> Interval:
    """A 95% interval in [0, 1] around what was found, from what resamples of the images gave.

    The percentiles are moved by as much as the mean of the resamples lies off what was found:
    images drawn twice agree with themselves, and average precision comes out too high for it.
    """
    low, high = np.nanpercentile(resampled, _INTERVAL) - (np.nanmean(resampled) - found)
    return max(0.0, float(low)), min(1.0, float(high))


def _quotient(above: Floats, below: Floats) -> Floats:
    """NaN where nothing is below."""
    quotient = np.full(len(above), np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient
