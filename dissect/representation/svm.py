"""The linear classifier with squared hinge loss (L2-SVM) on features, each class against the rest.

For class k with targets s = +1 or -1, with w and b of that class:

    minimise  (|w|^2 + b^2) / 2  +  C sum_i max(0, 1 - s_i (w x_i + b))^2

That is what scikit-learn's `LinearSVC` minimises (liblinear; the bias counts in the penalty), and
there is one minimum. `LinearSVC` itself is used where the features are few. liblinear keeps every
number as 16 bytes beside a float64 copy and takes one class after the other: 50,000 images with
7,168 features would take 8.6 GB and hours. There the same function is minimised by
`dissect.representation.newton`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect.representation.features import Features
from dissect.representation.newton import Newton

__all__ = ["LinearClassifier", "Scaling", "Solver", "Svm", "fit_svm"]

Solver = Literal["auto", "liblinear", "newton"]

# So many numbers liblinear takes in a few seconds a fit.
_FEW = 20_000_000
_ROWS = 1_000
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Scaling:
    """What is taken from each feature, and what it is divided by: (x - mean) / deviation."""

    mean: Features
    deviation: Features

    @classmethod
    def of(cls, features: Features) -> "Scaling":
        """The one that gives `features` (N, D) mean 0 and deviation 1; constant ones become 0."""
        n = len(features)
        total = np.zeros(features.shape[1])
        squares = np.zeros(features.shape[1])
        origin = features[0].astype(np.float64)
        for part in _chunks(features):
            shifted = part - origin
            total += shifted.sum(0)
            squares += np.square(shifted).sum(0)
        mean = total / n
        deviation = np.sqrt(np.maximum(squares / n - mean**2, 0))
        # A feature that never changes would otherwise be divided by the rounding of its mean.
        deviation[deviation < 1e-6 * (1 + np.abs(origin))] = np.inf
        return cls((mean + origin).astype(np.float32), deviation.astype(np.float32))

    @classmethod
    def none(cls, width: int) -> "Scaling":
        """The one that changes nothing."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))


@dataclass(frozen=True)
class LinearClassifier:
    """A weight for each class and feature, and a bias for each class.

    Attributes:
        weights: float32 (classes, D), for the features as they are.
        bias: float32 (classes,).
        solver: what found them.
        converged: whether it reached its tolerance.
    """

    weights: Features
    bias: Features
    solver: str = "newton"
    converged: bool = True

    def scores(self, features: Features) -> Features:
        """The scores (N, classes) of `features` (N, D)."""
        parts = [part @ self.weights.T + self.bias for part in _chunks(features)]
        return np.concatenate(parts).astype(np.float32)

    def predict(self, features: Features) -> NDArray[np.int64]:
        """The class with the largest score, (N,)."""
        found: NDArray[np.int64] = self.scores(features).argmax(1)
        return found

    def accuracy(self, features: Features, labels: NDArray[np.int64]) -> float:
        """The share of `features` whose class is predicted."""
        return float((self.predict(features) == labels).mean())


