"""`dissect turn`: samples moved along the direction of an attribute."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect.cli.options import Device, Json, Model, Out, Seed
from dissect.cli.output import Output
from dissect.cli.walk import Reader
from dissect.errors import DissectError

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

    from dissect.attributes import AttributeReader
    from dissect.latent_space import Direction, TurnScore

__all__ = ["turn"]

_METHODS = ("exemplars", "regression", "held", "components")
_STEERED = "steered"  # a path of its own for each sample, no direction
_POSITIONS = 11
_CALIBRATION, _RANDOM = 60, 3  # latents and random directions
_MEASURED = 10_000  # index of the first latent that is measured: none was looked at before


def turn(
    attribute: Annotated[str, typer.Argument(help="What changes along the axis.")] = "yaw",
    model: Model = "faces64",
    method: Annotated[
        str,
        typer.Option(
            help="exemplars (the paper), regression, held (regression that holds the other "
            "attributes), components (GANSpace), steered (a path for each sample), or all."
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
    direction: Annotated[
        Path | None, typer.Option(help="Follow a saved direction instead of finding one.")
    ] = None,
    length: Annotated[
        float | None,
        typer.Option(help="From the middle to an end; by default as long as nothing saturates."),
    ] = None,
    centred: Annotated[
        bool,
        typer.Option(
            "--centred", help="Take what a sample has of the direction away before it is moved."
        ),
    ] = False,
    judge: Annotated[
        Path | None,
        typer.Option(
            help="An attribute network's file that measures, in the place of the one that found "
            "the direction."
        ),
    ] = None,
    rows: Annotated[int, typer.Option(help="Samples shown.", min=1)] = 6,
    measured: Annotated[int, typer.Option(help="Samples measured.", min=2)] = 200,
    reader: Reader = "auto",
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the direction of an attribute, move samples along it, measure it (section 6.3.2)."""
    from dissect.files import save_image, write_json
    from dissect.latent_space import calibrated, reader_for
    from dissect.models import latents_for, load, resolve_device

    output = Output(as_json=as_json)
    place = resolve_device(device)
    generator = load(model, device=place)
    eyes = reader_for(reader, model, place)
    if method not in (*_METHODS, _STEERED, "all"):
        known = ", ".join((*_METHODS, _STEERED))
        raise DissectError(f"unknown method {method!r}: use {known} or all")
    finding = direction is None and exemplars is None and length is None
    if method == _STEERED and not finding:
        raise DissectError(
            "steered finds a path of its own for each sample: it takes no --direction, "
            "--exemplars or --length"
        )
    if eyes is not None:
        eyes.number(attribute)
    if direction is not None:
        directions = [_loaded(direction, generator, attribute)]
    elif exemplars is not None:
        directions = [_from_file(exemplars, generator, attribute)]
    elif eyes is None:
        raise DissectError(
            f"nothing reads {model}: give --reader, or pick both ends by eye and give --exemplars"
        )
    else:
        wanted = tuple(known for known in _METHODS if method in (known, "all"))
        directions = _found(generator, eyes, attribute, wanted, count, among, seed)
    if length is not None:
        directions = [found.of_length(length) for found in directions]
    elif eyes is not None and direction is None:
        z = latents_for(generator, _CALIBRATION, seed, start=_MEASURED + measured)
        directions = [
            calibrated(generator, eyes, z, found, centred=centred) for found in directions
        ]
    judging = eyes if judge is None else _judge(judge, place)
    scores = []
    if judging is not None:
        scores = _measured(generator, judging, directions, measured, seed, centred)
    if eyes is not None and finding and method in (_STEERED, "all"):
        if eyes.slopes_through is not None:
            score, picture = _steer(
                generator, eyes, judging or eyes, attribute, measured, rows, seed
            )
            scores.append(score)
            output.wrote(save_image(out / f"turn-{attribute}-{_STEERED}.png", picture))
        elif method == _STEERED:
            raise DissectError(
                f"the reader of {model} has no slopes to steer by: use another method"
            )
    for found in directions:
        named = out / f"turn-{found.attribute}-{found.method}"
        output.wrote(
            save_image(named.with_suffix(".png"), _figure(generator, found, rows, seed, centred))
        )
        output.wrote(found.save(named.with_suffix(".json")))
        output.wrote(found.save(named.with_suffix(".safetensors")))
    table = [
        {**asdict(score), "cleaner_than_random": score.cleaner_than_random} for score in scores
    ]
    values = {
        "n": measured if scores else 0,
        "attribute": attribute,
        "seed": seed,
        "centred": centred,
        "directions": table
        or [{"method": found.method, "length": found.length} for found in directions],
    }
    output.wrote(write_json(out / f"turn-{attribute}.json", values))
    output.result(values, "\n".join(_lines(attribute, scores, directions)))


