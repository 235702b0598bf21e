"""Figure 4: rows of images between random latents (section 6.1).

    python examples/walk.py

Writes out/walk.png, and prints the largest step of a row over its mean step: near 1 for a smooth
way, large for a generator that has memorised images and jumps between them.
"""

from pathlib import Path

import dissect
from dissect._utils.io import write_image
from dissect.figures.latent_space import walk_figure
from dissect.latent_space import interpolation_rows, step_sizes

ROWS, COLUMNS = 6, 9


def main() -> None:
    """Walk between seven random faces."""
    generator = dissect.load("faces64")
    z = interpolation_rows(dissect.latents_for(generator, ROWS + 1, seed=0), COLUMNS)
    images = dissect.generate(generator, z.flatten(0, 1)).unflatten(0, (ROWS, COLUMNS))
    print(f"largest step over mean step, median of rows: {step_sizes(images).ratio:.2f}")
    pictures = dissect.to_images(images.flatten(0, 1))
    rows = pictures.reshape(ROWS, COLUMNS, *pictures.shape[1:])
    print("wrote", write_image(Path("out/walk.png"), walk_figure(rows)))


if __name__ == "__main__":
    main()
