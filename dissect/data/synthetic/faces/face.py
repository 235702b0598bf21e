"""The head itself and what is drawn on its skin."""

from dataclasses import dataclass

import numpy as np

from dissect.data.synthetic.faces.canvas import (
    Array,
    Box,
    Canvas,
    Matrix,
    Point,
    Surface,
    ellipse,
    lit,
)
from dissect.data.synthetic.faces.palette import Colour, mixed, times
from dissect.data.synthetic.faces.person import Person

SKULL = ((0.0, 0.2, -0.06), (0.76, 0.80, 0.86))
_EYE_X, EYE_Y, _MOUTH_Y = 0.30, 0.04, -0.54


@dataclass(frozen=True)
class _Skin:
    """A part of the head's surface: how bright it is, and where on the head its points lie."""

    box: Box
    light: Array
    cover: Array
    front: Array  # the cover of what faces forward
    u: Array  # to the right
    v: Array  # up
    w: Array  # forward

    def around(self, canvas: Canvas, axes: Matrix, place: Point, reach: float) -> "_Skin":
        """The part within `reach` of a place on the head."""
        x, y = (sum(row[k] * place[k] for k in range(3)) for row in axes[:2])
        box = canvas.box(x - reach, x + reach, y - reach, y + reach)
        (rows, columns), (r0, c0) = box, (self.box[0].start, self.box[1].start)
        part = (
            slice(rows.start - r0, rows.stop - r0),
            slice(columns.start - c0, columns.stop - c0),
        )
        return _Skin(
            box,
            *(a[part] for a in (self.light, self.cover, self.front, self.u, self.v, self.w)),
        )


def paint_face(canvas: Canvas, person: Person, axes: Matrix) -> None:
    """Head, ears, eyes, brows, nose, mouth and beard."""
    _paint_ears(canvas, person, axes)
    head = _head(canvas, person, axes)
    light = lit(head, person.light, person.ambient)
    canvas.paint(head.box, head.cover, person.skin, "skin", light, head.z)
    u, v, w = canvas.head_place(head, axes)
    front = head.cover * canvas.edge(w - np.float32(0.05), 0.08)
    skin = _Skin(head.box, light, head.cover, front, u, v, w)
    for side in (-1, 1):
        _paint_cheek(canvas, person, skin.around(canvas, axes, (side * 0.4, -0.3, 0.6), 0.3), side)
    _paint_beard(canvas, person, skin)
    _paint_mouth(canvas, person, skin.around(canvas, axes, (0, _MOUTH_Y, 0.7), 0.42))
    for side in (-1, 1):
        place = (side * _EYE_X, EYE_Y + 0.1, 0.7)
        _paint_eye(canvas, person, skin.around(canvas, axes, place, 0.4), side)
    _paint_nose(canvas, person, axes)


def _head(canvas: Canvas, person: Person, axes: Matrix) -> Surface:
    """Skull and jaw, run into one another."""
    wide, jaw = person.width, person.jaw
    box = canvas.box(-1.2, 1.2, -1.25, 1.15)
    centre, (rx, ry, rz) = SKULL
    skull = canvas.ellipsoid(centre, (rx * wide, ry, rz), axes, box)
    chin = canvas.ellipsoid((0, -0.32, 0.1), (0.60 * wide * jaw, 0.72, 0.68), axes, box)
    # Outside its outline an ellipsoid has no near side.
    share = (skull.z - chin.z) * np.float32(4) + np.float32(0.5)
    share += (skull.cover - chin.cover) * np.float32(9)
    np.clip(share, 0, 1, out=share)
    nx, ny, nz = (b + share * (a - b) for a, b in zip(skull.normal, chin.normal, strict=True))
    z = chin.z + share * (skull.z - chin.z)
    return Surface(box, z, np.maximum(skull.cover, chin.cover), (nx, ny, nz))


def _paint_ears(canvas: Canvas, person: Person, axes: Matrix) -> None:
    for side in (-1, 1):
        centre = (side * 0.77 * person.width, -0.05, -0.08)
        ear = canvas.ellipsoid(centre, (0.09, 0.21, 0.14), axes)
        light = lit(ear, person.light, person.ambient)
        canvas.paint(ear.box, ear.cover, times(person.skin, 0.94), "skin", light, ear.z)
        inner = canvas.ellipsoid((centre[0] + side * 0.03, -0.05, -0.04), (0.06, 0.12, 0.11), axes)
        canvas.paint(inner.box, inner.cover, times(person.skin, 0.72), "skin")


def _paint_cheek(canvas: Canvas, person: Person, skin: _Skin, side: int) -> None:
    blush = mixed(times(person.skin, 0.95), (226, 90, 84), 0.24)
    cheek = canvas.edge(ellipse(skin.u, skin.v, (side * 0.4, -0.3), (0.2, 0.16)), 0.12)
    canvas.paint(skin.box, skin.front * cheek, blush, None, skin.light)


