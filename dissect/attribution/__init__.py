"""What a unit answers to: attribution through captum, LeakyReLU made right."""

from dissect.attribution.concepts import ConceptShares, concept_shares, receptive_field
from dissect.attribution.methods import (
    deconvolution,
    grad_cam,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
)
from dissect.attribution.random_init import random_twin
from dissect.attribution.rectifiers import GuidedRule
from dissect.attribution.responses import Responses, strongest
from dissect.attribution.study import FeaturePictures, FeatureStudy, pictures, study_features

__all__ = [
    "ConceptShares",
    "FeaturePictures",
    "FeatureStudy",
    "GuidedRule",
    "Responses",
    "concept_shares",
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "integrated_gradients",
    "occlusion",
    "pictures",
    "random_twin",
    "receptive_field",
    "saliency",
    "strongest",
    "study_features",
]
