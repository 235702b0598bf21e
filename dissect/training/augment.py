"""Augmentations that make renders look as imperfect as a generator's samples."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["degrade", "copy_paste"]


def degrade(images: Tensor, masks: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and masks with faults that samples of a GAN have, each by chance.

    Shapes that melt and wave (the masks with them), ghosts of another image, blur and lost detail
    all over or in places, edges too sharp, shifts of colour and contrast, the regular patterns of
    strided transposed convolutions, and noise.

    Args:
        images: renders (N, 3, H, W) in [-1, 1].
        masks: the class of every pixel (N, H, W), int64.
        random: what chance is drawn from, on the CPU.
    """
    n, _, height, width = images.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=random)).to(images)

    def some(share: float, low: float, high: float, channels: int = 1) -> Tensor:
        """A strength for a share of the images, 0 for the others."""
        kept = torch.rand(n, 1, 1, 1, generator=random) < share
        return kept.to(images) * draw(low, high, channels, 1, 1)

    def places() -> Tensor:
        """Smooth patches, in [0, 1], that cover about half of each image."""
        field = _enlarged(draw(-1.5, 2.5, 1, 5, 5), height, width)
        return field.clamp(0, 1)

    melted = some(0.6, 0.0, 4.0) * draw(-1.0, 1.0, 2, 4, 4)
    waved = some(0.6, 0.0, 1.5) * draw(-1.0, 1.0, 2, 12, 12)
    offsets = _enlarged(melted, height, width) + _enlarged(waved, height, width)
    x, masks = _displaced(images, masks, offsets)
    x = torch.lerp(x, x.roll(1, 0), places() * some(0.4, 0.0, 0.4))
    x = torch.lerp(x, _blurred(x, 1), some(0.6, 0.2, 1.0))
    x = torch.lerp(x, _blurred(_blurred(x, 2), 2), places() * some(0.4, 0.2, 0.7))
    coarse = _enlarged(functional.avg_pool2d(x, 2), height, width)
    x = torch.lerp(x, coarse, some(0.3, 0.3, 1.0))
    x = x + (x - _blurred(x, 1)) * some(0.4, 0.0, 1.5)
    x = x * draw(0.75, 1.2, 1, 1, 1) + draw(-0.2, 0.2, 1, 1, 1) + draw(-0.1, 0.1, 3, 1, 1)
    x = x + places() * some(0.4, -0.3, 0.3)
    for period in (2, 4):
        pattern = draw(-1.0, 1.0, 3, period, period) * some(0.4, 0.0, 0.1)
        tiled = pattern.repeat(1, 1, -(-height // period), -(-width // period))
        x = x + tiled[:, :, :height, :width] * places()
    noise = torch.randn(images.shape, generator=random).to(images)
    x = x + noise * some(0.4, 0.0, 0.06)
    x = x + _blurred(noise, 1) * some(0.4, 0.0, 0.15) * places()
    return x.clamp(-1, 1), masks


def copy_paste(
    images: Tensor,
    masks: Tensor,
    sources: Tensor,
    source_masks: Tensor,
    things: Tensor,
    wall: int,
    random: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Images and masks with things of other images on their walls, elsewhere and of other size.

    A renderer hangs pictures over beds and gives windows their usual size; a generator keeps to
    neither, and a segmenter must go by what an object shows (copy-paste, Ghiasi et al. 2021).

    Args:
        images: (N, 3, H, W) in [-1, 1].
        masks: the class of every pixel (N, H, W), int64.
        sources, source_masks: the same of the images that the things are taken from: image i gets
            those of the one before.
        things: classes that may move, int64. They cover walls and one another.
        wall: the class that they hang on.
        random: what chance is drawn from, on the CPU.
    """
    n, _, height, width = images.shape

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=random)).to(images)

    pixels = torch.tensor([width, height]).to(images).view(1, 2, 1, 1)
    grid = _grid(images) * pixels / 2
    size = draw(0.45, 1.4, 1, 1, 1) * draw(0.8, 1.25, 2, 1, 1)
    offsets = (grid - draw(-0.3, 0.3, 2, 1, 1) * pixels) / size - grid
    moved, classes = _displaced(sources.roll(1, 0), source_masks.roll(1, 0), offsets)
    moved = moved * draw(0.8, 1.1, 1, 1, 1) + draw(-0.12, 0.12, 1, 1, 1)
    free = (masks == wall) | torch.isin(masks, things)
    pasted = torch.isin(classes, things) & free & (draw(0, 1, 1, 1) < 0.75)
    images = torch.where(pasted.unsqueeze(1), moved.clamp(-1, 1), images)
    return images, torch.where(pasted, classes, masks)


def _blurred(images: Tensor, radius: int) -> Tensor:
    padded = functional.pad(images, (radius,) * 4, "replicate")
    return functional.avg_pool2d(padded, 2 * radius + 1, 1)


def _enlarged(grid: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(grid, (height, width), mode="bilinear", align_corners=True)


def _displaced(images: Tensor, masks: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Both with every pixel taken from `offsets` (N, 2, H, W) pixels away, x first."""
    height, width = images.shape[2:]
    pixels = torch.tensor([width, height]).to(images).view(1, 2, 1, 1)
    moved = (_grid(images) + offsets * 2 / pixels).permute(0, 2, 3, 1)
    shown = functional.grid_sample(images, moved, padding_mode="border", align_corners=False)
    numbers = masks.unsqueeze(1).to(images)
    true = functional.grid_sample(
        numbers, moved, mode="nearest", padding_mode="border", align_corners=False
    )
    return shown, true.squeeze(1).to(masks.dtype)


def _grid(images: Tensor) -> Tensor:
    """Where the centres of the pixels lie, x first, from -1 to 1: (1, 2, H, W)."""
    height, width = images.shape[2:]
    ys = (torch.arange(height) + 0.5) * 2 / height - 1
    xs = (torch.arange(width) + 0.5) * 2 / width - 1
    return torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1]).to(images).unsqueeze(0)