def _paint_eye(canvas: Canvas, person: Person, skin: _Skin, side: int) -> None:
    u, v, light, front = skin.u, skin.v, skin.light, skin.front
    socket = canvas.edge(ellipse(u, v, (side * _EYE_X, 0.1), (0.26, 0.2)), 0.12)
    shade = front * socket * np.float32(0.5)
    canvas.paint(skin.box, shade, times(person.skin, 0.72), None, light)
    x, size = side * _EYE_X, person.eyes
    glow = np.float32(0.35) + np.float32(0.65) * light
    # A smile lifts the lower lids.
    high = 0.1 * size * (1 - 0.25 * person.smile)
    white = canvas.edge(ellipse(u, v, (x, EYE_Y), (0.165 * size, high))) * front
    lid = canvas.edge(ellipse(u, v, (x, EYE_Y + 0.035), (0.185 * size, high))) * front
    canvas.paint(skin.box, lid, times(person.skin, 0.3), "eye")
    canvas.paint(skin.box, white, (250, 249, 246), "eye", glow)
    iris = canvas.edge(ellipse(u, v, (x, EYE_Y + 0.005), (0.082, 0.088))) * white
    canvas.paint(skin.box, iris, person.iris, "eye", glow)
    pupil = canvas.edge(ellipse(u, v, (x, EYE_Y + 0.005), (0.04, 0.042))) * white
    canvas.paint(skin.box, pupil, (12, 10, 10), "eye")
    outward = (u - np.float32(x)) * np.float32(side)
    bend = np.float32(0.9) * outward * outward
    brow = ellipse(u, v + bend, (x, EYE_Y + person.brows), (0.21, 0.04))
    colour = mixed(times(person.hair, 0.7), times(person.skin, 0.4), 0.3)
    canvas.paint(skin.box, canvas.edge(brow) * front, colour, None, light)


def _paint_nose(canvas: Canvas, person: Person, axes: Matrix) -> None:
    size = person.nose
    nose = canvas.ellipsoid((0, -0.12, 0.72), (0.105 * size, 0.25, 0.23), axes)
    tip = canvas.ellipsoid((0, -0.24, 0.80), (0.125 * size, 0.1, 0.16), axes)
    for part in (nose, tip):
        light = lit(part, person.light, person.ambient)
        light *= np.float32(1.04)
        # The bridge runs into the face; the tip stands out.
        cover = part.cover * canvas.in_front(part)
        canvas.paint(part.box, cover, person.skin, "skin", light, part.z)
    u, v, w = canvas.head_place(tip, axes)
    for side in (-1, 1):
        hole = canvas.edge(ellipse(u, v, (side * 0.06 * size, -0.315), (0.042, 0.024)))
        canvas.paint(tip.box, hole * tip.cover * (w > 0.5), times(person.skin, 0.35), None)


def _paint_mouth(canvas: Canvas, person: Person, skin: _Skin) -> None:
    u, v, light, front = skin.u, skin.v, skin.light, skin.front
    smile = person.smile
    half = 0.24 + 0.13 * smile
    across = u * np.float32(1 / half)
    across *= across
    np.minimum(across, 1.6, out=across)
    # Corners go up with a smile, and a little down without one.
    middle = np.float32(_MOUTH_Y - 0.05 * smile - 0.01) + across * np.float32(0.15 * smile - 0.015)
    thin = np.float32(1) - across
    opened = max(smile - 0.3, 0.0) * 0.2
    lips = np.float32(0.06) + np.float32(0.01 * person.lips)
    above = middle + thin * np.float32(opened * 0.35) - v
    below = v - middle + thin * np.float32(opened)
    inside = np.minimum(above, below)
    lips = lips * np.maximum(thin, 0)
    rim = np.minimum(above + lips, below + lips * np.float32(1.25))
    colour = mixed(times(person.skin, 0.66), (190, 40, 56), 0.3 + 0.5 * person.lips)
    corner = canvas.edge((np.float32(1.04) - across) * np.float32(half / 2)) * front
    canvas.paint(skin.box, canvas.edge(rim) * corner, colour, "mouth", light)
    if opened > 0.01:
        cover = canvas.edge(inside) * corner
        canvas.paint(skin.box, cover, (84, 20, 26), "mouth", light)
        teeth = np.minimum(above, v - middle + thin * np.float32(opened * 0.62))
        canvas.paint(skin.box, canvas.edge(teeth) * corner, (250, 247, 238), "mouth", light)
    else:
        line = np.float32(0.014) - np.abs(v - middle)
        canvas.paint(skin.box, canvas.edge(line) * corner, times(colour, 0.45), "mouth", light)


def _paint_beard(canvas: Canvas, person: Person, skin: _Skin) -> None:
    if not person.beard:
        return
    u, v, w = skin.u, skin.v, skin.w
    # Everything below a line from the ears to the upper lip, without the lips.
    across = u * u
    top = np.float32(-0.385) + across * np.float32(0.55)
    region = canvas.edge(top - v, 0.03) * canvas.edge(w + np.float32(0.12), 0.08)
    lower = ellipse(u, v, (0, _MOUTH_Y - 0.03), (0.25 + 0.12 * person.smile, 0.085))
    region *= np.float32(1) - canvas.edge(lower, 0.03)
    full = person.beard * person.beard
    colour: Colour = mixed(times(person.skin, 0.55), times(person.hair, 0.85), 0.25 + 0.75 * full)
    strength = np.float32(min(0.6 + 0.45 * full, 1.0))
    canvas.paint(skin.box, skin.cover * region * strength, colour, "beard", skin.light)
