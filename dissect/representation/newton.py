"""The minimum of the L2-SVM's loss on many features, where `LinearSVC` would take hours.

The loss is that of `dissect.representation.svm`, and the method is that of liblinear's primal
solver: truncated Newton (Lin, Weng and Keerthi 2008, "Trust region Newton method for large-scale
logistic regression"), with a line search. All classes are solved for at once, on the float32
features where they lie on disk: each step reads them once, whatever the number of classes. The
conjugate gradients are preconditioned by the Hessian that there would be if all classes had the
same share of violations, spread evenly; some ten steps then do what takes hundreds.
"""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dissect.representation.features import Features

__all__ = ["Newton"]

_ROWS = 1_000
_MOST_NEWTON, _MOST_CG, _MOST_HALVINGS = 60, 100, 25
# The products of so many features with each other fit into memory, and are factored in seconds.
_MOST_PRODUCTS = 12_000


class Newton:
    """Truncated Newton on the primal, all classes at once; columns of a matrix are classes."""

    def __init__(
        self,
        features: Features,
        labels: NDArray[np.int64],
        n_classes: int,
        mean: Features,
        scale: Features,
    ) -> None:
        """Take the features, float32 (N, D), which are used as (features - mean) * scale."""
        self._x = features
        self._c = 1.0
        self._share = 1.0  # of the rows in the products
        self._signs = torch.full((len(labels), n_classes), -1.0)
        self._signs[torch.arange(len(labels)), torch.from_numpy(labels)] = 1.0
        self._mean = torch.from_numpy(mean)[:, None]
        self._scale = torch.from_numpy(scale)[:, None]
        self.converged = False
        self._products: Tensor | None = None
        # The last factor, and how much of the products went into it.
        self._factor: tuple[float, Tensor] | None = None

    def part(self, n: int) -> "Newton":
        """The problem of the first `n` rows; the products are this one's, for they are alike."""
        share = n / len(self._x)
        products = self._known_products()
        other = Newton.__new__(Newton)
        other.__dict__.update(self.__dict__)
        other._x, other._signs = self._x[:n], self._signs[:n]
        other._products, other._share = products, self._share * share
        return other

    def solve(self, c: float, start: Features | None, tolerance: float) -> Features:
        """Weights and, last, the bias for scaled features, (D + 1, classes).

        Args:
            c: what a squared violation costs.
            start: where to begin, of the same shape; None: at 0.
            tolerance: the gradient's norm, as a share of that at 0 and times the share of the
                rarer side, at which a class is done.
        """
        self._c = c
        n, k = self._signs.shape
        w = torch.zeros(self._x.shape[1] + 1, k)
        zero = self._gradient(w, torch.zeros(n, k))
        positive = (self._signs > 0).sum(0)
        rarer = torch.minimum(positive, n - positive).clamp(min=1) / n
        goal = tolerance * rarer * zero.norm(dim=0)
        if start is not None:
            w = torch.from_numpy(start.copy())
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
        self.converged = not len(active)
        found: Features = w.numpy()
        return found

    def _gradient(self, w: Tensor, z: Tensor) -> Tensor:
        return w + 2 * self._c * self._transposed(self._residual(z, self._signs))

    @staticmethod
    def _residual(z: Tensor, signs: Tensor) -> Tensor:
        return torch.where(signs * z < 1, z - signs, torch.zeros(()))

    def _direction(self, gradient: Tensor, z: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step by conjugate gradients, and what it adds to the scores."""
        inside = (self._signs[:, active] * z < 1).float()
        near = self._preconditioner(inside)
        step, moved = torch.zeros_like(gradient), torch.zeros_like(z)
        residual = -gradient
        towards = near(residual)
        along = towards.clone()
        energy = (residual * towards).sum(0)
        enough = 0.1 * residual.norm(dim=0)
        nothing = torch.zeros(())
        for _ in range(_MOST_CG):
            busy = residual.norm(dim=0) > enough
            if not bool(busy.any()):
                break
            product, scores = self._hessian(along, inside)
            length = torch.where(busy, energy / (along * product).sum(0), nothing)
            step += length * along
            moved += length * scores
            residual -= length * product
            towards = near(residual)
            new = (residual * towards).sum(0)
            along = torch.where(busy, towards + new / energy * along, nothing)
            energy = new
        return step, moved

    def _preconditioner(self, inside: Tensor) -> Callable[[Tensor], Tensor]:
        """Solves with what the Hessian nearly is."""
        products = self._known_products()
        weight = 2 * self._c * self._share
        if products.shape[1] == 1:
            curvature = 1 + weight * products * inside.mean(0)
            return lambda residual: residual / curvature
        wanted = float(weight * inside.mean())
        if self._factor is None or not 0.6 < wanted / self._factor[0] < 1.7:
            matrix = products * wanted
            matrix.diagonal().add_(1.0)
            factor, failed = torch.linalg.cholesky_ex(matrix)
            if int(failed):  # the smallest of its eigenvalues is lost in rounding
                diagonal = matrix.diagonal()[:, None].clone()
                return lambda residual: residual / diagonal
            self._factor = (wanted, factor)
        known = self._factor[1]
        return lambda residual: torch.cholesky_solve(residual, known)

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

    def _known_products(self) -> Tensor:
        if self._products is None:
            many = self._x.shape[1] > _MOST_PRODUCTS
            self._products = self._column_squares() if many else self._all_products()
        return self._products

    def _all_products(self) -> Tensor:
        """The sums of products of scaled features, the bias's 1 last: (D + 1, D + 1)."""
        width = self._x.shape[1]
        found = torch.zeros(width + 1, width + 1)
        inner, total = found[:-1, :-1], torch.zeros(width)
        for _, part in self._rows():
            scaled = (part - self._mean.T) * self._scale.T
            inner.addmm_(scaled.T, scaled)
            total += scaled.sum(0)
        found[:-1, -1] = found[-1, :-1] = total
        found[-1, -1] = len(self._x)
        return found

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
    # A map is read-only, and nothing is written to it here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(part))
