"""Things on a wall: windows, curtains, doors, pictures and mirrors."""

from dataclasses import dataclass

from dissect.data.synthetic.bedrooms.canvas import Canvas, Colour
from dissect.data.synthetic.bedrooms.geometry import Frame
from dissect.data.synthetic.bedrooms.palette import mix, tone


@dataclass(frozen=True)
class Curtains:
    """A pair of drawn-back curtains."""

    colour: Colour
    width: float  # of each half
    bottom: float  # height of the lower edge


@dataclass(frozen=True)
class Window:
    """A window with glazing bars; bars are at least `bar` metres wide."""

    frame: Frame
    u0: float
    u1: float
    z0: float
    z1: float
    columns: int
    rows: int
    bar: tuple[float, float]  # width of upright and of level bars
    wood: Colour
    sky: tuple[Colour, Colour]
    land: Colour
    skyline: float  # share of the height that is land
    curtains: Curtains | None

    def paint(self, canvas: Canvas) -> None:
        """Paints casing, panes, bars, sill and curtains."""
        f, (bu, bz) = self.frame, self.bar
        u0, u1, z0, z1 = self.u0, self.u1, self.z0, self.z1
        canvas.panel(f, u0 - 0.03, u1 + 0.03, z0 - 0.03, z1 + 0.03, tone(self.wood, 0.72), "window")
        canvas.panel(f, u0, u1, z0, z1, self.wood, "window", glow=0.35)
        a0, a1, b0, b1 = u0 + bu, u1 - bu, z0 + bz, z1 - bz
        land = b0 + (b1 - b0) * self.skyline
        bands = 5
        for k in range(bands):
            low = land + (b1 - land) * k / bands
            colour = mix(self.sky[1], self.sky[0], k / (bands - 1))
            canvas.panel(f, a0, a1, low, b1, colour, "window", glow=1.0)
        canvas.panel(f, a0, a1, b0, land, self.land, "window", glow=1.0)
        canvas.panel(
            f, a0, a1, b0, b0 + (land - b0) * 0.55, tone(self.land, 0.86), "window", glow=1.0
        )
        for k in range(1, self.columns):
            u = a0 + (a1 - a0) * k / self.columns
            canvas.panel(f, u - bu / 2, u + bu / 2, b0, b1, self.wood, "window", glow=0.2)
        for k in range(1, self.rows):
            z = b0 + (b1 - b0) * k / self.rows
            canvas.panel(f, a0, a1, z - bz / 2, z + bz / 2, self.wood, "window", glow=0.2)
        canvas.panel(
            f, u0 - 0.08, u1 + 0.08, z0 - 0.07, z0, mix(self.wood, (250, 248, 244), 0.5), "window"
        )
        if self.curtains is not None:
            self._curtains(canvas, self.curtains)

    def _curtains(self, canvas: Canvas, curtains: Curtains) -> None:
        f, top, folds = self.frame, self.z1 + 0.12, 4
        for start in (self.u0 - curtains.width + 0.08, self.u1 - 0.08):
            step = curtains.width / folds
            for k in range(folds):
                colour = tone(curtains.colour, 1.0 if k % 2 == 0 else 0.86)
                u = start + k * step
                canvas.panel(f, u, u + step, curtains.bottom, top, colour, "curtain", w=0.05)
        canvas.panel(
            f,
            self.u0 - curtains.width,
            self.u1 + curtains.width,
            top,
            top + 0.06,
            tone(curtains.colour, 0.6),
            "curtain",
            w=0.06,
        )


@dataclass(frozen=True)
class Door:
    """A panelled door with its casing."""

    frame: Frame
    u0: float
    u1: float
    z1: float
    colour: Colour
    casing: Colour

    def paint(self, canvas: Canvas) -> None:
        """Paints casing, leaf, panels and handle."""
        f, u0, u1, z1 = self.frame, self.u0, self.u1, self.z1
        canvas.panel(f, u0 - 0.09, u1 + 0.09, 0, z1 + 0.09, self.casing, "door")
        canvas.panel(f, u0, u1, 0, z1, self.colour, "door")
        shade = tone(self.colour, 0.84)
        for low, high in ((0.2, 0.9), (1.1, z1 - 0.16)):
            canvas.panel(f, u0 + 0.14, u1 - 0.14, low, high, shade, "door")
        canvas.panel(f, u1 - 0.12, u1 - 0.04, 0.96, 1.06, (90, 80, 66), "door")


@dataclass(frozen=True)
class Picture:
    """A framed picture: a mount around a small scene or a few flat shapes."""

    frame: Frame
    u0: float
    u1: float
    z0: float
    z1: float
    edge: Colour
    mount: Colour
    colours: tuple[Colour, Colour, Colour]
    abstract: bool

    def paint(self, canvas: Canvas) -> None:
        """Paints the picture."""
        f, u0, u1, z0, z1 = self.frame, self.u0, self.u1, self.z0, self.z1
        canvas.panel(f, u0, u1, z0, z1, self.edge, "picture")
        canvas.panel(f, u0 + 0.05, u1 - 0.05, z0 + 0.05, z1 - 0.05, self.mount, "picture")
        a0, a1, b0, b1 = u0 + 0.1, u1 - 0.1, z0 + 0.1, z1 - 0.1
        first, second, third = self.colours
        canvas.panel(f, a0, a1, b0, b1, first, "picture")
        if self.abstract:
            middle = (a0 + a1) / 2
            canvas.panel(f, a0, middle, b0, (b0 + b1) / 2, second, "picture")
            canvas.panel(f, middle, a1, (b0 + b1) / 2, b1, third, "picture")
        else:
            canvas.panel(f, a0, a1, b0, b0 + (b1 - b0) * 0.5, second, "picture")
            canvas.panel(f, a0, a1, b0, b0 + (b1 - b0) * 0.22, third, "picture")


@dataclass(frozen=True)
class Mirror:
    """A mirror: a calm tone of the room with one pale slanting reflection."""

    frame: Frame
    u0: float
    u1: float
    z0: float
    z1: float
    edge: Colour
    glass: Colour

    def paint(self, canvas: Canvas) -> None:
        """Paints the mirror."""
        f, u0, u1, z0, z1 = self.frame, self.u0, self.u1, self.z0, self.z1
        canvas.panel(f, u0, u1, z0, z1, self.edge, "mirror")
        a0, a1, b0, b1 = u0 + 0.07, u1 - 0.07, z0 + 0.07, z1 - 0.07
        canvas.panel(f, a0, a1, b0, b1, self.glass, "mirror")
        low, span = b0 + (b1 - b0) * 0.25, (b1 - b0) * 0.4
        canvas.polygon(
            (
                f.at(a0, 0, low),
                f.at(a1, 0, low + span * 0.7),
                f.at(a1, 0, low + span),
                f.at(a0, 0, low + span * 0.45),
            ),
            mix(self.glass, (240, 244, 246), 0.5),
            "mirror",
            f.normal(0, 1, 0),
        )


WallItem = Window | Door | Picture | Mirror
