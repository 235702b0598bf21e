"""A generator that many requests share, and pictures of its latents."""

import io
import threading
import time
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from dissect._utils.images import to_images
from dissect.hooks import activations
from dissect.models import fingerprint, generate, latents_for
from dissect.probe.fit import grid_layers
from dissect.surgery import Intervention

__all__ = ["GeneratorSession", "png"]

Pixels = NDArray[np.uint8]

_BLOCK = 16
_BLOCKS_KEPT = 64


class GeneratorSession:
    """A generator by its name; whoever runs it holds `lock`, for an edit's hooks are everyone's."""

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name = name
        self.model = model
        self.fingerprint = fingerprint(model)
        self.lock = threading.RLock()
        self._blocks: OrderedDict[tuple[int, int], Pixels] = OrderedDict()
        self._drawn_at = 0.0

    def image(self, seed: int, index: int) -> Pixels:
        """The sample of latent `index` of `seed`, (H, W, 3) uint8.

        Neighbours are drawn with it, for whoever looks at one mostly looks at the next.
        """
        block = index // _BLOCK
        with self.lock:
            if (seed, block) not in self._blocks:
                z = latents_for(self.model, _BLOCK, seed, start=block * _BLOCK)
                self._blocks[seed, block] = self.pixels(z)
                while len(self._blocks) > _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end((seed, block))
            drawn: Pixels = self._blocks[seed, block][index % _BLOCK]
            return drawn

    def grids(self) -> list[tuple[str, int, int]]:
        """Name, rows and columns of every layer with units on a grid."""
        z = self.latent(0, 0)
        with self.lock:
            shapes = {
                name: activations(self.model, name, z).shape for name in grid_layers(self.model)
            }
        return [(name, shape[2], shape[3]) for name, shape in shapes.items()]

    def draw(self, z: Tensor, edit: Intervention | None = None) -> Tensor:
        """The images of latents, (N, 3, H, W) in [-1, 1], while the generator is edited so."""
        self._drawn_at = time.monotonic()
        with self.lock:
            images = generate(self.model, z, edit=edit)
        self._drawn_at = time.monotonic()
        return images

    def idle_seconds(self) -> float:
        """Seconds since something was drawn."""
        return time.monotonic() - self._drawn_at

    def pixels(self, z: Tensor) -> Pixels:
        """The same as pictures, (N, H, W, 3) uint8."""
        return to_images(self.draw(z))

    def latent(self, seed: int, index: int) -> Tensor:
        """Latent `index` of `seed`, as the model takes it, with a first axis of 1."""
        return latents_for(self.model, 1, seed, start=index)


def png(pixels: Pixels) -> bytes:
    """A picture (H, W, 3) uint8 as the bytes of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
