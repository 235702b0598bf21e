"""`dissect dedup`: the near-duplicates of a source."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect.cli.options import Given, Out, OutputOptions, Threads, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    from PIL import Image

    from dissect.data import ImageSource

__all__ = ["dedup"]

_SHOWN = 40


@dataclass(frozen=True)
class DedupOutputOptions(OutputOptions):
    """Where results go, by default a folder of their own, and from which seed they come."""

    out: Out = Path("out/dedup")


@with_groups
def dedup(
    output: DedupOutputOptions,
    given: Given,
    source: Annotated[
        str, typer.Argument(help="The source: bedrooms, faces, folder:PATH, lsun:PATH and so on.")
    ],
    images: Annotated[
        int | None,
        typer.Option(help="Use only so many images, the first ones; by default all.", min=1),
    ] = None,
    source_seed: Annotated[int, typer.Option(help="The seed of a rendered source.", min=0)] = 0,
    steps: Annotated[
        int, typer.Option(help="How many steps the autoencoder is trained.", min=1)
    ] = 3_000,
    threads: Threads = None,
) -> None:
    """Find near-duplicates, and write the list of images to keep for `dissect train --keep`."""
    import numpy as np
    import torch

    from dissect._utils.io import write_image, write_json
    from dissect._utils.progress import progress_bar
    from dissect.data import source as open_source
    from dissect.data.dedup import SIDE, first_alike, fit_hasher, groups_of, hash_images, write_keep

    printed = Output(as_json=output.as_json)
    out, seed = output.out, output.seed
    if threads is not None:
        torch.set_num_threads(threads)
    if ":" in source:
        given.refuse(f"with {source}, which is not rendered", "source_seed")
    opened = open_source(source, size=SIDE, count=images, seed=source_seed)
    for name, reason in dict(getattr(opened, "skipped", {})).items():
        printed.note(f"skipped {name}: {reason}")
    with progress_bar("learning a code", steps) as progress:
        hasher = fit_hasher(opened, steps=steps, seed=seed, progress=progress)
    with progress_bar("hashing", len(opened)) as progress:
        codes, near_threshold = hash_images(hasher, opened, progress=progress)
    first = first_alike(codes, near_threshold)
    keep = np.flatnonzero(first == np.arange(len(first)))
    groups = groups_of(first)
    printed.wrote(write_keep(out / "keep.txt", keep, source, len(opened)))
    n_duplicates = len(opened) - len(keep)
    about = {
        "n_images": len(opened),
        "n_duplicates": n_duplicates,
        "n_groups": len(groups),
        "n_bits": hasher.n_bits,
        "expected_missed": round(hasher.expected_missed, 4),
    }
    printed.wrote(
        write_json(out / "duplicates.json", {"source": source, **about, "groups": groups})
    )
    if groups:
        printed.wrote(write_image(out / "collisions.png", _sheet(opened, groups, seed)))
    printed.result(
        about,
        f"{n_duplicates} of {len(opened)} images are duplicates, in {len(groups)} groups\n"
        f"codes of {hasher.n_bits} bits, which miss {hasher.expected_missed:.1%} of disturbed "
        "copies\nleave them out with: dissect train "
        f"{source} --keep {out / 'keep.txt'}",
    )


def _sheet(source: "ImageSource", groups: list[list[int]], seed: int) -> "Image.Image":
    """Up to 40 groups, drawn by chance."""
    import numpy as np

    from dissect.figures.collisions import collision_sheet

    random = np.random.default_rng(seed)
    shown = np.sort(random.permutation(len(groups))[:_SHOWN]).tolist()
    rows = [(groups[place], source.images(groups[place][:6])) for place in shown]
    caption = f"{len(shown)} of {len(groups)} groups: the image that is kept, then its duplicates"
    return collision_sheet(rows, caption=caption)
