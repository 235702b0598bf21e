"""The main job through the API: from boxes on samples to bedrooms without windows.

    python examples/window_free.py

Writes out/window_free.png: before, the paper's edit, the edit where the probe sees a window, and
as many random units removed.
"""

from pathlib import Path

import torch

import dissect
from dissect._utils.images import to_images
from dissect._utils.io import write_image
from dissect.figures import labelled_rows

LAYER = "layer8x8"


def main() -> None:
    """Fit the probe, remove its units, save the picture and the edited generator."""
    generator = dissect.load("bedrooms64")
    boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    z = dissect.latents(len(boxes), boxes.seed, start=boxes.start)

    acts = dissect.activations(generator, LAYER, z)
    probe = dissect.fit_probe(acts, boxes.coverage(8), layer=LAYER, concept="window")
    units = probe.units("positive")
    low, high = probe.score.auc_ci
    print(f"AUC {probe.score.auc:.3f} ({low:.3f} to {high:.3f}) on held-out samples")
    print(f"{len(units)} of {units.total} units have a weight above 0")

    fresh = dissect.latents(12, seed=1)
    rows = {}
    with torch.inference_mode():
        rows["before"] = generator(fresh)
        with dissect.ablated(generator, units):
            rows["removed everywhere"] = generator(fresh)
        with dissect.ablated(generator, units, where=probe):
            rows["removed where the\nprobe sees a window"] = generator(fresh)
        with dissect.ablated(generator, units.random(seed=0)):
            rows["as many random units"] = generator(fresh)
    images = {name: to_images(row) for name, row in rows.items()}
    print("wrote", write_image(Path("out/window_free.png"), labelled_rows(images)))

    edited = dissect.bake(generator, units)
    assert torch.equal(to_torch(edited, fresh), rows["removed everywhere"])
    print("wrote", dissect.save("out/edited.safetensors", edited))


def to_torch(generator: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
    """The images of `generator`, without a graph."""
    with torch.inference_mode():
        images: torch.Tensor = generator(z)
    return images


if __name__ == "__main__":
    main()
