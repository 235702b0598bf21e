"""Furniture that stands on the floor: how each piece is sampled and painted.

A piece is a frozen dataclass with `body` (the box that it fills) and `paint(canvas)`. A new piece
is one class here and one line in `scene.py` that places it.
"""

from dataclasses import dataclass

from dissect.data.synthetic.bedrooms import palette
from dissect.data.synthetic.bedrooms.canvas import Canvas, Colour
from dissect.data.synthetic.bedrooms.geometry import Body, Point
from dissect.data.synthetic.bedrooms.palette import mix, tone
from dissect.data.synthetic.rng import Rng

SOFT = 0.07  # metres of the rounded edge of a mattress


@dataclass(frozen=True)
class Bed:
    """A made bed; w runs from the headboard (0) to the foot."""

    body: Body  # floor to the top of the mattress
    head: float  # height of the headboard
    frame_colour: Colour
    cover: Colour
    pattern: str  # plain, across, along, border
    second: Colour  # of the pattern
    sheet: Colour
    throw: Colour | None
    throw_at: float  # where the throw begins, as a share of the length
    pillows: int
    pillow_colour: Colour
    cushion: Colour | None
    drop: float  # lower edge of the cover above the floor
    tufted: bool

    def paint(self, canvas: Canvas) -> None:
        """Paints the bed, headboard first."""
        b = self.body
        head = b._replace(u0=b.u0 - 0.04, u1=b.u1 + 0.04, w1=0.08, z0=0.0, z1=self.head)
        canvas.box(head, self.frame_colour, "bed")
        dark, width = tone(self.frame_colour, 0.86), b.u1 - b.u0
        if self.tufted:
            for k in range(1, 4):
                u = b.u0 + width * k / 4
                canvas.panel(
                    b.frame, u - 0.02, u + 0.02, b.z1, self.head - 0.06, dark, "bed", w=0.08
                )
        else:
            canvas.panel(
                b.frame, b.u0 + 0.07, b.u1 - 0.07, b.z1, self.head - 0.1, dark, "bed", w=0.08
            )
        base = b._replace(
            u0=b.u0 + 0.03, u1=b.u1 - 0.03, w0=0.08, w1=b.w1 - 0.03, z1=self.drop + 0.1
        )
        canvas.box(base, tone(self.frame_colour, 0.8), "bed")
        cover_from = 0.62
        sheet = b._replace(w0=0.08, w1=cover_from, z0=self.drop + 0.08)
        cover = b._replace(w0=cover_from, z0=self.drop)
        # The nearer of the two boxes goes last; seen from beyond the foot that is the cover.
        canvas.box(sheet, self.sheet, "bed")
        canvas.box(cover, self.cover, "bed", top=tone(self.cover, 1.03), bevel=SOFT)
        self._pattern(canvas, cover)
        fold = mix(self.sheet, self.second, 0.25)
        canvas.level(
            b.frame,
            b.u0 + SOFT,
            b.u1 - SOFT,
            cover_from - 0.02,
            cover_from + 0.22,
            b.z1,
            fold,
            "bed",
        )
        self._sides(canvas, cover_from - 0.02, cover_from + 0.22, fold)
        if self.throw is not None:
            w0 = b.w1 * self.throw_at
            w1 = min(w0 + 0.5, b.w1 - 0.08)
            canvas.level(b.frame, b.u0 + SOFT, b.u1 - SOFT, w0, w1, b.z1, self.throw, "bed")
            self._sides(canvas, w0, w1, self.throw)
        self._pillows(canvas)

    def _sides(self, canvas: Canvas, w0: float, w1: float, colour: Colour) -> None:
        """The part of a band that hangs down at the long side that is seen."""
        b, at = self.body, self.body.frame.at
        cu, _ = b.frame.of(canvas.camera.x, canvas.camera.y)
        for u, sign, seen in ((b.u0, -1.0, cu < b.u0), (b.u1, 1.0, cu > b.u1)):
            if seen:
                canvas.polygon(
                    (
                        at(u, w0, self.drop),
                        at(u, w1, self.drop),
                        at(u - sign * SOFT, w1, b.z1),
                        at(u - sign * SOFT, w0, b.z1),
                    ),
                    colour,
                    "bed",
                    b.frame.normal(sign, 0, 0),
                )

    def _pattern(self, canvas: Canvas, cover: Body) -> None:
        b = self.body
        if self.pattern == "across":
            step = (cover.w1 - cover.w0) / 6
            for k in range(1, 6, 2):
                w0, w1 = cover.w0 + k * step, cover.w0 + (k + 1) * step - 0.02
                canvas.level(b.frame, b.u0 + SOFT, b.u1 - SOFT, w0, w1, b.z1, self.second, "bed")
                self._sides(canvas, w0, w1, self.second)
        elif self.pattern == "along":
            step = (b.u1 - b.u0) / 7
            for k in range(1, 7, 2):
                u0, u1 = b.u0 + k * step, b.u0 + (k + 1) * step
                canvas.level(b.frame, u0, u1, cover.w0, b.w1 - 0.03, b.z1, self.second, "bed")
                if b.frame.of(canvas.camera.x, canvas.camera.y)[1] > b.w1:
                    canvas.panel(
                        b.frame, u0, u1, self.drop, b.z1 - 0.04, self.second, "bed", w=b.w1
                    )
        elif self.pattern == "border":
            edge = 0.22
            canvas.level(
                b.frame, b.u0 + edge, b.u1 - edge, cover.w0, b.w1 - edge, b.z1, self.second, "bed"
            )

    def _pillows(self, canvas: Canvas) -> None:
        b = self.body
        share = (b.u1 - b.u0) / self.pillows
        cu, _ = b.frame.of(canvas.camera.x, canvas.camera.y)
        numbers = sorted(range(self.pillows), key=lambda k: -abs(cu - b.u0 - (k + 0.5) * share))
        for k in numbers:
            u = b.u0 + (k + 0.5) * share
            half = min(0.46 * share, 0.38)
            self._pillow(canvas, u, half, 0.12, 0.46, 0.36, self.pillow_colour)
        if self.cushion is not None:
            middle = (b.u0 + b.u1) / 2
            for u in (middle - 0.26, middle + 0.26) if self.pillows == 2 else (middle,):
                self._pillow(canvas, u, 0.2, 0.36, 0.6, 0.3, self.cushion)

    def _pillow(
        self, canvas: Canvas, u: float, half: float, w0: float, w1: float, tall: float, c: Colour
    ) -> None:
        """A soft slab that leans towards the headboard."""
        z, f = self.body.z1, self.body.frame
        cut, edge = half * 0.22, 0.2
        corners = (
            (-half + cut, 0.0),
            (half - cut, 0.0),
            (half, edge),
            (half * 0.94, 0.5),
            (half, 1 - edge),
            (half - cut, 1.0),
            (0.0, 0.95),
            (-half + cut, 1.0),
            (-half, 1 - edge),
            (-half * 0.94, 0.5),
            (-half, edge),
        )

        def sheet(low: float, out: float) -> list[Point]:
            bottom = z + low
            back, rise = w0 - w1, z + tall - bottom
            return [f.at(u + du, w1 + back * t + out, bottom + rise * t) for du, t in corners]

        lean = f.normal(0.0, 0.6, 0.75)
        canvas.polygon(sheet(0.0, 0.03), tone(c, 0.8), "pillow", lean)
        canvas.polygon(sheet(0.06, -0.02), c, "pillow", lean)


