"""Walks, vector arithmetic and directions in the latent space of a generator."""

from dissect.latent_space.arithmetic import (
    ArithmeticResult,
    TrialResult,
    evaluate_arithmetic,
    neighbours,
    pixel_sum,
    random_sum,
    vector_sum,
)
from dissect.latent_space.directions import (
    Direction,
    from_components,
    from_exemplars,
    from_regression,
)
from dissect.latent_space.evaluate_direction import (
    DirectionResult,
    evaluate_direction,
    random_direction_like,
    readout_rows,
    scale_to_effect,
    score_direction,
)
from dissect.latent_space.exemplars import (
    Condition,
    Exemplars,
    extremes,
    matching,
    most_confident,
    parse_conditions,
)
from dissect.latent_space.expression import Term, parse_expression
from dissect.latent_space.find_directions import METHODS, direction_from_list, find_directions
from dissect.latent_space.optimize_latents import optimize_latents
from dissect.latent_space.paths import (
    Path,
    StepSizes,
    crossfade_rows,
    interpolate,
    interpolation_rows,
    nearest_images,
    step_sizes,
)
from dissect.latent_space.readout import (
    AttributedSamples,
    attribute_reader_for,
    image_source_for,
    read_attributes,
)

__all__ = [
    "METHODS",
    "ArithmeticResult",
    "AttributedSamples",
    "Condition",
    "Direction",
    "DirectionResult",
    "Exemplars",
    "Path",
    "StepSizes",
    "Term",
    "TrialResult",
    "attribute_reader_for",
    "crossfade_rows",
    "direction_from_list",
    "evaluate_arithmetic",
    "evaluate_direction",
    "extremes",
    "find_directions",
    "from_components",
    "from_exemplars",
    "from_regression",
    "image_source_for",
    "interpolate",
    "interpolation_rows",
    "matching",
    "most_confident",
    "nearest_images",
    "neighbours",
    "optimize_latents",
    "parse_conditions",
    "parse_expression",
    "pixel_sum",
    "random_direction_like",
    "random_sum",
    "read_attributes",
    "readout_rows",
    "scale_to_effect",
    "score_direction",
    "step_sizes",
    "vector_sum",
]
