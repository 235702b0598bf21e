"""`dissect guided`: what the discriminator's features respond to, beside random filters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import (
    MAX_SEED,
    DeviceOptions,
    Layer,
    Model,
    OutputOptions,
    with_groups,
)
from dissect.cli.output import Output

if TYPE_CHECKING:
    from torch import nn

    from dissect.attribution.concepts import ConceptFractions
    from dissect.attribution.study import FeatureStudy
    from dissect.data import ImageSource

__all__ = ["guided"]

_IMAGES = 2_000
_FIRST = 6
_ROWS_SHOWN = 12
_REACHING = 2.0
_CONCEPTS_NAMED = 2


@dataclass(frozen=True)
class DiscriminatorOptions(DeviceOptions):
    """Which discriminator, which of its layers, and where it runs."""

    model: Model = "bedrooms64"
    layer: Layer = "layer4x4"

    def load(self) -> "nn.Module":
        """The discriminator, on its device.

        Raises:
            DissectError: no such model or device, or a model without a discriminator.
        """
        from dissect.models import load

        return load(self.model, network="discriminator", device=self.resolve())


@dataclass(frozen=True)
class SeededOutputOptions(OutputOptions):
    """Where results go, and which images and which random network are drawn."""

    # A series of renders on which the bundled discriminator was not trained.
    seed: Annotated[
        int,
        typer.Option(
            help="The seed of the rendered images and of the random network.",
            min=0,
            max=MAX_SEED,
            rich_help_panel="Output",
        ),
    ] = 1


@with_groups
def guided(
    model: DiscriminatorOptions,
    output: SeededOutputOptions,
    source: Annotated[
        str,
        typer.Argument(
            help="The images: bedrooms, folder:PATH, lsun:PATH and so on; see dissect data."
        ),
    ] = "bedrooms",
    unit_range: Annotated[
        str,
        typer.Option(
            "--unit-range",
            "-u",
            help="The features to study: 0-5 (the first six, as in the paper), 3,17 or all.",
        ),
    ] = "0-5",
    images: Annotated[
        int | None,
        typer.Option(
            help="How many images are searched for the strongest activations. The default is "
            f"{_IMAGES}, or all images if there are fewer.",
            min=1,
        ),
    ] = None,
    strongest: Annotated[
        int,
        typer.Option(
            help="How many strongest images each feature is judged by.", min=1, max=10_000
        ),
    ] = 20,
    columns: Annotated[
        int, typer.Option(help="How many of these images the figure shows.", min=1, max=1_000)
    ] = 5,
    relu_rule: Annotated[
        str,
        typer.Option(
            help="The gradient that passes a LeakyReLU backwards: strict treats it as a ReLU, "
            "leaky keeps its slope."
        ),
    ] = "strict",
) -> None:
    """Show what discriminator features respond to, by guided backpropagation (Figure 5)."""
    from dissect._utils.io import write_image
    from dissect.attribution.random_init import random_init_copy
    from dissect.attribution.rectifiers import checked_rule
    from dissect.attribution.study import feature_pictures, study_features
    from dissect.figures import concepts_figure, guided_sheet, rasterized

    printed = Output(as_json=output.as_json)
    rule = checked_rule(relu_rule)
    units = _parse_units(unit_range)
    network = model.load()
    opened, count = _open_images(source, images, strongest, network, output.seed, printed)
    trained = study_features(
        network, model.layer, opened, units, k=strongest, count=count, rule=rule, label="trained"
    )
    control = random_init_copy(network, opened, output.seed, count=count)
    random = study_features(
        control, model.layer, opened, units, k=strongest, count=count, rule=rule, label="random"
    )
    rows = _ROWS_SHOWN if units else _FIRST
    sheet = guided_sheet(
        feature_pictures(control, opened, random.largest, n_units=rows, n=columns, rule=rule),
        feature_pictures(network, opened, trained.largest, n_units=rows, n=columns, rule=rule),
        notes=[] if trained.fractions is None else _notes(trained.fractions, rows),
        caption=f"{model.model}, {model.layer}: {count} images of {source}, rule {rule}",
    )
    printed.wrote(write_image(output.out / "guided.png", sheet))
    if (
        trained.fractions is not None
        and random.fractions is not None
        and len(trained.largest.units) > _ROWS_SHOWN
    ):
        dots = (trained.fractions.by_class(), random.fractions.by_class())
        picture = rasterized(concepts_figure(*dots))
        printed.wrote(write_image(output.out / "guided-concepts.png", picture))
    values = {
        "source": source,
        "n_images": count,
        "seed": output.seed,
        "layer": model.layer,
        "rule": rule,
        "n_units": trained.largest.total,
        "n_strongest": strongest,
        "units": trained.to_dict()["units"],
        "random": random.to_dict()["units"],
        "reaching": _count_reaching(trained, random),
    }
    printed.result(values, _text(trained, random, source, count))


def _parse_units(text: str) -> list[int] | None:
    """The features that `text` names, each once; None for all."""
    if text.strip() == "all":
        return None
    units: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise DissectError(f"--unit-range {text!r} is not known: use 0-5, 3,17,40 or all")
        low, high = int(first), int(last or first)
        if high < low or high - low > 100_000:
            raise DissectError(f"--unit-range {text!r}: a range goes up, as in 0-5")
        units.update(dict.fromkeys(range(low, high + 1)))
    return list(units)


def _open_images(
    spec: str, asked: int | None, strongest: int, network: "nn.Module", seed: int, output: Output
) -> tuple["ImageSource", int]:
    """The source at the network's size, and how many of its images to look at."""
    from dissect.data import source

    size = getattr(network, "image_size", 64)
    # Only a source of files is limited: one that renders would render 50,000.
    is_rendered = ":" not in spec
    opened = source(spec, size=size, count=asked or (_IMAGES if is_rendered else None), seed=seed)
    for name, reason in dict(getattr(opened, "skipped", {})).items():
        output.note(f"skipped {name}: {reason}")
    count = min(len(opened), asked or _IMAGES)
    if count < strongest:
        raise DissectError(
            f"{spec} offers {count} images, fewer than the {strongest} strongest asked for: give "
            "more, or a smaller --strongest"
        )
    return opened, count


