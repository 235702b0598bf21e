"""`dissect turn`: samples moved along the direction of an attribute."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import Device, Json, Model, Out, Seed
from dissect.cli.output import Output
from dissect.cli.walk import Reader

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from dissect.latent_space import Direction, DirectionResult
    from dissect.segmentation import AttributeReader

__all__ = ["turn"]

_NAME = re.compile(r"\w[\w -]*")  # it becomes part of files' names
_STEERED = "steered"  # a path of its own for each sample, no direction
_POSITIONS = 11
_CALIBRATION, _ORDINARY = 60, 1_000  # latents
_MEASURED = 10_000  # index of the first latent that is measured: none was looked at before


def turn(
    attribute: Annotated[str, typer.Argument(help="What changes along the axis.")] = "yaw",
    model: Model = "faces64",
    method: Annotated[
        str,
        typer.Option(
            help="How it is found: exemplars (the paper), regression, held (regression that "
            "holds the other attributes), components (GANSpace), all of these, or "
            "steered (a path for each sample)."
        ),
    ] = "all",
    exemplars: Annotated[
        Path | None,
        typer.Option(help="JSON file of two concepts, one for each end of the axis."),
    ] = None,
    count: Annotated[int, typer.Option(help="Exemplars at each end (4 in the paper).", min=1)] = 4,
    among: Annotated[
        int, typer.Option(help="Samples that the directions are found from.", min=20)
    ] = 4_000,
    only: Annotated[
        str | None,
        typer.Option(
            help="Find from, show and measure only samples that meet conditions, window>0.03."
        ),
    ] = None,
    direction: Annotated[
        Path | None, typer.Option(help="Follow a saved direction instead of finding one.")
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(
            help="From the middle to an end; by default as long as nothing saturates, or as it is "
            "found where there is no such length."
        ),
    ] = None,
    symmetric: Annotated[
        bool,
        typer.Option(
            "--symmetric", help="Take what a sample has of the direction away before it is moved."
        ),
    ] = False,
    judge: Annotated[
        Path | None,
        typer.Option(
            help="The file of an attribute network or a segmenter that measures, in the place of "
            "the one that found the direction."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(help="Samples shown.", min=1)] = 6,
    measured: Annotated[int, typer.Option(help="Samples measured.", min=3)] = 200,
    reader: Reader = "auto",
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the direction of an attribute, move samples along it, measure it (section 6.3.2)."""
    import torch

    from dissect._utils.device import resolve_device
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
    from dissect.models import load

    output = Output(as_json=as_json)
    if not _NAME.fullmatch(attribute):
        raise DissectError(f"{attribute!r} becomes part of files' names: use letters and digits")
    if method not in (*METHODS, _STEERED, "all"):
        known = ", ".join((*METHODS, _STEERED))
        raise DissectError(f"unknown method {method!r}: use {known} or all")
    finding = direction is None and exemplars is None
    if method == _STEERED and not (finding and length is None):
        raise DissectError(
            "steered finds a path of its own for each sample: it takes no --direction, "
            "--exemplars or --length"
        )
    place = resolve_device(device)
    generator = load(model, device=place)
    eyes = attribute_reader_for(reader, model, place)
    if eyes is not None:
        eyes.column(attribute)
    elif finding:
        raise DissectError(
            f"nothing reads {model}: give --reader, or pick both ends by eye and give --exemplars"
        )
    elif only is not None or judge is not None:
        raise DissectError(f"--only and --judge need a reader of {model}; see --reader")
    judging = eyes if judge is None else attribute_reader_for(reader, model, place, judge)
    conditions = parse_conditions(only, eyes.names) if only and eyes is not None else ()
    samples = AttributedSamples(generator, seed, eyes, conditions)
    directions = _given(generator, attribute, direction, exemplars)
    if finding and eyes is not None and method != _STEERED:
        found_from = samples.latents(among)
        methods = METHODS if method == "all" else (method,)
        directions = find_directions(
            generator, eyes, attribute, found_from, methods, count=count, seed=seed
        )
    fresh = samples.latents(max(measured, rows) + _CALIBRATION, _MEASURED)
    z = fresh[:-_CALIBRATION]
    if length is not None:
        directions = [found.of_length(length) for found in directions]
    elif eyes is not None and direction is None:
        directions = [
            scale_to_effect(generator, eyes, fresh[-_CALIBRATION:], found, symmetric=symmetric)
            for found in directions
        ]
    positions = torch.linspace(-1, 1, _POSITIONS)
    turns = [(found, found.applied(z, positions, symmetric=symmetric)) for found in directions]
    ordinary = samples.latents(_ORDINARY)
    if method == _STEERED and eyes is not None:
        turns.append(_steered(generator, eyes, attribute, z, ordinary))
    scores = []
    spread = None if judging is None else read_attributes(generator, judging, ordinary).std(0)
    for found, paths in turns:
        if judging is not None and spread is not None:
            read_out = read_attributes(generator, judging, paths[:measured].flatten(0, 1))
            along = read_out.unflatten(0, (measured, _POSITIONS))
            start = z[:measured]
            scores.append(
                evaluate_direction(
                    generator, judging, along, found, start, spread, symmetric=symmetric, seed=seed
                )
            )
        named = out / f"turn-{attribute}-{found.method}"
        picture = _picture(generator, found, paths[:rows], ordinary)
        output.wrote(write_image(named.with_suffix(".png"), picture))
        if found.method != _STEERED:
            output.wrote(found.save(named.with_suffix(".json")))
            output.wrote(found.save(named.with_suffix(".safetensors")))
    table = [
        {**asdict(score), "cleaner_than_random": score.cleaner_than_random} for score in scores
    ]
    values = {
        "n": measured if scores else 0,
        "attribute": attribute,
        "only": only,
        "seed": seed,
        "symmetric": symmetric,
        "directions": table or [{"method": d.method, "length": d.length} for d in directions],
    }
    output.wrote(write_json(out / f"turn-{attribute}.json", values))
    output.result(values, "\n".join(_lines(attribute, scores, directions)))


def _given(
    generator: "nn.Module", attribute: str, direction: Path | None, exemplars: Path | None
) -> list["Direction"]:
    """The direction that a file holds, or that leads between the two ends that one lists."""
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
    low, high = (float(values[:, column].quantile(share)) for share in (0.1, 0.9))
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
