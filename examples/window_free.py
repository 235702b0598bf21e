"""The main job through the API: from boxes on samples to bedrooms without windows.

    python examples/window_free.py

Writes out/window_free.png: before, the paper's edit, the edit where the probe sees a window, and
as many random units removed.
"""

from pathlib import Path

import torch

import dissect
from dissect._utils.io import write_image
from dissect.figures import labelled_rows


def main() -> None:
    """Fit the probe, remove its units, save the picture, the edit and the edited generator."""
    generator = dissect.load("bedrooms64")
    boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    probe = dissect.fit_probe_from_boxes(generator, boxes, layer="layer8x8")
    units = probe.units("positive")
    low, high = probe.score.auc_ci
    print(f"AUC {probe.score.auc:.3f} ({low:.3f} to {high:.3f}) on held-out samples")
    print(f"{len(units)} of {units.total} units have a weight above 0")

    everywhere = dissect.Intervention(units)
    gated = dissect.Intervention(units, gate=probe.gate())
    z = dissect.latents(12, seed=1)
    rows = {
        "before": dissect.generate(generator, z),
        "removed everywhere": dissect.generate(generator, z, edit=everywhere),
        "removed where the\nprobe sees a window": dissect.generate(generator, z, edit=gated),
        "as many random units": dissect.generate(generator, z, edit=everywhere.control(seed=0)),
    }
    images = {name: dissect.to_images(row) for name, row in rows.items()}
    print("wrote", write_image(Path("out/window_free.png"), labelled_rows(images)))

    print("wrote", gated.save("out/edit.json"))
    edited = gated.bake(generator)
    assert torch.equal(dissect.generate(edited, z), dissect.generate(generator, z, edit=gated))
    print("wrote", dissect.save("out/edited.safetensors", edited))


if __name__ == "__main__":
    main()