def _notes(fractions: "ConceptFractions", rows: int) -> list[str]:
    """The classes that each feature responds to most, for the figure."""
    return [
        "\n".join(
            f"{name} {ratio:.1f}"
            for name, ratio in _ranked_classes(fractions, at)[:_CONCEPTS_NAMED]
        )
        for at in range(min(len(fractions.over_chance), rows))
    ]


def _ranked_classes(fractions: "ConceptFractions", at: int) -> list[tuple[str, float]]:
    """The classes and their energy over chance, the largest first, where it can be judged."""
    import numpy as np

    pairs = zip(fractions.classes, map(float, fractions.over_chance[at]), strict=True)
    return sorted((pair for pair in pairs if not np.isnan(pair[1])), key=lambda pair: -pair[1])


def _count_reaching(trained: "FeatureStudy", random: "FeatureStudy") -> dict[str, Any] | None:
    """By class, how many features have at least twice the energy of chance, and of the area."""
    if trained.fractions is None or random.fractions is None:
        return None
    counts = {
        "over_chance": trained.fractions.count_reaching(trained.fractions.over_chance, _REACHING),
        "over_area": trained.fractions.count_reaching(trained.fractions.over_area, _REACHING),
        "random_over_chance": random.fractions.count_reaching(
            random.fractions.over_chance, _REACHING
        ),
        "random_over_area": random.fractions.count_reaching(random.fractions.over_area, _REACHING),
    }
    return {
        "threshold": _REACHING,
        "classes": {
            name: {key: row[name] for key, row in counts.items()}
            for name in trained.fractions.classes
        },
    }


def _text(trained: "FeatureStudy", random: "FeatureStudy", source: str, count: int) -> str:
    largest = trained.largest
    lines = [
        f"{len(largest.units)} of the {largest.total} features of {largest.layer}, their "
        f"{largest.image.shape[1]} strongest of {count} images of {source}"
    ]
    fractions = [study.fractions for study in (trained, random) if study.fractions is not None]
    reaching = _count_reaching(trained, random)
    if reaching is None:
        return "\n".join([*lines, "These images have no masks, so no concepts are counted."])
    if len(largest.units) <= _ROWS_SHOWN:
        lines.append("energy of the guided gradient inside a mask, over chance:")
        for at, unit in enumerate(largest.units):
            here, there = (
                ", ".join(f"{name} {ratio:.2f}" for name, ratio in _ranked_classes(one, at)[:3])
                for one in fractions
            )
            lines.append(f"  feature {unit:<4} {here}   (random: {there})")
        return "\n".join(lines)
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
