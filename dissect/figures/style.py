"""The look of every plot: readable at print size, nothing that carries no data."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "INK",
    "LINES",
    "OCHRE",
    "ORANGE",
    "PURPLE",
    "mpl_style",
    "rasterized",
]

# Told apart by people who see few colours, and in grey print.
BLUE, ORANGE, GREY, INK = "#0b6aa2", "#d1611b", "#8a8a8a", "#222222"
GREEN, PURPLE, OCHRE = "#2a9d6e", "#8a4fb0", "#b8860b"
# Of the lines of one plot, in turn.
LINES = (BLUE, ORANGE, GREY, GREEN, PURPLE, OCHRE)

_SETTINGS: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.labelsize": 10,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "white",
}


@contextmanager
def mpl_style() -> Iterator[None]:
    """Figures made inside have the house's look; settings of the caller are restored."""
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        yield


def rasterized(figure: "Figure", *, dots_per_inch: int = 160) -> Image.Image:
    """`figure` as an image, the same bytes on every call."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = BytesIO()
    figure.set_dpi(dots_per_inch)
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None}, pil_kwargs={})
    stream.seek(0)
    return Image.open(stream).convert("RGB")
