"""Latents to images and to what these show."""

from pathlib import Path

import torch
from torch import Tensor, nn

from dissect.attributes import AttributeReader, load_attributes
from dissect.errors import DissectError
from dissect.models import bundled, bundled_file, load_checkpoint
from dissect.segment import Segmenter, open_segmenter

__all__ = ["draw", "read", "reader_for", "segment_reader", "source_of"]

_BATCH = 100


def draw(generator: nn.Module, z: Tensor) -> Tensor:
    """The images (N, C, H, W) of latents (N, D)."""
    with torch.inference_mode():
        return torch.cat([generator(part) for part in z.split(_BATCH)])


def read(generator: nn.Module, reader: AttributeReader, z: Tensor) -> Tensor:
    """The attributes (N, A) of the images of latents (N, D), without keeping them."""
    with torch.inference_mode():
        return torch.cat([reader.read(generator(part)) for part in z.split(_BATCH)])


def source_of(spec: str | Path) -> str | None:
    """What the model `spec` was trained on, where its card tells."""
    name = str(spec)
    path = bundled_file(name, "generator.safetensors") if name in bundled() else Path(name)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    source = load_checkpoint(path)[1].get("training", {}).get("source")
    return source if isinstance(source, str) else None


def reader_for(
    kind: str, spec: str | Path, device: str | torch.device = "cpu"
) -> AttributeReader | None:
    """The reader of the images of the model `spec`; None where nothing reads them.

    Args:
        kind: faces (the bundled attribute network), bedrooms (areas and sides by the bundled
            segmenter), none, or auto: by what the model was trained on.
        spec: the model, as `load` takes it.
        device: where the reader goes.

    Raises:
        DissectError: an unknown kind, or a reader that is not installed.
    """
    if kind == "auto":
        kind = source_of(spec) or "none"
        if kind not in ("faces", "bedrooms"):
            return None
        try:
            return reader_for(kind, spec, device)
        except DissectError:
            return None
    if kind == "none":
        return None
    if kind == "faces":
        return AttributeReader.of(load_attributes(device=device)[0])
    if kind == "bedrooms":
        return segment_reader(open_segmenter(device=device))
    raise DissectError(f"unknown reader {kind!r}: use auto, faces, bedrooms or none")


def segment_reader(segmenter: Segmenter) -> AttributeReader:
    """Attributes of segmented images: each class's share of the pixels, and which side it is on.

    `window` is the share, 0 to 1; `window_side` the share in the right half less that in the left,
    over both: -1 where all of it is on the left, 1 on the right, 0 where there is none.
    """
    count = len(segmenter.classes)
    names = (*segmenter.classes, *(f"{name}_side" for name in segmenter.classes))

    def areas(images: Tensor) -> Tensor:
        labels = segmenter.labels(images)
        shares = torch.stack([(labels == k).float() for k in range(count)], 1)
        half = labels.shape[2] // 2
        left = shares[..., :half].sum((2, 3))
        right = shares[..., -half:].sum((2, 3))
        side = (right - left) / (right + left).clamp(min=1)
        return torch.cat([shares.mean((2, 3)), side], 1)

    return AttributeReader(names, areas, segmenter.features)