def _judge(path: Path, device: "torch.device") -> "AttributeReader":
    from dissect.attributes import AttributeReader, load_attributes

    return AttributeReader.of(load_attributes(path, device=device)[0])


def _loaded(path: Path, generator: "nn.Module", attribute: str) -> "Direction":
    from dissect.latent_space import Direction
    from dissect.models import fingerprint

    found = Direction.load(path)
    found.check(fingerprint(generator))
    if found.attribute != attribute:
        raise DissectError(f"{path} is a direction of {found.attribute!r}, not of {attribute!r}")
    return found


def _from_file(path: Path, generator: "nn.Module", attribute: str) -> "Direction":
    from dissect.latent_space import Direction, Exemplars, from_exemplars
    from dissect.models import fingerprint, latents_for

    listed = Exemplars.load(path)
    listed.check(fingerprint(generator))
    if len(listed.concepts) != 2:
        raise DissectError(
            f"{path} must list two concepts, the two ends; it lists {len(listed.concepts)}"
        )
    z = latents_for(generator, listed.n, listed.seed)
    first, last = (z[list(indices)] for indices in listed.concepts.values())
    about = {"ends": {name: list(rows) for name, rows in listed.concepts.items()}}
    return Direction(
        from_exemplars(first, last), attribute, "exemplars", fingerprint(generator), about
    )


def _found(
    generator: "nn.Module",
    reader: "AttributeReader",
    attribute: str,
    methods: tuple[str, ...],
    count: int,
    among: int,
    seed: int,
) -> list["Direction"]:
    """The direction of an attribute, by each method, from the same samples."""
    from dissect.hooks import activations
    from dissect.latent_space import (
        Direction,
        ends,
        from_components,
        from_exemplars,
        from_regression,
        read,
    )
    from dissect.models import fingerprint, latents_for

    z = latents_for(generator, among, seed)
    values = read(generator, reader, z)
    column = reader.number(attribute)
    if float(values[:, column].std()) < 1e-6:
        raise DissectError(f"{attribute} is the same in all {among} samples: it has no direction")
    directions = []
    for method in methods:
        about: dict[str, object] = {"samples": among, "seed": seed}
        if method == "exemplars":
            first, last = ends(values, column, count, z=z, seed=seed)
            vector = from_exemplars(z[first], z[last])
            about["ends"] = {"low": first.tolist(), "high": last.tolist()}
        elif method == "components":
            layer = _first_layer(generator)
            kept = activations(generator, layer, z)
            vector, number = from_components(z, kept, values, column)
            about |= {"layer": layer, "component": number}
        else:
            vector = from_regression(z, values, column, held=method == "held")
        directions.append(Direction(vector, attribute, method, fingerprint(generator), about))
    return directions


def _first_layer(generator: "nn.Module") -> str:
    """The name of the first module that makes maps of the latents."""
    names = [name for name, _ in generator.named_children()]
    if not names:
        raise DissectError(f"{type(generator).__name__} has no layer of its own to look into")
    return names[0]


def _measured(
    generator: "nn.Module",
    reader: "AttributeReader",
    directions: list["Direction"],
    n: int,
    seed: int,
    centred: bool,
) -> list["TurnScore"]:
    import torch

    from dissect.latent_space import random_like, read, read_rows, scored
    from dissect.models import latents_for

    z = latents_for(generator, n, seed, start=_MEASURED)
    positions = torch.linspace(-1, 1, _POSITIONS)
    spread = read(generator, reader, latents_for(generator, 1_000, seed)).std(0)
    scores = []
    for found in directions:
        values = read_rows(generator, reader, z, found, positions, centred=centred)
        ends = torch.tensor([-1.0, 0.0, 1.0])
        random = [
            read_rows(generator, reader, z, other, ends, centred=centred)
            for other in random_like(found, _RANDOM, seed)
        ]
        scores.append(scored(values, positions, found, reader, spread, random))
    return scores


