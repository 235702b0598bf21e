"""How well scores rank the cells of a concept above all others, resampled by image."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dissect._utils.display import ShortRepr
from dissect._utils.stats import ratio

__all__ = ["Bools", "Floats", "Interval", "Ints", "Ranking"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Interval = tuple[float, float]


@dataclass(frozen=True, repr=False)
class Ranking(ShortRepr):
    """Scores of cells that a cross-validation gave to held-out images.

    Only cells of the same fold are compared, because each fold has its own classifier and the
    scores of two classifiers share no zero.

    Attributes:
        score: (n,) a larger score means that the concept is more likely.
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

        Over all pairs of a positive and a negative cell of one fold, the fraction in which the
        positive one scores higher (ties count half). NaN where a row leaves no pair.
        """
        concordant, pairs = self._pairs()
        weights = self._weights(counts)
        won: Floats = ((weights @ concordant) * weights).sum(1)
        held: Floats = ((weights @ pairs) * weights).sum(1)
        return ratio(won, held)

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
                cell_weight = weight[image]
                called = np.cumsum(cell_weight)[last]
                correct = np.cumsum(cell_weight * label)[last]
                precision = np.divide(correct, called, out=np.zeros(len(last)), where=called > 0)
                total[row] += np.diff(correct, prepend=0.0) @ precision
                positives[row] += correct[-1]
        return ratio(total, positives)

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
            negative = np.sort(self.score[(self.image == image) & ~self.label])
            twice_below = np.searchsorted(negative, score, "left") + np.searchsorted(
                negative, score, "right"
            )
            concordant[:, image] = np.bincount(owner, twice_below / 2, minlength=n_images)
        n_positive = np.bincount(owner, minlength=n_images)
        n_negative = np.bincount(self.image[~self.label], minlength=n_images)
        pairs = np.outer(n_positive, n_negative)
        return concordant * same_fold, pairs * same_fold
