"""Samples a bedroom: the room, the camera, what stands in it and the light."""

from dataclasses import dataclass, replace

from dissect.data.synthetic.bedrooms import palette
from dissect.data.synthetic.bedrooms.canvas import Canvas, Colour
from dissect.data.synthetic.bedrooms.furniture import (
    Bed,
    Chest,
    Lamp,
    Nightstand,
    Piece,
    Wardrobe,
    sample_bed,
)
from dissect.data.synthetic.bedrooms.geometry import Body, Camera, Frame, far_to_near
from dissect.data.synthetic.bedrooms.light import Daylight, Lighting
from dissect.data.synthetic.bedrooms.room import Room, Rug
from dissect.data.synthetic.bedrooms.wall_items import (
    Curtains,
    Door,
    Mirror,
    Picture,
    WallItem,
    Window,
)
from dissect.data.synthetic.rng import Rng

WINDOW_SHARE = 0.37  # of rooms in which a place for a window is looked for


@dataclass(frozen=True)
class Scene:
    """Everything that is needed to paint one bedroom."""

    room: Room
    camera: Camera
    wall_items: tuple[WallItem, ...]
    pieces: tuple[Piece, ...]
    lighting: Lighting


@dataclass
class _Plan:
    """A scene in the making: what is free on each wall and what has been placed."""

    rng: Rng
    room: Room
    camera: Camera
    bed: Bed
    taken: list[tuple[int, float, float, float]]  # wall, u0, u1, height of what stands there
    pieces: list[Piece]
    wall_items: list[WallItem]

    def free(self, wall: int, u0: float, u1: float, bottom: float = 0.0) -> bool:
        """Whether nothing on or before the wall reaches above `bottom` between u0 and u1."""
        return all(w != wall or u1 <= a or u0 >= b or top <= bottom for w, a, b, top in self.taken)

    def seen(
        self, frame: Frame, u0: float, u1: float, z0: float, z1: float
    ) -> tuple[float, float] | None:
        """Width and height in image shares if the rectangle lies whole inside the picture."""
        bounds = self.camera.bounds(frame.feet(u0, u1), z0, z1)
        if bounds is None:
            return None
        left, top, right, bottom = bounds
        inside = left >= 0.02 and right <= 0.98 and top >= 0.03 and bottom <= 0.95
        return (right - left, bottom - top) if inside else None


def sample(rng: Rng) -> Scene:
    """A bedroom drawn at random."""
    style = rng.random()
    corner, sideways = style > 0.6, 0.54 < style <= 0.6 or style > 0.9
    yaw = rng.uniform(0.14, 0.30) if corner else rng.uniform(-0.05, 0.05)  # tan of half the yaw
    width, long = rng.choice((1.5, 1.6, 1.7, 1.8, 1.8, 1.1)), rng.uniform(1.95, 2.1)
    gap = rng.uniform(0.6, 1.25)
    if sideways:
        wall, middle = 1, width / 2 + gap
    else:
        wall, middle = 0, width / 2 + (gap if corner else rng.uniform(0.9, 1.5))
    frame = Room(4.0, 2.6, *_shell_colours(rng), None).walls[wall]
    top = rng.uniform(0.5, 0.6)
    body = Body(frame, middle - width / 2, middle + width / 2, 0.02, long, 0.0, top)
    wood = rng.choice(palette.WOODS + palette.PAINTED[:2] + ((150, 148, 150), (196, 184, 166)))
    bed = sample_bed(rng, body, wood)
    camera = _camera(rng, yaw, bed)
    right = (
        camera.x + 0.3 if corner else max(camera.x + 0.8, body.world()[1] + rng.uniform(0.7, 1.4))
    )
    room = _room(rng, max(right, body.world()[1] + 0.75), bed)
    plan = _Plan(rng, room, camera, bed, [], [bed], [])
    plan.taken.append((wall, body.u0 - 0.05, body.u1 + 0.05, bed.head))
    if wall == 1:  # its long side also stands before the back wall
        plan.taken.append((0, 0.0, 0.3, bed.head))
    stands = _nightstands(plan, wall, wood)
    windows = _windows(plan)
    _tall_things(plan, wood)
    _pictures(plan, wall)
    return Scene(
        room=plan.room,
        camera=camera,
        wall_items=tuple(plan.wall_items),
        pieces=tuple(plan.pieces),
        lighting=_lighting(plan, windows, stands),
    )


