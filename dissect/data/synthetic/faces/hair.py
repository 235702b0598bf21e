"""Hair: a cap on the skull, and where it is long a mane around the face."""

import numpy as np

from dissect.data.synthetic.faces.canvas import Array, Canvas, Matrix, Surface, lit
from dissect.data.synthetic.faces.face import SKULL
from dissect.data.synthetic.faces.palette import times
from dissect.data.synthetic.faces.person import Person

_LONG = 0.3  # hair of this length or more falls around the face
_SLOPE = 0.85  # how far the hairline falls from front to back


def paint_hair(canvas: Canvas, person: Person, axes: Matrix) -> None:
    """The cap on the skull, above a slanting hairline."""
    if not person.hair_length:
        return
    centre, (rx, ry, rz) = SKULL
    grown = person.volume * (1.4 if person.hair_length >= _LONG else 1.0)
    radii = (rx * person.width + 0.6 * grown, ry + grown, rz + 0.6 * grown)
    cap = canvas.ellipsoid((centre[0], centre[1] + 0.02, centre[2] - 0.03), radii, axes)
    u, v, w = canvas.head_place(cap, axes)
    # A plane that is high in front and low behind, with a notch at the parting.
    forward = 0.9 - 0.55 * person.hairline
    line = v - np.float32(_SLOPE) * w
    line += np.float32(_SLOPE * forward - person.hairline)
    notch = np.abs(u - np.float32(person.parting))
    line -= np.maximum(np.float32(0.12) - notch * np.float32(0.35), 0)
    cover = canvas.edge(line) * cap.cover
    canvas.paint(cap.box, cover, person.hair, "hair", _sheen(cap, person, u), cap.z)


def paint_mane_behind(canvas: Canvas, person: Person, axes: Matrix) -> None:
    """Long hair as seen behind neck and face."""
    if person.hair_length < _LONG:
        return
    mane = _mane(canvas, person, axes)
    cover, (u, _, _) = _trimmed(canvas, person, mane, axes)
    light = _sheen(mane, person, u) * np.float32(0.62)
    canvas.paint(mane.box, cover, times(person.hair, 0.9), "hair", light)


def paint_mane_before(canvas: Canvas, person: Person, axes: Matrix) -> None:
    """Long hair that falls before ears and shoulders, open in front."""
    if person.hair_length < _LONG:
        return
    mane = _mane(canvas, person, axes)
    cover, (u, v, w) = _trimmed(canvas, person, mane, axes)
    # Open where the face looks out; narrower below the chin.
    opening = np.float32(0.6 * person.width) + np.minimum(v, 0) * np.float32(0.12)
    behind = np.float32(0.05) - w
    cover *= canvas.edge(np.maximum(np.abs(u) - opening, behind))
    cover *= canvas.in_front(mane)
    canvas.paint(mane.box, cover, person.hair, "hair", _sheen(mane, person, u), mane.z)


def _mane(canvas: Canvas, person: Person, axes: Matrix) -> Surface:
    low = -0.35 - 1.15 * person.hair_length
    high = 1.0
    middle, half = (high + low) / 2, (high - low) / 2
    wide = 0.80 * person.width + 1.3 * person.volume
    return canvas.ellipsoid((0, middle - 0.1, -0.2), (wide, half * 1.18, 0.80), axes)


def _trimmed(
    canvas: Canvas, person: Person, mane: Surface, axes: Matrix
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Cover of the mane, cut at its length, and where its points lie."""
    u, v, w = canvas.head_place(mane, axes)
    low = np.float32(-0.35 - 1.15 * person.hair_length)
    cover = canvas.edge(v - low - np.float32(0.12) * u * u) * mane.cover
    return cover, (u, v, w)


def _sheen(surface: Surface, person: Person, u: Array) -> Array:
    """Light on hair, in soft strands."""
    light = lit(surface, person.light, person.ambient)
    strand = u * np.float32(9) + np.float32(40)
    strand -= np.floor(strand)
    strand -= np.float32(0.5)
    np.abs(strand, out=strand)
    light *= np.float32(0.88) + np.float32(0.36) * strand
    return light
