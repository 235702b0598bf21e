"""Where a walk leads: between two latents, and along saved directions."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.io import read_json
from dissect._utils.schema import FileModel
from dissect.latent_space import Direction
from dissect.studio.sessions.generator import GeneratorSession, Pixels

__all__ = ["WalkPoint", "fitting", "open_directions", "walk_images"]


class WalkPoint(FileModel):
    """A point of a walk.

    Attributes:
        fraction: of the way, from 0 at the start to 1 at the end.
        offsets: how far along each direction, as a multiple of its vector; the paper's axis goes
            from -1 to 1. Empty is not at all.
    """

    fraction: Annotated[float, Field(ge=0, le=1)]
    offsets: tuple[Annotated[float, Field(ge=-3, le=3)], ...] = ()


def walk_images(
    generator: GeneratorSession,
    start: Tensor,
    end: Tensor,
    points: Sequence[WalkPoint],
    directions: Sequence[Direction] = (),
) -> Pixels:
    """Samples at points (Radford et al. 2015, sections 6.1 and 6.3.2), (N, H, W, 3) uint8.

    Args:
        generator: the generator.
        start, end: latents with a first axis of 1.
        points: on the straight line between them, and off it along the directions.
        directions: of that generator.

    Raises:
        DissectError: a point with offsets along another number of directions.
    """
    latents = []
    for point in points:
        offsets = point.offsets or (0.0,) * len(directions)
        if len(offsets) != len(directions):
            raise DissectError(
                f"there are {len(directions)} directions to move along, not {len(offsets)}"
            )
        z = torch.lerp(start, end, point.fraction)
        for offset, direction in zip(offsets, directions, strict=True):
            z = z + offset * direction.vector.to(z).reshape(z.shape)
        latents.append(z)
    return generator.pixels(torch.cat(latents))


def open_directions(paths: Sequence[Path]) -> dict[str, Direction]:
    """The directions that files hold, or all that folders hold, by a name for each.

    Raises:
        DissectError: a file that is no direction, or a folder without one.
    """
    found: dict[str, Direction] = {}
    for path in paths:
        files = _directions_in(path) if path.is_dir() else [path]
        for file in files:
            direction = Direction.load(file)
            name = f"{direction.attribute}, {direction.method}"
            found[f"{name} ({file.stem})" if name in found else name] = direction
    return found


def fitting(
    generator: GeneratorSession, directions: Mapping[str, Direction]
) -> dict[str, Direction]:
    """The directions that belong to the generator."""
    size = generator.latent(0, 0).numel()
    return {
        name: direction
        for name, direction in directions.items()
        if direction.fingerprint in (None, generator.fingerprint) and len(direction.vector) == size
    }


def _directions_in(folder: Path) -> list[Path]:
    """The files of directions in a folder; where one is there in both formats, the JSON."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(DissectError):
            record = read_json(path)
            if isinstance(record, dict) and record.get("kind") == "direction":
                found.append(path)
    for path in sorted(folder.glob("turn-*.safetensors")):
        if path.with_suffix(".json") not in found:
            found.append(path)
    if not found:
        raise DissectError(f"{folder} has no direction: dissect turn --out {folder} writes some")
    return found