def _shell_colours(rng: Rng) -> tuple[Colour, Colour, Colour, Colour, str, Colour, bool, float]:
    walls = palette.jitter(rng, rng.choice(palette.WALLS))
    back = palette.jitter(rng, rng.choice(palette.ACCENTS)) if rng.chance(0.12) else walls
    kind = rng.random()
    floor_kind = "planks" if kind < 0.55 else "carpet" if kind < 0.86 else "tiles"
    floors = {"planks": palette.FLOORS, "carpet": palette.CARPETS, "tiles": palette.TILES}
    floor = palette.jitter(rng, rng.choice(floors[floor_kind]), 8)
    trim = (244, 242, 236) if rng.chance(0.75) else palette.tone(floor, 0.8)
    wainscot = rng.uniform(0.85, 1.0) if rng.chance(0.08) else 0.0
    ceiling = palette.mix((246, 244, 240), walls, rng.uniform(0.0, 0.35))
    return back, walls, ceiling, floor, floor_kind, trim, rng.chance(0.35), wainscot


def _room(rng: Rng, width: float, bed: Bed) -> Room:
    room = Room(width, rng.uniform(2.45, 2.75), *_shell_colours(rng), None)
    if not rng.chance(0.4):
        return room
    x0, x1, y0, y1 = bed.body.world()
    colour = palette.jitter(rng, rng.choice(palette.RUGS))
    edge = (
        palette.mix(colour, (240, 232, 218), 0.5) if rng.chance(0.5) else palette.tone(colour, 0.75)
    )
    out = rng.uniform(0.35, 0.65)
    if bed.body.frame.u[0]:  # headboard at the back wall
        rug = Rug(max(0.1, x0 - out), min(width - 0.1, x1 + out), y0 - 0.75, y1 - 0.9, colour, edge)
    else:
        rug = Rug(x0 + 0.6, min(width - 0.1, x1 + out), y0 - 0.85, y0 + 0.3, colour, edge)
    return replace(room, rug=rug)


def _camera(rng: Rng, half_tangent: float, bed: Bed) -> Camera:
    """A camera that shows the bed whole, in the lower half of the picture."""
    t = half_tangent
    sine, cosine = 2 * t / (1 + t * t), (1 - t * t) / (1 + t * t)
    x0, x1, y0, y1 = bed.body.world()
    cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
    focal, height = rng.uniform(0.80, 1.0), rng.uniform(1.3, 1.7)
    wanted, aside = rng.uniform(0.56, 0.76), rng.uniform(-0.35, 0.35)
    bottom_at = rng.uniform(0.88, 0.96)
    mirrored = rng.chance(0.5)
    distance = 3.6
    camera = Camera(0, 0, height, sine, cosine, focal, 0.45, mirrored)
    feet = bed.body.feet()
    for _ in range(4):
        camera = camera._replace(
            x=max(0.5, cx + sine * distance + cosine * aside),
            y=cy - cosine * distance + sine * aside,
        )
        bounds = camera.bounds(feet, bed.body.z0, bed.body.z1)
        if bounds is None:
            distance += 0.8
            continue
        wide = max(bounds[2] - bounds[0], 2 * max(bounds[2] - 0.5, 0.5 - bounds[0]) - 0.14)
        distance = min(5.4, max(2.9, distance * (0.35 + 0.65 * wide / wanted)))
    bounds = camera.bounds(feet, bed.body.z0, bed.body.z1)
    if bounds is None:
        raise RuntimeError("no camera shows the bed whole")
    horizon = min(0.52, max(0.34, camera.horizon + bottom_at - bounds[3]))
    return camera._replace(horizon=horizon)


