"""`dissect classify`: what a discriminator knows, as a linear classifier on its features."""

import math
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import DeviceOptions, Given, OutputOptions, Threads, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    from dissect.representation import FeatureStudy, TableRow

__all__ = ["classify"]

_ROWS = "pixels,random,kmeans,discriminator"
_LABELS_PER_CLASS = 100
_CLASSIFIER, _LOW_DATA = "Classifier", "Few labels (svhn)"


@with_groups
def classify(
    dataset: Annotated[
        str,
        typer.Argument(help="The data set: cifar10:PATH or svhn:PATH (see `dissect data info`)."),
    ],
    device: DeviceOptions,
    output: OutputOptions,
    given: Given,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="A discriminator of 32 pixels: a checkpoint, or file.py:factory.",
            rich_help_panel="Model",
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help=f"The rows of the table, separated by commas. The default is {_ROWS}, and "
            "supervised for svhn."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            help="The feature layers, separated by commas. The default is every convolution."
        ),
    ] = None,
    n_labels: Annotated[
        int | None,
        typer.Option(
            "--n-labels",
            help="Number of labelled images. The default is all of cifar10, and 1,000 of svhn, "
            "which are drawn anew each time with as many of each class.",
            min=2,
        ),
    ] = None,
    standardize: Annotated[
        bool,
        typer.Option(
            "--standardize",
            help="Bring the discriminators' features to mean 0 and std 1. The paper does not.",
            rich_help_panel=_CLASSIFIER,
        ),
    ] = False,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror",
            help="Average features over an image and its mirror image, in every row but "
            "supervised. The paper does not.",
            rich_help_panel=_CLASSIFIER,
        ),
    ] = False,
    solver: Annotated[
        str,
        typer.Option(
            help="The solver: liblinear (LinearSVC), lbfgs (the same minimum), or auto: by size.",
            rich_help_panel=_CLASSIFIER,
        ),
    ] = "auto",
    c: Annotated[
        str | None,
        typer.Option(
            "--c",
            help="The values of C to try, separated by commas, such as 1e-5,1e-4.",
            rich_help_panel=_CLASSIFIER,
        ),
    ] = None,
    kmeans: Annotated[
        int,
        typer.Option(
            help="Number of centroids of the K-means row.", min=2, rich_help_panel=_CLASSIFIER
        ),
    ] = 800,
    n_validation: Annotated[
        int,
        typer.Option(
            "--n-validation",
            help="Number of images by which C is chosen.",
            min=1,
            rich_help_panel=_LOW_DATA,
        ),
    ] = 10_000,
    validation_draws: Annotated[
        int,
        typer.Option(
            help="Number of draws of labels by which C is chosen.",
            min=1,
            rich_help_panel=_LOW_DATA,
        ),
    ] = 10,
    test_draws: Annotated[
        int,
        typer.Option(
            help="Number of further draws whose mean accuracy is reported.",
            min=1,
            rich_help_panel=_LOW_DATA,
        ),
    ] = 100,
    trials: Annotated[
        int,
        typer.Option(
            help="Number of settings of the supervised network's search.",
            min=1,
            rich_help_panel=_LOW_DATA,
        ),
    ] = 64,
    split_seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the validation split. The default is --seed.",
            min=0,
            rich_help_panel=_LOW_DATA,
        ),
    ] = None,
    eval_seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the draws of labels. The default is --seed.",
            min=0,
            rich_help_panel=_LOW_DATA,
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Classify images by a discriminator's features, beside the baselines (Tables 1 and 2)."""
    import torch

    from dissect._utils.io import write_json
    from dissect.data import labelled
    from dissect.models import load
    from dissect.representation import FeatureStudy, LowDataProtocol
    from dissect.representation.svm import Solver
    from dissect.representation.table import peak_memory_gb

    printed = Output(as_json=output.as_json)
    seed = output.seed
    if threads is not None:
        torch.set_num_threads(threads)
    if solver not in get_args(Solver):
        raise DissectError(f"--solver {solver!r} is not known: use {', '.join(get_args(Solver))}")
    low_data = dataset.startswith("svhn:")
    default = f"{_ROWS},supervised" if low_data else _ROWS
    names = (rows or default).replace(" ", "").split(",")
    _refuse_idle(given, names, low_data=low_data, has_model=model is not None)
    network = None
    if model is not None:
        network = load(model, network="discriminator", device=device.resolve())
    train, test = labelled(dataset)
    protocol = None
    if low_data:
        protocol = LowDataProtocol(
            n_validation,
            _labels_per_class(n_labels, len(train.classes)),
            validation_draws,
            test_draws,
            seed if split_seed is None else split_seed,
            seed if eval_seed is None else eval_seed,
        )
    else:
        train = train.first(n_labels, train.size)
    study = FeatureStudy(
        train,
        test,
        network,
        layers=tuple(layers.replace(" ", "").split(",")) if layers else (),
        low_data=protocol,
        standardize=standardize,
        mirror=mirror,
        solver=cast(Solver, solver),
        cs=None if c is None else _values_of_c(c),
        kmeans=kmeans,
        trials=trials,
        seed=seed,
    )
    study.check(names)
    table = []
    for name in names:
        row = study.run(name, lambda text, name=name: printed.note(f"{name}: {text}"))  # type: ignore[misc]
        table.append(row)
        printed.note(f"{name}: {row.evaluation.accuracy:.4f} in {row.seconds:.0f} s")
    values = _values(dataset, study, table) | {
        "model": model,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "peak_memory_gb": peak_memory_gb(),
    }
    printed.wrote(write_json(output.out / "classify.json", values))
    printed.result(values, _text(dataset, study, table))


