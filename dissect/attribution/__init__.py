"""What a unit responds to: attribution through captum, LeakyReLU made right."""

from dissect.attribution.concepts import ConceptFractions, concept_fractions, receptive_field
from dissect.attribution.max_activations import MaxActivations, max_activations
from dissect.attribution.methods import (
    deconvolution,
    grad_cam,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
)
from dissect.attribution.random_init import random_init_copy
from dissect.attribution.rectifiers import GuidedRule
from dissect.attribution.study import (
    FeaturePictures,
    FeatureStudy,
    feature_pictures,
    study_features,
)

__all__ = [
    "ConceptFractions",
    "FeaturePictures",
    "FeatureStudy",
    "GuidedRule",
    "MaxActivations",
    "concept_fractions",
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "integrated_gradients",
    "max_activations",
    "occlusion",
    "feature_pictures",
    "random_init_copy",
    "receptive_field",
    "saliency",
    "study_features",
]
