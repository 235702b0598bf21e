"""Camera, wall frames and axis-aligned bodies of a bedroom.

World axes, in metres: x runs to the right along the back wall, y away from the viewer, z up. The
back wall is the plane y = 0, the left wall x = 0; the room lies at x > 0 and y < 0. Only the
operations +, -, *, / are used, so that a scene projects to the same pixels on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float, float]

NEAR = 0.15  # metres; nearer parts of a polygon are cut away


@dataclass(frozen=True)
class Camera:
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
        x, y, z, sine, cosine = self.x, self.y, self.z, self.sine, self.cosine
        scale, middle, horizon = self.focal * size, 0.5 * size, self.horizon * size
        across = -scale if self.mirrored else scale
        placed = []
        for px, py, pz in points:  # written out: this is the busiest loop of the renderer
            dx, dy = px - x, py - y
            depth = dy * cosine - dx * sine
            if depth < NEAR:
                cut = _cut([self.local(point) for point in points])
                return [(middle + scale * r / d, horizon - scale * h / d) for r, d, h in cut]
            placed.append(
                (
                    middle + across * (dx * cosine + dy * sine) / depth,
                    horizon - scale * (pz - z) / depth,
                )
            )
        return placed

    def bounds(self, points: Sequence[Point]) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom of the points as shares of the image, None behind it."""
        seen = [self.local(point) for point in points]
        if min(seen, key=_depth)[1] < NEAR:
            return None
        columns = [0.5 + self.focal * r / d for r, d, _ in seen]
        rows = [self.horizon - self.focal * h / d for _, d, h in seen]
        return min(columns), min(rows), max(columns), max(rows)


def _depth(point: Point) -> float:
    return point[1]


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


@dataclass(frozen=True)
class Frame:
    """Axes of a wall: u along it, w away from it into the room, z up."""

    x: float
    y: float
    u: tuple[float, float]
    w: tuple[float, float]

    def at(self, u: float, w: float, z: float) -> Point:
        """World position of wall coordinates (u, w, z)."""
        return (
            self.x + u * self.u[0] + w * self.w[0],
            self.y + u * self.u[1] + w * self.w[1],
            z,
        )

    def of(self, x: float, y: float) -> tuple[float, float]:
        """Wall coordinates (u, w) of a world position."""
        dx, dy = x - self.x, y - self.y
        return dx * self.u[0] + dy * self.u[1], dx * self.w[0] + dy * self.w[1]

    def rectangle(
        self, u0: float, u1: float, z0: float, z1: float, w: float = 0.0
    ) -> tuple[Point, ...]:
        """Corners of a rectangle parallel to the wall."""
        return self.at(u0, w, z0), self.at(u1, w, z0), self.at(u1, w, z1), self.at(u0, w, z1)

    def normal(self, u: float, w: float, z: float) -> Point:
        """World direction of a direction in wall axes."""
        return (
            u * self.u[0] + w * self.w[0],
            u * self.u[1] + w * self.w[1],
            z,
        )


@dataclass(frozen=True)
class Body:
    """An axis-aligned box in wall coordinates."""

    frame: Frame
    u0: float
    u1: float
    w0: float
    w1: float
    z0: float
    z1: float

    def corners(self) -> list[Point]:
        """The eight corners in the world."""
        at = self.frame.at
        return [
            at(u, w, z)
            for u in (self.u0, self.u1)
            for w in (self.w0, self.w1)
            for z in (self.z0, self.z1)
        ]

    def world(self) -> tuple[float, float, float, float]:
        """x0, x1, y0, y1 of the footprint."""
        ax, ay, _ = self.frame.at(self.u0, self.w0, 0.0)
        bx, by, _ = self.frame.at(self.u1, self.w1, 0.0)
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
