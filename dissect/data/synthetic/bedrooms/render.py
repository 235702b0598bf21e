"""One bedroom from its number."""

import numpy as np
import numpy.typing as npt

from dissect._utils.errors import DissectError
from dissect.data.synthetic.bedrooms.light import shade
from dissect.data.synthetic.bedrooms.scene import paint, sample
from dissect.data.synthetic.rng import Rng


def render(
    index: int, seed: int, size: int = 64
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Bedroom `index` of seed `seed`: image uint8 (H, W, 3) and class mask uint8 (H, W).

    The mask holds positions in `CLASSES` and shows exactly what is visible at each pixel's centre.
    H = W = `size`, in pixels. The result depends on the arguments alone. Raises DissectError for a
    negative index or seed and for a size outside 16..1024.
    """
    if index < 0 or seed < 0:
        raise DissectError(f"bedroom index and seed must be 0 or more, got {index} and {seed}")
    if not 16 <= size <= 1024:
        raise DissectError(f"bedroom size must be 16 to 1024 pixels, got {size}")
    scene = sample(Rng(seed, index))
    canvas, bodies = paint(scene, size)
    return shade(canvas, (scene.room.width, scene.room.height), scene.lighting, bodies)
