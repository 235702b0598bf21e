"""Samples a person: the turn of the head, its shape and colours, and what is worn."""

import math
from dataclasses import dataclass

from dissect.data.synthetic.faces import palette
from dissect.data.synthetic.faces.palette import Colour
from dissect.data.synthetic.rng import Rng

ATTRIBUTES = (
    "yaw",
    "pitch",
    "smile",
    "glasses",
    "sunglasses",
    "beard",
    "hair_length",
    "hair_light",
    "skin_light",
    "background_light",
)


@dataclass(frozen=True)
class Person:
    """Everything that is needed to draw one face; lengths are in half heights of the head."""

    # Tangents of half the angles: sines and cosines follow by arithmetic that is the same on
    # every machine. Positive: to the viewer's right, up, and leaning to the viewer's right.
    yaw: float
    pitch: float
    roll: float
    x: float  # of the head's centre, in half widths of the picture
    y: float
    scale: float  # half the head's height, in half heights of the picture
    width: float  # of the head, 1 is usual
    jaw: float
    nose: float
    eyes: float
    brows: float  # height above the eyes
    skin_share: float  # 0 darkest to 1 lightest
    skin: Colour
    hair: Colour
    iris: Colour
    lips: float  # redness, 0 to 1
    smile: float  # 0 neutral to 1 broad
    beard: float  # 0 none, 0.5 stubble to 1 full
    hair_length: float  # 0 bald, 0.2 short, 0.4 to the chin, 1 over the shoulders
    hairline: float
    parting: float
    volume: float
    glasses: str  # none, clear or sun
    frame: Colour
    roundness: float  # of the glasses: 0 angular to 1 round
    clothes: Colour
    neckline: float
    behind: tuple[Colour, Colour]  # upper and lower colour of the background
    slant: float  # how far the background changes from left to right
    light: tuple[float, float, float]  # towards the lamp, of length 1
    ambient: float

    def attributes(self) -> tuple[float, ...]:
        """The values of `ATTRIBUTES`: angles in degrees, all others in 0 to 1."""
        behind = palette.mixed(*self.behind, 0.5)
        return (
            math.degrees(2 * math.atan(self.yaw)),
            math.degrees(2 * math.atan(self.pitch)),
            self.smile,
            float(self.glasses != "none"),
            float(self.glasses == "sun"),
            self.beard,
            self.hair_length,
            palette.lightness(self.hair),
            self.skin_share,
            palette.lightness(behind),
        )


def sample(rng: Rng) -> Person:
    """A person drawn at random; attributes are independent of one another."""
    skin_share = rng.random()
    hair = palette.near(rng, rng.choice(palette.HAIRS), 10)
    first = palette.near(rng, rng.choice(palette.BACKGROUNDS), 18)
    other = palette.near(rng, rng.choice(palette.BACKGROUNDS), 18)
    side, height = rng.uniform(-0.75, 0.75), rng.uniform(0.15, 0.7)
    front = 1.0 / math.sqrt(side * side + height * height + 1.0)
    return Person(
        yaw=rng.uniform(-0.4, 0.4),
        pitch=rng.uniform(-0.09, 0.09) + rng.uniform(-0.09, 0.09),
        roll=rng.uniform(-0.03, 0.03),
        x=rng.uniform(-0.05, 0.05),
        y=rng.uniform(0.06, 0.14),
        scale=rng.uniform(0.64, 0.72),
        width=rng.uniform(0.93, 1.07),
        jaw=rng.uniform(0.88, 1.12),
        nose=rng.uniform(0.85, 1.25),
        eyes=rng.uniform(0.92, 1.12),
        brows=rng.uniform(0.21, 0.26),
        skin_share=skin_share,
        skin=palette.near(rng, palette.skin(skin_share), 5),
        hair=hair,
        iris=rng.choice(palette.IRISES),
        lips=rng.random(),
        smile=_smile(rng),
        beard=rng.uniform(0.5, 1.0) if rng.chance(0.28) else 0.0,
        hair_length=_hair_length(rng),
        hairline=rng.uniform(0.42, 0.70),
        parting=rng.uniform(-0.35, 0.35),
        volume=rng.uniform(0.05, 0.13),
        glasses=rng.choice(
            ("none", "none", "none", "none", "none", "clear", "clear", "sun", "sun")
        ),
        frame=rng.choice(palette.FRAMES),
        roundness=rng.random(),
        clothes=palette.near(rng, rng.choice(palette.CLOTHES), 12),
        neckline=rng.uniform(0.2, 0.55),
        behind=(first, palette.mixed(first, other, rng.uniform(0.0, 0.6))),
        slant=rng.uniform(-0.5, 0.5),
        light=(side * front, height * front, front),
        ambient=rng.uniform(0.46, 0.6),
    )


def _smile(rng: Rng) -> float:
    # Neutral and smiling faces are the common ones, and everything between them occurs.
    style, amount = rng.random(), rng.random()
    if style < 0.35:
        return 0.15 * amount
    return 0.75 + 0.25 * amount if style < 0.7 else amount


def _hair_length(rng: Rng) -> float:
    style, amount = rng.random(), rng.random()
    if style < 0.07:
        return 0.0
    return 0.12 + 0.13 * amount if style < 0.5 else 0.4 + 0.6 * amount
