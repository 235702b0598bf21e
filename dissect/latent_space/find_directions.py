"""Directions of an attribute, found by several methods."""

from collections.abc import Sequence

from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.hooks import activations
from dissect.latent_space.directions import (
    Direction,
    from_components,
    from_exemplars,
    from_regression,
)
from dissect.latent_space.exemplars import Exemplars, extremes
from dissect.latent_space.readout import read_attributes
from dissect.models import fingerprint, latent_vectors
from dissect.segmentation import AttributeReader

__all__ = ["METHODS", "find_directions", "direction_from_list"]

METHODS = ("exemplars", "regression", "held", "components")


def find_directions(
    generator: nn.Module,
    reader: AttributeReader,
    attribute: str,
    z: Tensor,
    methods: Sequence[str] = METHODS,
    *,
    count: int = 4,
    seed: int = 0,
) -> list[Direction]:
    """The direction of an attribute by each method, from the same latents (N, D).

    Args:
        generator: latents to images.
        reader: of the attributes.
        attribute: that changes along the direction.
        z: latents from which the directions are found, (N, D).
        methods: of `METHODS`: exemplars of both extremes (`from_exemplars`), regression with the
            other attributes left free or held (`from_regression`), or components of the first
            layer's activations (`from_components`).
        count: number of exemplars at each end.
        seed: of the choice of exemplars.

    Raises:
        DissectError: an attribute that is unknown, or the same everywhere; too few latents.
    """
    column = reader.column(attribute)
    values = read_attributes(generator, reader, z)
    if float(values[:, column].std()) < 1e-6:
        raise DissectError(f"{attribute} is the same in all {len(z)} samples: it has no direction")
    directions = []
    for method in methods:
        about: dict[str, object] = {"samples": len(z), "seed": seed}
        if method == "exemplars":
            first, last = extremes(values, column, count, z=z, seed=seed)
            vector = from_exemplars(z[first], z[last])
            about["ends"] = {"low": first.tolist(), "high": last.tolist()}
        elif method == "components":
            layer = _first_layer(generator)
            vector, number = from_components(z, activations(generator, layer, z), values, column)
            about |= {"layer": layer, "component": number}
        else:
            vector = from_regression(z, values, column, held=method == "held")
        directions.append(Direction(vector, attribute, method, fingerprint(generator), about))
    return directions


def direction_from_list(listed: Exemplars, generator: nn.Module, attribute: str) -> Direction:
    """The direction from the first to the second of two concepts chosen by eye.

    Raises:
        DissectError: latents of another model, or another number of concepts.
    """
    listed.check(fingerprint(generator))
    if len(listed.concepts) != 2:
        raise DissectError(
            f"{listed.where} must list two concepts, the two ends; it lists {len(listed.concepts)}"
        )
    z = latent_vectors(generator, listed.n, listed.seed)
    first, last = (z[list(indices)] for indices in listed.concepts.values())
    about = {"ends": {name: list(rows) for name, rows in listed.concepts.items()}}
    vector = from_exemplars(first, last)
    return Direction(vector, attribute, "exemplars", fingerprint(generator), about)


def _first_layer(generator: nn.Module) -> str:
    """The name of the first child module."""
    names = [name for name, _ in generator.named_children()]
    if not names:
        raise DissectError(f"{type(generator).__name__} has no layer of its own to look into")
    return names[0]
