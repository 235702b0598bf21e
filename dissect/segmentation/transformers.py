"""Semantic segmentation models of the transformers library as segmenters."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dissect._utils.errors import DissectError
from dissect._utils.text import near_names
from dissect.segmentation.preprocess import Preprocessing
from dissect.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ADE20K_WORDS", "from_transformers"]

_BATCH = 8

_FURNITURE = (
    "armchair",
    "bench",
    "bookcase",
    "buffet",
    "cabinet",
    "chair",
    "chest of drawers",
    "coffee table",
    "desk",
    "ottoman",
    "seat",
    "shelf",
    "sofa",
    "stool",
    "swivel chair",
    "table",
)

ADE20K_WORDS: Mapping[str, str] = {
    "windowpane": "window",
    "painting": "picture",
    "poster": "picture",
    "cushion": "pillow",
    "light": "lamp",
    "sconce": "lamp",
    "chandelier": "lamp",
    "screen door": "door",
    **dict.fromkeys(_FURNITURE, "furniture"),
}
"""Labels of ADE20K, on which most public models are trained, to the words of the renders."""


def from_transformers(
    model: "str | Path | nn.Module",
    *,
    names: Mapping[str, str] | None = None,
    processor: Any = None,
    device: str | torch.device = "cpu",
) -> Segmenter:
    """A segmenter from a semantic segmentation model of the transformers library.

        segmenter = from_transformers("nvidia/segformer-b0-finetuned-ade-512-512")
        segmenter = from_transformers("models/mine", names={"windowpane": "window"})

    Images are resized and normalised as the model's image processor does, and the logits resized to
    the images, bilinearly. Labels with the same word in `names` are one class: their probabilities
    are added, and the class of a pixel is the most probable one. The segmenter runs one call at a
    time.

    Args:
        model: a name on the Hugging Face hub, a folder that `save_pretrained` wrote, or the model
            itself: it gives logits (N, K, h, w), and `config.id2label` names its K labels.
        names: a class for each label that is renamed; other labels keep their name. None takes
            those of ADE20K_WORDS that the model has. Of a label such as `windowpane, window` the
            first word counts, in small letters.
        processor: an image processor, or its settings as a mapping. None reads the settings from
            the name or folder.
        device: where the model computes.

    Raises:
        DissectError: transformers is not installed; no such model; a model of another kind; a
            label in `names` that it does not have; no settings to prepare images by.
    """
    if isinstance(model, nn.Module):
        network, title = model, type(model).__name__
    else:
        network, title = _loaded(str(model)), str(model)
        processor = _settings(str(model)) if processor is None else processor
    if processor is None:
        raise DissectError(f"{title} was given without its image processor: give processor=")
    prepare = Preprocessing.from_processor(processor)
    classes, groups = _classes(network, title, names)
    network.eval().to(device)
    merge = torch.zeros(len(groups), len(classes))
    merge[torch.arange(len(groups)), torch.tensor(groups)] = 1.0
    merge = merge.to(device)

    def run(images: Tensor, **options: bool) -> Any:
        output = network(pixel_values=prepare(images.to(device)), **options)
        logits = getattr(output, "logits", None)
        if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[1] != len(groups):
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else "none"
            raise DissectError(
                f"{title} is no semantic segmentation model: its logits must be of shape "
                f"(N, {len(groups)}, h, w), one for each label; got {shape}"
            )
        return output

    def probability(images: Tensor) -> Tensor:
        logits = functional.interpolate(
            run(images).logits.float(), images.shape[2:], mode="bilinear", align_corners=False
        )
        merged = torch.einsum("nkhw,kc->nchw", torch.softmax(logits, 1), merge)
        return merged.to(images.device)

    def label(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.cat([probability(part).argmax(1) for part in images.split(_BATCH)])

    def features(images: Tensor) -> Tensor:
        with torch.inference_mode():
            parts = [_pooled(run(part, output_hidden_states=True)) for part in images.split(_BATCH)]
        return torch.cat(parts).to(images.device)

    return Segmenter(classes, label, probability, features)


def _loaded(name: str) -> "PreTrainedModel":
    try:
        from transformers import AutoModelForSemanticSegmentation
    except ImportError as error:
        raise _not_installed() from error
    if Path(name).is_absolute() and not Path(name).is_dir():
        raise DissectError(f"no folder {name}, nor can this be a name on the Hugging Face hub")
    try:
        network: PreTrainedModel = AutoModelForSemanticSegmentation.from_pretrained(name)
    except Exception as error:  # damaged, unknown, no network: of dozens of types
        raise DissectError(
            f"transformers cannot load a semantic segmentation model from {name!r}: "
            f"{_first_line(error)}"
        ) from error
    return network


def _settings(name: str) -> dict[str, Any] | None:
    """What the model's preprocessor_config.json says.

    Its image processor class itself may need torchvision, and is not needed.
    """
    try:
        from transformers.image_processing_base import ImageProcessingMixin
    except ImportError as error:
        raise _not_installed() from error
    try:
        settings: dict[str, Any] = ImageProcessingMixin.get_image_processor_dict(name)[0]
    except Exception as error:
        raise DissectError(
            f"{name!r} does not say how images are prepared for it (preprocessor_config.json); "
            f"give processor=: {_first_line(error)}"
        ) from error
    return settings


def _classes(
    network: nn.Module, title: str, names: Mapping[str, str] | None
) -> tuple[tuple[str, ...], list[int]]:
    """The classes, and the class of each of the model's labels."""
    table = getattr(getattr(network, "config", None), "id2label", None)
    if not isinstance(table, Mapping) or not table:
        raise DissectError(f"{title} does not name its labels: it has no config.id2label")
    ordered = sorted((int(number), str(label)) for number, label in table.items())
    if [number for number, _ in ordered] != list(range(len(ordered))):
        raise DissectError(f"the labels of {title} are not numbered 0 to {len(ordered) - 1}")
    labels = [_plain(label) for _, label in ordered]
    words = ADE20K_WORDS if names is None else {_plain(key): names[key] for key in names}
    for unknown in [] if names is None else sorted(set(words) - set(labels)):
        raise DissectError(
            f"{title} has no label {unknown!r}; it has: {near_names(unknown, labels)}"
        )
    called = [words.get(label, label) for label in labels]
    classes = tuple(dict.fromkeys(called))
    return classes, [classes.index(word) for word in called]


def _plain(label: str) -> str:
    return label.replace(";", ",").split(",")[0].strip().lower()


def _pooled(output: Any) -> Tensor:
    hidden = getattr(output, "hidden_states", None)
    last: Tensor = hidden[-1] if hidden else output.logits
    # Convolutional models give a grid (N, C, h, w), transformers a row of tokens (N, T, C).
    return last.float().mean((2, 3) if last.ndim == 4 else 1)


def _not_installed() -> DissectError:
    return DissectError(
        "segmenters of the transformers library need it: pip install 'dissect-gan[transformers]'"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
