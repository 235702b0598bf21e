"""A picture of solids: ellipsoids seen from the front, shaded, one before another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dissect.data.synthetic.faces.palette import Colour

OVERSAMPLING = 2
CLASSES = ("background", "skin", "hair", "eye", "mouth", "beard", "glasses", "clothes")
Array = npt.NDArray[np.float32]
Point = tuple[float, float, float]
Box = tuple[slice, slice]
Matrix = tuple[Point, Point, Point]

UPRIGHT: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def turned(yaw: float, pitch: float, roll: float) -> Matrix:
    """From the head's axes (right, up, forward) to the viewer's (right, up, towards him).

    Each angle is given as the tangent of its half.
    """
    (sy, cy), (sp, cp), (sr, cr) = map(_sine_cosine, (yaw, pitch, roll))
    a = ((cy, 0.0, sy), (-sp * -sy, cp, sp * cy), (cp * -sy, -sp, cp * cy))
    first = (cr * a[0][0] + sr * a[1][0], cr * a[0][1] + sr * a[1][1], cr * a[0][2] + sr * a[1][2])
    second = (
        cr * a[1][0] - sr * a[0][0],
        cr * a[1][1] - sr * a[0][1],
        cr * a[1][2] - sr * a[0][2],
    )
    return first, second, a[2]


def _sine_cosine(half: float) -> tuple[float, float]:
    square = half * half
    return 2 * half / (1 + square), (1 - square) / (1 + square)


@dataclass(frozen=True)
class Surface:
    """The visible side of a solid within a box of the picture."""

    box: Box
    z: Array  # towards the viewer
    cover: Array  # 0 outside to 1 inside
    normal: tuple[Array, Array, Array]  # of length 1, in the viewer's axes


class Canvas:
    """Pixels (oversampled) with a depth and a class each.

    Lengths are in half heights of the head, around its centre, x to the right, y up and z towards
    the viewer. What is painted later covers what was painted before.
    """

    def __init__(self, size: int, centre: tuple[float, float], scale: float) -> None:
        self.size = size
        self.pixels = size * OVERSAMPLING
        steps = _steps(self.pixels)
        self.x = ((steps - centre[0]) / scale).astype(np.float32)[None, :]
        self.y = ((-steps - centre[1]) / scale).astype(np.float32)[:, None]
        self.pixel = 2 / (self.pixels * scale)  # its side
        self.soft = 1.3 / (self.size * scale)  # half the blur of an edge, part of a pixel
        self.colours = np.empty((3, self.pixels, self.pixels), np.float32)
        self.depth = np.full((self.pixels, self.pixels), -9.0, np.float32)
        self.classes = np.zeros((self.pixels, self.pixels), np.uint8)

    def box(self, left: float, right: float, bottom: float, top: float) -> Box:
        """The part of the picture that holds a rectangle, at least one pixel."""
        x0, y0 = float(self.x[0, 0]), float(self.y[0, 0])
        columns = _within((left - x0) / self.pixel, (right - x0) / self.pixel, self.pixels)
        rows = _within((y0 - top) / self.pixel, (y0 - bottom) / self.pixel, self.pixels)
        return rows, columns

    def whole(self) -> Box:
        """All of the picture."""
        return slice(0, self.pixels), slice(0, self.pixels)

    def edge(self, distance: Array, softness: float = 0.0) -> Array:
        """Cover of what lies `distance` inside an edge: 0 well outside, 0.5 on it, 1 inside."""
        share: Array = distance * np.float32(0.5 / max(softness, self.soft / 2))
        share += np.float32(0.5)
        np.maximum(share, 0, out=share)
        return np.minimum(share, 1, out=share)

    def ellipsoid(
        self, centre: Point, radii: Point, axes: Matrix, box: Box | None = None
    ) -> Surface:
        """The near side of an ellipsoid whose centre and radii are along the columns of `axes`."""
        cx, cy, cz = (sum(axes[i][j] * centre[j] for j in range(3)) for i in range(3))

        def form(i: int, j: int, power: int) -> float:
            return sum(axes[i][k] * axes[j][k] * radii[k] ** power for k in range(3))

        wide, high = math.sqrt(form(0, 0, 2)), math.sqrt(form(1, 1, 2))
        if box is None:
            reach = 2 * self.pixel
            box = self.box(
                cx - wide - reach, cx + wide + reach, cy - high - reach, cy + high + reach
            )
        x, y = self.x[:, box[1]] - np.float32(cx), self.y[box[0]] - np.float32(cy)
        a, p, q = form(2, 2, -2), form(0, 2, -2), form(1, 2, -2)
        b = np.float32(p) * x + np.float32(q) * y
        square = (np.float32(form(0, 0, -2) - p * p / a) * x * x) + (
            np.float32(form(1, 1, -2) - q * q / a) * y * y
        )
        square += (np.float32(2 * (form(0, 1, -2) - p * q / a)) * x) * y
        inside: Array = np.float32(1.0) - square
        cover = self.edge(inside * np.float32(0.5 * min(wide, high)))
        np.maximum(inside, 0, out=inside)
        inside *= np.float32(a)
        near = np.sqrt(inside)
        near -= b
        near *= np.float32(1 / a)
        nx = np.float32(form(0, 0, -2)) * x + np.float32(form(0, 1, -2)) * y + np.float32(p) * near
        ny = np.float32(form(0, 1, -2)) * x + np.float32(form(1, 1, -2)) * y + np.float32(q) * near
        nz = b + np.float32(a) * near
        length = nx * nx
        length += ny * ny
        length += nz * nz
        np.sqrt(length, out=length)
        np.maximum(length, 1e-6, out=length)
        np.divide(1, length, out=length)
        near += np.float32(cz)
        return Surface(box, near, cover, (nx * length, ny * length, nz * length))

    def head_place(self, surface: Surface, axes: Matrix) -> tuple[Array, Array, Array]:
        """Where on the head each point of a surface lies: right, up, forward."""
        x, y = self.x[:, surface.box[1]], self.y[surface.box[0]]
        u, v, w = (
            np.float32(axes[0][k]) * x
            + np.float32(axes[1][k]) * y
            + np.float32(axes[2][k]) * surface.z
            for k in range(3)
        )
        return u, v, w

    def in_front(self, surface: Surface) -> Array:
        """How much of a surface is before what was painted, 0 to 1."""
        return self.edge(surface.z - self.depth[surface.box], 0.03)

    def paint(
        self,
        box: Box,
        cover: Array,
        colour: Colour,
        name: str | None,
        light: Array | float = 1.0,
        z: Array | float | None = None,
    ) -> None:
        """Lay a colour over the part of `box` that `cover` says; `name` None keeps the class."""
        for part, value in zip(self.colours, colour, strict=True):
            there = part[box]
            there += cover * (np.float32(value) * light - there)
        solid = cover > 0.5
        if name is not None:
            np.copyto(self.classes[box], np.uint8(CLASSES.index(name)), where=solid)
        if z is not None:
            np.copyto(self.depth[box], z, where=solid)

    def developed(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Image uint8 (size, size, 3) and classes uint8 (size, size)."""
        n, k = self.size, OVERSAMPLING
        mean = self.colours[:, 0::k, 0::k].copy()
        for row in range(k):
            for column in range(k):
                if row or column:
                    mean += self.colours[:, row::k, column::k]
        mean *= np.float32(1 / k**2)
        mean += np.float32(0.5)
        np.clip(mean, 0, 255, out=mean)
        image = np.empty((n, n, 3), np.uint8)
        image[:] = mean.transpose(1, 2, 0)
        return image, np.ascontiguousarray(self.classes[k // 2 :: k, k // 2 :: k])


def lit(surface: Surface, light: Point, ambient: float) -> Array:
    """How bright each point of a surface is: 1 where it faces the lamp."""
    nx, ny, nz = surface.normal
    shade: Array = nx * np.float32(light[0]) + ny * np.float32(light[1]) + nz * np.float32(light[2])
    np.maximum(shade, 0, out=shade)
    shade *= np.float32(1.08 - ambient)
    shade += np.float32(ambient)
    return shade


def ellipse(u: Array, v: Array, centre: Sequence[float], radii: Sequence[float]) -> Array:
    """About how far inside an ellipse each place lies, negative outside."""
    right: Array = (u - np.float32(centre[0])) * np.float32(1 / radii[0])
    up: Array = (v - np.float32(centre[1])) * np.float32(1 / radii[1])
    right *= right
    up *= up
    square = right + up
    np.sqrt(square, out=square)
    inside: Array = np.subtract(1, square, out=square)
    inside *= np.float32(min(radii))
    return inside


@lru_cache(maxsize=8)
def _steps(pixels: int) -> npt.NDArray[np.float64]:
    steps = np.asarray((np.arange(pixels) + 0.5) * (2 / pixels) - 1, np.float64)
    steps.flags.writeable = False
    return steps


def _within(low: float, high: float, length: int) -> slice:
    start = min(max(int(low), 0), length - 1)
    return slice(start, max(start + 1, min(int(high) + 2, length)))
