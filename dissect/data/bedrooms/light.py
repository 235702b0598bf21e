"""Daylight, lamp light and soft shadow for every pixel of a painted room."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dissect.data.bedrooms.canvas import Canvas
from dissect.data.bedrooms.geometry import Body, Frame, Point

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
    numbers, table, mask = canvas.surfaces()
    size, camera = canvas.size, canvas.camera
    nx, ny, nz, offset, glow, owner = (table[k].take(numbers) for k in range(6))
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    right = (steps - 0.5) / camera.focal
    if camera.mirrored:
        right = -right
    sine, cosine = camera.sine, camera.cosine
    ray_x = right * cosine - sine
    ray_y = right * sine + cosine
    ray_z = ((camera.horizon - steps) / camera.focal)[:, None]
    along = nx * ray_x + ny * ray_y + nz * ray_z
    distance = offset / np.minimum(along, -1e-4)  # a plane that is seen faces the viewer
    np.clip(distance, 0.1, 20.0, out=distance)
    x = ray_x * distance + camera.x
    y = ray_y * distance + camera.y
    z = ray_z * distance + camera.z

    width, height = room[0], room[1]
    open_air = _hollow(x) * _hollow(width - x) * _hollow(y) * _hollow(z) * _hollow(height - z)
    # A wall lies in one of these planes itself; furniture does not.
    open_air *= np.where(table[5] == 0, np.float32(1 / 0.76), np.float32(1.0)).take(numbers)
    for number, body in bodies:
        part = _around(canvas, body)
        x0, x1, y0, y1 = body.world()
        up = z[part]
        dx = np.maximum(np.abs(x[part] - (x0 + x1) / 2) - (x1 - x0) / 2, 0.0)
        dy = np.maximum(np.abs(y[part] - (y0 + y1) / 2) - (y1 - y0) / 2, 0.0)
        dz = np.maximum(up - body.z1, 0.0)
        # Its own faces are darkened by the floor instead, so that both meet in the same tone.
        square = dx * dx + dy * dy + dz * dz + (owner[part] == number) * (up * up)
        near = np.maximum(1.0 - square * (1 / (SHADOW * SHADOW)), 0.0)
        open_air[part] *= 1 - 0.33 * near * near

    day = np.full(x.shape, lighting.ambient, dtype=np.float32)
    sun = np.zeros_like(x)
    for light in lighting.daylights:
        day += _sky(light, x, y, z, nx, ny, nz)
        if light.sun is not None:
            sun = np.maximum(sun, _sun(light, x, y, z, nx, ny, nz))
    day = day * open_air + sun * 0.42
    warm = np.zeros_like(x)
    for (lx, ly, lz), strength in lighting.glows:
        square = (x - lx) ** 2 + (y - ly) ** 2 + (z - lz) ** 2
        warm += strength / (1 + square * 5)

    painted = np.asarray(canvas.colours()).transpose(2, 0, 1)  # channel by channel is faster
    picture = painted.astype(np.float32, order="C")
    day *= 1 - glow
    warm *= 1 - glow
    for channel in range(3):
        lit = day * lighting.day_colour[channel] + warm * lighting.warm[channel] + glow
        picture[channel] *= lit
    over = np.maximum(picture - 215.0, 0.0)
    picture -= over * over / (over + 90.0)  # a soft shoulder instead of hard clipping
    picture += 0.5
    image = np.empty((size, size, 3), dtype=np.uint8)
    for channel in range(3):
        image[:, :, channel] = np.minimum(picture[channel], 255.0)
    return image, mask


def _around(canvas: Canvas, body: Body) -> tuple[slice, slice]:
    """Rows and columns of the image that the soft shadow of a body can reach."""
    s, size = SHADOW, canvas.size
    wider = replace(
        body, u0=body.u0 - s, u1=body.u1 + s, w0=body.w0 - s, w1=body.w1 + s, z1=body.z1 + s
    )
    bounds = canvas.camera.bounds(wider.corners())
    if bounds is None:
        return slice(0, size), slice(0, size)
    left, top, right, bottom = (min(max(int(edge * size), 0), size) for edge in bounds)
    return slice(top, min(bottom + 1, size)), slice(left, min(right + 1, size))


def _hollow(distance: Array) -> Array:
    """How open a place is at `distance` metres from a wall: 0.76 at the wall, 1 far away."""
    result: Array = 1 - 0.24 / (1 + distance * distance * 7)
    return result


def _wall_axes(light: Daylight, x: Array, y: Array) -> tuple[Array, Array]:
    f = light.frame
    dx, dy = x - f.x, y - f.y
    return (
        dx * f.u[0] + dy * f.u[1],
        dx * f.w[0] + dy * f.w[1],
    )


def _sky(light: Daylight, x: Array, y: Array, z: Array, nx: Array, ny: Array, nz: Array) -> Array:
    u, w = _wall_axes(light, x, y)
    f = light.frame
    du = u - ((light.u0 + light.u1) / 2)
    dz = z - ((light.z0 + light.z1) / 2)
    square = du * du + w * w + dz * dz + 0.5
    nu = nx * f.u[0] + ny * f.u[1]
    nw = nx * f.w[0] + ny * f.w[1]
    towards = np.maximum(-(du * nu + w * nw + dz * nz), 0.0)
    area = (light.u1 - light.u0) * (light.z1 - light.z0) * light.strength
    direct = np.maximum(w, 0.0) * towards / (square * square)
    result: Array = area * (direct + 0.10 / square)
    return result


def _sun(light: Daylight, x: Array, y: Array, z: Array, nx: Array, ny: Array, nz: Array) -> Array:
    """Share of sunlight, 0 to 1, at each place that the sun reaches through the window."""
    assert light.sun is not None
    slope_u, slope_z = light.sun[0], light.sun[1]
    f = light.frame
    u, w = _wall_axes(light, x, y)
    u = u - slope_u * w
    up = z + slope_z * w
    nw = nx * f.w[0] + ny * f.w[1]
    nu = nx * f.u[0] + ny * f.u[1]
    facing = np.clip((slope_z * nz - nw - slope_u * nu) * 2, 0.0, 1.0)
    edge_u = np.minimum(u - light.u0, light.u1 - u)
    edge_z = np.minimum(up - light.z0, light.z1 - up)
    result: Array = (
        np.clip(edge_u * 8, 0.0, 1.0) * np.clip(edge_z * 8, 0.0, 1.0) * facing * (w > 0.02)
    )
    return result
