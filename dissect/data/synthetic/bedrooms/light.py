"""Daylight, lamp light and soft shadow for every pixel of a painted room."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dissect.data.synthetic.bedrooms.canvas import Canvas
from dissect.data.synthetic.bedrooms.geometry import Body, Frame, Point

SHADOW = 0.6  # metres that the soft shadow of furniture reaches
Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Daylight:
    """A bright rectangle in a wall, seen or out of view, through which the sky lights the room."""

    frame: Frame
    u0: float
    u1: float
    z0: float
    z1: float
    strength: float
    sun: tuple[float, float] | None = None  # metres along u and down z for each metre off the wall


@dataclass(frozen=True)
class Lighting:
    """All light of a room; colours are multipliers of (red, green, blue)."""

    ambient: float
    daylights: tuple[Daylight, ...]
    day_colour: Point
    glows: tuple[tuple[Point, float], ...] = ()  # lamps that are on: position, strength
    warm: Point = (1.0, 0.82, 0.55)


def shade(
    canvas: Canvas,
    room: tuple[float, float],
    lighting: Lighting,
    bodies: Sequence[tuple[int, Body]],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Image uint8 (H, W, 3) and class mask uint8 (H, W) of a painted canvas.

    `room` is width and height in metres, `bodies` the furniture with its owner numbers. Light is
    smooth: corners and the foot of furniture are darker, places that face a window brighter.
    """
    layers = canvas.layers()
    normal, glow = layers.planes[:3], layers.glow
    place = _positions(canvas, normal, layers.planes[3])
    open_air = _open_air(place, *room)
    # A wall lies in one of the planes of the room itself; furniture does not.
    np.multiply(open_air, 1 / 0.76, out=open_air, where=layers.owners == 0)
    for number, body in bodies:
        part = _around(canvas, body)
        open_air[part] *= _foot_shadow(body, place[:, *part], layers.owners[part] == number)

    day = np.full(open_air.shape, lighting.ambient, dtype=np.float32)
    for light in lighting.daylights:
        day += _sky(light, place, normal)
    day *= open_air
    suns = [
        _sun(light, light.sun, place, normal)
        for light in lighting.daylights
        if light.sun is not None
    ]
    if suns:
        day += np.maximum.reduce(suns) * 0.42
    lit = _tinted(day * (1 - glow), lighting.day_colour)
    if lighting.glows:
        lit += _tinted(_warm(lighting, place) * (1 - glow), lighting.warm)
    lit += glow
    return _developed(layers.painted * lit), layers.classes


def _positions(canvas: Canvas, normal: Array, offset: Array) -> Array:
    """World position (3, H, W) of what each pixel shows."""
    camera = canvas.camera
    steps = (np.arange(canvas.size, dtype=np.float32) + 0.5) / canvas.size
    right = (steps - 0.5) / camera.focal
    if camera.mirrored:
        right = -right
    ray_x = right * camera.cosine - camera.sine
    ray_y = right * camera.sine + camera.cosine
    ray_z = ((camera.horizon - steps) / camera.focal)[:, None]
    along = normal[0] * ray_x
    along += normal[1] * ray_y
    along += normal[2] * ray_z
    np.minimum(along, -1e-4, out=along)  # a plane that is seen faces the viewer
    distance = np.divide(offset, along, out=along)
    np.maximum(distance, 0.1, out=distance)
    np.minimum(distance, 20.0, out=distance)
    place = np.empty_like(normal)
    for axis, (ray, start) in enumerate(((ray_x, camera.x), (ray_y, camera.y), (ray_z, camera.z))):
        np.multiply(distance, ray, out=place[axis])
        place[axis] += start
    return place


def _open_air(place: Array, width: float, height: float) -> Array:
    """How open each place is: a factor of 0.76 at each plane of the room, 1 far away."""
    walls = ((0, 0.0), (0, width), (1, 0.0), (2, 0.0), (2, height))
    hollow = np.empty((len(walls), *place.shape[1:]), dtype=np.float32)
    for number, (axis, position) in enumerate(walls):
        np.subtract(place[axis], position, out=hollow[number])
    hollow *= hollow
    hollow *= 7
    hollow += 1
    np.divide(0.24, hollow, out=hollow)
    np.subtract(1, hollow, out=hollow)
    result: Array = np.multiply.reduce(hollow)
    return result


