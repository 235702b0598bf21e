"""`--labels`: where a concept is, from boxes or from a segmenter."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError

if TYPE_CHECKING:
    from torch import nn

    from dissect.segmentation import Segmenter
    from dissect.segmentation.pseudo_labels import ConceptLabels

__all__ = ["LabelSamples", "LabelSource", "SegmenterName", "open_eyes", "open_labels"]

LabelSource = Annotated[
    str,
    typer.Option(
        "--labels", help="Where the concept is: boxes (drawn), or segmenter (what it sees)."
    ),
]
LabelSamples = Annotated[
    int,
    typer.Option(help="Samples that the segmenter looks at.", min=10, max=100_000),
]
SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter", help="A file, or transformers:NAME; by default the one that is bundled."
    ),
]


def open_labels(
    generator: "nn.Module",
    model: str,
    concept: str,
    *,
    source: str,
    boxes: Path | None,
    segmenter: str | None,
    n: int,
    seed: int,
) -> "ConceptLabels":
    """The labels of a concept that a command was asked for.

    Args:
        generator: the model.
        model: what it was loaded by, for its bundled boxes.
        concept: of what.
        source: `boxes` or `segmenter`.
        boxes: a file of boxes; None is the bundled one.
        segmenter: a file, or `transformers:NAME`; None is the bundled one.
        n, seed: the samples that the segmenter looks at.

    Raises:
        DissectError: an unknown source, no boxes or no segmenter of the concept, or boxes that
            are given where they are not asked for.
    """
    from dissect.annotations import Annotations, annotation_file
    from dissect.segmentation.pseudo_labels import ConceptLabels, pseudo_label

    if source == "segmenter":
        if boxes is not None:
            raise DissectError("--boxes are not read with --labels segmenter: leave one out")
        return pseudo_label(generator, open_eyes(generator, segmenter), concept, n, seed=seed)
    if source != "boxes":
        raise DissectError(f"--labels {source!r} is not known: use boxes or segmenter")
    if boxes is None:
        try:
            boxes = annotation_file(model, concept)
        except DissectError as error:
            raise DissectError(f"{error}; or add --labels segmenter") from error
    return ConceptLabels(Annotations.load(boxes, concept))


def open_eyes(generator: "nn.Module", name: str | None) -> "Segmenter":
    """The segmenter that `name` means, or the bundled one, on the generator's device."""
    from dissect.segmentation import load_segmenter

    return load_segmenter(name, device=next(generator.parameters()).device)
