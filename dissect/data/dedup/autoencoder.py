"""The 3072-128-3072 autoencoder, and what it sees of an image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dissect._utils.errors import DissectError

__all__ = ["CODE_BITS", "SIDE", "Autoencoder", "normalized"]

SIDE, CODE_BITS = 32, 128
_VALUES = SIDE * SIDE * 3
# The fraction of an image's values that may be clipped, at either end.
_TAIL = 0.1
# Below this standard deviation, in levels of 255, an image is one colour; its noise stays.
_FLAT = 2.0


class Autoencoder(nn.Module):
    """Images (N, 3072) to themselves through 128 rectified units.

    Denoising and regularised by dropout in training (Radford et al. 2015, section 4.1.1).
    """

    def __init__(self, masked: float = 0.2, dropout: float = 0.1) -> None:
        """Both are the fractions that training sets to zero: of the input, and of the code."""
        super().__init__()
        self.mask = nn.Dropout(masked)
        self.encoder = nn.Linear(_VALUES, CODE_BITS)
        self.dropout = nn.Dropout(dropout)
        self.decoder = nn.Linear(CODE_BITS, _VALUES)
        # Above 0 for most images at first: units that are silent from the start never learn.
        nn.init.ones_(self.encoder.bias)

    def code(self, values: Tensor) -> Tensor:
        """The code (N, 128), at least 0, of `values` (N, 3072)."""
        return functional.relu(self.encoder(values))

    def forward(self, values: Tensor) -> Tensor:
        """The reconstruction (N, 3072)."""
        restored: Tensor = self.decoder(self.dropout(self.code(self.mask(values))))
        return restored


def normalized(images: NDArray[np.uint8]) -> Tensor:
    """What the autoencoder sees of images (N, 32, 32, 3): (N, 3072), mean 0 and std 1 each.

    The darkest and the brightest tenth of an image's values are clipped before. So a copy that is
    brighter or has more contrast is the same, to within rounding, even where up to a tenth of it
    has run into white.

    Raises:
        DissectError: images of another shape.
    """
    if images.shape[1:] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
        raise DissectError(
            f"codes are of uint8 images (N, {SIDE}, {SIDE}, 3), not {images.dtype} {images.shape}"
        )
    values = images.reshape(len(images), -1)
    ends = (round(_TAIL * _VALUES), round((1 - _TAIL) * _VALUES) - 1)
    ordered = np.partition(values, ends, axis=1)
    low, high = (torch.from_numpy(ordered[:, end].astype(np.float32))[:, None] for end in ends)
    clipped = torch.from_numpy(values.astype(np.float32)).clamp_(low, high)
    clipped -= clipped.mean(1, keepdim=True)
    return clipped.div_(clipped.std(1, keepdim=True).clamp_(min=_FLAT))
