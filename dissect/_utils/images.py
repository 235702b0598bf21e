"""Images: uint8 arrays, the tensors of a network, and sheets of many."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect._utils.errors import DissectError

if TYPE_CHECKING:
    import torch

__all__ = ["image_grid", "to_images", "to_tensor"]


def to_tensor(images: NDArray[Any], device: "str | torch.device" = "cpu") -> "torch.Tensor":
    """`images` as a network sees them: float32 (B, 3, H, W) in [-1, 1], on `device`.

    Args:
        images: uint8 (B, H, W, 3). 0 becomes -1 and 255 becomes 1, the range of the generator's
            tanh (Radford et al. 2015, section 4).
        device: the bytes travel there before they become floats, a quarter of the traffic.

    Raises:
        DissectError: another shape or another type.
    """
    import torch

    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise DissectError(
            f"images must be uint8 of shape (B, H, W, 3); got {images.dtype} {images.shape}"
        )
    # A read-only array (a memory map) would make torch warn; copying one is cheap.
    pixels = torch.from_numpy(images if images.flags.writeable else images.copy()).to(device)
    return pixels.permute(0, 3, 1, 2).float().contiguous().div_(127.5).sub_(1.0)


def to_images(tensor: "torch.Tensor") -> NDArray[np.uint8]:
    """`tensor` as pictures: uint8 (B, H, W, 3), the inverse of `to_tensor`.

    Args:
        tensor: (B, 3, H, W), or (B, 1, H, W) of grey images, of any float type and device. -1
            becomes 0, 1 becomes 255; values between are rounded, values outside are clamped.

    Raises:
        DissectError: another shape, or an image with NaN.

    >>> import torch
    >>> images = to_images(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1))
    >>> images.shape, images.ravel().tolist()
    ((1, 1, 1, 3), [0, 128, 255])
    """
    import torch

    if tensor.ndim != 4 or tensor.shape[1] not in (1, 3):
        raise DissectError(
            f"expected a tensor of shape (B, 1, H, W) or (B, 3, H, W); got {tuple(tensor.shape)}"
        )
    broken = int(tensor.isnan().flatten(1).any(1).sum())
    if broken:
        raise DissectError(
            f"{broken} of {len(tensor)} images hold values that are not numbers (NaN): the model, "
            "or an edit of it, computes none"
        )
    levels = tensor.detach().expand(-1, 3, -1, -1).float().clamp(-1.0, 1.0).add(1.0).mul_(127.5)
    pixels = levels.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    array: NDArray[np.uint8] = pixels.cpu().numpy()
    return array


def image_grid(
    images: NDArray[np.uint8],
    *,
    columns: int,
    scale: int = 2,
    gap: int = 1,
    background: int = 255,
) -> Image.Image:
    """One picture of all images, row by row, enlarged `scale` times without blurring.

    Args:
        images: (N, H, W, 3) uint8.
        columns: images in a row.
        scale: enlargement, a whole number (nearest neighbour).
        gap: pixels between two images, before the enlargement.
        background: grey level of the gaps.
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8
    )
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
