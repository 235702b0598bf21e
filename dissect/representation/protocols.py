"""How features are judged: with all labels (Table 1) and with few, drawn often (Table 2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect.representation.features import Features
from dissect.representation.svm import LinearClassifier, Scaling, Solver, Svm, fit_svm

__all__ = ["ALL_LABELS_C", "AUTHORS_C", "FewLabels", "Judged", "all_labels", "few_labels", "wilson"]

Labels = NDArray[np.int64]

AUTHORS_C = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
"""The values of C among which the paper's authors chose (their code for SVHN)."""

ALL_LABELS_C = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""The values of C tried with all labels, from the smallest until the accuracy falls."""

_VALIDATION_SHARE = 5
_FALL = 0.002


@dataclass(frozen=True)
class Judged:
    """An accuracy on test images, and how it came about.

    Attributes:
        accuracy: the share of test images that are right, or its mean over draws.
        interval: 95% either way: Wilson's of one classifier, 1.96 deviations over draws.
        c: the C that was chosen.
        tried: accuracy on validation images, by C.
        n_features: how many features an image has.
        solver: what fitted the classifier.
        converged: whether every fit that counts reached its tolerance.
    """

    accuracy: float
    interval: tuple[float, float]
    c: float | None
    tried: dict[float, float]
    n_features: int
    solver: str
    converged: bool


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share, `right` of `n` (Wilson 1927)."""
    z = 1.96
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def all_labels(
    train: Features,
    train_labels: Labels,
    test: Features,
    test_labels: Labels,
    n_classes: int,
    *,
    cs: Sequence[float] = ALL_LABELS_C,
    standardize: bool = False,
    solver: Solver = "auto",
    watch: Callable[[str], None] | None = None,
) -> Judged:
    """The L2-SVM on every label, C chosen on the last fifth of the training images.

    C is chosen with the first four fifths; with it a classifier is fitted to all of them.

    Args:
        train: features (N, D) of the training images.
        train_labels: their classes.
        test: features of the test images, which are looked at once.
        test_labels: their classes.
        n_classes: how many classes there are.
        cs: values of C to try, from the smallest until the accuracy has fallen by 0.2 points.
        standardize: bring each feature to mean 0 and deviation 1 on the training images.
        solver: as in `fit_svm`.
        watch: told about each C.

    Raises:
        DissectError: too few images, or what `fit_svm` raises.
    """
    n = len(train) - len(train) // _VALIDATION_SHARE
    if len(train) < _VALIDATION_SHARE * n_classes:
        raise DissectError(
            f"{len(train)} labels are too few to choose C: give at least "
            f"{_VALIDATION_SHARE * n_classes}"
        )
    scaling = Scaling.of(train) if standardize else None
    svm = Svm(train, train_labels, n_classes, scaling=scaling, solver=solver)
    first = svm.part(n)
    tried: dict[float, float] = {}
    known: dict[float, LinearClassifier] = {}
    last = None
    for c in sorted(cs):
        last = known[c] = first.fit(c, start=last)
        tried[c] = last.accuracy(train[n:], train_labels[n:])
        if watch is not None:
            watch(f"C {c:g}: {tried[c]:.4f} of validation images")
        # The accuracy over C has one peak, and the largest values take longest.
        if tried[c] < max(tried.values()) - _FALL:
            break
    best = max(tried, key=lambda c: (tried[c], -c))
    model = svm.fit(best, start=known[best])
    right = int((model.predict(test) == test_labels).sum())
    return Judged(
        accuracy=right / len(test_labels),
        interval=wilson(right, len(test_labels)),
        c=best,
        tried=tried,
        n_features=train.shape[1],
        solver=model.solver,
        converged=model.converged and known[best].converged,
    )


@dataclass(frozen=True)
class FewLabels:
    """The authors' protocol for SVHN (their code; section 5.2): who is what.

    Attributes:
        n_validation: images set aside from a shuffled training set.
        per_class: labelled images of each class in a draw.
        choosing: draws by which C is chosen.
        reporting: fresh draws whose mean test accuracy counts.
        seed: of the shuffle and of the draws.
    """

    n_validation: int = 10_000
    per_class: int = 100
    choosing: int = 10
    reporting: int = 100
    seed: int = 0

    def split(self, labels: Labels, n_classes: int) -> tuple[Labels, Labels]:
        """Places of the validation images, and of those from which labels are drawn.

        Raises:
            DissectError: too few images.
        """
        order = np.random.default_rng(self.seed).permutation(len(labels))
        validation, pool = order[: self.n_validation], order[self.n_validation :]
        counts = np.bincount(labels[pool], minlength=n_classes)
        if counts.min() < self.per_class or not len(validation):
            raise DissectError(
                f"{len(labels)} training images are too few: beside {self.n_validation} for "
                f"validation, {self.per_class} of each class are needed, and class "
                f"{int(counts.argmin())} has {int(counts.min())}"
            )
        return validation, pool

    def draw(self, labels: Labels, pool: Labels, n_classes: int, number: int) -> Labels:
        """The places of draw `number`: `per_class` of each class, the same for every method."""
        random = np.random.default_rng((self.seed, number))
        return np.concatenate(
            [
                random.choice(pool[labels[pool] == k], self.per_class, replace=False)
                for k in range(n_classes)
            ]
        )


def few_labels(
    train: Features,
    train_labels: Labels,
    test: Features,
    test_labels: Labels,
    n_classes: int,
    protocol: FewLabels,
    *,
    cs: Sequence[float] = AUTHORS_C,
    standardize: bool = False,
    solver: Solver = "auto",
    watch: Callable[[str], None] | None = None,
) -> Judged:
    """The L2-SVM on few labels: the mean over draws, as the authors have it.

    For each C the mean validation accuracy over `choosing` draws decides; with the best C the test
    accuracy is averaged over `reporting` draws that were not used before.

    Args:
        train: features (N, D) of the training images.
        train_labels: their classes.
        test: features of the test images.
        test_labels: their classes.
        n_classes: how many classes there are.
        protocol: how many of what.
        cs: values of C to try.
        standardize: bring each feature to mean 0 and deviation 1 on the drawn images.
        solver: as in `fit_svm`.
        watch: told about each C.

    Raises:
        DissectError: too few images, or what `fit_svm` raises.
    """
    validation, pool = protocol.split(train_labels, n_classes)
    validation_features = train[validation]
    numbers = iter(range(len(cs) * protocol.choosing + protocol.reporting))
    used, converged = "", True

    def fitted(c: float) -> LinearClassifier:
        nonlocal used, converged
        rows = protocol.draw(train_labels, pool, n_classes, next(numbers))
        features = train[rows]
        scaling = Scaling.of(features) if standardize else None
        model = fit_svm(features, train_labels[rows], c, n_classes, scaling=scaling, solver=solver)
        used, converged = model.solver, converged and model.converged
        return model

    tried: dict[float, float] = {}
    for c in cs:
        reached = [
            fitted(c).accuracy(validation_features, train_labels[validation])
            for _ in range(protocol.choosing)
        ]
        tried[c] = float(np.mean(reached))
        if watch is not None:
            watch(f"C {c:g}: {tried[c]:.4f} of validation images")
    best = max(tried, key=lambda c: (tried[c], -c))
    reached = [fitted(best).accuracy(test, test_labels) for _ in range(protocol.reporting)]
    mean, spread = float(np.mean(reached)), 1.96 * float(np.std(reached))
    return Judged(
        accuracy=mean,
        interval=(mean - spread, mean + spread),
        c=best,
        tried=tried,
        n_features=train.shape[1],
        solver=used,
        converged=converged,
    )
