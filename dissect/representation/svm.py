"""The linear classifier with squared hinge loss (L2-SVM) on features, each class against the rest.

For class k with targets s = +1 or -1, with w and b of that class:

    minimise  (|w|^2 + b^2) / 2  +  C sum_i max(0, 1 - s_i (w x_i + b))^2

This is the loss of scikit-learn's `LinearSVC` (liblinear; the bias is penalised too), and it has
one minimum. `LinearSVC` itself is used where the features are few. liblinear stores every number
as 16 bytes beside a float64 copy and fits one class after the other: 50,000 images with 7,168
features would take 8.6 GB and hours. There `torch.optim.LBFGS` minimises the same function for
all classes at once, and reads the features block by block from where they are mapped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.representation.features import Features

__all__ = ["LinearClassifier", "Scaling", "Solver", "fit_svm"]

Solver = Literal["auto", "liblinear", "lbfgs"]

# liblinear fits so many numbers in a few seconds.
_LIBLINEAR_SIZE = 20_000_000
_ROWS = 1_000
_TOLERANCE = 1e-3
_MAX_ITERATIONS, _HISTORY = 1_000, 30


@dataclass(frozen=True, eq=False, repr=False)
class Scaling(ShortRepr):
    """An affine map of each feature: (x - mean) / std."""

    mean: Features
    std: Features

    @classmethod
    def from_features(cls, features: Features) -> "Scaling":
        """The map that gives `features` (N, D) mean 0 and std 1; constant features become 0.

        >>> scaling = Scaling.from_features(np.array([[0, 5], [2, 5]], np.float32))
        >>> scaling.mean.tolist(), scaling.std.tolist()
        ([1.0, 5.0], [1.0, inf])
        """
        n = len(features)
        total = np.zeros(features.shape[1])
        squares = np.zeros(features.shape[1])
        origin = features[0].astype(np.float64)
        for part in _blocks(features):
            shifted = part - origin
            total += shifted.sum(0)
            squares += np.square(shifted).sum(0)
        mean = total / n
        std = np.sqrt(np.maximum(squares / n - mean**2, 0))
        # A constant feature would otherwise be divided by the rounding error of its mean.
        std[std < 1e-6 * (1 + np.abs(origin))] = np.inf
        return cls((mean + origin).astype(np.float32), std.astype(np.float32))

    @classmethod
    def identity(cls, width: int) -> "Scaling":
        """The map that changes nothing."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))


@dataclass(frozen=True, eq=False, repr=False)
class LinearClassifier(ShortRepr):
    """A weight for each class and feature, and a bias for each class.

    Attributes:
        weights: float32 (classes, D), for unscaled features.
        bias: float32 (classes,).
        solver: liblinear or lbfgs.
        converged: whether the solver reached its tolerance.
    """

    weights: Features
    bias: Features
    solver: str = "lbfgs"
    converged: bool = True

    def scores(self, features: Features) -> Features:
        """The scores (N, classes) of `features` (N, D)."""
        parts = [part @ self.weights.T + self.bias for part in _blocks(features)]
        return np.concatenate(parts).astype(np.float32)

    def predict(self, features: Features) -> NDArray[np.int64]:
        """The class with the largest score, (N,)."""
        classes: NDArray[np.int64] = self.scores(features).argmax(1)
        return classes

    def accuracy(self, features: Features, labels: NDArray[np.int64]) -> float:
        """The fraction of `features` whose class is predicted."""
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
    """The L2-SVM for one C.

    Args:
        features: float32 (N, D), in memory or mapped.
        labels: the classes (N,) in 0 to `n_classes` - 1; each must occur.
        c: the cost of a squared violation, above 0.
        n_classes: number of classes, at least 2.
        scaling: applied to the features while they are read; the classifier takes unscaled ones.
        solver: "liblinear" is `LinearSVC` (dual); "lbfgs" is `torch.optim.LBFGS`; "auto" is the
            first where N times D is at most 20 million.
        start: where "lbfgs" begins, such as the classifier of another C.
        tolerance: of "lbfgs": the largest component of the gradient, as a fraction of that at 0
            and times the fraction of the rarest class. "liblinear" keeps scikit-learn's own, 1e-4.

    Raises:
        DissectError: C is not above 0, or a class has no image.

    >>> features = np.array([[-2.0], [-1.0], [1.0], [2.0]], np.float32)
    >>> fit_svm(features, np.array([0, 0, 1, 1]), 1.0, 2).predict(features).tolist()
    [0, 0, 1, 1]
    """
    if not c > 0:
        raise DissectError(f"C must be above 0; got {c}")
    counts = np.bincount(labels, minlength=n_classes)
    if len(counts) > n_classes or n_classes < 2 or not counts.all():
        absent = int(np.flatnonzero(counts == 0)[0]) if not counts.all() else len(counts) - 1
        raise DissectError(
            f"no classifier can be fitted: class {absent} of {n_classes} has no image among "
            f"{len(labels)}"
        )
    if solver == "auto":
        solver = "liblinear" if features.size <= _LIBLINEAR_SIZE else "lbfgs"
    if solver == "liblinear":
        return _liblinear(features, labels, n_classes, scaling, c)
    known = scaling or Scaling.identity(features.shape[1])
    loss = _SquaredHinge(features, labels, n_classes, known, c)
    return _lbfgs(loss, start, tolerance * int(counts.min()) / len(labels))


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
        x = (x - scaling.mean) / scaling.std
    model = LinearSVC(C=c, dual=True, max_iter=10_000, random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, labels)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    weights, bias = model.coef_, model.intercept_
    if n_classes == 2:
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    if scaling is not None:
        weights = weights / scaling.std
        bias = bias - weights @ scaling.mean
    return LinearClassifier(
        weights.astype(np.float32), bias.astype(np.float32), "liblinear", converged
    )


