"""What a unit answers to: attribution through captum, LeakyReLU made right."""

from dissect.attribution.methods import (
    deconvolution,
    grad_cam,
    guided_backprop,
    integrated_gradients,
    occlusion,
    saliency,
)
from dissect.attribution.rectifiers import GuidedRule

__all__ = [
    "GuidedRule",
    "deconvolution",
    "grad_cam",
    "guided_backprop",
    "integrated_gradients",
    "occlusion",
    "saliency",
]