@dataclass(frozen=True)
class Nightstand:
    """A bedside table, with or without a lamp on it."""

    body: Body
    colour: Colour
    drawers: int
    lamp: "Lamp | None"

    def paint(self, canvas: Canvas) -> None:
        """Paints the table, its drawers and its lamp."""
        b = self.body
        canvas.box(b, self.colour, "furniture", top=tone(self.colour, 1.08))
        front = tone(self.colour, 0.84)
        _paint_drawers(canvas, b, front, self.drawers, 0.1, 0.0, 0.04)
        if self.lamp is not None:
            self.lamp.paint(canvas)


@dataclass(frozen=True)
class Lamp:
    """A lamp with a cloth shade; `z` is the height of its foot."""

    at: Point
    tall: float
    radius: float
    shade: Colour
    foot: Colour
    on: bool

    def paint(self, canvas: Canvas) -> None:
        """Paints the lamp facing the viewer."""
        x, y, z = self.at
        (cx, base), *_ = canvas.camera.project([self.at], canvas.pixels) or [(0.0, 0.0)]
        tops = canvas.camera.project([(x, y, z + self.tall)], canvas.pixels)
        if not tops:
            return
        top = tops[0][1]
        metre = (base - top) / self.tall
        r, stem = self.radius * metre, 0.028 * metre
        low = base - (base - top) * 0.5
        canvas.screen(
            [
                (cx - stem * 3, base),
                (cx - stem, base - stem * 2),
                (cx - stem, low),
                (cx + stem, low),
                (cx + stem, base - stem * 2),
                (cx + stem * 3, base),
            ],
            self.at,
            self.foot,
            "lamp",
        )
        glow = 1.0 if self.on else 0.3
        canvas.screen(
            [(cx - r, low), (cx + r, low), (cx + r * 0.66, top), (cx - r * 0.66, top)],
            self.at,
            self.shade if self.on else tone(self.shade, 0.92),
            "lamp",
            glow=glow,
        )