class _SquaredHinge:
    """The loss and its gradient, of weights (D + 1, classes) for scaled features, the bias last.

    Blocks of features are multiplied in float32 where there are many, else in float64, and summed
    in float64. The scaling is applied to the small matrices, never to the features.
    """

    def __init__(
        self,
        features: Features,
        labels: NDArray[np.int64],
        n_classes: int,
        scaling: Scaling,
        c: float,
    ) -> None:
        self.features, self.c = features, c
        self.mean = torch.from_numpy(scaling.mean).double()[:, None]
        self.std = torch.from_numpy(scaling.std).double()[:, None]
        self.dtype = torch.float64 if features.size <= _LIBLINEAR_SIZE else torch.float32
        self.signs = torch.full((len(labels), n_classes), -1.0, dtype=self.dtype)
        self.signs[torch.arange(len(labels)), torch.from_numpy(labels)] = 1.0

    def __call__(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient (D + 1, classes)."""
        slope, bias = self.unscaled(weights)
        slope, bias = slope.to(self.dtype), bias.to(self.dtype)
        loss = weights.square().sum() / 2
        by_feature = torch.zeros_like(self.mean.expand(-1, len(bias)))
        by_bias = torch.zeros(len(bias), dtype=torch.float64)
        for rows, block in zip(self.signs.split(_ROWS), self.blocks(), strict=True):
            violation = (1 - rows * torch.addmm(bias, block, slope)).clamp_(min=0)
            loss += self.c * violation.square().sum(dtype=torch.float64)
            violation *= rows
            by_feature += block.T @ violation
            by_bias += violation.sum(0, dtype=torch.float64)
        inner = torch.cat([(by_feature - self.mean * by_bias) / self.std, by_bias[None]])
        return loss, weights - 2 * self.c * inner

    def curvature(self) -> Tensor:
        """The diagonal of the Hessian if every row violated the margin, (D + 1, 1)."""
        squares = torch.zeros_like(self.mean)
        for block in self.blocks():
            scaled = (block - self.mean.T.to(block)) / self.std.T.to(block)
            squares += scaled.square_().sum(0, dtype=torch.float64)[:, None]
        total = torch.cat([squares, torch.full((1, 1), float(len(self.features)))])
        return 1 + 2 * self.c * total

    def unscaled(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (D, classes) and bias (classes,) for unscaled features."""
        slope = weights[:-1] / self.std
        return slope, weights[-1] - (slope * self.mean).sum(0)

    def scaled(self, model: LinearClassifier) -> Tensor:
        """The weights for scaled features, the bias last: the inverse of `unscaled`."""
        slope = torch.from_numpy(model.weights.T).double()
        bias = torch.from_numpy(model.bias).double() + (slope * self.mean).sum(0)
        # The weight of a constant feature is 0, and its std infinite.
        return torch.cat([torch.nan_to_num(slope * self.std), bias[None]])

    def blocks(self) -> Iterator[Tensor]:
        for part in _blocks(self.features):
            # A mapped file is read-only, and torch warns of tensors that share such memory.
            yield torch.from_numpy(np.array(part)).to(self.dtype)


def _lbfgs(
    loss: _SquaredHinge, start: LinearClassifier | None, tolerance: float
) -> LinearClassifier:
    """The minimum by L-BFGS on variables scaled by the root of the Hessian's diagonal."""
    n_features, n_classes = loss.features.shape[1], loss.signs.shape[1]
    unit = loss.curvature().rsqrt()
    scaled = torch.zeros(n_features + 1, n_classes, dtype=torch.float64, requires_grad=True)

    def closure() -> Tensor:
        value, gradient = loss(scaled.detach() * unit)
        scaled.grad = gradient * unit
        return value

    def largest_gradient() -> float:
        closure()
        return 0.0 if scaled.grad is None else float(scaled.grad.abs().max())

    goal = tolerance * largest_gradient()
    if start is not None:
        scaled.data = loss.scaled(start) / unit
    optimizer = torch.optim.LBFGS(
        [scaled],
        max_iter=_MAX_ITERATIONS,
        max_eval=2 * _MAX_ITERATIONS,
        tolerance_grad=goal,
        tolerance_change=0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)
    converged = largest_gradient() <= goal
    weights, bias = loss.unscaled(scaled.detach() * unit)
    return LinearClassifier(
        weights.T.contiguous().float().numpy(), bias.float().numpy(), "lbfgs", converged
    )


def _blocks(features: Features) -> Iterator[Features]:
    for start in range(0, len(features), _ROWS):
        yield features[start : start + _ROWS]
