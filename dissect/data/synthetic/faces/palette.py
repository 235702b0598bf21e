"""Colours of people and of what is behind them, as red, green and blue in 0 to 255."""

from dissect.data.synthetic.rng import Rng

Colour = tuple[float, float, float]

# From dark to light; a skin lies between two neighbours.
SKINS: tuple[Colour, ...] = (
    (74, 46, 34),
    (110, 70, 48),
    (150, 98, 68),
    (190, 132, 96),
    (222, 168, 132),
    (243, 204, 176),
)
HAIRS: tuple[Colour, ...] = (
    (24, 20, 20),
    (48, 32, 24),
    (82, 52, 32),
    (122, 78, 44),
    (150, 66, 28),
    (196, 150, 84),
    (226, 196, 130),
    (168, 166, 164),
    (222, 220, 216),
)
IRISES: tuple[Colour, ...] = ((52, 30, 18), (86, 54, 26), (70, 110, 70), (70, 120, 170))
CLOTHES: tuple[Colour, ...] = (
    (44, 62, 104),
    (150, 44, 44),
    (40, 104, 76),
    (226, 222, 214),
    (40, 40, 46),
    (206, 164, 60),
    (112, 72, 128),
    (96, 148, 178),
    (180, 98, 60),
)
BACKGROUNDS: tuple[Colour, ...] = (
    (60, 72, 92),
    (120, 142, 164),
    (176, 196, 206),
    (228, 226, 218),
    (166, 180, 140),
    (70, 92, 72),
    (196, 168, 140),
    (150, 92, 84),
    (110, 96, 128),
    (54, 50, 50),
    (216, 190, 196),
)
FRAMES: tuple[Colour, ...] = ((18, 18, 20), (58, 34, 24), (120, 24, 32), (30, 46, 92))


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from the first to the second."""
    a, b, c = (x + (y - x) * share for x, y in zip(first, second, strict=True))
    return a, b, c


def times(colour: Colour, factor: float) -> Colour:
    """The colour, each part multiplied."""
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def lightness(colour: Colour) -> float:
    """0 for black to 1 for white, weighted as eyes weigh red, green and blue."""
    return (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255


def skin(share: float) -> Colour:
    """A skin, `share` of the way from the darkest to the lightest."""
    place = share * (len(SKINS) - 1)
    low = min(int(place), len(SKINS) - 2)
    return mixed(SKINS[low], SKINS[low + 1], place - low)


def near(rng: Rng, colour: Colour, spread: float) -> Colour:
    """The colour, each part moved by at most `spread`."""
    a, b, c = (min(max(x + rng.uniform(-spread, spread), 0), 255) for x in colour)
    return a, b, c