def _steer(
    generator: "nn.Module",
    reader: "AttributeReader",
    judge: "AttributeReader",
    attribute: str,
    n: int,
    rows: int,
    seed: int,
) -> tuple["TurnScore", "Image.Image"]:
    """The score and the picture of paths between the tenth and the ninetieth percentile."""
    import torch

    from dissect.data import to_images
    from dissect.figures.latent_space import turn_figure
    from dissect.latent_space import Direction, draw, random_like, read, read_rows, scored, steered
    from dissect.models import latents_for

    column = reader.number(attribute)
    ordinary = latents_for(generator, 1_000, seed)
    values = read(generator, reader, ordinary)
    low, high = (float(values[:, column].quantile(share)) for share in (0.1, 0.9))
    targets = torch.linspace(low, high, _POSITIONS)
    z = latents_for(generator, max(n, rows), seed, start=_MEASURED)
    paths = steered(generator, reader, z, column, targets, values.std(0))
    along = read(generator, judge, paths[:n].flatten(0, 1)).reshape(n, _POSITIONS, -1)
    half = (paths[:n, -1] - paths[:n, 0]) / 2
    like = Direction(half.mean(0), attribute, _STEERED).of_length(float(half.norm(dim=1).mean()))
    positions = torch.linspace(-1, 1, _POSITIONS)
    ends = torch.tensor([-1.0, 0.0, 1.0])
    random = [
        read_rows(generator, judge, z[:n], other, ends)
        for other in random_like(like, _RANDOM, seed)
    ]
    spread = read(generator, judge, ordinary).std(0)
    score = scored(along, positions, like, judge, spread, random)
    # The mean of all latents stands for nobody; its path shows the axis, as exemplars' means do.
    mean = steered(generator, reader, z[:1] * 0, column, targets, values.std(0))[0]
    first, last = to_images(draw(generator, mean[[0, -1]]))
    images = to_images(draw(generator, paths[:rows].flatten(0, 1)))
    picture = turn_figure(
        first,
        last,
        images.reshape(rows, _POSITIONS, *images.shape[1:]),
        first_name=f"less {attribute}",
        last_name=f"more {attribute}",
    )
    return score, picture


def _figure(
    generator: "nn.Module", found: "Direction", rows: int, seed: int, centred: bool
) -> "Image.Image":
    """The rows of a direction, above them what it makes of the mean of all latents."""
    import torch

    from dissect.data import to_images
    from dissect.figures.latent_space import turn_figure
    from dissect.latent_space import draw
    from dissect.models import latents_for

    z = latents_for(generator, rows, seed, start=_MEASURED)
    ends = to_images(draw(generator, found.applied(z[:1] * 0, torch.tensor([-1.0, 1.0]))[0]))
    picked = tuple(found.about.get("ends", ()))
    names = (f"less {found.attribute}", f"more {found.attribute}")
    if len(picked) == 2 and picked != ("low", "high"):
        names = picked
    moved = found.applied(z, torch.linspace(-1, 1, _POSITIONS), centred=centred)
    images = to_images(draw(generator, moved.flatten(0, 1)))
    return turn_figure(
        ends[0],
        ends[1],
        images.reshape(rows, _POSITIONS, *images.shape[1:]),
        first_name=names[0],
        last_name=names[1],
    )


def _lines(attribute: str, scores: list["TurnScore"], directions: list["Direction"]) -> list[str]:
    if not scores:
        return [f"{found.method}: length {found.length:.2f}" for found in directions]
    lines = [f"{attribute} along each direction: R squared (median row), monotone rows, reach:"]
    for score in scores:
        worst = max(
            score.drift, key=lambda name: score.drift[name] / max(score.random_drift[name], 1e-9)
        )
        lines.append(
            f"  {score.method:10} length {score.length:.2f}: {score.r_squared:.3f}, "
            f"{score.monotone:.0%}, {score.reach:.3g}; most drift: {worst} "
            f"{score.drift[worst]:.2f} (random {score.random_drift[worst]:.2f})"
        )
    return lines
