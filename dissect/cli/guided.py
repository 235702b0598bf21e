"""`dissect guided`: what the discriminator's features answer to, beside random filters."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import Device, Json, Layer, Model, Out, Seed
from dissect.cli.output import Output

if TYPE_CHECKING:
    from torch import nn

    from dissect.attribution.study import FeatureStudy
    from dissect.data import ImageSource

__all__ = ["guided"]

_IMAGES = 2_000
_FIRST = 6
_ROWS_SHOWN = 12
_REACHING = 2.0
_CONCEPTS_NAMED = 2


def guided(
    source: Annotated[
        str,
        typer.Argument(
            help="Images: bedrooms, folder:PATH, lsun:PATH and so on; see dissect data."
        ),
    ] = "bedrooms",
    model: Model = "bedrooms64",
    layer: Layer = "layer4x4",
    units: Annotated[
        str,
        typer.Option("--units", "-u", help="Features: 0-5 (the paper's first six), 3,17 or all."),
    ] = "0-5",
    images: Annotated[
        int | None,
        typer.Option(
            help="Look for the strongest responses in the first so many images; by default in "
            f"{_IMAGES}, or in all where there are fewer.",
            min=1,
        ),
    ] = None,
    strongest: Annotated[
        int, typer.Option(help="Images a feature is judged by, those it responds to most.", min=1)
    ] = 20,
    columns: Annotated[int, typer.Option(help="How many of them are shown.", min=1)] = 5,
    rule: Annotated[
        str,
        typer.Option(
            help="What passes a LeakyReLU backwards: strict (as a ReLU) or leaky (keeps the slope)."
        ),
    ] = "strict",
    out: Out = Path("out"),
    seed: Seed = 1,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show what discriminator features answer to, by guided backpropagation (Figure 5)."""
    from dissect._utils.device import resolve_device
    from dissect._utils.io import write_image
    from dissect.attribution.random_init import random_twin
    from dissect.attribution.rectifiers import checked_rule
    from dissect.attribution.study import pictures, study_features
    from dissect.figures import concepts_figure, guided_sheet, rasterized
    from dissect.models import load

    output = Output(as_json=as_json)
    checked_rule(rule)
    wanted = _units(units)
    network = load(model, network="discriminator", device=resolve_device(device))
    opened, count = _open(source, images, strongest, network, seed, output)
    trained = study_features(
        network, layer, opened, wanted, k=strongest, count=count, rule=rule, called="trained"
    )
    twin = random_twin(network, opened, seed, count=count)
    random = study_features(
        twin, layer, opened, wanted, k=strongest, count=count, rule=rule, called="random"
    )
    rows = _ROWS_SHOWN if wanted else _FIRST
    sheet = guided_sheet(
        pictures(twin, opened, random.responses, n_units=rows, n=columns, rule=rule),
        pictures(network, opened, trained.responses, n_units=rows, n=columns, rule=rule),
        notes=[] if trained.shares is None else _notes(trained, rows),
        caption=f"{model}, {layer}: {count} images of {source}, rule {rule}",
    )
    output.wrote(write_image(out / "guided.png", sheet))
    if (
        trained.shares is not None
        and random.shares is not None
        and len(trained.responses.units) > _ROWS_SHOWN
    ):
        dots = (trained.shares.by_class(), random.shares.by_class())
        picture = rasterized(concepts_figure(*dots))
        output.wrote(write_image(out / "guided-concepts.png", picture))
    values = {
        "source": source,
        "n_images": count,
        "seed": seed,
        "layer": layer,
        "rule": rule,
        "n_units": trained.responses.total,
        "n_strongest": strongest,
        "units": trained.as_list(),
        "random": random.as_list(),
        "reaching": _reaching(trained, random),
    }
    output.result(values, _text(trained, random, source, count))


