"""Renders made to look as imperfect as a generator's samples."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["roughen"]


def roughen(images: Tensor, random: torch.Generator) -> Tensor:
    """`images` (N, 3, H, W) in [-1, 1] with faults that samples of a GAN have, each by chance.

    Blur, lost detail, a shift of colour and contrast, a checkerboard (the trace of strided
    transposed convolutions), wavy edges and noise. Shapes stay in their place to within about a
    pixel, so the masks stay true.

    Args:
        images: renders.
        random: what chance is drawn from, on the CPU.
    """
    n, _, height, width = images.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=random)).to(images)

    def chosen(share: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=random) < share).to(images)

    warped = _wavy(images, draw(-1.0, 1.0, 2, 6, 6) * 1.1)
    x = torch.lerp(images, warped, (torch.rand(n, 1, 1, 1, generator=random) < 0.5).to(images))
    blurred = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), "replicate"), 3, 1)
    x = torch.lerp(x, blurred, chosen(0.7) * draw(0.2, 1.0, 1, 1, 1))
    coarse = functional.interpolate(
        functional.avg_pool2d(x, 2), size=(height, width), mode="bilinear", align_corners=False
    )
    x = torch.lerp(x, coarse, chosen(0.35) * draw(0.3, 1.0, 1, 1, 1))
    x = x * draw(0.75, 1.2, 1, 1, 1) + draw(-0.2, 0.2, 1, 1, 1) + draw(-0.1, 0.1, 3, 1, 1)
    rows, columns = torch.arange(height) % 2, torch.arange(width) % 2
    board = ((rows[:, None] + columns[None]) % 2 * 2.0 - 1.0).to(images)
    x = x + board * chosen(0.5) * draw(-0.12, 0.12, 3, 1, 1)
    noise = torch.randn(images.shape, generator=random).to(images)
    soft = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1), "replicate"), 3, 1)
    x = x + noise * chosen(0.5) * draw(0.0, 0.08, 1, 1, 1)
    x = x + soft * chosen(0.5) * draw(0.0, 0.25, 1, 1, 1)
    return x.clamp(-1, 1)


def _wavy(images: Tensor, offsets: Tensor) -> Tensor:
    """`images` displaced by a smooth field, given in pixels on a coarse grid (N, 2, h, w)."""
    height, width = images.shape[2:]
    field = functional.interpolate(
        offsets, size=(height, width), mode="bicubic", align_corners=True
    )
    ys = (torch.arange(height, device=images.device) + 0.5) * 2 / height - 1
    xs = (torch.arange(width, device=images.device) + 0.5) * 2 / width - 1
    base = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], -1).to(images)
    moved = base + torch.stack([field[:, 0] * 2 / width, field[:, 1] * 2 / height], -1)
    return functional.grid_sample(images, moved, padding_mode="border", align_corners=False)
