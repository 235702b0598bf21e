"""Figure 5 through the API: what a discriminator's features respond to, and one by every method.

    python examples/guided.py

Writes out/guided.png (the first six features beside random filters) and out/methods.png (one
feature on its strongest images: the plain gradient, guided backpropagation by both rules, and the
other methods of captum).
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import dissect
from dissect import attribution
from dissect._utils.images import to_tensor
from dissect._utils.io import write_image
from dissect.data import source
from dissect.figures import guided_sheet, labelled_rows, signed_images

LAYER, UNIT = "layer4x4", 5


def main() -> None:
    """Find the strongest images, print what the features respond to, draw both pictures."""
    discriminator = dissect.load("bedrooms64", network="discriminator")
    bedrooms = source("bedrooms", count=2_000, seed=1)
    random_copy = attribution.random_init_copy(discriminator, bedrooms)

    sides = {}
    for name, network in {"random": random_copy, "trained": discriminator}.items():
        study = attribution.study_features(network, LAYER, bedrooms, range(6), label=name)
        assert study.fractions is not None
        for unit, ratios in zip(study.fractions.units, study.fractions.over_chance, strict=True):
            best = int(np.nanargmax(ratios))
            print(f"{name} feature {unit}: {study.fractions.classes[best]} {ratios[best]:.2f}")
        sides[name] = attribution.feature_pictures(network, bedrooms, study.largest, n_units=6, n=5)
    sheet = guided_sheet(sides["random"], sides["trained"])
    print("wrote", write_image(Path("out/guided.png"), sheet))

    largest = attribution.max_activations(discriminator, LAYER, bedrooms, [UNIT], k=8)
    pixels = bedrooms.images(largest.image[0])
    target = (discriminator, to_tensor(pixels), LAYER, UNIT, torch.from_numpy(largest.position[0]))
    methods = {
        "plain gradient": attribution.saliency(*target, absolute=False),
        "guided, strict": attribution.guided_backprop(*target),
        "guided, leaky": attribution.guided_backprop(*target, rule="leaky"),
        "deconvolution": attribution.deconvolution(*target),
        "integrated\ngradients": attribution.integrated_gradients(*target),
        "Grad-CAM\non layer16x16": attribution.grad_cam(*target, at="layer16x16"),
        "occlusion": attribution.occlusion(*target),
    }
    rows = {"image": pixels, **{name: as_pixels(values) for name, values in methods.items()}}
    caption = f"feature {UNIT} of {LAYER}, where it responds most"
    print("wrote", write_image(Path("out/methods.png"), labelled_rows(rows, caption=caption)))


def as_pixels(values: Tensor) -> np.ndarray:
    """The values of a method, at the size of the images, 0 in mid grey: (N, 64, 64, 3) uint8."""
    large = interpolate(values, (64, 64)).expand(-1, 3, -1, -1)
    return signed_images(large.permute(0, 2, 3, 1).numpy())


if __name__ == "__main__":
    main()
