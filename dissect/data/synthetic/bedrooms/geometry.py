"""Camera, wall frames and axis-aligned bodies of a bedroom.

World axes, in metres: x runs to the right along the back wall, y away from the viewer, z up. The
back wall is the plane y = 0, the left wall x = 0; the room lies at x > 0 and y < 0. Only the
operations +, -, *, / are used, so that a scene projects to the same pixels on every machine.
"""

from collections.abc import Sequence
from typing import NamedTuple

Point = tuple[float, float, float]
Place = tuple[float, float]  # x and y of a point on the floor

NEAR = 0.15  # metres; nearer parts of a polygon are cut away


class Camera(NamedTuple):
    """A camera without tilt: vertical edges stay vertical, `horizon` shifts the lens instead."""

    x: float
    y: float
    z: float
    sine: float  # of the yaw; positive turns left
    cosine: float
    focal: float  # in image widths
    horizon: float  # share of the image height above the horizon
    mirrored: bool = False

    def local(self, point: Point) -> Point:
        """Position to the right, depth and height of `point` as seen from the camera."""
        dx, dy = point[0] - self.x, point[1] - self.y
        right = dx * self.cosine + dy * self.sine
        return (
            -right if self.mirrored else right,
            dy * self.cosine - dx * self.sine,
            point[2] - self.z,
        )

    def project(self, points: Sequence[Point], size: float) -> list[tuple[float, float]]:
        """Image positions of a polygon's corners, cut at the near plane; empty if unseen."""
        x, y, z, sine, cosine, focal, horizon, mirrored = self
        scale, middle, level = focal * size, 0.5 * size, horizon * size
        across = -scale if mirrored else scale
        placed = []
        for px, py, pz in points:  # written out: this is the busiest loop of the renderer
            dx, dy = px - x, py - y
            depth = dy * cosine - dx * sine
            if depth < NEAR:
                cut = _cut([self.local(point) for point in points])
                return [(middle + scale * r / d, level - scale * h / d) for r, d, h in cut]
            placed.append(
                (
                    middle + across * (dx * cosine + dy * sine) / depth,
                    level - scale * (pz - z) / depth,
                )
            )
        return placed

    def project_upright(
        self, a: Place, b: Place, z0: float, z1: float, size: float
    ) -> list[tuple[float, float]]:
        """`project` of the upright rectangle over a and b: each has one column, two rows."""
        x, y, z, sine, cosine, focal, horizon, mirrored = self
        ax, ay = a[0] - x, a[1] - y
        bx, by = b[0] - x, b[1] - y
        near_a = ay * cosine - ax * sine
        near_b = by * cosine - bx * sine
        if near_a < NEAR or near_b < NEAR:
            return self.project(((*a, z0), (*b, z0), (*b, z1), (*a, z1)), size)
        scale, middle, level = focal * size, 0.5 * size, horizon * size
        across = -scale if mirrored else scale
        low, high = scale * (z0 - z), scale * (z1 - z)
        column_a = middle + across * (ax * cosine + ay * sine) / near_a
        column_b = middle + across * (bx * cosine + by * sine) / near_b
        return [
            (column_a, level - low / near_a),
            (column_b, level - low / near_b),
            (column_b, level - high / near_b),
            (column_a, level - high / near_a),
        ]

    def bounds(
        self, feet: Sequence[Place], z0: float, z1: float
    ) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom, as shares of the image, of what stands upright on `feet`.

        It reaches from z0 to z1. None where a part of it is behind the camera.
        """
        x, y, z, sine, cosine, focal, horizon, mirrored = self
        across = -focal if mirrored else focal
        low, high = focal * (z0 - z), focal * (z1 - z)
        columns, rows = [], []
        for px, py in feet:
            dx, dy = px - x, py - y
            depth = dy * cosine - dx * sine
            if depth < NEAR:
                return None
            columns.append(0.5 + across * (dx * cosine + dy * sine) / depth)
            rows.append(horizon - low / depth)
            rows.append(horizon - high / depth)
        return min(columns), min(rows), max(columns), max(rows)


def _cut(polygon: list[Point]) -> list[Point]:
    """The part of a polygon (in camera axes) that lies beyond the near plane."""
    kept: list[Point] = []
    previous = polygon[-1]
    for current in polygon:
        if (previous[1] < NEAR) != (current[1] < NEAR):
            t = (NEAR - previous[1]) / (current[1] - previous[1])
            kept.append(
                (
                    previous[0] + t * (current[0] - previous[0]),
                    NEAR,
                    previous[2] + t * (current[2] - previous[2]),
                )
            )
        if current[1] >= NEAR:
            kept.append(current)
        previous = current
    return kept


class Frame(NamedTuple):
    """Axes of a wall: u along it, w away from it into the room, z up."""

    x: float
    y: float
    u: tuple[float, float]
    w: tuple[float, float]

    def at(self, u: float, w: float, z: float) -> Point:
        """World position of wall coordinates (u, w, z)."""
        x, y, (ux, uy), (wx, wy) = self
        return x + u * ux + w * wx, y + u * uy + w * wy, z

    def floor(self, u: float, w: float) -> Place:
        """World x and y of wall coordinates (u, w)."""
        x, y, (ux, uy), (wx, wy) = self
        return x + u * ux + w * wx, y + u * uy + w * wy

    def of(self, x: float, y: float) -> tuple[float, float]:
        """Wall coordinates (u, w) of a world position."""
        dx, dy = x - self.x, y - self.y
        return dx * self.u[0] + dy * self.u[1], dx * self.w[0] + dy * self.w[1]

    def feet(self, u0: float, u1: float, w: float = 0.0) -> tuple[Place, Place]:
        """Ends of a line parallel to the wall."""
        return self.floor(u0, w), self.floor(u1, w)

    def normal(self, u: float, w: float, z: float) -> Point:
        """World direction of a direction in wall axes."""
        return (
            u * self.u[0] + w * self.w[0],
            u * self.u[1] + w * self.w[1],
            z,
        )


class Body(NamedTuple):
    """An axis-aligned box in wall coordinates."""

    frame: Frame
    u0: float
    u1: float
    w0: float
    w1: float
    z0: float
    z1: float

    def feet(self) -> tuple[Place, ...]:
        """The four corners of the footprint in the world."""
        f = self.frame
        return *f.feet(self.u0, self.u1, self.w0), *f.feet(self.u0, self.u1, self.w1)

    def world(self) -> tuple[float, float, float, float]:
        """x0, x1, y0, y1 of the footprint."""
        ax, ay = self.frame.floor(self.u0, self.w0)
        bx, by = self.frame.floor(self.u1, self.w1)
        return min(ax, bx), max(ax, bx), min(ay, by), max(ay, by)


def far_to_near(bodies: Sequence[Body], camera: Camera) -> list[int]:
    """An order in which no body is painted over one that stands in front of it."""
    boxes = [body.world() for body in bodies]

    def may_hide(a: int, b: int) -> bool:
        ax0, ax1, ay0, ay1 = boxes[a]
        bx0, bx1, by0, by1 = boxes[b]
        return not (
            (ax1 <= bx0 and camera.x >= ax1)
            or (ax0 >= bx1 and camera.x <= ax0)
            or (ay1 <= by0 and camera.y >= ay1)
            or (ay0 >= by1 and camera.y <= ay0)
        )

    left = list(range(len(bodies)))
    order: list[int] = []
    while left:
        chosen = next((a for a in left if not any(may_hide(a, b) for b in left if b != a)), left[0])
        order.append(chosen)
        left.remove(chosen)
    return order
