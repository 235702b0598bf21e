"""The rows of the paper's Tables 1 and 2: features against features, under one protocol."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
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
    AUTHORS_C,
    FewLabels,
    Judged,
    all_labels,
    few_labels,
)
from dissect.representation.supervised import search
from dissect.representation.svm import Solver

__all__ = ["ROWS", "Row", "Study", "TableRow", "peak_memory_gb"]

ROWS = ("pixels", "random", "kmeans", "discriminator", "supervised")
"""The rows there are, in the order in which they are made."""

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


@dataclass(frozen=True)
class TableRow:
    """One row: which features, how well they do, and how long it took."""

    row: Row
    judged: Judged
    seconds: float
    more: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The row, ready for JSON; intervals are 95%."""
        found = asdict(self.judged)
        return {
            "row": self.row,
            "name": NAMES[self.row],
            "accuracy": found["accuracy"],
            "accuracy_ci": list(found["interval"]),
            "C": found["c"],
            "tried": {f"{c:g}": value for c, value in found["tried"].items()},
            "n_features": found["n_features"],
            "solver": found["solver"],
            "converged": found["converged"],
            "seconds": round(self.seconds, 1),
            **self.more,
        }


@dataclass(frozen=True)
class Study:
    """Everything that the rows share.

    Attributes:
        train: the images that classifiers learn from.
        test: those on which they are judged.
        model: the discriminator; None where no row needs it.
        layers: its feature layers; () is all.
        few: the protocol with few labels; None is all labels.
        standardize: bring the discriminators' features to mean 0 and deviation 1. The paper does
            not; K-means features always are, as their authors have it.
        mirror: take features of every kind as means over an image and its mirror image. The paper
            does not.
        solver: as in `fit_svm`.
        cs: values of C to try; None: those of the protocol.
        kmeans: how many centroids.
        trials: settings of the supervised search.
        seed: of the random network, the patches, the draws and the search.
        progress: whether to show progress bars.
    """

    train: LabelledSource
    test: LabelledSource
    model: nn.Module | None = None
    layers: Sequence[str] = ()
    few: FewLabels | None = None
    standardize: bool = False
    mirror: bool = False
    solver: Solver = "auto"
    cs: Sequence[float] | None = None
    kmeans: int = 800
    trials: int = 64
    seed: int = 0
    progress: bool | None = None

    def check(self, rows: Sequence[Row]) -> None:
        """Refuse, before anything is computed, rows that cannot be made.

        Raises:
            DissectError: an unknown row, or one that lacks what it needs.
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
        if "supervised" in rows and (self.few is None or not isinstance(self.model, Discriminator)):
            raise DissectError(
                "the row supervised is made for svhn: with few labels, and for a discriminator "
                "of dissect"
            )

    def make(self, row: Row, watch: Callable[[str], None] | None = None) -> TableRow:
        """One row of the table.

        Raises:
            DissectError: as `check`, or what its parts raise.
        """
        self.check([row])
        began = time.perf_counter()
        if row == "supervised":
            assert self.few is not None
            assert isinstance(self.model, Discriminator)
            found = search(
                self.model,
                self.train,
                self.test,
                self.few,
                trials=self.trials,
                seed=self.seed,
                watch=watch,
            )
            return TableRow(row, found.judged, time.perf_counter() - began, found.as_dict())
        train, test = self._features(row)
        computed = time.perf_counter() - began
        common = (train, self.train.labels, test, self.test.labels, len(self.train.classes))
        standardize = row == "kmeans" or (self.standardize and row != "pixels")
        if self.few is None:
            judged = all_labels(
                *common,
                cs=self.cs or ALL_LABELS_C,
                standardize=standardize,
                solver=self.solver,
                watch=watch,
            )
        else:
            judged = few_labels(
                *common,
                self.few,
                cs=self.cs or AUTHORS_C,
                standardize=standardize,
                solver=self.solver,
                watch=watch,
            )
        more = {
            "standardized": standardize,
            "mirrored": self.mirror,
            "feature_seconds": round(computed, 1),
        }
        return TableRow(row, judged, time.perf_counter() - began, more)

    def _features(self, row: Row) -> tuple[Features, Features]:
        """Of the training and of the test images."""
        sets = (self.train, self.test)
        if row == "pixels":
            train, test = (
                stored("pixels", one, _pixels, mirror=self.mirror, progress=self.progress)
                for one in sets
            )
            return train, test
        if row == "kmeans":
            code = fit_patches(self.train, self.kmeans, self.seed)
            train, test = (
                kmeans_features(code, one, mirror=self.mirror, progress=self.progress)
                for one in sets
            )
            return train, test
        assert self.model is not None
        if row == "random":
            from dissect.attribution import random_twin

            network = random_twin(self.model, self.train, self.seed)
        else:
            network = calibrated(self.model, self.train)
        train, test = (
            discriminator_features(
                network,
                one,
                layers=self.layers,
                mirror=self.mirror,
                progress=self.progress,
                called=f"{row} features",
            )
            for one in sets
        )
        return train, test


def _pixels(part: NDArray[np.uint8]) -> Tensor:
    return to_tensor(part).flatten(1)


def peak_memory_gb() -> float:
    """The most memory that this process has held, in GB, mapped files counted."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)
