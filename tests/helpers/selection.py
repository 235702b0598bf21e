"""A generator in which exactly one unit draws the concept, and segmenter that see it."""

from collections import OrderedDict

import torch
from torch import nn

from dissect.segmentation import Segmenter

UNITS, GRID, SIZE, CULPRIT = 6, 4, 32, 2


def generator():
    """Latents (N, 6 * 16) to images of 32 x 32; unit 2 paints red, the others blue and green."""
    paint = nn.Conv2d(UNITS, 3, 1)
    with torch.no_grad():
        paint.weight.zero_()
        paint.weight[0, CULPRIT] = 2.0
        for unit in range(UNITS):
            if unit != CULPRIT:
                paint.weight[1 + unit % 2, unit] = 0.3
        paint.bias.fill_(-1.0)
    parts = OrderedDict(
        layer=nn.Sequential(nn.Unflatten(1, (UNITS, GRID, GRID)), nn.ReLU()),
        large=nn.Upsample(scale_factor=SIZE // GRID, mode="nearest"),
        paint=paint,
    )
    made = nn.Sequential(parts).eval()
    made.make_latents = latents
    return made


def latents(n, seed, start):
    """Row i depends on (seed, start + i) alone; the culprit is active in 3 samples of 5."""
    rows = []
    for index in range(start, start + n):
        random = torch.Generator().manual_seed(seed * 1_000_003 + index)
        row = torch.rand(UNITS, GRID, GRID, generator=random) - 0.2
        row[CULPRIT] = -1.0
        if index % 5 < 3:
            at = torch.randint(GRID, (2,), generator=random)
            row[CULPRIT, at[0], at[1]] = 1.0
        rows.append(row.flatten())
    return torch.stack(rows) if rows else torch.zeros(0, UNITS * GRID * GRID)


def _probability(images):
    images = images.float()  # near 1, half precision would leave no gradient to follow
    red = torch.sigmoid(8 * images[:, 0])
    bright = torch.sigmoid(8 * (images[:, 1] + images[:, 2] + 1.2)) * (1 - red)
    return torch.stack([1 - red - bright, bright, red], 1)


SEGMENTER = Segmenter(
    ("wall", "bed", "window", "lamp"), lambda images: _probability(images).argmax(1), _probability
)
