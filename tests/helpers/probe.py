"""Boxes on a grid, and units that tell them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dissect.probe import Probe, fit_probe

QUICK: dict[str, Any] = {"layer": "conv", "resamples": 20, "sign_fits": 5, "shuffles": 2}


def boxes_on_grid(images: int = 12, grid: int = 4, seed: int = 0) -> Tensor:
    """A covered square of 2 x 2 cells, somewhere on every other image: (images, grid, grid)."""
    rng = np.random.default_rng(seed)
    coverage = torch.zeros(images, grid, grid)
    for image in range(0, images, 2):
        row, column = rng.integers(0, grid - 1, size=2)
        coverage[image, row : row + 2, column : column + 2] = 1
    return coverage


def telling_units(coverage: Tensor, noise: float = 0.3, seed: int = 0) -> Tensor:
    """Four units: one that is on in boxes, one that is off in them, one of noise, a dead one."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, *coverage.shape)
    disturbance = noise * torch.randn(shape, generator=generator)
    units = [
        coverage + disturbance[0],
        1 - coverage + disturbance[1],
        disturbance[2],
        torch.zeros_like(coverage),
    ]
    return torch.stack(units, dim=1)


def small_probe() -> Probe:
    coverage = boxes_on_grid()
    return fit_probe(telling_units(coverage), coverage, concept="window", model="f" * 16, **QUICK)
