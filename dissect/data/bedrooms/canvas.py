"""A drawing surface that remembers, for every pixel, which painted surface is seen there."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dissect.data.bedrooms.geometry import Body, Camera, Frame, Point

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
        self._light = towards_light
        self._draw = ImageDraw.Draw(self.image)
        self._numbers: dict[tuple[object, ...], int] = {}
        self._colours: list[int] = []
        self._table: list[tuple[float, float, float, float, float, float, float]] = []

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
            self._draw.polygon(corners, fill=self._surface(points[0], colour, name, normal, glow))

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
        self._draw.polygon(list(corners), fill=self._surface(anchor, colour, name, facing, glow))

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
        self.polygon(
            frame.rectangle(u0, u1, z0, z1, w), colour, name, frame.normal(0, 1, 0), glow=glow
        )

    def colours(self) -> Image.Image:
        """The painted colours at the final size, RGB, before light and shadow."""
        painted = self.image.copy()
        painted.putpalette(self._colours)
        return painted.convert("RGB").reduce(OVERSAMPLING)

    def surfaces(
        self,
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Surface numbers (H, W), a table with a column per surface, and the class mask (H, W).

        The rows of the table are normal x, y, z, plane offset, glow, owner, class.
        """
        middle = OVERSAMPLING // 2
        numbers = np.asarray(self.image)[middle::OVERSAMPLING, middle::OVERSAMPLING]
        table = np.array(self._table, dtype=np.float32).T.copy()
        chosen = numbers.astype(np.intp)
        return chosen, table, table[6].astype(np.uint8)[chosen]

    def _surface(self, point: Point, colour: Colour, name: str, normal: Point, glow: float) -> int:
        c, n = self.camera, normal
        offset = n[0] * (point[0] - c.x) + n[1] * (point[1] - c.y) + n[2] * (point[2] - c.z)
        key = (colour, name, n, int(offset * 1000), self.owner, glow)
        number = self._numbers.get(key)
        if number is None:
            if len(self._table) == 256:  # a crowded room: share the last surface's plane
                return 255
            number = self._numbers[key] = len(self._table)
            towards = n[0] * self._light[0] + n[1] * self._light[1] + n[2] * self._light[2]
            facing = 0.90 + 0.16 * towards + 0.11 * max(n[2], 0.0)
            shade = facing + (1.0 - facing) * glow
            red, green, blue = colour
            self._colours += [
                min(255, int(red * shade + 0.5)),
                min(255, int(green * shade + 0.5)),
                min(255, int(blue * shade + 0.5)),
            ]
            self._table.append((*n, offset, glow, float(self.owner), float(_CLASS_IDS[name])))
        return number
