"""`dissect turn`: samples moved along the direction of an attribute."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import (
    FaceGeneratorOptions,
    Given,
    OutputOptions,
    ReaderName,
    with_groups,
)
from dissect.cli.output import Output

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from dissect.latent_space import Direction, DirectionResult
    from dissect.segmentation import AttributeReader

__all__ = ["turn"]

_NAME = re.compile(r"\w[\w -]*")  # it becomes part of files' names
_STEERED = "steered"  # latents optimised for each sample, without a direction
_DIRECTION = "Direction"
_POSITIONS = 11
_N_SCALING, _N_ORDINARY = 60, 1_000  # latents
_START = 10_000  # index of the first latent that is measured; none of them is used before


@with_groups
def turn(
    model: FaceGeneratorOptions,
    output: OutputOptions,
    given: Given,
    attribute: Annotated[
        str, typer.Argument(help="The attribute that changes along the axis.")
    ] = "yaw",
    n: Annotated[
        int, typer.Option("--n", help="Number of samples that are measured.", min=3, max=100_000)
    ] = 200,
    rows: Annotated[
        int, typer.Option(help="Number of samples in the figure.", min=1, max=1_000)
    ] = 6,
    only: Annotated[
        str | None,
        typer.Option(
            help="Conditions on the samples that are used, shown and measured, such as window>0.03."
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="The method: exemplars (the paper), regression, held (regression that holds the "
            "other attributes), components (GANSpace), all of these, or steered (a path for each "
            "sample).",
            rich_help_panel=_DIRECTION,
        ),
    ] = "all",
    exemplars: Annotated[
        Path | None,
        typer.Option(
            help="A JSON file of two concepts, one for each end of the axis.",
            rich_help_panel=_DIRECTION,
        ),
    ] = None,
    n_exemplars: Annotated[
        int,
        typer.Option(
            "--n-exemplars",
            help="Number of exemplars at each end. The paper has 4.",
            min=1,
            max=10_000,
            rich_help_panel=_DIRECTION,
        ),
    ] = 4,
    pool: Annotated[
        int,
        typer.Option(
            help="Number of samples from which directions are found.",
            min=20,
            max=100_000,
            rich_help_panel=_DIRECTION,
        ),
    ] = 4_000,
    direction: Annotated[
        Path | None,
        typer.Option(
            help="A saved direction, which is used instead of a new one.",
            rich_help_panel=_DIRECTION,
        ),
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(
            help="The length from the middle to an end. The default is the largest at which the "
            "attribute does not saturate.",
            rich_help_panel=_DIRECTION,
        ),
    ] = None,
    symmetric: Annotated[
        bool,
        typer.Option(
            "--symmetric",
            help="Remove a sample's own component along the direction before it is moved.",
            rich_help_panel=_DIRECTION,
        ),
    ] = False,
    reader: ReaderName = "auto",
    readout: Annotated[
        Path | None,
        typer.Option(
            help="The file of an attribute network or a segmenter that measures the result. The "
            "default is the reader that found the direction."
        ),
    ] = None,
) -> None:
    """Find the direction of an attribute, move samples along it, measure it (section 6.3.2)."""
    import torch

    from dissect._utils.io import write_image, write_json
    from dissect.latent_space import (
        METHODS,
        AttributedSamples,
        attribute_reader_for,
        evaluate_direction,
        find_directions,
        parse_conditions,
        read_attributes,
        scale_to_effect,
    )

    printed = Output(as_json=output.as_json)
    if not _NAME.fullmatch(attribute):
        raise DissectError(f"{attribute!r} becomes part of files' names: use letters and digits")
    if method not in (*METHODS, _STEERED, "all"):
        known = ", ".join((*METHODS, _STEERED))
        raise DissectError(f"unknown method {method!r}: use {known} or all")
    finding = direction is None and exemplars is None
    if direction is not None:
        given.refuse("with --direction", "exemplars")
    if not finding:
        given.refuse("where the direction is given", "method", "pool", "n_exemplars")
    elif method not in ("all", "exemplars"):
        given.refuse(f"with --method {method}", "n_exemplars")
    if method == _STEERED and not (finding and length is None):
        raise DissectError(
            "steered optimises the latents of each sample: it takes no --direction, "
            "--exemplars or --length"
        )
    out, seed = output.out, output.seed
    generator = model.load()
    attributes = attribute_reader_for(reader, model.model, model.resolve())
    if attributes is not None:
        attributes.column(attribute)
    elif finding:
        raise DissectError(
            f"nothing reads {model.model}: give --reader, or choose both ends by eye and give "
            "--exemplars"
        )
    elif only is not None or readout is not None:
        raise DissectError(f"--only and --readout need a reader of {model.model}; see --reader")
    measuring = attributes
    if readout is not None:
        measuring = attribute_reader_for(reader, model.model, model.resolve(), readout)
    conditions = parse_conditions(only, attributes.names) if only and attributes is not None else ()
    samples = AttributedSamples(generator, seed, attributes, conditions)
    directions = _given(generator, attribute, direction, exemplars)
    if finding and attributes is not None and method != _STEERED:
        found_from = samples.latents(pool)
        methods = METHODS if method == "all" else (method,)
        directions = find_directions(
            generator, attributes, attribute, found_from, methods, count=n_exemplars, seed=seed
        )
    fresh = samples.latents(max(n, rows) + _N_SCALING, _START)
    z = fresh[:-_N_SCALING]
    if length is not None:
        directions = [found.of_length(length) for found in directions]
    elif attributes is not None and direction is None:
        directions = [
            scale_to_effect(generator, attributes, fresh[-_N_SCALING:], found, symmetric=symmetric)
            for found in directions
        ]
    positions = torch.linspace(-1, 1, _POSITIONS)
    turns = [(found, found.applied(z, positions, symmetric=symmetric)) for found in directions]
    ordinary = samples.latents(_N_ORDINARY)
    if method == _STEERED and attributes is not None:
        turns.append(_steered(generator, attributes, attribute, z, ordinary))
    scores = []
    spread = None if measuring is None else read_attributes(generator, measuring, ordinary).std(0)
    for found, paths in turns:
        if measuring is not None and spread is not None:
            read_out = read_attributes(generator, measuring, paths[:n].flatten(0, 1))
            along = read_out.unflatten(0, (n, _POSITIONS))
            start = z[:n]
            scores.append(
                evaluate_direction(
                    generator,
                    measuring,
                    along,
                    found,
                    start,
                    spread,
                    symmetric=symmetric,
                    seed=seed,
                )
            )
        named = out / f"turn-{attribute}-{found.method}"
        picture = _picture(generator, found, paths[:rows], ordinary)
        printed.wrote(write_image(named.with_suffix(".png"), picture))
        if found.method != _STEERED:
            printed.wrote(found.save(named.with_suffix(".json")))
            printed.wrote(found.save(named.with_suffix(".safetensors")))
    table = [
        {**score.to_dict(), "cleaner_than_random": score.cleaner_than_random} for score in scores
    ]
    values = {
        "n": n if scores else 0,
        "attribute": attribute,
        "only": only,
        "seed": seed,
        "symmetric": symmetric,
        "directions": table or [{"method": d.method, "length": d.length} for d in directions],
    }
    printed.wrote(write_json(out / f"turn-{attribute}.json", values))
    printed.result(values, "\n".join(_lines(attribute, scores, directions)))


def _given(
    generator: "nn.Module", attribute: str, direction: Path | None, exemplars: Path | None
) -> list["Direction"]:
    """The direction of a file, or that between the two concepts of a list of exemplars."""
    from dissect.latent_space import Direction, Exemplars, direction_from_list
    from dissect.models import fingerprint

    if direction is not None:
        found = Direction.load(direction)
        found.check(fingerprint(generator))
        if found.attribute != attribute:
            raise DissectError(
                f"{direction} is a direction of {found.attribute!r}, not of {attribute!r}"
            )
        return [found]
    if exemplars is not None:
        return [direction_from_list(Exemplars.load(exemplars), generator, attribute)]
    return []


def _steered(
    generator: "nn.Module",
    reader: "AttributeReader",
    attribute: str,
    z: "Tensor",
    ordinary: "Tensor",
) -> tuple["Direction", "Tensor"]:
    """Paths from the tenth to the ninetieth percentile, and the direction that is their mean.

    The direction is as long as the paths are from their middle to an end, on average.
    """
    import torch

    from dissect.latent_space import Direction, optimize_latents, read_attributes

    column = reader.column(attribute)
    values = read_attributes(generator, reader, ordinary)
    low, high = (float(values[:, column].quantile(q)) for q in (0.1, 0.9))
    targets = torch.linspace(low, high, _POSITIONS)
    paths = optimize_latents(generator, reader, z, column, targets, values.std(0))
    half = (paths[:, -1] - paths[:, 0]) / 2
    like = Direction(half.mean(0), attribute, _STEERED)
    return like.of_length(float(half.norm(dim=1).mean())), paths


def _picture(
    generator: "nn.Module", found: "Direction", paths: "Tensor", ordinary: "Tensor"
) -> "Image.Image":
    """The images of rows of latents (N, P, D), above them the two ends of the axis."""
    from dissect._utils.images import to_images
    from dissect.figures.latent_space import turn_figure
    from dissect.models import generate

    first, last = to_images(generate(generator, found.ends(ordinary)))
    names = found.chosen_extremes or (f"less {found.attribute}", f"more {found.attribute}")
    images = to_images(generate(generator, paths.flatten(0, 1)))
    return turn_figure(
        first,
        last,
        images.reshape(*paths.shape[:2], *images.shape[1:]),
        first_name=names[0],
        last_name=names[1],
    )


def _lines(
    attribute: str, scores: list["DirectionResult"], directions: list["Direction"]
) -> list[str]:
    if not scores:
        return [f"{found.method}: length {found.length:.2f}" for found in directions]
    lines = [f"{attribute} along each direction: R squared (median row), monotone rows, reach:"]
    for score in scores:
        worst = max(
            score.drift, key=lambda name: score.drift[name] / max(score.random_drift[name], 1e-9)
        )
        lines += [
            f"  {score.method:10} length {score.length:.2f}: {score.r_squared:.3f}, "
            f"{score.monotone:.0%}, {score.reach:.3g}; most drift: {worst} "
            f"{score.drift[worst]:.2f} (random {score.random_drift[worst]:.2f})",
            f"  {'random':10} of that length: {score.random_r_squared:.3f}, "
            f"{score.random_monotone:.0%}, {score.random_reach:.3g}",
        ]
    return lines
