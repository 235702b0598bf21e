"""Enlarged samples with rulers, on which boxes are read off by eye.

    python annotations/sheets.py --start 2200 --n 150

Writes out/sheets/NNNN.png, twelve samples a sheet.
"""

import argparse
from pathlib import Path

from dissect import load
from dissect._utils.images import to_images
from dissect._utils.io import write_image
from dissect.figures import annotation_sheet
from dissect.models import generate, latents_for

PER_SHEET = 12


def main() -> None:
    """Write the sheets."""
    parser = argparse.ArgumentParser(description="Samples with rulers, for drawing boxes by eye.")
    parser.add_argument("--model", default="bedrooms64")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=2200, help="index of the first latent")
    parser.add_argument("--n", type=int, default=150, help="how many samples")
    parser.add_argument("--out", type=Path, default=Path("out/sheets"))
    options = parser.parse_args()
    generator = load(options.model)
    for first in range(options.start, options.start + options.n, PER_SHEET):
        count = min(PER_SHEET, options.start + options.n - first)
        z = latents_for(generator, count, options.seed, start=first)
        images = to_images(generate(generator, z))
        names = [f"{index}" for index in range(first, first + count)]
        sheet = annotation_sheet(images, names)
        print("wrote", write_image(options.out / f"{first:04d}.png", sheet))


if __name__ == "__main__":
    main()