def _refuse_idle(given: Given, names: list[str], *, low_data: bool, has_model: bool) -> None:
    """Refuse options that no row of the table would use."""
    if not low_data:
        split = ("n_validation", "validation_draws", "test_draws", "split_seed", "eval_seed")
        given.refuse("without svhn", *split)
    if "supervised" not in names:
        given.refuse("without the row supervised", "trials")
    if "kmeans" not in names:
        given.refuse("without the row kmeans", "kmeans")
    if not has_model:
        given.refuse("without --model", "device")


def _values_of_c(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf for value in values):
        raise DissectError(f"--c {text!r} is not known: give numbers above 0, as in 1e-5,1e-4")
    return values


def _labels_per_class(n_labels: int | None, n_classes: int) -> int:
    if n_labels is None:
        return _LABELS_PER_CLASS
    if n_labels % n_classes:
        raise DissectError(
            f"--n-labels {n_labels} is no multiple of the {n_classes} classes, which have as "
            "many labels each"
        )
    return n_labels // n_classes


def _values(dataset: str, study: "FeatureStudy", table: "list[TableRow]") -> dict[str, Any]:
    """The result for programs, with the accuracy of the discriminator, or the last row, on top."""
    main = next((row for row in table if row.row == "discriminator"), table[-1])
    protocol, n_classes = study.low_data, len(study.train.classes)
    n_labels = len(study.train) if protocol is None else protocol.per_class * n_classes
    return {
        "dataset": dataset,
        "row": main.row,
        "accuracy": main.evaluation.accuracy,
        "accuracy_ci": list(main.evaluation.interval),
        "c": main.evaluation.c,
        "n_labels": n_labels,
        "n_test": len(study.test),
        "rows": [row.to_dict() for row in table],
    }


def _text(dataset: str, study: "FeatureStudy", table: "list[TableRow]") -> str:
    from dissect.representation.table import NAMES, PAPER

    paper = PAPER[dataset.partition(":")[0]]
    n_labels = _values(dataset, study, table)["n_labels"]
    protocol = study.low_data
    draws = "" if protocol is None else f", mean of {protocol.test_draws} draws"
    lines = [
        f"{dataset}: {n_labels} labels, {len(study.test)} test images{draws}",
        f"{'':36}{'features':>9}{'C':>9}{'accuracy':>10}   {'95%':14}{'the paper':>10}",
    ]
    if study.mirror:
        lines.insert(1, "features are means over an image and its mirror image")
    for row in table:
        result = row.evaluation
        c = "" if result.c is None else f"{result.c:g}"
        low, high = result.interval
        published = f"{paper[row.row]:.1%}" if row.row in paper else ""
        lines.append(
            f"{NAMES[row.row]:36}{result.n_features or '':>9}{c:>9}{result.accuracy:>10.1%}   "
            f"{f'{low:.1%} to {high:.1%}':14}{published:>10}"
        )
        if row.search is not None:
            lines.append(
                f"  on the validation images (as the paper's): {row.search.validation:.1%}"
            )
        if not result.converged:
            lines.append("  a fit stopped before its tolerance")
    return "\n".join(lines)
