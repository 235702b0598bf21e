"""Features of a discriminator, evaluated by a linear classifier (section 5 of the paper)."""

from dissect.representation.features import (
    calibrated,
    discriminator_features,
    feature_layers,
    pooled_features,
)
from dissect.representation.kmeans import PatchCode, fit_patches, kmeans_features
from dissect.representation.protocols import (
    ALL_LABELS_C,
    PAPER_C,
    EvaluationResult,
    LowDataProtocol,
    evaluate_all_labels,
    evaluate_few_labels,
)
from dissect.representation.supervised import SearchResult, TrainingSetting, search_classifier
from dissect.representation.svm import LinearClassifier, Scaling, fit_svm
from dissect.representation.table import ROWS, FeatureStudy, TableRow

__all__ = [
    "ALL_LABELS_C",
    "PAPER_C",
    "ROWS",
    "EvaluationResult",
    "FeatureStudy",
    "LinearClassifier",
    "LowDataProtocol",
    "PatchCode",
    "Scaling",
    "SearchResult",
    "TableRow",
    "TrainingSetting",
    "calibrated",
    "discriminator_features",
    "evaluate_all_labels",
    "evaluate_few_labels",
    "feature_layers",
    "fit_patches",
    "fit_svm",
    "kmeans_features",
    "pooled_features",
    "search_classifier",
]
