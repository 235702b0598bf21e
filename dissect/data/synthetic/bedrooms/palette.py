"""Curated colours, red green blue in 0..255, that go together in any combination."""

from dissect.data.synthetic.bedrooms.canvas import Colour
from dissect.data.synthetic.rng import Rng

WALLS: tuple[Colour, ...] = (
    (238, 232, 221),
    (236, 224, 202),
    (214, 206, 194),
    (196, 212, 224),
    (204, 215, 194),
    (232, 210, 202),
    (216, 219, 223),
    (226, 206, 172),
    (184, 206, 208),
    (208, 206, 220),
    (218, 196, 166),
    (240, 226, 180),
)
ACCENTS: tuple[Colour, ...] = (
    (98, 120, 148),
    (124, 138, 116),
    (186, 134, 106),
    (142, 122, 110),
    (112, 128, 136),
    (168, 108, 100),
)
WOODS: tuple[Colour, ...] = (
    (196, 154, 106),
    (160, 112, 72),
    (120, 78, 50),
    (84, 56, 42),
    (214, 182, 140),
)
PAINTED: tuple[Colour, ...] = ((240, 238, 232), (226, 220, 208), (206, 208, 206))
FLOORS: tuple[Colour, ...] = (
    (190, 146, 98),
    (158, 110, 70),
    (124, 84, 58),
    (206, 172, 128),
    (174, 132, 96),
)
CARPETS: tuple[Colour, ...] = (
    (206, 196, 178),
    (184, 176, 166),
    (190, 172, 148),
    (168, 172, 178),
)
TILES: tuple[Colour, ...] = ((222, 212, 196), (200, 194, 184), (214, 188, 160))
LINENS: tuple[Colour, ...] = (
    (244, 242, 238),
    (244, 242, 238),
    (238, 228, 210),
    (216, 200, 178),
    (88, 114, 156),
    (146, 176, 200),
    (132, 156, 126),
    (176, 84, 74),
    (206, 150, 140),
    (150, 132, 160),
    (216, 172, 92),
    (112, 120, 128),
    (92, 140, 142),
    (150, 108, 82),
)
SHEETS: tuple[Colour, ...] = ((248, 246, 242), (242, 236, 224), (228, 232, 238))
CURTAINS: tuple[Colour, ...] = (
    (236, 228, 212),
    (206, 188, 160),
    (176, 92, 80),
    (110, 132, 160),
    (136, 152, 122),
    (150, 128, 148),
    (196, 160, 100),
)
RUGS: tuple[Colour, ...] = (
    (176, 84, 74),
    (108, 128, 152),
    (226, 218, 202),
    (150, 140, 130),
    (186, 150, 104),
    (128, 146, 124),
)
FRAMES: tuple[Colour, ...] = ((52, 44, 40), (92, 62, 42), (150, 114, 62), (34, 34, 36))
WINDOW_FRAMES: tuple[Colour, ...] = (
    (246, 246, 244),
    (246, 246, 244),
    (240, 236, 226),
    (150, 108, 72),
)
# High up and at the horizon.
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((150, 196, 240), (226, 240, 250)),
    ((176, 212, 244), (240, 246, 250)),
    ((206, 222, 236), (246, 248, 250)),
    ((160, 200, 236), (250, 240, 222)),
)
LANDS: tuple[Colour, ...] = (
    (120, 160, 96),
    (140, 172, 116),
    (104, 140, 92),
    (166, 176, 140),
    (150, 170, 176),
)
# Light, middling and dark colours of a painting.
PAINTINGS: tuple[tuple[Colour, ...], ...] = (
    ((196, 178, 140), (170, 150, 120), (148, 164, 168), (206, 190, 160)),
    ((110, 122, 88), (92, 110, 128), (158, 92, 70), (120, 100, 84)),
    ((70, 82, 66), (62, 74, 96), (120, 64, 54), (84, 66, 54)),
)


def jitter(rng: Rng, colour: Colour, amount: float = 6) -> Colour:
    """The colour, a little lighter or darker and a little warmer or cooler."""
    light, warm = rng.uniform(-amount, amount), rng.uniform(-amount, amount) / 2
    return (
        min(250.0, colour[0] + light + warm),
        min(250.0, colour[1] + light),
        min(250.0, colour[2] + light - warm),
    )


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`share` of b in a."""
    return (
        a[0] + (b[0] - a[0]) * share,
        a[1] + (b[1] - a[1]) * share,
        a[2] + (b[2] - a[2]) * share,
    )


def tone(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter (above 1)."""
    return (
        min(250.0, colour[0] * factor),
        min(250.0, colour[1] * factor),
        min(250.0, colour[2] * factor),
    )
