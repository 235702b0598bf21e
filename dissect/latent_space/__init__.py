"""Walks, vector arithmetic and directions in the latent space of a generator."""

from dissect.latent_space.arithmetic import (
    Shown,
    TrialScore,
    combined,
    measured,
    neighbours,
    pixel_sum,
    random_sum,
)
from dissect.latent_space.directions import (
    Direction,
    from_components,
    from_exemplars,
    from_regression,
)
from dissect.latent_space.evaluate_direction import (
    TurnScore,
    calibrated,
    judged,
    random_like,
    read_rows,
    scored,
)
from dissect.latent_space.exemplars import (
    Condition,
    Exemplars,
    clearest,
    ends,
    meeting,
    parse_conditions,
)
from dissect.latent_space.expression import Term, parse_expression
from dissect.latent_space.find_directions import METHODS, find_directions, listed_direction
from dissect.latent_space.optimize_latents import steered
from dissect.latent_space.paths import Path, StepSizes, between, step_sizes, walk_rows
from dissect.latent_space.readout import Samples, read, reader_for, source_of

__all__ = [
    "METHODS",
    "Condition",
    "Direction",
    "Exemplars",
    "Path",
    "Samples",
    "Shown",
    "StepSizes",
    "Term",
    "TrialScore",
    "TurnScore",
    "between",
    "calibrated",
    "clearest",
    "combined",
    "ends",
    "find_directions",
    "from_components",
    "from_exemplars",
    "from_regression",
    "judged",
    "listed_direction",
    "measured",
    "meeting",
    "neighbours",
    "parse_conditions",
    "parse_expression",
    "pixel_sum",
    "random_like",
    "random_sum",
    "read",
    "read_rows",
    "reader_for",
    "scored",
    "source_of",
    "steered",
    "step_sizes",
    "walk_rows",
]
