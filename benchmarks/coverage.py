"""How often the 95% interval of a probe's AUC holds one half where there is nothing but noise.

    python benchmarks/coverage.py --fits 400

The true AUC is one half by construction. A row is a number of images with the concept; 20 to 55
more are without it. Three kinds of noise: few units and one cell an image; more units than images;
cells of an image that are alike. It takes about an hour of one core at 400 fits.
"""

import argparse
import warnings

import numpy as np

from dissect.probe import fit_probe

IMAGES = (2, 3, 5, 7, 10, 20, 50)
# Units, cells of the concept on an image, and how alike the cells of one image are.
NOISE = {"5 units": (5, 1, 0.0), "64 units": (64, 2, 0.0), "cells alike": (32, 4, 0.3)}


def interval(images: int, units: int, cells: int, alike: float, seed: int) -> tuple[float, float]:
    """The interval of one fit to noise."""
    rng = np.random.default_rng([images, units, seed])
    n = max(30, images + 20)
    values = rng.normal(size=(n, units, 4, 4)) * (1 - alike) ** 0.5
    values += rng.normal(size=(n, units, 1, 1)) * alike**0.5
    coverage = np.zeros((n, 16))
    for image in range(images):
        coverage[image, rng.choice(16, cells, replace=False)] = 1
    cells_covered = coverage.reshape(n, 4, 4)
    probe = fit_probe(
        values.astype(np.float32), cells_covered, layer="noise", shuffles=2, sign_fits=1, seed=seed
    )
    return probe.score.auc_ci


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=400)
    fits = parser.parse_args().fits
    warnings.simplefilter("ignore")
    print(f"{fits} fits: holds 0.5 (mean width)")
    print("images " + "".join(f"{name:>16}" for name in NOISE))
    for images in IMAGES:
        cells = []
        for setting in NOISE.values():
            ends = np.array([interval(images, *setting, seed) for seed in range(fits)])
            holds = ((ends[:, 0] <= 0.5) & (ends[:, 1] >= 0.5)).mean()
            cells.append(f"{holds:.3f} ({np.diff(ends).mean():.2f})")
        print(f"{images:>6} " + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
