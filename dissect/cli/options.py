"""Options and groups of options that commands share, so that a flag means the same everywhere.

A command names a group as a parameter, and `with_groups` spreads it into the group's options:

    @with_groups
    def ablate(model: ModelOptions, output: OutputOptions, n: int = 12) -> None: ...
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from dissect._utils.errors import DissectError
from dissect.cli.given import Given

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dissect.segmentation import Segmenter
    from dissect.segmentation.pseudo_labels import ConceptLabels

__all__ = [
    "MAX_SEED",
    "Boxes",
    "Concept",
    "Device",
    "DeviceOptions",
    "FaceGeneratorOptions",
    "GeneratorOptions",
    "Given",
    "Json",
    "LabelOptions",
    "Layer",
    "Model",
    "ModelOptions",
    "Out",
    "OutputOptions",
    "ReaderName",
    "RunOptions",
    "SampleOptions",
    "Seed",
    "SegmenterName",
    "Threads",
    "TrainingOutputOptions",
    "with_groups",
]

# The largest that torch, numpy and scikit-learn all take.
MAX_SEED = 2**32 - 1
_LABEL_SAMPLES = 300

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A bundled name, a checkpoint file, file.py:factory, or the edited.json of an export.",
        rich_help_panel="Model",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="What a generator takes beside latents: label=3, psi=0.7, noise=1. Repeatable.",
        rich_help_panel="Model",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images drawn at once. Without it, as many as fit into about 1 GB.",
        min=1,
        rich_help_panel="Model",
    ),
]
Device = Annotated[
    str, typer.Option(help="A device: auto, cpu, cuda, cuda:1 and so on.", rich_help_panel="Model")
]
Layer = Annotated[
    str,
    typer.Option(
        "--layer", "-l", help="The layer, by the name of its module.", rich_help_panel="Model"
    ),
]
Concept = Annotated[
    str, typer.Option("--concept", "-c", help="The concept.", rich_help_panel="Labels")
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        help="A COCO file of boxes. Without it, the boxes that come with the bundled model.",
        rich_help_panel="Labels",
    ),
]
SegmenterName = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        help="The segmenter: a file, transformers:NAME or file.py:factory. Without it, the bundled "
        "one.",
        rich_help_panel="Labels",
    ),
]
ReaderName = Annotated[
    str,
    typer.Option(
        "--reader",
        help="What reads attributes from images: faces (the attribute network), bedrooms (areas, "
        "by the segmenter), none, or auto (by the model's training source).",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads of the CPU. Without it, as many as there are cores.", min=1, max=1_024
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="The folder that files are written to.", rich_help_panel="Output"
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        help="The seed of everything drawn at random: the same seed gives the same bytes.",
        min=0,
        max=MAX_SEED,
        rich_help_panel="Output",
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object to stdout and nothing else.",
        rich_help_panel="Output",
    ),
]


@dataclass(frozen=True)
class DeviceOptions:
    """Where networks run."""

    device: Device = "auto"

    def resolve(self) -> "torch.device":
        """The device.

        Raises:
            DissectError: no such device.
        """
        from dissect._utils.device import resolve_device
        from dissect._utils.distributed import ProcessGroup

        return resolve_device(ProcessGroup.from_environment().local_device(self.device))


@dataclass(frozen=True)
class RunOptions(DeviceOptions):
    """Where generators run, on how much at once, and what they take beside latents."""

    input: Inputs = None
    batch_size: BatchSize = None

    def open(self, name: str) -> "nn.Module":
        """The generator of that name, on its device.

        Raises:
            DissectError: no such model, device or input.
        """
        from dissect._utils.batches import set_batch_size
        from dissect.surgery.edited import load

        values = {}
        for text in self.input or ():
            key, equals, value = text.partition("=")
            if not equals or not key:
                raise DissectError(f"--input {text!r} is not name=value, as in label=3")
            values[key] = value
        generator = load(name, device=self.resolve(), inputs=values)
        if self.batch_size is not None:
            set_batch_size(generator, self.batch_size)
        return generator


@dataclass(frozen=True)
class GeneratorOptions(RunOptions):
    """Which generator, and how it is run."""

    model: Model = "bedrooms64"

    def load(self) -> "nn.Module":
        """The generator, on its device.

        Raises:
            DissectError: no such model, device or input.
        """
        return self.open(self.model)


@dataclass(frozen=True)
class FaceGeneratorOptions(GeneratorOptions):
    """Which generator, by default that of faces, and where it runs."""

    model: Model = "faces64"


@dataclass(frozen=True)
class ModelOptions(GeneratorOptions):
    """Which generator, which of its layers, and where it runs."""

    layer: Layer = "layer8x8"


@dataclass(frozen=True)
class LabelOptions:
    """Which concept, and who says where it is."""

    concept: Concept = "window"
    labels: Annotated[
        str,
        typer.Option(
            help="Who says where the concept is: boxes (drawn by people), segmenter (its masks of "
            f"{_LABEL_SAMPLES} samples), or segmenter:N (of N samples).",
            rich_help_panel="Labels",
        ),
    ] = "boxes"
    boxes: Boxes = None
    segmenter: SegmenterName = None

    @property
    def source(self) -> str:
        """`boxes` or `segmenter`."""
        return self.labels.partition(":")[0]

    def load(self, generator: "nn.Module", model: str, *, seed: int = 0) -> "ConceptLabels":
        """Where the concept is on samples of the generator.

        Args:
            generator: the model.
            model: what it was loaded by, for its bundled boxes.
            seed: of the samples that the segmenter labels.

        Raises:
            DissectError: an unknown source, no boxes or no segmenter of the concept, or boxes
                that are given where they are not read.
        """
        from dissect.annotations import Annotations, annotation_file
        from dissect.segmentation.pseudo_labels import ConceptLabels, pseudo_label

        source, colon, count = self.labels.partition(":")
        if source == "segmenter":
            if self.boxes is not None:
                raise DissectError("--boxes are not read with --labels segmenter: leave one out")
            n = self._count(count) if colon else _LABEL_SAMPLES
            segmenter = self.load_segmenter(generator)
            return pseudo_label(generator, segmenter, self.concept, n, seed=seed)
        if self.labels != "boxes":
            raise DissectError(
                f"--labels {self.labels!r} is not known: use boxes, segmenter or segmenter:N"
            )
        boxes = self.boxes
        if boxes is None:
            try:
                boxes = annotation_file(model, self.concept)
            except DissectError as error:
                raise DissectError(f"{error}; or add --labels segmenter") from error
        return ConceptLabels(Annotations.load(boxes, self.concept))

    def load_segmenter(self, generator: "nn.Module") -> "Segmenter":
        """The segmenter, on the generator's device.

        Raises:
            DissectError: no such segmenter.
        """
        from dissect._utils.device import device_of
        from dissect.segmentation import load_segmenter

        return load_segmenter(self.segmenter, device=device_of(generator))

    def _count(self, text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not 10 <= int(text) <= 100_000:
            raise DissectError(
                f"--labels {self.labels!r} needs a number of samples from 10 to 100000, as in "
                "segmenter:500"
            )
        return int(text)


@dataclass(frozen=True)
class SampleOptions:
    """How many fresh samples are drawn, and how many of them are shown."""

    n: Annotated[
        int,
        typer.Option("--n", help="Samples shown.", min=1, max=10_000, rich_help_panel="Samples"),
    ] = 12
    pool: Annotated[
        int | None,
        typer.Option(
            help="Fresh samples that are drawn; where the command shows those with most of the "
            "concept, the probe picks them. Without it, five times as many as are shown.",
            min=1,
            max=10_000,
            rich_help_panel="Samples",
        ),
    ] = None

    @property
    def drawn(self) -> int:
        """How many are drawn.

        Raises:
            DissectError: fewer than are shown.
        """
        pool = 5 * self.n if self.pool is None else self.pool
        if pool < self.n:
            raise DissectError(f"--pool {pool} is fewer than --n {self.n}: draw at least as many")
        return pool


@dataclass(frozen=True)
class OutputOptions:
    """Where results go, and from which seed they come."""

    out: Out = Path("out")
    seed: Seed = 0
    as_json: Json = False


@dataclass(frozen=True)
class TrainingOutputOptions(OutputOptions):
    """Where results go, by default a folder of their own, and from which seed they come."""

    out: Out = Path("out/training")


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose parameters that are option groups are spread into single options."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[Any]] = {
        name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)
    }
    spread: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if hints[name] is Given:
            context = parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=typer.Context)
            spread.append(context)
        elif name not in groups:
            spread.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))
        else:
            kinds = get_type_hints(groups[name], include_extras=True)
            spread += [
                inspect.Parameter(
                    one.name,
                    parameter.KEYWORD_ONLY,
                    default=one.default,
                    annotation=kinds[one.name],
                )
                for one in fields(groups[name])
            ]

    @wraps(command)
    def flat(**values: Any) -> None:
        gathered = {
            name: kind(**{one.name: values.pop(one.name) for one in fields(kind)})
            for name, kind in groups.items()
        }
        gathered |= {name: Given(values.pop(name)) for name in hints if hints[name] is Given}
        command(**gathered, **values)

    flat.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    flat.__annotations__ = {one.name: one.annotation for one in spread}
    return flat
