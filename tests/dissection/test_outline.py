import re

import numpy as np
from hypothesis import given
from hypothesis.extra.numpy import arrays

from dissect.figures.outline import outline_path


def filled(path, shape):
    """The mask inside a path, by the even-odd rule, pixel centre by pixel centre."""
    inside = np.zeros(shape, int)
    for loop in re.findall(r"M[^z]*z", path):
        x, y = map(int, re.match(r"M(\d+) (\d+)", loop).groups())
        start = (x, y)
        steps = [(kind, int(by)) for kind, by in re.findall(r"([hv])(-?\d+)", loop)]
        corners = [(x, y)]
        for kind, by in steps:
            x, y = (x + by, y) if kind == "h" else (x, y + by)
            corners.append((x, y))
        # What z closes is a straight edge.
        assert x == start[0] or y == start[1]
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + [start], strict=True):
            if x0 == x1:
                inside[min(y0, y1) : max(y0, y1), x0:] ^= 1
    return inside.astype(bool)


def test_one_pixel_is_a_square_and_nothing_is_nothing():
    mask = np.zeros((3, 4), bool)
    assert outline_path(mask) == ""
    mask[1, 2] = True
    assert outline_path(mask) == "M2 1h1v1h-1z"


def test_pixels_that_touch_at_a_corner_are_two_loops_and_a_hole_is_one_more():
    assert outline_path(np.eye(2, dtype=bool)) == "M0 0h1v1h-1zM1 1h1v1h-1z"
    assert outline_path(np.eye(2, dtype=bool)[::-1]).count("M") == 2
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert outline_path(ring) == "M0 0h3v3h-3zM1 2h1v-1h-1z"


@given(arrays(bool, (6, 7)))
def test_the_path_surrounds_the_mask_and_nothing_else(mask):
    assert (filled(outline_path(mask), mask.shape) == mask).all()
