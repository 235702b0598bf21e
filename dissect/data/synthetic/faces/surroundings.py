"""What is around the head: the background, the neck and the shoulders."""

import numpy as np

from dissect.data.synthetic.faces.canvas import UPRIGHT, Canvas, ellipse, lit
from dissect.data.synthetic.faces.palette import times
from dissect.data.synthetic.faces.person import Person


def paint_background(canvas: Canvas, person: Person) -> None:
    """Two colours that run into one another."""
    upper, lower = person.behind
    share = np.float32(0.5) - np.float32(0.3) * canvas.y + np.float32(0.3 * person.slant) * canvas.x
    np.clip(share, 0, 1, out=share)
    for part, a, b in zip(canvas.colours, upper, lower, strict=True):
        np.multiply(share, np.float32(b - a), out=part)
        part += np.float32(a)


def paint_body(canvas: Canvas, person: Person) -> None:
    """Neck and shoulders; they face the viewer however the head is turned."""
    torso = canvas.ellipsoid((0, -2.15, -0.25), (1.45, 0.98, 0.62), UPRIGHT)
    light = lit(torso, person.light, person.ambient)
    canvas.paint(torso.box, torso.cover, person.clothes, "clothes", light, torso.z)
    neck = canvas.ellipsoid((0, -0.95, -0.18), (0.37, 0.75, 0.38), UPRIGHT)
    # The chin shades what is close below it.
    shade = np.clip(-(canvas.y[neck.box[0]] + np.float32(0.86)) * np.float32(1.6), 0, 1)
    shaded = lit(neck, person.light, person.ambient)
    shaded *= np.float32(0.62) + np.float32(0.3) * shade
    canvas.paint(neck.box, neck.cover, person.skin, "skin", shaded, neck.z)
    x, y = canvas.x[:, torso.box[1]], canvas.y[torso.box[0]]
    opening = ellipse(x, y, (0, -1.28), (0.46, person.neckline))
    cover = canvas.edge(opening) * torso.cover
    canvas.paint(torso.box, cover, times(person.skin, 0.93), "skin", light)
