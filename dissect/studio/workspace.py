"""What the page works on: a drawing, generators to explore, and what it is allowed to write."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dissect.studio.drawing import Drawing
from dissect.studio.explorer import Explorer

__all__ = ["Workspace"]


@dataclass(frozen=True)
class Workspace:
    """Everything that requests can reach; they name it, and never a path.

    Attributes:
        title: what the page is called.
        drawing: boxes to draw; None leaves that room out.
        explorers: generators by name; none leaves those rooms out.
    """

    title: str
    drawing: Drawing | None = None
    explorers: Mapping[str, Explorer] = field(default_factory=dict)
