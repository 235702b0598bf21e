"""Latents to images and to what these show."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.latent_space.exemplars import Condition, meeting
from dissect.models import (
    bundled,
    bundled_file,
    generate_batches,
    latents_for,
    load_checkpoint,
)
from dissect.segmentation import AttributeReader, load_attribute_network, load_segmenter

__all__ = ["Samples", "read", "reader_for", "source_of"]

_BLOCK = 100  # latents looked through at a time
_LOOKED_THROUGH = 100  # latents for each that is wanted


def read(generator: nn.Module, reader: AttributeReader, z: Tensor) -> Tensor:
    """The attributes (N, A) of the images of latents (N, D), without keeping them."""
    return torch.cat([reader.read(images) for images in generate_batches(generator, z)])


@dataclass(frozen=True)
class Samples:
    """A generator's latents, those alone whose images meet some conditions.

    Attributes:
        generator: latents to images.
        seed: the series.
        reader: what reads the images; None where there is no condition.
        conditions: what they must show.
    """

    generator: nn.Module
    seed: int = 0
    reader: AttributeReader | None = None
    conditions: Sequence[Condition] = ()

    def latents(self, n: int, start: int = 0) -> Tensor:
        """The first `n` from index `start`: (n, D).

        Raises:
            DissectError: fewer than one image in a hundred meets the conditions.
        """
        if self.reader is None or not self.conditions:
            return latents_for(self.generator, n, self.seed, start=start)
        found: list[Tensor] = []
        block = max(n, _BLOCK)
        for first in range(start, start + _LOOKED_THROUGH * n + block, block):
            z = latents_for(self.generator, block, self.seed, start=first)
            found.append(
                z[meeting(read(self.generator, self.reader, z), self.conditions, self.reader)]
            )
            if sum(map(len, found)) >= n:
                return torch.cat(found)[:n]
        wanted = ",".join(map(str, self.conditions))
        raise DissectError(
            f"fewer than one sample in {_LOOKED_THROUGH} shows {wanted}: loosen the conditions"
        )


def source_of(spec: str | Path) -> str | None:
    """What the model `spec` was trained on, where its card tells."""
    name = str(spec)
    path = bundled_file(name, "generator.safetensors") if name in bundled() else Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    source = load_checkpoint(path)[1].get("training", {}).get("source")
    return source if isinstance(source, str) else None


def reader_for(
    kind: str,
    spec: str | Path,
    device: str | torch.device = "cpu",
    network: str | Path | None = None,
) -> AttributeReader | None:
    """The reader of the images of the model `spec`; None where nothing reads them.

    Args:
        kind: faces (the bundled attribute network), bedrooms (areas and sides by the bundled
            segmenter), none, or auto: by what the model was trained on.
        spec: the model, as `load` takes it.
        device: where the reader goes.
        network: the file of an attribute network or a segmenter; None is the bundled one.

    Raises:
        DissectError: an unknown kind, or an absent or damaged file.
    """
    if kind == "auto":
        kind = source_of(spec) or "none"
        if kind not in ("faces", "bedrooms"):
            return None
    if kind == "none":
        return None
    if kind == "faces":
        return AttributeReader.from_network(load_attribute_network(network, device=device)[0])
    if kind == "bedrooms":
        return AttributeReader.from_segmenter(load_segmenter(network, device=device))
    raise DissectError(f"unknown reader {kind!r}: use auto, faces, bedrooms or none")