class Svm:
    """The L2-SVM on given features, for any C: what all fits share is computed once."""

    def __init__(
        self,
        features: Features,
        labels: NDArray[np.int64],
        n_classes: int,
        *,
        scaling: Scaling | None = None,
        solver: Solver = "auto",
    ) -> None:
        """Check the labels and choose the solver.

        Args:
            features: float32 (N, D), in memory or mapped.
            labels: the classes (N,) in 0 to `n_classes` - 1; each must occur.
            n_classes: how many there are, at least 2.
            scaling: applied to the features on the way; the classifier takes them unscaled.
            solver: "liblinear" is `LinearSVC` (dual); "newton" the method above; "auto" the first
                where N times D is at most 20 million.

        Raises:
            DissectError: a class without an image.
        """
        counts = np.bincount(labels, minlength=n_classes)
        if len(counts) > n_classes or n_classes < 2 or not counts.all():
            absent = int(np.flatnonzero(counts == 0)[0]) if not counts.all() else len(counts) - 1
            raise DissectError(
                f"no classifier can be fitted: class {absent} of {n_classes} has no image among "
                f"{len(labels)}"
            )
        if solver == "auto":
            solver = "liblinear" if features.size <= _FEW else "newton"
        self._data = (features, labels, n_classes, scaling)
        self._newton = None
        if solver == "newton":
            known = scaling or Scaling.none(features.shape[1])
            scale = np.reciprocal(known.deviation)
            self._newton = Newton(features, labels, n_classes, known.mean, scale)

    def part(self, n: int) -> "Svm":
        """The classifier on the first `n` images, with what is computed for all of them.

        Raises:
            DissectError: a class without an image among them.
        """
        features, labels, n_classes, scaling = self._data
        other = Svm(features[:n], labels[:n], n_classes, scaling=scaling, solver="liblinear")
        if self._newton is not None:
            other._newton = self._newton.part(n)
        return other

    def fit(
        self,
        c: float,
        *,
        start: LinearClassifier | None = None,
        tolerance: float = _TOLERANCE,
    ) -> LinearClassifier:
        """The classifier for one C.

        Args:
            c: what a squared violation costs, above 0.
            start: where "newton" begins, such as the classifier of another C.
            tolerance: of "newton": the gradient's norm, as a share of that at 0 and times the
                share of the rarer side, at which a class is done (liblinear's criterion).
                "liblinear" keeps scikit-learn's own, 1e-4.

        Raises:
            DissectError: c is not above 0.
        """
        if not c > 0:
            raise DissectError(f"C must be above 0; got {c}")
        if self._newton is None:
            return _liblinear(*self._data, c)
        scaling = self._data[3]
        begin = None if start is None else _scaled(start, scaling)
        found = self._newton.solve(c, begin, tolerance)
        return _unscaled(found[:-1].T, found[-1], scaling, "newton", self._newton.converged)


def fit_svm(
    features: Features,
    labels: NDArray[np.int64],
    c: float,
    n_classes: int,
    *,
    scaling: Scaling | None = None,
    solver: Solver = "auto",
    start: LinearClassifier | None = None,
    tolerance: float = _TOLERANCE,
) -> LinearClassifier:
    """The L2-SVM for one C; the arguments are those of `Svm` and of its `fit`."""
    svm = Svm(features, labels, n_classes, scaling=scaling, solver=solver)
    return svm.fit(c, start=start, tolerance=tolerance)


def _liblinear(
    features: Features,
    labels: NDArray[np.int64],
    n_classes: int,
    scaling: Scaling | None,
    c: float,
) -> LinearClassifier:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    x = np.asarray(features)
    if scaling is not None:
        x = (x - scaling.mean) / scaling.deviation
    model = LinearSVC(C=c, dual=True, max_iter=10_000, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, labels)
    converged = not any(issubclass(one.category, ConvergenceWarning) for one in caught)
    weights, bias = model.coef_, model.intercept_
    if n_classes == 2:
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    return _unscaled(weights, bias, scaling, "liblinear", converged)


def _unscaled(
    weights: NDArray[np.floating],
    bias: NDArray[np.floating],
    scaling: Scaling | None,
    solver: str,
    converged: bool,
) -> LinearClassifier:
    """The classifier that takes unscaled features."""
    if scaling is not None:
        weights = weights / scaling.deviation
        bias = bias - weights @ scaling.mean
    return LinearClassifier(weights.astype(np.float32), bias.astype(np.float32), solver, converged)


def _scaled(model: LinearClassifier, scaling: Scaling | None) -> Features:
    """What `Newton` calls the classifier: (D + 1, classes), for scaled features."""
    known = scaling or Scaling.none(model.weights.shape[1])
    bias = model.bias + model.weights @ known.mean
    finite = np.where(np.isfinite(known.deviation), known.deviation, 0)
    return np.concatenate([(model.weights * finite).T, bias[None]]).astype(np.float32)


def _chunks(features: Features) -> Iterator[Features]:
    for start in range(0, len(features), _ROWS):
        yield features[start : start + _ROWS]
