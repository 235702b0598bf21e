"""A drawing surface that remembers, for every pixel, which painted surface is seen there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dissect.data.synthetic.bedrooms.geometry import Body, Camera, Frame, Point

Colour = tuple[float, float, float]

OVERSAMPLING = 3
CLASSES = (
    "wall",
    "floor",
    "ceiling",
    "window",
    "curtain",
    "bed",
    "pillow",
    "lamp",
    "door",
    "picture",
    "mirror",
    "wardrobe",
    "rug",
    "furniture",
)
_CLASS_IDS = {name: number for number, name in enumerate(CLASSES)}
_UP: Point = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Layers:
    """A painted canvas: what is seen at each pixel's centre, and the mean colour there."""

    planes: npt.NDArray[np.float32]  # (4, H, W): normal x, y, z, offset from the camera
    glow: npt.NDArray[np.float32]  # (H, W), 0 to 1
    owners: npt.NDArray[np.uint8]  # (H, W), 0 where the room itself is seen
    classes: npt.NDArray[np.uint8]  # (H, W)
    painted: npt.NDArray[np.float32]  # (3, H, W), 0 to 255, before light and shadow


class Canvas:
    """Paints polygons of the room, later over earlier, into one image of surface numbers.

    A surface is a colour, a class, a plane and the piece of furniture that it belongs to (0: the
    room). One drawing therefore gives the colours, the class mask and, with the planes, the
    position in space of every pixel.
    """

    def __init__(self, camera: Camera, size: int, towards_light: Point) -> None:
        self.camera = camera
        self.size = size
        self.pixels = size * OVERSAMPLING
        self.image = Image.new("L", (self.pixels, self.pixels))
        self.owner = 0
        self._eye = (camera.x, camera.y, camera.z)
        self._light = towards_light
        self._draw = ImageDraw.Draw(self.image).draw
        self._numbers: dict[tuple[object, ...], int] = {}
        self._table: list[float] = []  # see `layers`

    def polygon(
        self,
        points: Sequence[Point],
        colour: Colour,
        name: str,
        normal: Point,
        *,
        glow: float = 0.0,
    ) -> None:
        """Paints a flat polygon; `glow` is its own light (1: unaffected by the room's)."""
        corners = self.camera.project(points, self.pixels)
        if len(corners) > 2:
            self._fill(corners, self._surface(points[0], colour, name, normal, glow))

    def screen(
        self,
        corners: Sequence[tuple[float, float]],
        anchor: Point,
        colour: Colour,
        name: str,
        *,
        glow: float = 0.0,
    ) -> None:
        """Paints a polygon given in image pixels (oversampled) that faces the viewer."""
        facing = (self.camera.sine, -self.camera.cosine, 0.0)
        self._fill(corners, self._surface(anchor, colour, name, facing, glow))

    def box(
        self, body: Body, colour: Colour, name: str, *, top: Colour | None = None, bevel: float = 0
    ) -> None:
        """Paints the faces of a box that the camera sees, with soft upper edges if `bevel` > 0."""
        f, c = body.frame, self.camera
        u0, u1, w0, w1, z0, z1 = body.u0, body.u1, body.w0, body.w1, body.z0, body.z1
        cu, cw = f.of(c.x, c.y)
        at, z, b = f.at, z1 - bevel, bevel
        sides = []
        if cu < u0:
            sides.append((u0, w0, u0, w1, -1.0, 0.0))
        if cu > u1:
            sides.append((u1, w0, u1, w1, 1.0, 0.0))
        if cw > w1:
            sides.append((u0, w1, u1, w1, 0.0, 1.0))
        for ua, wa, ub, wb, nu, nw in sides:
            self.polygon(
                (at(ua, wa, z0), at(ub, wb, z0), at(ub, wb, z), at(ua, wa, z)),
                colour,
                name,
                f.normal(nu, nw, 0.0),
            )
        if c.z <= z1:
            return
        if bevel:
            a0, a1, b1 = u0 + b, u1 - b, w1 - b
            for ua, wa, ub, wb, nu, nw in sides:
                inner_a = (min(max(ua, a0), a1), min(wa, b1))
                inner_b = (min(max(ub, a0), a1), min(wb, b1))
                self.polygon(
                    (at(ua, wa, z), at(ub, wb, z), at(*inner_b, z1), at(*inner_a, z1)),
                    top or colour,
                    name,
                    f.normal(nu * 0.7, nw * 0.7, 0.7),
                )
            u0, u1, w1 = a0, a1, b1
        self.level(f, u0, u1, w0, w1, z1, top or colour, name)

    def level(
        self,
        frame: Frame,
        u0: float,
        u1: float,
        w0: float,
        w1: float,
        z: float,
        colour: Colour,
        name: str,
    ) -> None:
        """Paints a horizontal rectangle that faces up."""
        at = frame.at
        self.polygon(
            (at(u0, w0, z), at(u1, w0, z), at(u1, w1, z), at(u0, w1, z)), colour, name, _UP
        )

    def panel(
        self,
        frame: Frame,
        u0: float,
        u1: float,
        z0: float,
        z1: float,
        colour: Colour,
        name: str,
        *,
        w: float = 0.0,
        glow: float = 0.0,
    ) -> None:
        """Paints an upright rectangle parallel to a wall."""
        a, b = frame.feet(u0, u1, w)
        corners = self.camera.project_upright(a, b, z0, z1, self.pixels)
        if len(corners) > 2:
            self._fill(corners, self._surface((*a, z0), colour, name, (*frame.w, 0.0), glow))

    def layers(self) -> Layers:
        """What the light needs to know of every pixel."""
        table = np.fromiter(self._table, np.float64, len(self._table)).reshape(-1, 10)
        small = self._small_pixels()
        numbers = small[len(small) // 2].astype(np.intp).reshape(self.size, self.size)
        planes = table[:, :4].T.astype(np.float32, order="C")
        return Layers(
            planes=planes.take(numbers, axis=1, mode="clip"),
            glow=table[:, 4].astype(np.float32).take(numbers),
            owners=table[:, 5].astype(np.uint8).take(numbers),
            classes=table[:, 6].astype(np.uint8).take(numbers),
            painted=_averaged(small, self._toned(table)).reshape(3, self.size, self.size),
        )

    def _small_pixels(self) -> npt.NDArray[np.uint8]:
        """Surface numbers of the 9 small pixels in each pixel: (9, H * W); the middle one is 4."""
        fine = np.asarray(self.image)
        small = np.empty((OVERSAMPLING, OVERSAMPLING, self.size, self.size), dtype=np.uint8)
        for row in range(OVERSAMPLING):
            for column in range(OVERSAMPLING):
                small[row, column] = fine[row::OVERSAMPLING, column::OVERSAMPLING]
        return small.reshape(OVERSAMPLING**2, -1)

    def _toned(self, table: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
        """Red, green and blue of each surface, (3, surfaces): faces to the light are lighter."""
        x, y, z = table[:, 0], table[:, 1], table[:, 2]
        towards = x * self._light[0] + y * self._light[1] + z * self._light[2]
        facing = 0.90 + 0.16 * towards + 0.11 * np.maximum(z, 0.0)
        shade = facing + (1.0 - facing) * table[:, 4]
        toned: npt.NDArray[np.uint16] = np.minimum(table[:, 7:].T * shade + 0.5, 255.0).astype(
            np.uint16
        )
        return toned

    def _fill(self, corners: Sequence[tuple[float, float]], number: int) -> None:
        # What ImageDraw.polygon does, without the options that cost more than the drawing.
        self._draw.draw_polygon(corners, self._draw.draw_ink(number), 1)

    def _surface(self, point: Point, colour: Colour, name: str, normal: Point, glow: float) -> int:
        (x, y, z), (nx, ny, nz) = self._eye, normal
        offset = nx * (point[0] - x) + ny * (point[1] - y) + nz * (point[2] - z)
        key = (colour, name, normal, int(offset * 1000), self.owner, glow)
        number = self._numbers.get(key)
        if number is None:
            number = len(self._numbers)
            if number == 256:  # a crowded room: share the last surface's plane
                return 255
            self._numbers[key] = number
            self._table += (nx, ny, nz, offset, glow, self.owner, _CLASS_IDS[name], *colour)
        return number


def _averaged(
    small: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint16]
) -> npt.NDArray[np.float32]:
    """Mean colour of each pixel, (3, H * W): few pixels show more than one surface."""
    middle = small[len(small) // 2]
    painted: npt.NDArray[np.float32] = colours.astype(np.float32).take(middle, axis=1)
    mixed = np.flatnonzero((small != middle).any(axis=0))
    total = colours.take(small.take(mixed, axis=1), axis=1).sum(axis=1, dtype=np.uint16)
    painted[:, mixed] = (total + 3) // 9
    return painted