def _nightstands(plan: _Plan, wall: int, wood: Colour) -> list[Nightstand]:
    rng, body = plan.rng, plan.bed.body
    wide, deep, tall = rng.uniform(0.42, 0.52), 0.4, rng.uniform(0.5, 0.62)
    colour = wood if rng.chance(0.75) else rng.choice(palette.PAINTED)
    radius, lamp_tall = rng.uniform(0.15, 0.19), rng.uniform(0.46, 0.6)
    shade: Colour = rng.choice(((250, 240, 214), (246, 230, 196), (244, 240, 232), (222, 190, 140)))
    foot = rng.choice(((120, 90, 60), (80, 76, 74), (196, 190, 180), (110, 130, 140)))
    on, lamps, drawers = rng.chance(0.45), rng.chance(0.8), rng.choice((1, 2, 2))
    made = []
    for side in (-1, 1):
        if not rng.chance(0.85):
            continue
        u0 = body.u0 - 0.1 - wide if side < 0 else body.u1 + 0.1
        limit = plan.room.width if wall == 0 else 9.0
        if u0 < 0.04 or u0 + wide > limit - 0.04:
            continue
        place = Body(body.frame, u0, u0 + wide, 0.02, deep, 0.0, tall)
        lamp = None
        if lamps:
            at = body.frame.at(u0 + wide / 2, 0.22, tall)
            lamp = Lamp(at, lamp_tall, radius, shade, foot, on)
        made.append(Nightstand(place, colour, drawers, lamp))
        plan.taken.append((wall, u0, u0 + wide, tall + (lamp_tall if lamp else 0.0)))
    plan.pieces.extend(made)
    return made


def _windows(plan: _Plan) -> list[Window]:
    rng, room, found = plan.rng, plan.room, list[Window]()
    if not rng.chance(WINDOW_SHARE):
        return found
    two = rng.chance(0.2)
    wood, sky = rng.choice(palette.WINDOW_FRAMES), rng.choice(palette.SKIES)
    land = rng.choice(palette.LANDS)
    skyline, rows = rng.uniform(0.15, 0.38), rng.choice((2, 2, 3))
    curtained = rng.chance(0.6)
    cloth = palette.jitter(rng, rng.choice(palette.CURTAINS))
    wide, tall = rng.uniform(1.05, 1.55), rng.uniform(1.1, 1.5)
    walls = [0, 1] if rng.chance(0.6) else [1, 0]
    for wall in (*walls, 2):
        frame, long = room.walls[wall], room.width if wall == 0 else 4.0
        for _ in range(8):
            u0 = rng.uniform(0.2, max(0.25, long - wide - 0.2))
            z1 = min(room.height - 0.22, rng.uniform(2.05, 2.3))
            z0 = z1 - tall
            if not plan.free(wall, u0 - 0.05, u0 + wide + 0.05, z0 - 0.02):
                z0 = max(z0, plan.bed.head + 0.04)
                if not plan.free(wall, u0 - 0.05, u0 + wide + 0.05, z0):
                    continue
            shares = plan.seen(frame, u0 - 0.05, u0 + wide + 0.05, z0 - 0.08, z1 + 0.05)
            if shares is None or shares[0] < 0.13 or shares[1] < 0.155:
                continue
            curtains = None
            if curtained:
                half = rng.uniform(0.26, 0.36)
                low = 0.04 if plan.free(wall, u0 - half, u0 + wide + half) else z0 - 0.16
                inside = u0 - half > 0.02 and (wall != 0 or u0 + wide + half < long - 0.02)
                if inside and plan.free(wall, u0 - half, u0 + wide + half, z0):
                    curtains = Curtains(cloth, half, low)
            bar = (max(0.05, 0.021 * wide / shares[0]), max(0.05, 0.021 * (z1 - z0) / shares[1]))
            window = Window(
                frame, u0, u0 + wide, z0, z1, 2, rows if shares[1] > 0.24 else 2, bar,
                wood, sky, land, skyline, curtains,
            )  # fmt: skip
            extra = curtains.width if curtains else 0.1
            plan.taken.append((wall, u0 - extra, u0 + wide + extra, z1 + 0.2))
            plan.wall_items.append(window)
            found.append(window)
            break
        if found and (not two or len(found) == 2):
            break
    return found