@dataclass(frozen=True)
class Wardrobe:
    """A tall cupboard with two or three doors."""

    body: Body
    colour: Colour
    doors: int

    def paint(self, canvas: Canvas) -> None:
        """Paints the cupboard and the panels of its doors."""
        b = self.body
        canvas.box(b, self.colour, "wardrobe")
        _, cw = b.frame.of(canvas.camera.x, canvas.camera.y)
        if cw <= b.w1:
            return
        step = (b.u1 - b.u0 - 0.06) / self.doors
        for k in range(self.doors):
            u = b.u0 + 0.03 + k * step
            canvas.panel(
                b.frame,
                u + 0.06,
                u + step - 0.06,
                0.16,
                b.z1 - 0.14,
                tone(self.colour, 0.88),
                "wardrobe",
                w=b.w1,
            )
            knob = u + (step - 0.03 if k % 2 == 0 else 0.03)
            canvas.panel(
                b.frame, knob - 0.02, knob + 0.02, 0.95, 1.2, (70, 60, 52), "wardrobe", w=b.w1
            )


@dataclass(frozen=True)
class Chest:
    """A chest of drawers or, when low, a bench."""

    body: Body
    colour: Colour
    rows: int

    def paint(self, canvas: Canvas) -> None:
        """Paints the chest."""
        b = self.body
        canvas.box(b, self.colour, "furniture", top=tone(self.colour, 1.08))
        front = tone(self.colour, 0.86)
        _paint_drawers(canvas, b, front, self.rows, 0.12, 0.02, 0.03)


Piece = Bed | Nightstand | Wardrobe | Chest


def sample_bed(rng: Rng, body: Body, frame_colour: Colour) -> Bed:
    """A bed with its linen for a given place."""
    cover = palette.jitter(rng, rng.choice(palette.LINENS))
    pale = min(cover) > 195
    second = (
        palette.jitter(rng, rng.choice(palette.LINENS[4:]))
        if pale
        else mix(cover, (246, 242, 236), 0.6)
    )
    kind = rng.random()
    pattern = (
        "plain"
        if kind < 0.78
        else "across"
        if kind < 0.88
        else "along"
        if kind < 0.94
        else "border"
    )
    throw = None
    if pattern == "plain" and rng.chance(0.45):
        throw = second if pale else mix(cover, rng.choice(palette.SHEETS), rng.uniform(0.45, 0.8))
    wide = body.u1 - body.u0
    return Bed(
        body=body,
        head=rng.uniform(0.95, 1.25),
        frame_colour=frame_colour,
        cover=cover,
        pattern=pattern,
        second=second,
        sheet=rng.choice(palette.SHEETS),
        throw=throw,
        throw_at=rng.uniform(0.62, 0.72),
        pillows=2 if wide > 1.25 else 1,
        pillow_colour=palette.jitter(rng, rng.choice(palette.SHEETS), 4),
        cushion=(second if pale else cover) if rng.chance(0.4) else None,
        drop=rng.uniform(0.14, 0.26),
        tufted=rng.chance(0.35),
    )


def _paint_drawers(
    canvas: Canvas, b: Body, colour: Colour, rows: int, ends: float, below: float, above: float
) -> None:
    """Paints the fronts of drawers, one above the other, where the camera sees them.

    `ends` are left free below and above all of them, `below` and `above` each one.
    """
    _, cw = b.frame.of(canvas.camera.x, canvas.camera.y)
    if cw <= b.w1:
        return
    step = (b.z1 - ends) / rows
    for k in range(rows):
        z = 0.08 + k * step
        bounds = (b.u0 + 0.05, b.u1 - 0.05, z + below, z + step - above)
        canvas.panel(b.frame, *bounds, colour, "furniture", w=b.w1)