def _units(text: str) -> list[int] | None:
    """The features that `text` names, each once; None for all."""
    if text.strip() == "all":
        return None
    found: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise DissectError(f"--units {text!r} is not known: use 0-5, 3,17,40 or all")
        low, high = int(first), int(last or first)
        if high < low or high - low > 100_000:
            raise DissectError(f"--units {text!r}: a range goes up, as in 0-5")
        found.update(dict.fromkeys(range(low, high + 1)))
    return list(found)


def _open(
    spec: str, asked: int | None, strongest: int, network: "nn.Module", seed: int, output: Output
) -> tuple["ImageSource", int]:
    """The source at the network's size, and how many of its images to look at."""
    from dissect.data import source

    size = getattr(network, "image_size", 64)
    # Only a source of files is limited: one that renders would render 50,000.
    drawn = ":" not in spec
    opened = source(spec, size=size, count=asked or (_IMAGES if drawn else None), seed=seed)
    for name, reason in dict(getattr(opened, "skipped", {})).items():
        output.note(f"skipped {name}: {reason}")
    count = min(len(opened), asked or _IMAGES)
    if count < strongest:
        raise DissectError(
            f"{spec} offers {count} images, fewer than the {strongest} strongest asked for: give "
            "more, or a smaller --strongest"
        )
    return opened, count


def _notes(study: "FeatureStudy", rows: int) -> list[str]:
    """What each feature answers to most, for the figure."""
    return [
        "\n".join(f"{name} {ratio:.1f}" for name, ratio in _answers(study, at)[:_CONCEPTS_NAMED])
        for at in range(min(len(study.responses.units), rows))
    ]


def _answers(study: "FeatureStudy", at: int) -> list[tuple[str, float]]:
    """The classes and their energy over chance, the largest first, where it can be judged."""
    import numpy as np

    assert study.shares is not None
    pairs = zip(study.shares.classes, map(float, study.shares.over_chance[at]), strict=True)
    return sorted((pair for pair in pairs if not np.isnan(pair[1])), key=lambda pair: -pair[1])


def _reaching(trained: "FeatureStudy", random: "FeatureStudy") -> dict[str, Any] | None:
    """By class, how many features have at least twice the energy of chance, and of the area."""
    if trained.shares is None or random.shares is None:
        return None
    counts = {
        "over_chance": trained.shares.reaching(trained.shares.over_chance, _REACHING),
        "over_area": trained.shares.reaching(trained.shares.over_area, _REACHING),
        "random_over_chance": random.shares.reaching(random.shares.over_chance, _REACHING),
        "random_over_area": random.shares.reaching(random.shares.over_area, _REACHING),
    }
    return {
        "threshold": _REACHING,
        "classes": {
            name: {key: row[name] for key, row in counts.items()} for name in trained.shares.classes
        },
    }


def _text(trained: "FeatureStudy", random: "FeatureStudy", source: str, count: int) -> str:
    found = trained.responses
    lines = [
        f"{len(found.units)} of the {found.total} features of {found.layer}, their "
        f"{found.image.shape[1]} strongest of {count} images of {source}"
    ]
    if trained.shares is None:
        return "\n".join([*lines, "These images have no masks, so no concepts are counted."])
    if len(found.units) <= _ROWS_SHOWN:
        lines.append("energy of the guided gradient inside a mask, over chance:")
        for at, unit in enumerate(found.units):
            here, there = (
                ", ".join(f"{name} {ratio:.2f}" for name, ratio in _answers(study, at)[:3])
                for study in (trained, random)
            )
            lines.append(f"  feature {unit:<4} {here}   (random: {there})")
        return "\n".join(lines)
    reaching = _reaching(trained, random)
    assert reaching is not None
    lines += [
        f"features with at least {_REACHING:g} times the energy inside a mask that chance has, and "
        "that the area has:",
        f"  {'class':<12}{'over chance':>12}{'random':>8}{'over area':>12}{'random':>8}",
    ]
    for name, row in reaching["classes"].items():
        lines.append(
            f"  {name:<12}{row['over_chance']:>12}{row['random_over_chance']:>8}"
            f"{row['over_area']:>12}{row['random_over_area']:>8}"
        )
    return "\n".join(lines)
