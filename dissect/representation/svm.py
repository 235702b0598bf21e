"""The linear classifier with squared hinge loss (L2-SVM) on features, each class against the rest.

For class k with targets s = +1 or -1, with w and b of that class:

    minimise  (|w|^2 + b^2) / 2  +  C sum_i max(0, 1 - s_i (w x_i + b))^2

That is what scikit-learn's `LinearSVC` minimises (liblinear; the bias counts in the penalty), and
there is one minimum. `LinearSVC` itself is used where the features are few. liblinear keeps every
number as 16 bytes and takes one class after the other in float64: 50,000 images with 7,168
features would take 8.6 GB and hours. There the same function is minimised by the same method as
liblinear's primal solver (truncated Newton: Lin, Weng and Keerthi 2008, "Trust region Newton
method for large-scale logistic regression"), for all classes at once, on the float32 features
where they lie on disk: each step reads them once, whatever the number of classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect.errors import DissectError
from dissect.representation.features import Features

__all__ = ["LinearClassifier", "Scaling", "Solver", "fit_svm"]

Solver = Literal["auto", "liblinear", "newton"]

# So many numbers liblinear takes in a few seconds a fit.
_FEW = 20_000_000
_ROWS = 1_000
_MOST_NEWTON, _MOST_CG, _MOST_HALVINGS = 60, 100, 25
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
        return self.scores(features).argmax(1)

    def accuracy(self, features: Features, labels: NDArray[np.int64]) -> float:
        """The share of `features` whose class is predicted."""
        return float((self.predict(features) == labels).mean())


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
    """The L2-SVM on `features` (N, D) with `labels` (N,) in 0 to `n_classes` - 1.

    Args:
        features: float32, in memory or mapped.
        labels: the classes; each must occur.
        c: what a squared violation costs, above 0.
        n_classes: how many there are, at least 2.
        scaling: applied to the features on the way; the classifier takes them unscaled.
        solver: "liblinear" is `LinearSVC` (dual); "newton" the method above; "auto" the first
            where N times D is at most 20 million.
        start: where "newton" begins, such as the classifier of another C.
        tolerance: of "newton": the gradient's norm, as a share of that at 0 and times the share of
            the rarer side, at which a class is done (liblinear's criterion). "liblinear" keeps
            scikit-learn's own, 1e-4.

    Raises:
        DissectError: a class without an image, or c not above 0.
    """
    counts = np.bincount(labels, minlength=n_classes)
    if not c > 0:
        raise DissectError(f"C must be above 0; got {c}")
    if len(counts) > n_classes or n_classes < 2 or not counts.all():
        absent = int(np.flatnonzero(counts == 0)[0]) if not counts.all() else len(counts) - 1
        raise DissectError(
            f"no classifier can be fitted: class {absent} of {n_classes} has no image among "
            f"{len(labels)}"
        )
    if solver == "auto":
        solver = "liblinear" if features.size <= _FEW else "newton"
    if solver == "liblinear":
        return _liblinear(features, labels, c, n_classes, scaling)
    return _Newton(features, labels, c, n_classes, scaling).solve(start, tolerance)


def _liblinear(
    features: Features,
    labels: NDArray[np.int64],
    c: float,
    n_classes: int,
    scaling: Scaling | None,
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


class _Newton:
    """Truncated Newton on the primal, all classes at once; columns of a matrix are classes."""

    def __init__(
        self,
        features: Features,
        labels: NDArray[np.int64],
        c: float,
        n_classes: int,
        scaling: Scaling | None,
    ) -> None:
        self._x = features
        self._c = c
        self._signs = torch.full((len(labels), n_classes), -1.0)
        self._signs[torch.arange(len(labels)), torch.from_numpy(labels)] = 1.0
        width = features.shape[1]
        self._mean = torch.zeros(width, 1)
        self._scale = torch.ones(width, 1)
        if scaling is not None:
            self._mean = torch.from_numpy(scaling.mean)[:, None]
            self._scale = 1 / torch.from_numpy(scaling.deviation)[:, None]
        self._scaling = scaling
        self._squares = self._column_squares()

    def solve(self, start: LinearClassifier | None, tolerance: float) -> LinearClassifier:
        """The minimum, from `start` or from 0."""
        n, k = self._signs.shape
        w = torch.zeros(self._x.shape[1] + 1, k)
        zero = self._gradient(w, torch.zeros(n, k))
        positive = (self._signs > 0).sum(0)
        rarer = torch.minimum(positive, n - positive).clamp(min=1) / n
        goal = tolerance * rarer * zero.norm(dim=0)
        if start is not None:
            w = self._scaled(start)
        z = self._times(w) if start is not None else torch.zeros(n, k)
        active = torch.arange(k)
        for _ in range(_MOST_NEWTON):
            gradient = self._gradient(w, z)
            active = torch.nonzero(gradient.norm(dim=0) > goal).flatten()
            if not len(active):
                break
            step, moved = self._direction(gradient[:, active], z[:, active], active)
            length = self._length(w[:, active], z[:, active], step, moved, gradient, active)
            if not bool((length > 0).any()):
                break  # as near as float32 can tell
            w[:, active] += length * step
            z[:, active] += length * moved
        weights, bias = w[:-1].T.numpy(), w[-1].numpy()
        return _unscaled(weights, bias, self._scaling, "newton", not len(active))

    def _scaled(self, start: LinearClassifier) -> Tensor:
        weights, bias = torch.from_numpy(start.weights).T, torch.from_numpy(start.bias)
        finite = torch.where(self._scale > 0, 1 / self._scale, torch.zeros(()))
        return torch.cat([weights * finite, (bias + (weights * self._mean).sum(0))[None]])

    def _gradient(self, w: Tensor, z: Tensor) -> Tensor:
        return w + 2 * self._c * self._transposed(self._residual(z, self._signs))

    @staticmethod
    def _residual(z: Tensor, signs: Tensor) -> Tensor:
        return torch.where(signs * z < 1, z - signs, torch.zeros(()))

    def _direction(self, gradient: Tensor, z: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step by conjugate gradients, and what it adds to the scores."""
        inside = (self._signs[:, active] * z < 1).float()
        curvature = 1 + 2 * self._c * self._squares * inside.mean(0)
        step, moved = torch.zeros_like(gradient), torch.zeros_like(z)
        residual = -gradient
        towards = residual / curvature
        along = towards.clone()
        energy = (residual * towards).sum(0)
        enough = 0.1 * residual.norm(dim=0)
        for _ in range(_MOST_CG):
            product, scores = self._hessian(along, inside)
            length = energy / (along * product).sum(0)
            length = torch.where(residual.norm(dim=0) > enough, length, torch.zeros(()))
            step += length * along
            moved += length * scores
            residual -= length * product
            if bool((residual.norm(dim=0) <= enough).all()):
                break
            towards = residual / curvature
            new = (residual * towards).sum(0)
            along = towards + new / energy * along
            energy = new
        return step, moved

    def _hessian(self, along: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """The Hessian times `along`, and the features times `along`."""
        scaled, shift = self._prepared(along)
        scores = torch.empty(len(self._x), along.shape[1])
        back = torch.zeros(self._x.shape[1], along.shape[1])
        for rows, part in self._rows():
            torch.addmm(shift, part, scaled, out=scores[rows])
            back.addmm_(part.T, inside[rows] * scores[rows])
        return along + 2 * self._c * self._finished(back, (inside * scores).sum(0)), scores

    def _length(
        self, w: Tensor, z: Tensor, step: Tensor, moved: Tensor, gradient: Tensor, active: Tensor
    ) -> Tensor:
        """How far to go along the step, by class: 1, halved until the loss falls enough."""
        signs = self._signs[:, active]
        slope = (gradient[:, active].double() * step).sum(0)
        length = torch.ones(len(active), dtype=torch.float64)
        before = self._loss(w, z, signs)
        for _ in range(_MOST_HALVINGS):
            factor = length.float()
            after = self._loss(w + factor * step, z + factor * moved, signs)
            worse = after > before + 0.01 * length * slope
            if not bool(worse.any()):
                break
            length = torch.where(worse, length / 2, length)
        else:
            length = torch.where(worse, torch.zeros(()).double(), length)
        return length.float()

    def _loss(self, w: Tensor, z: Tensor, signs: Tensor) -> Tensor:
        hinge = (1 - signs * z).clamp_(min=0).double()
        return w.double().square().sum(0) / 2 + self._c * hinge.square().sum(0)

    # The features, with a 1 for the bias at the end, times a matrix; and the transposed ones.
    # Scaling is applied to the small matrices, never to the features.

    def _times(self, w: Tensor) -> Tensor:
        scaled, shift = self._prepared(w)
        return torch.cat([torch.addmm(shift, part, scaled) for _, part in self._rows()])

    def _transposed(self, y: Tensor) -> Tensor:
        back = torch.zeros(self._x.shape[1], y.shape[1])
        for rows, part in self._rows():
            back.addmm_(part.T, y[rows])
        return self._finished(back, y.sum(0))

    def _prepared(self, w: Tensor) -> tuple[Tensor, Tensor]:
        scaled = w[:-1] * self._scale
        return scaled, w[-1] - (scaled * self._mean).sum(0)

    def _finished(self, back: Tensor, total: Tensor) -> Tensor:
        return torch.cat([(back - self._mean * total) * self._scale, total[None]])

    def _column_squares(self) -> Tensor:
        """The sum of squares of each scaled feature, (D + 1, 1)."""
        squares = torch.zeros(self._x.shape[1], 1, dtype=torch.float64)
        for _, part in self._rows():
            squares += ((part - self._mean.T) * self._scale.T).square_().sum(0)[:, None]
        return torch.cat([squares.float(), torch.full((1, 1), float(len(self._x)))])

    def _rows(self) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(self._x), _ROWS):
            rows = slice(start, start + _ROWS)
            yield rows, _tensor(self._x[rows])


def _tensor(part: Features) -> Tensor:
    import warnings

    # A map is read-only, and nothing is written to it here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(part))


def _chunks(features: Features) -> Iterator[Features]:
    for start in range(0, len(features), _ROWS):
        yield features[start : start + _ROWS]