def _tall_things(plan: _Plan, wood: Colour) -> None:
    """A wardrobe, a door or a chest of drawers where a wall has room for it."""
    rng, room = plan.rng, plan.room
    painted = rng.choice(palette.PAINTED)
    wanted = []
    if rng.chance(0.55):
        wanted.append(("wardrobe", rng.uniform(1.0, 1.5), rng.uniform(1.95, 2.15)))
    if rng.chance(0.45):
        wanted.append(("door", rng.uniform(0.8, 0.9), 2.02))
    if rng.chance(0.3):
        wanted.append(("chest", rng.uniform(0.8, 1.2), rng.uniform(0.75, 0.95)))
    colour = rng.choice((wood, painted, rng.choice(palette.WOODS)))
    for kind, wide, tall in wanted:
        for _ in range(8):
            wall = rng.choice((0, 1, 1, 2))
            long = room.width if wall == 0 else 3.2
            u0 = rng.uniform(0.12, max(0.15, long - wide - 0.12))
            if not plan.free(wall, u0 - 0.12, u0 + wide + 0.12):
                continue
            frame = room.walls[wall]
            bounds = plan.camera.bounds(frame.feet(u0, u0 + wide), 0, tall)
            if bounds is None or bounds[0] < -0.1 or bounds[2] > 1.1:
                continue
            if kind == "door":
                tint = painted if rng.chance(0.6) else colour
                casing = room.trim if tint is not painted else palette.tone(painted, 0.84)
                plan.wall_items.append(Door(frame, u0, u0 + wide, tall, tint, casing))
            else:
                deep = 0.58 if kind == "wardrobe" else 0.45
                body = Body(frame, u0, u0 + wide, 0.02, deep, 0.0, tall)
                if not _clear(plan, body):
                    continue
                plan.pieces.append(
                    Wardrobe(body, colour, 2 if wide < 1.25 else 3)
                    if kind == "wardrobe"
                    else Chest(body, colour, 3)
                )
            plan.taken.append((wall, u0, u0 + wide, tall))
            break


def _clear(plan: _Plan, body: Body) -> bool:
    """Whether the body stands free of others and hides neither the bed nor a window."""
    x0, x1, y0, y1 = body.world()
    for piece in plan.pieces:
        a0, a1, b0, b1 = piece.body.world()
        if x0 < a1 + 0.1 and a0 < x1 + 0.1 and y0 < b1 + 0.1 and b0 < y1 + 0.1:
            return False
    mine = plan.camera.bounds(body.feet(), body.z0, body.z1)
    front = plan.camera.bounds(body.frame.feet(body.u0, body.u1, body.w1), 0, body.z1)
    if mine is None or front is None or mine[0] < -0.03 or mine[2] > 1.03:
        return False
    _, beside = body.frame.of(plan.camera.x, plan.camera.y)
    if beside < body.w1 + 0.3 or (front[2] - front[0]) < 0.45 * (mine[2] - mine[0]):
        return False  # little but its blank side would be seen
    bed = plan.bed.body
    hidden = [plan.camera.bounds(bed.feet(), bed.z0, bed.z1)]
    near = plan.camera.local(body.frame.at(body.u0, body.w1, 0.0))[1]
    bx0, bx1, by0, by1 = bed.world()
    if near >= plan.camera.local(((bx0 + bx1) / 2, (by0 + by1) / 2, 0.0))[1]:
        hidden = []  # it stands behind the bed
    hidden += [
        plan.camera.bounds(w.frame.feet(w.u0, w.u1), w.z0, w.z1)
        for w in plan.wall_items
        if isinstance(w, Window)
    ]
    return all(h is None or mine[2] < h[0] + 0.02 or mine[0] > h[2] - 0.02 for h in hidden)


