"""What a discriminator has learnt, judged by a linear classifier on its features (section 5)."""

from dissect.representation.features import (
    calibrated,
    discriminator_features,
    feature_layers,
    pooled_features,
)
from dissect.representation.kmeans import PatchCode, fit_patches, kmeans_features
from dissect.representation.protocols import FewLabels, Judged, all_labels, few_labels
from dissect.representation.supervised import Searched, Trial, search
from dissect.representation.svm import LinearClassifier, Scaling, Svm, fit_svm
from dissect.representation.table import ROWS, Study, TableRow

__all__ = [
    "ROWS",
    "FewLabels",
    "Judged",
    "LinearClassifier",
    "PatchCode",
    "Scaling",
    "Searched",
    "Study",
    "Svm",
    "TableRow",
    "Trial",
    "all_labels",
    "calibrated",
    "discriminator_features",
    "feature_layers",
    "few_labels",
    "fit_patches",
    "fit_svm",
    "kmeans_features",
    "pooled_features",
    "search",
]
