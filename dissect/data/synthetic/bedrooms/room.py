"""The shell of a bedroom: floor, walls, ceiling, skirting and rug."""

from dataclasses import dataclass
from functools import cached_property

from dissect.data.synthetic.bedrooms.canvas import Canvas, Colour
from dissect.data.synthetic.bedrooms.geometry import Frame
from dissect.data.synthetic.bedrooms.palette import mix, tone

SHORT = 0.3  # metres before the viewer at which floor and side walls end, out of sight


@dataclass(frozen=True)
class Rug:
    """A rug with a border, in world metres."""

    x0: float
    x1: float
    y0: float
    y1: float
    colour: Colour
    edge: Colour


@dataclass(frozen=True)
class Room:
    """The room without its furniture."""

    width: float
    height: float
    back: Colour
    sides: Colour
    ceiling: Colour
    floor: Colour
    floor_kind: str  # planks, carpet, tiles
    trim: Colour
    cornice: bool
    wainscot: float  # height, 0 for none
    rug: Rug | None

    @cached_property
    def walls(self) -> tuple[Frame, Frame, Frame]:
        """Back, left and right wall; u runs from the corner towards the viewer on the sides."""
        return (
            Frame(0.0, 0.0, (1.0, 0.0), (0.0, -1.0)),
            Frame(0.0, 0.0, (0.0, -1.0), (1.0, 0.0)),
            Frame(self.width, 0.0, (0.0, -1.0), (-1.0, 0.0)),
        )

    def paint(self, canvas: Canvas) -> None:
        """Paints the empty room."""
        back, _, _ = self.walls
        width, height, reach = self.width, self.height, -canvas.camera.y - SHORT
        canvas.level(back, 0, width, 0, reach, 0, self.floor, "floor")
        if self.floor_kind == "planks":
            self._planks(canvas, reach)
        elif self.floor_kind == "tiles":
            self._tiles(canvas)
        at = back.at
        canvas.polygon(
            (
                at(0, 0, height),
                at(width, 0, height),
                at(width, reach, height),
                at(0, reach, height),
            ),
            self.ceiling,
            "ceiling",
            (0.0, 0.0, -1.0),
        )
        colours = (self.back, self.sides, self.sides)
        for wall, colour, long in zip(self.walls, colours, (width, reach, reach), strict=True):
            canvas.panel(wall, 0, long, 0, height, colour, "wall")
            if self.wainscot:
                panel = mix(self.trim, colour, 0.15)
                canvas.panel(wall, 0, long, 0, self.wainscot, panel, "wall")
                canvas.panel(
                    wall, 0, long, self.wainscot, self.wainscot + 0.06, tone(panel, 0.86), "wall"
                )
            canvas.panel(wall, 0, long, 0, 0.11, self.trim, "wall")
            if self.cornice:
                canvas.panel(wall, 0, long, height - 0.1, height, self.trim, "wall")
        if self.rug is not None:
            rug = self.rug
            canvas.level(back, rug.x0, rug.x1, -rug.y1, -rug.y0, 0.012, rug.edge, "rug")
            canvas.level(
                back,
                rug.x0 + 0.13,
                rug.x1 - 0.13,
                -rug.y1 + 0.13,
                -rug.y0 - 0.13,
                0.012,
                rug.colour,
                "rug",
            )

    def _planks(self, canvas: Canvas, reach: float) -> None:
        back, board = self.walls[0], 0.34
        for k in range(int(self.width / board) + 1):
            factor = (1.0, 0.93, 1.05, 0.97)[(k * 7 + k // 3) % 4]
            if factor != 1.0:
                right = min((k + 1) * board, self.width)
                colour = tone(self.floor, factor)
                canvas.level(back, k * board, right, 0, reach, 0, colour, "floor")

    def _tiles(self, canvas: Canvas) -> None:
        back, tile = self.walls[0], 0.75
        colour = tone(self.floor, 0.93)
        for i in range(int(self.width / tile) + 1):
            for j in range(i % 2, 7, 2):
                right = min((i + 1) * tile, self.width)
                canvas.level(back, i * tile, right, j * tile, (j + 1) * tile, 0, colour, "floor")
