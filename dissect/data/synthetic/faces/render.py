"""One face from its number."""

import numpy as np
import numpy.typing as npt

from dissect._utils.errors import DissectError
from dissect.data.protocol import Indices
from dissect.data.synthetic.faces.canvas import Canvas, turned
from dissect.data.synthetic.faces.face import paint_face
from dissect.data.synthetic.faces.glasses import paint_glasses, paint_temples
from dissect.data.synthetic.faces.hair import paint_hair, paint_mane_before, paint_mane_behind
from dissect.data.synthetic.faces.person import ATTRIBUTES, Person, sample
from dissect.data.synthetic.faces.surroundings import paint_background, paint_body
from dissect.data.synthetic.rng import Rng

__all__ = ["attributes", "draw", "render"]


def render(
    index: int, seed: int, size: int = 64
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Face `index` of seed `seed`: image uint8 (H, W, 3) and class mask uint8 (H, W).

    The mask holds positions in `CLASSES`. H = W = `size`, in pixels. The result depends on the
    arguments alone; `attributes` tells what is to be seen. Raises DissectError for a negative index
    or seed and for a size outside 16..1024.
    """
    if index < 0 or seed < 0:
        raise DissectError(f"face index and seed must be 0 or more, got {index} and {seed}")
    if not 16 <= size <= 1024:
        raise DissectError(f"face size must be 16 to 1024 pixels, got {size}")
    return draw(sample(Rng(seed, index)), size)


def attributes(indices: Indices, seed: int) -> npt.NDArray[np.float32]:
    """What faces `indices` of seed `seed` show: float32 (B, len(ATTRIBUTES)).

    Columns are in the order of `ATTRIBUTES`. `yaw` and `pitch` are degrees, positive to the
    viewer's right and up; all others lie in 0 to 1. Raises DissectError for a negative seed or
    index.
    """
    if seed < 0 or any(index < 0 for index in indices):
        raise DissectError("face index and seed must be 0 or more")
    values = np.empty((len(indices), len(ATTRIBUTES)), np.float32)
    for row, index in enumerate(indices):
        values[row] = sample(Rng(seed, int(index))).attributes()
    return values


def draw(person: Person, size: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Image uint8 (size, size, 3) and class mask uint8 (size, size) of one person."""
    canvas = Canvas(size, (person.x, person.y), person.scale)
    axes = turned(person.yaw, person.pitch, person.roll)
    paint_background(canvas, person)
    paint_mane_behind(canvas, person, axes)
    paint_body(canvas, person)
    paint_face(canvas, person, axes)
    paint_hair(canvas, person, axes)
    paint_temples(canvas, person, axes)
    paint_mane_before(canvas, person, axes)
    paint_glasses(canvas, person, axes)
    return canvas.developed()
