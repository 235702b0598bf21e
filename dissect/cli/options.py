"""Options that commands share, so that a word means the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Boxes",
    "Concept",
    "Device",
    "Force",
    "Json",
    "Layer",
    "Model",
    "OptionalRule",
    "Out",
    "Rule",
    "RuleOrAuto",
    "Seed",
    "SegmenterName",
]

Model = Annotated[
    str,
    typer.Option("--model", "-m", help="A bundled name, a checkpoint file, or file.py:factory."),
]
Layer = Annotated[str, typer.Option("--layer", "-l", help="The layer, by the name of its module.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for what the command writes.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same bytes.", min=0)]
Device = Annotated[str, typer.Option("--device", help="Device: auto, cpu, cuda, cuda:1 and so on.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Concept = Annotated[str, typer.Option("--concept", "-c", help="What the boxes are around.")]
Boxes = Annotated[
    Path | None,
    typer.Option("--boxes", help="COCO file; by default the boxes of the bundled model."),
]
_RULES = (
    "Rule: positive, every weight above 0 (the paper); top:K, by weight; iou:K and ace:K, as GAN "
    "Dissection chooses; causal:K, by measured effect; gradient:K, by attribution"
)
Rule = Annotated[str, typer.Option("--rule", help=f"{_RULES}.")]
_RULES_AND_AUTO = f"{_RULES}; auto: units, strength and gate that remove most and change least."
RuleOrAuto = Annotated[str, typer.Option("--rule", help=_RULES_AND_AUTO)]
OptionalRule = Annotated[
    str | None,
    typer.Option(
        "--rule",
        help=f"{_RULES_AND_AUTO} By default auto where it has chosen for this model before (as for "
        "the bundled one), else positive.",
    ),
]
SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        help="The segmenter: a file, or transformers:NAME. Without it, the bundled one.",
    ),
]
