"""Glasses: rims in a plane before the eyes, a bridge, and temples to the ears."""

import numpy as np

from dissect.data.synthetic.faces.canvas import Array, Box, Canvas, Matrix
from dissect.data.synthetic.faces.face import EYE_Y
from dissect.data.synthetic.faces.palette import mixed
from dissect.data.synthetic.faces.person import Person

_X, _Z = 0.31, 0.85  # of a lens's middle; forward of most of the nose's bridge


def paint_temples(canvas: Canvas, person: Person, axes: Matrix) -> None:
    """The arm of the glasses on the side that is seen."""
    if person.glasses == "none":
        return
    for side in (-1, 1):
        out = side * 0.79 * person.width
        start, end = (side * 0.56, EYE_Y + 0.06, _Z), (out, EYE_Y + 0.05, -0.1)
        near = _projected(axes, (out, EYE_Y, 0.3))
        if near[2] < 0.12:  # beyond the face
            continue
        corner = _projected(axes, (out * 0.93, EYE_Y + 0.06, 0.6))
        a, b = _projected(axes, start), _projected(axes, end)
        for first, last in ((a, corner), (corner, b)):
            box, inside = _stroke(canvas, first, last, 0.035)
            canvas.paint(box, canvas.edge(inside), person.frame, "glasses")


def paint_glasses(canvas: Canvas, person: Person, axes: Matrix) -> None:
    """Lenses, rims and bridge."""
    if person.glasses == "none":
        return
    box = canvas.box(-1.15, 1.15, -0.85, 0.85)
    u, v = _on_plane(canvas, box, axes)
    half = (0.235, 0.165 + 0.05 * person.roundness)
    corner = 0.06 + 0.12 * person.roundness
    inside = _rounded(np.abs(u) - np.float32(_X), v - np.float32(EYE_Y), half, corner)
    lens = canvas.edge(inside)
    if person.glasses == "sun":
        dark = mixed((14, 14, 18), person.frame, 0.25)
        canvas.paint(box, lens * np.float32(0.95), dark, "glasses")
        gleam = np.clip((v - np.float32(EYE_Y)) * np.float32(3) - np.float32(0.05), 0, 1) * lens
        canvas.paint(box, gleam * np.float32(0.4), (150, 164, 184), None)
    else:
        canvas.paint(box, lens * np.float32(0.16), (225, 236, 245), None)
    rim = canvas.edge(np.float32(0.034) - np.abs(inside))
    canvas.paint(box, rim, person.frame, "glasses")
    bridge = np.minimum(
        np.float32(_X - half[0] + 0.02) - np.abs(u),
        np.float32(0.026) - np.abs(v - np.float32(EYE_Y + 0.05)),
    )
    canvas.paint(box, canvas.edge(bridge), person.frame, "glasses")


def _on_plane(canvas: Canvas, box: Box, axes: Matrix) -> tuple[Array, Array]:
    """Right and up on the head's plane of the lenses, for every pixel."""
    (a, b, c), (d, e, f), _ = axes
    x = canvas.x[:, box[1]] - np.float32(c * _Z)
    y = canvas.y[box[0]] - np.float32(f * _Z)
    inverse = 1 / (a * e - b * d)
    u = np.float32(e * inverse) * x - np.float32(b * inverse) * y
    v = np.float32(a * inverse) * y - np.float32(d * inverse) * x
    return u, v


def _rounded(x: Array, y: Array, half: tuple[float, float], corner: float) -> Array:
    """How far inside a rectangle with round corners, negative outside."""
    right = np.abs(x) - np.float32(half[0] - corner)
    up = np.abs(y) - np.float32(half[1] - corner)
    outside_x, outside_y = np.maximum(right, 0), np.maximum(up, 0)
    beyond = np.sqrt(outside_x * outside_x + outside_y * outside_y)
    within = np.minimum(np.maximum(right, up), 0)
    inside: Array = np.float32(corner) - beyond - within
    return inside


def _projected(axes: Matrix, place: tuple[float, float, float]) -> tuple[float, float, float]:
    x, y, z = (sum(row[k] * place[k] for k in range(3)) for row in axes)
    return x, y, z


def _stroke(
    canvas: Canvas,
    first: tuple[float, float, float],
    last: tuple[float, float, float],
    half: float,
) -> tuple[Box, Array]:
    """How far inside a straight stroke each pixel of its box lies."""
    (x0, y0, _), (x1, y1, _) = first, last
    reach = 0.1
    box = canvas.box(
        min(x0, x1) - reach, max(x0, x1) + reach, min(y0, y1) - reach, max(y0, y1) + reach
    )
    x, y = canvas.x[:, box[1]] - np.float32(x0), canvas.y[box[0]] - np.float32(y0)
    dx, dy = x1 - x0, y1 - y0
    square = max(dx * dx + dy * dy, 1e-6)
    along = np.clip((x * np.float32(dx) + y * np.float32(dy)) * np.float32(1 / square), 0, 1)
    px, py = x - along * np.float32(dx), y - along * np.float32(dy)
    inside: Array = np.float32(half) - np.sqrt(px * px + py * py)
    return box, inside
