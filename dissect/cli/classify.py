"""`dissect classify`: what a discriminator knows, as a linear classifier on its features."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import Device, Json, Out, Seed
from dissect.cli.output import Output

if TYPE_CHECKING:
    from dissect.representation import TableRow
    from dissect.representation.table import Study

__all__ = ["classify"]

_ROWS = "pixels,random,kmeans,discriminator"
_LABELS_A_CLASS = 100


def classify(
    dataset: Annotated[str, typer.Argument(help="Labelled images: cifar10:PATH or svhn:PATH.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A discriminator of 32 pixels: a checkpoint, or file.py:factory."
        ),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            help=f"Rows of the table, by commas; by default {_ROWS}, and supervised for svhn."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Feature layers, by commas; by default every convolution."),
    ] = None,
    labels: Annotated[
        int | None,
        typer.Option(
            help="Labelled images; by default all of cifar10, and 1000 of svhn (drawn anew each "
            "time, alike of each class).",
            min=2,
        ),
    ] = None,
    validation: Annotated[
        int, typer.Option(help="For svhn: images to choose C with.", min=1)
    ] = 10_000,
    choosing: Annotated[
        int, typer.Option(help="For svhn: draws of labels to choose C with.", min=1)
    ] = 10,
    reporting: Annotated[
        int, typer.Option(help="For svhn: fresh draws whose mean is reported.", min=1)
    ] = 100,
    trials: Annotated[
        int, typer.Option(help="For svhn: settings of the supervised network's search.", min=1)
    ] = 64,
    kmeans: Annotated[int, typer.Option(help="Centroids of the K-means row.", min=2)] = 800,
    c: Annotated[
        str | None,
        typer.Option("--c", help="Values of C to choose among, by commas, such as 1e-5,1e-4."),
    ] = None,
    standardize: Annotated[
        bool,
        typer.Option(
            "--standardize",
            help="Bring the discriminators' features to mean 0 and deviation 1 (the paper does "
            "not).",
        ),
    ] = False,
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror",
            help="Take features as means over an image and its mirror image, in every row but "
            "supervised (the paper does not).",
        ),
    ] = False,
    solver: Annotated[
        str,
        typer.Option(
            help="Solver: liblinear (LinearSVC), newton (the same minimum), or auto: by size."
        ),
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the CPU; all by default.", min=1)
    ] = None,
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Classify images by a discriminator's features, beside the baselines (Tables 1 and 2)."""
    import torch

    from dissect._utils.device import resolve_device
    from dissect._utils.io import write_json
    from dissect.data import labelled
    from dissect.models import load
    from dissect.representation.protocols import FewLabels
    from dissect.representation.svm import Solver
    from dissect.representation.table import Study, peak_memory_gb

    output = Output(as_json=as_json)
    if threads is not None:
        torch.set_num_threads(threads)
    if solver not in get_args(Solver):
        raise DissectError(f"--solver {solver!r} is not known: use {', '.join(get_args(Solver))}")
    few = dataset.startswith("svhn:")
    wanted = (rows or (f"{_ROWS},supervised" if few else _ROWS)).replace(" ", "").split(",")
    place = resolve_device(device)
    network = None if model is None else load(model, network="discriminator", device=place)
    train, test = labelled(dataset)
    protocol = None
    if few:
        per_class = _per_class(labels, len(train.classes))
        protocol = FewLabels(validation, per_class, choosing, reporting, seed)
    else:
        train = train.first(labels, train.size)
    study = Study(
        train,
        test,
        network,
        layers=tuple(layers.replace(" ", "").split(",")) if layers else (),
        few=protocol,
        standardize=standardize,
        mirror=mirror,
        solver=solver,  # type: ignore[arg-type]
        cs=None if c is None else _values_of_c(c),
        kmeans=kmeans,
        trials=trials,
        seed=seed,
    )
    study.check(wanted)
    made = []
    for row in wanted:
        found = study.make(row, lambda text, row=row: output.note(f"{row}: {text}"))  # type: ignore[misc]
        made.append(found)
        output.note(f"{row}: {found.judged.accuracy:.4f} in {found.seconds:.0f} s")
    values = _values(dataset, study, made) | {
        "model": model,
        "seed": seed,
        "threads": torch.get_num_threads(),
        "peak_memory_gb": peak_memory_gb(),
    }
    output.wrote(write_json(out / "classify.json", values))
    output.result(values, _text(dataset, study, made))


def _values_of_c(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf for value in values):
        raise DissectError(f"--c {text!r} is not known: give numbers above 0, as in 1e-5,1e-4")
    return values


def _per_class(labels: int | None, n_classes: int) -> int:
    if labels is None:
        return _LABELS_A_CLASS
    if labels % n_classes:
        raise DissectError(
            f"--labels {labels} cannot be alike of {n_classes} classes: give a multiple"
        )
    return labels // n_classes


def _values(dataset: str, study: "Study", made: "list[TableRow]") -> dict[str, Any]:
    """The result for programs; the discriminator's row stands at the top, or the last one."""
    main = next((row for row in made if row.row == "discriminator"), made[-1]).as_dict()
    few = study.few
    return {
        "dataset": dataset,
        **{key: main[key] for key in ("row", "accuracy", "accuracy_ci", "C")},
        "n_labels": len(study.train) if few is None else few.per_class * len(study.train.classes),
        "n_test": len(study.test),
        "rows": [row.as_dict() for row in made],
    }


def _text(dataset: str, study: "Study", made: "list[TableRow]") -> str:
    from dissect.representation.table import NAMES, PAPER

    paper = PAPER[dataset.partition(":")[0]]
    n_labels = _values(dataset, study, made)["n_labels"]
    over = "" if study.few is None else f", mean of {study.few.reporting} draws"
    lines = [
        f"{dataset}: {n_labels} labels, {len(study.test)} test images{over}",
        f"{'':36}{'features':>9}{'C':>9}{'accuracy':>10}   {'95%':14}{'the paper':>10}",
    ]
    if study.mirror:
        lines.insert(1, "features are means over an image and its mirror image")
    for row in made:
        judged = row.judged
        c = "" if judged.c is None else f"{judged.c:g}"
        low, high = judged.interval
        theirs = f"{paper[row.row]:.1%}" if row.row in paper else ""
        lines.append(
            f"{NAMES[row.row]:36}{judged.n_features or '':>9}{c:>9}{judged.accuracy:>10.1%}   "
            f"{f'{low:.1%} to {high:.1%}':14}{theirs:>10}"
        )
        if "validation" in row.more:
            lines.append(
                f"  on the validation images (as the paper's): {row.more['validation']:.1%}"
            )
        if not judged.converged:
            lines.append("  a fit stopped before its tolerance")
    return "\n".join(lines)