def _foot_shadow(body: Body, place: Array, mine: npt.NDArray[np.bool_]) -> Array:
    """The factor by which a body darkens what is near it."""
    x0, x1, y0, y1 = body.world()
    beside = _from(((x0 + x1) / 2, (y0 + y1) / 2, body.z1), place)
    level = beside[:2]
    np.abs(level, out=level)
    level -= np.array([(x1 - x0) / 2, (y1 - y0) / 2], dtype=np.float32)[:, None, None]
    np.maximum(beside, 0.0, out=beside)
    beside *= beside
    square: Array = np.add.reduce(beside)
    # Its own faces are darkened by the floor instead, so that both meet in the same tone.
    square += mine * (place[2] * place[2])
    square *= 1 / (SHADOW * SHADOW)
    near: Array = np.subtract(1.0, square, out=square)
    np.maximum(near, 0.0, out=near)
    result: Array = 1 - 0.33 * near * near
    return result


def _tinted(light: Array, colour: Point) -> Array:
    """Light (H, W) as red, green and blue (3, H, W)."""
    result: Array = light * np.array(colour, dtype=np.float32)[:, None, None]
    return result


def _warm(lighting: Lighting, place: Array) -> Array:
    """The light of the lamps that are on."""
    warm: Array = np.zeros_like(place[0])
    for position, strength in lighting.glows:
        warm += strength / (1 + _square(_from(position, place)) * 5)
    return warm


def _developed(picture: Array) -> npt.NDArray[np.uint8]:
    """Bytes (H, W, 3) of a picture (3, H, W), with a soft shoulder instead of hard clipping."""
    over = np.maximum(picture - 215.0, 0.0)
    fall = over * over
    over += 90.0
    fall /= over
    picture -= fall
    picture += 0.5
    planes = np.minimum(picture, 255.0, out=picture).astype(np.uint8)
    image = np.empty((*picture.shape[1:], 3), dtype=np.uint8)
    for channel in range(3):
        image[:, :, channel] = planes[channel]
    return image


def _around(canvas: Canvas, body: Body) -> tuple[slice, slice]:
    """Rows and columns of the image that the soft shadow of a body can reach."""
    s, size = SHADOW, canvas.size
    wider = body._replace(
        u0=body.u0 - s, u1=body.u1 + s, w0=body.w0 - s, w1=body.w1 + s, z1=body.z1 + s
    )
    bounds = canvas.camera.bounds(wider.feet(), wider.z0, wider.z1)
    if bounds is None:
        return slice(0, size), slice(0, size)
    left, top, right, bottom = (min(max(int(edge * size), 0), size) for edge in bounds)
    return slice(top, min(bottom + 1, size)), slice(left, min(right + 1, size))


def _from(point: Point, place: Array) -> Array:
    """Steps (3, H, W) from a point in the world to each place."""
    steps = np.empty_like(place)
    for axis, start in enumerate(point):
        np.subtract(place[axis], start, out=steps[axis])
    return steps


def _square(steps: Array) -> Array:
    """Squared length of steps (3, H, W)."""
    result: Array = np.add.reduce(steps * steps)
    return result


def _along(axis: tuple[float, float], steps: Array) -> Array:
    """Steps along a horizontal axis of the world: walls are parallel to x or to y."""
    result: Array = axis[0] * steps[0] if axis[0] else axis[1] * steps[1]
    return result


def _sky(light: Daylight, place: Array, normal: Array) -> Array:
    middle = light.frame.at((light.u0 + light.u1) / 2, 0.0, (light.z0 + light.z1) / 2)
    steps = _from(middle, place)
    square = _square(steps)
    square += 0.5
    towards = np.maximum(-np.add.reduce(steps * normal), 0.0)
    direct = np.maximum(_along(light.frame.w, steps), 0.0)
    direct *= towards
    direct /= square * square
    direct += 0.10 / square
    direct *= (light.u1 - light.u0) * (light.z1 - light.z0) * light.strength
    return direct


def _sun(light: Daylight, slopes: tuple[float, float], place: Array, normal: Array) -> Array:
    """Fraction of sunlight, 0 to 1, at each place that the sun reaches through the window."""
    slope_u, slope_z = slopes
    f = light.frame
    off = _from((f.x, f.y, 0.0), place)
    w = _along(f.w, off)
    u = _along(f.u, off) - slope_u * w
    up = place[2] + slope_z * w
    across = slope_z * normal[2] - _along(f.w, normal) - slope_u * _along(f.u, normal)
    edge_u = np.minimum(u - light.u0, light.u1 - u)
    edge_z = np.minimum(up - light.z0, light.z1 - up)
    return _unit(edge_u * 8) * _unit(edge_z * 8) * _unit(across * 2) * (w > 0.02)


def _unit(values: Array) -> Array:
    """Values held between 0 and 1."""
    result: Array = np.minimum(np.maximum(values, 0.0), 1.0)
    return result
