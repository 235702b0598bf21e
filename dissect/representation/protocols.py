"""Protocols of evaluation: all labels (Table 1), and few labels, drawn many times (Table 2)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.result import Result
from dissect._utils.stats import wilson_interval
from dissect.representation.features import Features
from dissect.representation.svm import LinearClassifier, Scaling, Solver, fit_svm

__all__ = [
    "ALL_LABELS_C",
    "PAPER_C",
    "EvaluationResult",
    "LowDataProtocol",
    "evaluate_all_labels",
    "evaluate_few_labels",
]

Labels = NDArray[np.int64]

PAPER_C = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2)
"""The values of C among which the paper's authors chose (their code for SVHN)."""

ALL_LABELS_C = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
"""The values of C tried with all labels, in rising order until the accuracy falls."""

_VALIDATION_FOLD = 5  # one image in five chooses C
_DROP = 0.002  # of the accuracy, at which larger values of C are no longer tried


@dataclass(frozen=True, repr=False)
class EvaluationResult(Result):
    """An accuracy on test images, with its interval and how C was chosen.

    Attributes:
        accuracy: the fraction of test images that are classified correctly, or its mean over
            draws.
        interval: 95%: Wilson's for one classifier, 1.96 stds for the mean over draws.
        c: the C that was chosen.
        validation: accuracy on validation images, by C.
        n_features: number of features of an image.
        solver: liblinear, lbfgs or adam.
        converged: whether every fit that counts reached its tolerance.
    """

    accuracy: float
    interval: tuple[float, float]
    c: float | None
    validation: dict[float, float]
    n_features: int
    solver: str
    converged: bool

    def summary(self) -> dict[str, Any]:
        """The accuracy, its interval and C."""
        low, high = self.interval
        return {"accuracy": self.accuracy, "low": low, "high": high, "c": self.c}


def evaluate_all_labels(
    train: Features,
    train_labels: Labels,
    test: Features,
    test_labels: Labels,
    n_classes: int,
    *,
    cs: Sequence[float] = ALL_LABELS_C,
    standardize: bool = False,
    solver: Solver = "auto",
    report: Callable[[str], None] | None = None,
) -> EvaluationResult:
    """The L2-SVM on every label, C chosen on the last fifth of the training images.

    C is chosen with the first four fifths. A classifier with that C is then fitted to all images.

    Args:
        train: features (N, D) of the training images.
        train_labels: their classes.
        test: features of the test images, which are used once.
        test_labels: their classes.
        n_classes: number of classes.
        cs: values of C, tried in rising order until the accuracy has fallen by 0.2 points.
        standardize: bring each feature to mean 0 and std 1 on the training images.
        solver: as in `fit_svm`.
        report: called with a line of text for each C.

    Raises:
        DissectError: too few images, or what `fit_svm` raises.
    """
    n = len(train) - len(train) // _VALIDATION_FOLD
    if len(train) < _VALIDATION_FOLD * n_classes:
        raise DissectError(
            f"{len(train)} labels are too few to choose C: give at least "
            f"{_VALIDATION_FOLD * n_classes}"
        )
    scaling = Scaling.from_features(train) if standardize else None

    def fit(n_images: int, c: float, start: LinearClassifier | None) -> LinearClassifier:
        features, labels = train[:n_images], train_labels[:n_images]
        return fit_svm(features, labels, c, n_classes, scaling=scaling, solver=solver, start=start)

    validation: dict[float, float] = {}
    models: dict[float, LinearClassifier] = {}
    model = None
    for c in sorted(cs):
        model = models[c] = fit(n, c, model)
        validation[c] = model.accuracy(train[n:], train_labels[n:])
        if report is not None:
            report(f"C {c:g}: {validation[c]:.4f} of validation images")
        # The accuracy over C has one peak, and the largest values take longest.
        if validation[c] < max(validation.values()) - _DROP:
            break
    best = max(validation, key=lambda c: (validation[c], -c))
    model = fit(len(train), best, models[best])
    correct = int((model.predict(test) == test_labels).sum())
    return EvaluationResult(
        accuracy=correct / len(test_labels),
        interval=wilson_interval(correct, len(test_labels)),
        c=best,
        validation=validation,
        n_features=train.shape[1],
        solver=model.solver,
        converged=model.converged and models[best].converged,
    )


