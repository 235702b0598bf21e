"""Figure 7: sums of concepts in latent space, beside the same sums in pixels (section 6.3.2).

    python examples/arithmetic.py

Writes out/arithmetic.png: for each sum the mean of three exemplars of every concept, the result,
neighbours of it, and the sum of the mean images.
"""

from pathlib import Path

import torch

import dissect
from dissect._utils.io import write_image
from dissect.figures import labelled_rows
from dissect.latent_space import Exemplars, neighbours, parse_expression, pixel_sum, vector_sum

EXEMPLARS = Path(__file__).parents[1] / "annotations/bedrooms64/exemplars/concepts.json"
SUM = "bedroom with window - bedroom without + red bed"


def main() -> None:
    """Put a window into rooms with a red bed."""
    generator = dissect.load("bedrooms64")
    listed = Exemplars.load(EXEMPLARS)
    listed.check(dissect.fingerprint(generator))
    candidates = dissect.latents_for(generator, listed.n, listed.seed)
    terms = parse_expression(SUM)
    z = {term.concept: candidates[list(listed.indices(term.concept))] for term in terms}
    means = {concept: exemplars.mean(0) for concept, exemplars in z.items()}
    result = vector_sum(terms, means)
    rows = {
        concept: torch.cat([exemplars, means[concept][None]]) for concept, exemplars in z.items()
    }
    rows["the sum, and\nneighbours of it"] = torch.cat([result[None], neighbours(result, 3)])
    images = {name: dissect.generate(generator, latents) for name, latents in rows.items()}
    light = {concept: images[concept][:-1].mean(0) for concept in z}
    pixels = pixel_sum(terms, light)[None]
    blank = torch.ones_like(pixels).repeat(3, 1, 1, 1)
    images["the sum in\npixel space"] = torch.cat([pixels, blank])
    sheet = labelled_rows(
        {name: dissect.to_images(row) for name, row in images.items()},
        columns=4,
        caption="three exemplars of each, and the image of their mean latent",
    )
    print("wrote", write_image(Path("out/arithmetic.png"), sheet))


if __name__ == "__main__":
    main()