def _pictures(plan: _Plan, bed_wall: int) -> None:
    rng, room, body = plan.rng, plan.room, plan.bed.body
    edge = rng.choice(palette.FRAMES)
    middle = (body.u0 + body.u1) / 2
    places: list[tuple[int, float]] = []
    if rng.chance(0.6):
        places.append((bed_wall, middle))
    if rng.chance(0.45):
        places.append((1 - bed_wall, rng.uniform(0.5, 2.2)))
    if rng.chance(0.25):
        places.append((2, rng.uniform(0.5, 2.0)))
    for wall, centre in places:
        mirror = rng.chance(0.32)
        wide = rng.uniform(0.5, 0.75) if mirror else rng.uniform(0.6, 1.05)
        tall = rng.uniform(0.75, 1.0) if mirror else rng.uniform(0.45, 0.65)
        low = max(plan.bed.head + 0.16, 1.35) if wall == bed_wall else rng.uniform(1.25, 1.4)
        high = min(low + tall, room.height - 0.15)
        u0, u1 = centre - wide / 2, centre + wide / 2
        if u0 < 0.1 or (wall == 0 and u1 > room.width - 0.1) or not plan.free(wall, u0, u1, low):
            continue
        frame = room.walls[wall]
        shares = plan.seen(frame, u0, u1, low, high)
        if shares is None or shares[0] < 0.045:
            continue
        plan.taken.append((wall, u0, u1, high))
        if mirror:
            glass = palette.mix(palette.tone(room.sides, 0.74), (150, 170, 182), 0.5)
            plan.wall_items.append(Mirror(frame, u0, u1, low, high, edge, glass))
        else:
            mount: Colour = (236, 230, 218) if rng.chance(0.5) else palette.tone(edge, 1.3)
            light, middling, dark = palette.PAINTINGS
            colours = (rng.choice(light), rng.choice(middling), rng.choice(dark))
            plan.wall_items.append(
                Picture(frame, u0, u1, low, high, edge, mount, colours, rng.chance(0.4))
            )


def _lighting(plan: _Plan, windows: list[Window], stands: list[Nightstand]) -> Lighting:
    rng, room = plan.rng, plan.room
    days = []
    for window in windows:
        sun = (rng.uniform(-0.5, 0.5), rng.uniform(0.75, 1.2)) if rng.chance(0.7) else None
        days.append(Daylight(window.frame, window.u0, window.u1, window.z0, window.z1, 0.55, sun))
    if not days:  # daylight from a window out of view: behind the viewer or at one side
        wall = room.walls[rng.choice((1, 2))]
        days.append(Daylight(wall, 3.2, 5.2, 0.9, 2.1, rng.uniform(0.5, 0.7)))
    day_colour = rng.choice(((1.0, 0.985, 0.95), (1.0, 0.97, 0.92), (0.985, 0.99, 1.0)))
    glows = tuple(
        ((s.lamp.at[0], s.lamp.at[1], s.lamp.at[2] + s.lamp.tall * 0.7), 0.32)
        for s in stands
        if s.lamp is not None and s.lamp.on
    )
    return Lighting(rng.uniform(1.0, 1.1), tuple(days), day_colour, glows)


def towards_light(lighting: Lighting) -> tuple[float, float, float]:
    """The direction, in the world, from which most daylight comes."""
    normal = lighting.daylights[0].frame.w
    return -normal[0], -normal[1], 0.3


def paint(scene: Scene, size: int) -> tuple[Canvas, list[tuple[int, Body]]]:
    """A canvas with the whole scene, and its bodies with their owner numbers."""
    canvas = Canvas(scene.camera, size, towards_light(scene.lighting))
    scene.room.paint(canvas)
    for item in scene.wall_items:
        item.paint(canvas)
    bodies = [piece.body for piece in scene.pieces]
    owned = []
    for number in far_to_near(bodies, scene.camera):
        canvas.owner = number + 1
        scene.pieces[number].paint(canvas)
        owned.append((number + 1, bodies[number]))
    return canvas, owned