@dataclass(frozen=True)
class LowDataProtocol:
    """The authors' protocol for SVHN (their code; section 5.2).

    Attributes:
        n_validation: images set aside from a shuffled training set.
        per_class: labelled images of each class in a draw.
        validation_draws: draws by which C is chosen.
        test_draws: further draws, whose mean test accuracy is the result.
        split_seed: of the shuffle that sets the validation images aside.
        draw_seed: of the draws.
    """

    n_validation: int = 10_000
    per_class: int = 100
    validation_draws: int = 10
    test_draws: int = 100
    split_seed: int = 0
    draw_seed: int = 0

    def split(self, labels: Labels, n_classes: int) -> tuple[Labels, Labels]:
        """The indices of the validation images, and of those from which labels are drawn.

        Raises:
            DissectError: too few images.
        """
        order = np.random.default_rng(self.split_seed).permutation(len(labels))
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
        """The indices of draw `number`: `per_class` of each class, the same for every method."""
        random = np.random.default_rng((self.draw_seed, number))
        return np.concatenate(
            [
                random.choice(pool[labels[pool] == k], self.per_class, replace=False)
                for k in range(n_classes)
            ]
        )


def evaluate_few_labels(
    train: Features,
    train_labels: Labels,
    test: Features,
    test_labels: Labels,
    n_classes: int,
    protocol: LowDataProtocol,
    *,
    cs: Sequence[float] = PAPER_C,
    standardize: bool = False,
    solver: Solver = "auto",
    report: Callable[[str], None] | None = None,
) -> EvaluationResult:
    """The L2-SVM on few labels: the mean test accuracy over draws of them.

    The C with the best mean validation accuracy over `validation_draws` draws is chosen. With it
    the test accuracy is averaged over `test_draws` further draws.

    Args:
        train: features (N, D) of the training images.
        train_labels: their classes.
        test: features of the test images.
        test_labels: their classes.
        n_classes: number of classes.
        protocol: sizes and seeds.
        cs: values of C to try.
        standardize: bring each feature to mean 0 and std 1 on the drawn images.
        solver: as in `fit_svm`.
        report: called with a line of text for each C.

    Raises:
        DissectError: too few images, or what `fit_svm` raises.
    """
    held_out, pool = protocol.split(train_labels, n_classes)
    held_out_features = train[held_out]
    numbers = iter(range(len(cs) * protocol.validation_draws + protocol.test_draws))
    models: list[LinearClassifier] = []

    def fit(c: float) -> LinearClassifier:
        rows = protocol.draw(train_labels, pool, n_classes, next(numbers))
        features = train[rows]
        scaling = Scaling.from_features(features) if standardize else None
        model = fit_svm(features, train_labels[rows], c, n_classes, scaling=scaling, solver=solver)
        models.append(model)
        return model

    validation: dict[float, float] = {}
    for c in cs:
        accuracies = [
            fit(c).accuracy(held_out_features, train_labels[held_out])
            for _ in range(protocol.validation_draws)
        ]
        validation[c] = float(np.mean(accuracies))
        if report is not None:
            report(f"C {c:g}: {validation[c]:.4f} of validation images")
    best = max(validation, key=lambda c: (validation[c], -c))
    accuracies = [fit(best).accuracy(test, test_labels) for _ in range(protocol.test_draws)]
    mean, half = float(np.mean(accuracies)), 1.96 * float(np.std(accuracies))
    return EvaluationResult(
        accuracy=mean,
        interval=(mean - half, mean + half),
        c=best,
        validation=validation,
        n_features=train.shape[1],
        solver=models[-1].solver,
        converged=all(model.converged for model in models),
    )
