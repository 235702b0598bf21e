"""The rows of the paper's Tables 1 and 2: features against features, under one protocol."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.result import Result
from dissect.data import LabelledSource
from dissect.models import Discriminator
from dissect.representation.features import (
    Features,
    calibrated,
    discriminator_features,
    feature_layers,
    stored,
)
from dissect.representation.kmeans import fit_patches, kmeans_features
from dissect.representation.protocols import (
    ALL_LABELS_C,
    PAPER_C,
    EvaluationResult,
    LowDataProtocol,
    evaluate_all_labels,
    evaluate_few_labels,
)
from dissect.representation.supervised import SearchResult, search_classifier
from dissect.representation.svm import Solver

__all__ = ["ROWS", "FeatureStudy", "Row", "TableRow", "peak_memory_gb"]

ROWS = ("pixels", "random", "kmeans", "discriminator", "supervised")
"""The known rows, in the order of the table."""

Row = str

NAMES = {
    "pixels": "raw pixels + L2-SVM",
    "random": "random discriminator + L2-SVM",
    "kmeans": "one-layer K-means + L2-SVM",
    "discriminator": "trained discriminator + L2-SVM",
    "supervised": "supervised CNN, same architecture",
}

PAPER = {
    "cifar10": {"kmeans": 0.806, "discriminator": 0.828},
    # The second is an error on validation images.
    "svhn": {"discriminator": 1 - 0.2248, "supervised": 1 - 0.2887},
}
"""Accuracies of the paper's Tables 1 and 2."""


@dataclass(frozen=True, repr=False)
class TableRow(Result):
    """One row of the table: the features, their accuracy and the time that it took.

    Attributes:
        row: which features, of `ROWS`.
        evaluation: their accuracy.
        seconds: that the row took.
        standardized: whether features were brought to mean 0 and std 1.
        mirrored: whether they are means over an image and its mirror image.
        feature_seconds: of `seconds`, those for computing the features.
        search: how the supervised network was chosen; None for rows of features.
    """

    row: Row
    evaluation: EvaluationResult
    seconds: float
    standardized: bool = False
    mirrored: bool = False
    feature_seconds: float = 0.0
    search: SearchResult | None = None

    def summary(self) -> dict[str, Any]:
        """The row's name, its accuracy with the interval, and C."""
        return {"row": self.row, **self.evaluation.summary(), "seconds": round(self.seconds, 1)}


@dataclass(frozen=True, repr=False)
class FeatureStudy(ShortRepr):
    """What the rows of the table share.

    Attributes:
        train: the images that classifiers are fitted to.
        test: the images on which they are evaluated.
        model: the discriminator; None where no row needs it.
        layers: its feature layers; () is all.
        low_data: the protocol with few labels; None is all labels.
        standardize: bring the discriminators' features to mean 0 and std 1. The paper does not.
            K-means features are always standardised, as their authors do.
        mirror: average all features over an image and its mirror image. The paper does not.
        solver: as in `fit_svm`.
        cs: values of C to try; None takes those of the protocol.
        kmeans: number of centroids.
        trials: settings of the supervised search.
        seed: of the random network, the patches and the search.
        show_progress: whether to show progress bars.
    """

    train: LabelledSource
    test: LabelledSource
    model: nn.Module | None = None
    layers: Sequence[str] = ()
    low_data: LowDataProtocol | None = None
    standardize: bool = False
    mirror: bool = False
    solver: Solver = "auto"
    cs: Sequence[float] | None = None
    kmeans: int = 800
    trials: int = 64
    seed: int = 0
    show_progress: bool | None = None

    def check(self, rows: Sequence[Row]) -> None:
        """Raise, before anything is computed, if one of the rows cannot be computed.

        Raises:
            DissectError: an unknown row, or one that needs what the study does not have.
        """
        for row in rows:
            if row not in ROWS:
                raise DissectError(f"there is no row {row!r}; choose among {','.join(ROWS)}")
        if self.train.classes != self.test.classes:
            raise DissectError(
                f"the training images have the classes {', '.join(self.train.classes)} and the "
                f"test images {', '.join(self.test.classes)}: they must be the same"
            )
        needing = {"random", "discriminator", "supervised"} & set(rows)
        if not needing:
            return
        if self.model is None:
            raise DissectError(
                f"the rows {','.join(sorted(needing))} need a discriminator of "
                f"{self.train.size} pixels: give one with --model (dissect train "
                f"{self.train.name} --image-size {self.train.size} makes one), or --rows "
                "pixels,kmeans"
            )
        feature_layers(self.model, self.layers)
        size = getattr(self.model, "image_size", self.train.size)
        if size != self.train.size:
            raise DissectError(
                f"the model takes images of {size} pixels, and these have {self.train.size}: train "
                f"one with dissect train {self.train.name} --image-size {self.train.size}"
            )
        if "supervised" in rows and (
            self.low_data is None or not isinstance(self.model, Discriminator)
        ):
            raise DissectError(
                "the row supervised needs few labels, as of svhn, and a discriminator of dissect"
            )

    def run(self, row: Row, report: Callable[[str], None] | None = None) -> TableRow:
        """One row of the table.

        Args:
            row: which features, of `ROWS`.
            report: called with a line of text for each C or trial.

        Raises:
            DissectError: as `check`, `fit_svm` or `discriminator_features`.
        """
        self.check([row])
        start = time.perf_counter()
        if row == "supervised":
            search = search_classifier(
                cast(Discriminator, self.model),
                self.train,
                self.test,
                cast(LowDataProtocol, self.low_data),
                trials=self.trials,
                seed=self.seed,
                report=report,
            )
            return TableRow(row, search.evaluation, time.perf_counter() - start, search=search)
        train, test = self._features(row)
        feature_seconds = time.perf_counter() - start
        data = (train, self.train.labels, test, self.test.labels, len(self.train.classes))
        standardize = row == "kmeans" or (self.standardize and row != "pixels")
        if self.low_data is None:
            evaluation = evaluate_all_labels(
                *data,
                cs=self.cs or ALL_LABELS_C,
                standardize=standardize,
                solver=self.solver,
                report=report,
            )
        else:
            evaluation = evaluate_few_labels(
                *data,
                self.low_data,
                cs=self.cs or PAPER_C,
                standardize=standardize,
                solver=self.solver,
                report=report,
            )
        seconds = time.perf_counter() - start
        return TableRow(row, evaluation, seconds, standardize, self.mirror, feature_seconds)

    def _features(self, row: Row) -> tuple[Features, Features]:
        """The features of the training and of the test images."""
        sets = (self.train, self.test)
        if row == "pixels":
            train, test = (
                stored(
                    "pixels", images, _pixels, mirror=self.mirror, show_progress=self.show_progress
                )
                for images in sets
            )
            return train, test
        if row == "kmeans":
            code = fit_patches(self.train, self.kmeans, self.seed)
            train, test = (
                kmeans_features(code, images, mirror=self.mirror, show_progress=self.show_progress)
                for images in sets
            )
            return train, test
        model = cast(nn.Module, self.model)
        if row == "random":
            from dissect.attribution import random_init_copy

            network = random_init_copy(model, self.train, self.seed)
        else:
            network = calibrated(model, self.train)
        train, test = (
            discriminator_features(
                network,
                images,
                layers=self.layers,
                mirror=self.mirror,
                show_progress=self.show_progress,
                description=f"{row} features",
            )
            for images in sets
        )
        return train, test


def _pixels(part: NDArray[np.uint8]) -> Tensor:
    return to_tensor(part).flatten(1)


def peak_memory_gb() -> float:
    """The largest resident size of this process so far, in GB, including mapped files."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)
