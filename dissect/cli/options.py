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
        help="A bundled name, a checkpoint file, or file.py:factory.",
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
        help="The segmenter: a file, or transformers:NAME. Without it, the bundled one.",
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
class GeneratorOptions(DeviceOptions):
    """Which generator, and where it runs."""

    model: Model = "bedrooms64"

    def load(self) -> "nn.Module":
        """The generator, on its device.

        Raises:
            DissectError: no such model or device.
        """
        from dissect.models import load

        return load(self.model, device=self.resolve())


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


class Given:
    """Which options the command line names; a command has it as a parameter of this type."""

    def __init__(self, context: typer.Context) -> None:
        """Of the command that typer runs in this context."""
        self._context = context

    def __contains__(self, name: str) -> bool:
        """Whether the option of this parameter was written."""
        source = self._context.get_parameter_source(name)
        return getattr(source, "name", "") == "COMMANDLINE"

    def values(self) -> dict[str, Any]:
        """The values that were written, by the names of their parameters."""
        return {name: value for name, value in self._context.params.items() if name in self}

    def refuse(self, where: str, *names: str) -> None:
        """Refuse options that would do nothing.

        Args:
            where: what makes them idle, as in "with --direction".
            names: of their parameters.

        Raises:
            DissectError: one of them was written.
        """
        for option in self._context.command.params:
            if option.name in names and option.name in self:
                raise DissectError(
                    f"{max(option.opts, key=len)} does nothing {where}: leave it out"
                )


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
