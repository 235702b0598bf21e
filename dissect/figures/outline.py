"""The outline of a mask, as a path that is sharp at any size."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["outline_path"]

# Steps right, down, left and up: dx, dy and the letter that SVG has for them.
_STEPS = ((1, 0, "h"), (0, 1, "v"), (-1, 0, "h"), (0, -1, "v"))


def outline_path(mask: NDArray[np.bool_]) -> str:
    """The border of the true pixels of a mask (H, W) as the data of an SVG path; "" for none.

    In units of pixels, along their edges, the true ones on the right hand; holes have loops of
    their own.
    """
    padded = np.pad(mask, 1)
    here = padded[1:-1, 1:-1]
    # From which corners a step along an edge leaves, by direction: the top edges of true pixels
    # are walked to the right, their right edges down, their bottom edges to the left, ...
    leaves: list[set[tuple[int, int]]] = []
    for (beyond_y, beyond_x), (corner_y, corner_x) in (
        ((0, 1), (0, 0)),
        ((1, 2), (0, 1)),
        ((2, 1), (1, 1)),
        ((1, 0), (1, 0)),
    ):
        height, width = mask.shape
        beyond = padded[beyond_y : beyond_y + height, beyond_x : beyond_x + width]
        rows, columns = (here & ~beyond).nonzero()
        leaves.append(
            set(zip((columns + corner_x).tolist(), (rows + corner_y).tolist(), strict=True))
        )
    # A loop takes away the starts that lie on it.
    return "".join(_loop(leaves, start) for start in sorted(leaves[0]) if start in leaves[0])


def _loop(leaves: list[set[tuple[int, int]]], start: tuple[int, int]) -> str:
    """The loop through `start`, begun to the right, taken out of `leaves`."""
    (x, y), direction, length = start, 0, 0
    words = [f"M{x} {y}"]
    while True:
        if (x, y) in leaves[direction]:
            leaves[direction].remove((x, y))
            dx, dy, _ = _STEPS[direction]
            x, y, length = x + dx, y + dy, length + 1
            continue
        if length:
            dx, dy, letter = _STEPS[direction]
            words.append(f"{letter}{(dx + dy) * length}")
        # Where two pixels touch at a corner alone, the right turn keeps them apart.
        turns = [(direction + turn) % 4 for turn in (1, 3)]
        ahead = [turn for turn in turns if (x, y) in leaves[turn]]
        if not ahead:
            return "".join([*words[:-1], "z"])
        direction, length = ahead[0], 0
