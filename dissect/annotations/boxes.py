"""Boxes in pixels, the images they were drawn on, and boxes as fractions of a grid's cells."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.text import finite

__all__ = ["AnnotatedImage", "Box", "union_fraction"]

# Drawing tools round, and a box drawn to the very edge may end a fraction of a pixel beyond it.
_OVERHANG = 0.5
_LARGEST_SIDE = 1 << 20


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels: the left edge, the top edge, the width, the height (as in COCO).

    Pixel (0, 0) is the square from (0, 0) to (1, 1), so a box around it alone is (0, 0, 1, 1).

    Raises:
        DissectError: a number that is not finite, or a width or height that is not positive.

    >>> Box(0, 0, 4, 2).iou(Box(2, 0, 4, 2))
    0.333...
    """

    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        for name in ("x", "y", "width", "height"):
            value = finite(getattr(self, name))
            if value is None:
                raise DissectError(f"the {name} of a box must be a finite number")
            object.__setattr__(self, name, value)
        if self.width <= 0 or self.height <= 0:
            raise DissectError(
                f"a box needs a positive width and height, not {self.width:g} x {self.height:g}"
            )

    @property
    def right(self) -> float:
        """The x of its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its bottom edge."""
        return self.y + self.height

    @property
    def area(self) -> float:
        """Its area in square pixels."""
        return self.width * self.height

    def iou(self, other: "Box") -> float:
        """Intersection over union with another box, in [0, 1]."""
        width = min(self.right, other.right) - max(self.x, other.x)
        height = min(self.bottom, other.bottom) - max(self.y, other.y)
        if width <= 0 or height <= 0:
            return 0.0
        overlap = width * height
        union = self.area + other.area - overlap
        return min(1.0, overlap / union) if union > 0 else 0.0

    def within(self, width: int, height: int) -> "Box":
        """The box where it lies in an image of this size; less than half a pixel beyond is cut.

        Raises:
            DissectError: it lies further outside, or nothing of it inside.
        """
        left, top = max(self.x, 0.0), max(self.y, 0.0)
        right, bottom = min(self.right, float(width)), min(self.bottom, float(height))
        overhang = max(left - self.x, top - self.y, self.right - right, self.bottom - bottom)
        if overhang > _OVERHANG or right <= left or bottom <= top:
            raise DissectError(
                f"the box x={self.x:g} y={self.y:g} width={self.width:g} height={self.height:g} "
                f"does not lie inside the image of {width} x {height} pixels"
            )
        if overhang <= 0:
            return self
        return Box(left, top, right - left, bottom - top)


@dataclass(frozen=True, repr=False)
class AnnotatedImage(ShortRepr):
    """One image that somebody looked at, with the boxes drawn on it (none: "no window here").

    Attributes:
        width, height: in pixels.
        boxes: inside the image.
        file_name: where the image lies, or what it is called.
        seed, index: the latent that it was drawn from, row `index` of `latents(seed=seed)`;
            both or neither.
        sha256: of its pixels (see `pixels_digest`).

    Raises:
        DissectError: a box outside, a side or a digest that cannot be, half a latent.
    """

    width: int
    height: int
    boxes: tuple[Box, ...] = ()
    file_name: str | None = None
    seed: int | None = None
    index: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.width <= _LARGEST_SIDE and 1 <= self.height <= _LARGEST_SIDE):
            raise DissectError(
                f"an image of {self.width} x {self.height} pixels cannot be: a side is 1 to "
                f"{_LARGEST_SIDE} pixels"
            )
        if (self.seed is None) != (self.index is None):
            raise DissectError("a latent needs both its seed and its index")
        if min(self.seed or 0, self.index or 0) < 0:
            raise DissectError("the seed and the index of a latent are at least 0")
        if self.sha256 is not None and not _is_digest(self.sha256):
            raise DissectError("'sha256' must be 64 hexadecimal digits in lower case")
        boxes = tuple(box.within(self.width, self.height) for box in self.boxes)
        object.__setattr__(self, "boxes", boxes)

    @property
    def name(self) -> str:
        """What to call the image in a message."""
        if self.file_name is not None:
            return self.file_name
        return "without a name" if self.seed is None else f"seed {self.seed} index {self.index}"


def union_fraction(image: AnnotatedImage, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """The fraction of each cell of an image inside the union of its boxes, (rows, columns).

    All edges, of boxes and of cells, cut the image into small rectangles that lie wholly inside
    or outside every box; a cell is the sum of its rectangles. In units of cells, the edges of
    cells are whole numbers, and hence exact.
    """
    left, right = (
        np.minimum([edge * columns / image.width for edge in edges], columns)
        for edges in ([box.x for box in image.boxes], [box.right for box in image.boxes])
    )
    top, bottom = (
        np.minimum([edge * rows / image.height for edge in edges], rows)
        for edges in ([box.y for box in image.boxes], [box.bottom for box in image.boxes])
    )
    x = np.unique(np.concatenate([left, right, np.arange(columns + 1.0)]))
    y = np.unique(np.concatenate([top, bottom, np.arange(rows + 1.0)]))
    inside = np.zeros((len(y) - 1, len(x) - 1))
    spans = zip(
        *(np.searchsorted(y, edges) for edges in (top, bottom)),
        *(np.searchsorted(x, edges) for edges in (left, right)),
        strict=True,
    )
    for first_row, end_row, first_column, end_column in spans:
        inside[first_row:end_row, first_column:end_column] = 1
    area = inside * np.diff(y)[:, None] * np.diff(x)
    area = np.add.reduceat(area, np.searchsorted(y, np.arange(rows)), axis=0)
    area = np.add.reduceat(area, np.searchsorted(x, np.arange(columns)), axis=1)
    return np.clip(area, 0.0, 1.0)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
