"""Figure 8: samples moved along a direction from four exemplars at each end (section 6.3.2).

    python examples/turn.py

Writes out/turn.png: rooms whose window moves from the left to the right.
"""

from pathlib import Path

import torch

import dissect
from dissect._utils.io import write_image
from dissect.figures.latent_space import turn_figure
from dissect.latent_space import Exemplars, from_exemplars

EXEMPLARS = Path(__file__).parents[1] / "annotations/bedrooms64/exemplars/turn.json"
SAMPLES, POSITIONS = 6, 9


def main() -> None:
    """Turn rooms along the direction of exemplars that were picked by eye."""
    generator = dissect.load("bedrooms64")
    listed = Exemplars.load(EXEMPLARS)
    listed.check(dissect.fingerprint(generator))
    candidates = dissect.latents_for(generator, listed.n, listed.seed)
    ends = {name: candidates[list(indices)] for name, indices in listed.concepts.items()}
    (first_name, first), (last_name, last) = ends.items()

    steps = torch.linspace(-1, 1, POSITIONS)[:, None] * from_exemplars(first, last)
    samples = dissect.latents_for(generator, SAMPLES, seed=1)
    z = (samples[:, None] + steps).flatten(0, 1)
    pictures = dissect.to_images(dissect.generate(generator, z))
    means = torch.stack([first.mean(0), last.mean(0)])
    left, right = dissect.to_images(dissect.generate(generator, means))
    figure = turn_figure(
        left,
        right,
        pictures.reshape(SAMPLES, POSITIONS, *pictures.shape[1:]),
        first_name=first_name,
        last_name=last_name,
    )
    print("wrote", write_image(Path("out/turn.png"), figure))


if __name__ == "__main__":
    main()
