"""`dissect search`: the edit that removes most of a concept and changes least."""

from typing import Annotated

import typer

from dissect._utils.progress import progress_bar
from dissect.cli.edit_options import save_edits
from dissect.cli.options import LabelOptions, ModelOptions, OutputOptions, with_groups
from dissect.cli.output import Output
from dissect.cli.searched import new_search, search_text
from dissect.cli.study import Study

__all__ = ["search"]


@with_groups
def search(
    model: ModelOptions,
    labels: LabelOptions,
    output: OutputOptions,
    n: Annotated[
        int,
        typer.Option("--n", help="Samples to search on; as many others test.", min=20, max=100_000),
    ] = 1_000,
) -> None:
    """Search for the smallest edit that removes a concept and changes least; takes some minutes."""
    printed = Output(as_json=output.as_json)
    with progress_bar("loading", 2) as progress:
        study = Study.load(model, labels)
        progress(1)
        study.segmenter  # noqa: B018 - refused here, before the search
        progress(1)
    results = new_search(study, printed, output.out, n=n)
    save_edits({name: one.intervention for name, one in results.items()}, printed, output.out)
    values = {"concept": study.concept, "layer": study.layer, "labels": labels.labels, "n": n}
    edits = {name: one.to_dict() for name, one in results.items()}
    printed.result({**values, "edits": edits}, "\n".join(map(search_text, results.values())))
