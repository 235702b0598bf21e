"""Attributes of the images of latents, and latents with given attributes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect.latent_space.exemplars import Condition, matching
from dissect.models import (
    bundled,
    bundled_file,
    generate_batches,
    latent_vectors,
    load_checkpoint,
)
from dissect.segmentation import AttributeReader, load_attribute_network, load_segmenter

__all__ = ["AttributedSamples", "attribute_reader_for", "image_source_for", "read_attributes"]

_BLOCK = 100  # latents searched at a time
_MAX_SEARCHED = 100  # latents for each that is wanted


def read_attributes(generator: nn.Module, reader: AttributeReader, z: Tensor) -> Tensor:
    """The attributes (N, A) of the images of latents (N, D), without keeping them."""
    return torch.cat([reader.read(images) for images in generate_batches(generator, z)])


@dataclass(frozen=True, repr=False)
class AttributedSamples(ShortRepr):
    """The latents of a generator whose images meet some conditions.

    Attributes:
        generator: latents to images.
        seed: of the latents.
        reader: of the attributes; None where there is no condition.
        conditions: that the images must meet.
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
            return latent_vectors(self.generator, n, self.seed, start=start)
        parts: list[Tensor] = []
        block = max(n, _BLOCK)
        for first in range(start, start + _MAX_SEARCHED * n + block, block):
            z = latent_vectors(self.generator, block, self.seed, start=first)
            values = read_attributes(self.generator, self.reader, z)
            parts.append(z[matching(values, self.conditions, self.reader)])
            if sum(map(len, parts)) >= n:
                return torch.cat(parts)[:n]
        wanted = ",".join(map(str, self.conditions))
        raise DissectError(
            f"fewer than one sample in {_MAX_SEARCHED} shows {wanted}: loosen the conditions"
        )


def image_source_for(spec: str | Path) -> str | None:
    """The source that the model `spec` was trained on, if its card names one."""
    name = str(spec)
    path = bundled_file(name, "generator.safetensors") if name in bundled() else Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    source = load_checkpoint(path)[1].get("training", {}).get("source")
    return source if isinstance(source, str) else None


def attribute_reader_for(
    kind: str,
    spec: str | Path,
    device: str | torch.device = "cpu",
    network: str | Path | None = None,
) -> AttributeReader | None:
    """The attribute reader for the images of the model `spec`; None where there is none.

    Args:
        kind: faces (the bundled attribute network), bedrooms (areas and sides by the bundled
            segmenter), none, or auto: the source that the model was trained on.
        spec: the model, as `load` takes it.
        device: where the reader computes.
        network: the file of an attribute network or a segmenter; None is the bundled one.

    Raises:
        DissectError: an unknown kind, or an absent or damaged file.
    """
    if kind == "auto":
        kind = image_source_for(spec) or "none"
        if kind not in ("faces", "bedrooms"):
            return None
    if kind == "none":
        return None
    if kind == "faces":
        return AttributeReader.from_network(load_attribute_network(network, device=device)[0])
    if kind == "bedrooms":
        return AttributeReader.from_segmenter(load_segmenter(network, device=device))
    raise DissectError(f"unknown reader {kind!r}: use auto, faces, bedrooms or none")
