"""`dissect annotate` and `dissect studio`: pages to draw boxes on, and to see what units do."""

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import (
    GeneratorOptions,
    Given,
    Json,
    Out,
    RunOptions,
    SegmenterName,
    with_groups,
)
from dissect.cli.output import Output

if TYPE_CHECKING:
    import torch

    from dissect.annotations import Annotations
    from dissect.latent_space import Direction
    from dissect.probe import Probe
    from dissect.segmentation import Segmenter
    from dissect.studio import AnnotationSession, GeneratorSession, ServerAddress, Workspace
    from dissect.studio.sessions.pictures import Pictures
    from dissect.surgery.intervention import Intervention

__all__ = ["annotate", "chosen_by_auto", "studio"]

_MOST = 10_000

_Concepts = Annotated[
    list[str] | None,
    typer.Option(
        "--concept",
        "-c",
        help="What to draw boxes around; repeatable. By default the concepts that --out has files "
        "of, or window.",
    ),
]
_Count = Annotated[
    int | None, typer.Option("--n", help="Samples to draw on: 150.", min=1, max=_MOST)
]
_Start = Annotated[int | None, typer.Option(help="Index of the first latent: 0.", min=0)]
_Seed = Annotated[int | None, typer.Option(help="Series of latents: 0.", min=0)]
_Port = Annotated[int, typer.Option(help="Port to serve at; 0 is any free one.", min=0, max=65_535)]
_NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Do not open the page.")]
_Expose = Annotated[
    str | None,
    typer.Option(
        help="Serve other machines, too, at this address of yours (0.0.0.0: all). Whoever gets "
        "hold of the URL can then use the page, and nothing is encrypted.",
    ),
]


@with_groups
def annotate(
    model: GeneratorOptions,
    given: Given,
    concept: _Concepts = None,
    images: Annotated[
        str | None,
        typer.Option(help="Draw on the images of a folder, as folder:PATH, instead of samples."),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            help="Side in pixels to which images of a folder are squared.", min=8, max=4_096
        ),
    ] = 256,
    n: _Count = None,
    start: _Start = None,
    seed: _Seed = None,
    out: Out = Path("out/annotations"),
    port: _Port = 0,
    no_browser: _NoBrowser = False,
    expose_to_network: _Expose = None,
    as_json: Json = False,
) -> None:
    """Draw boxes around a concept, on samples or on images, in a page of your browser."""
    _need_extra()
    from dissect.studio import AnnotationSession, ServerAddress, Workspace

    output = Output(as_json=as_json)
    address = ServerAddress.bind(port, expose_to_network)
    grids: list[tuple[str, int, int]] = []
    pictures: Pictures
    if images is None:
        from dissect.studio import SamplePictures
        from dissect.studio.sessions.annotation import samples_to_annotate

        given.refuse("without --images", "size")
        generator = _generator(model, model.model)
        rows = samples_to_annotate(out, _concepts(out, concept), n, start, seed)
        pictures = SamplePictures(generator, rows)
        grids = generator.grids()
    else:
        given.refuse(
            "with --images", "n", "start", "seed", "model", "device", "input", "batch_size"
        )
        pictures = _folder(images, size)
    annotation = AnnotationSession(out, pictures, _concepts(out, concept), grids)
    _serve(
        address, Workspace(f"Boxes on {pictures.title}", annotation), output, browser=not no_browser
    )
    boxes = annotation.n_boxes()
    for name in annotation.concepts:
        if annotation.file(name).path.exists():
            output.wrote(annotation.file(name).path)
    told = ", ".join(f"{boxes[name]} boxes of {name}" for name in annotation.concepts)
    output.result({"boxes": boxes, "url": address.url}, told)


@with_groups
def studio(
    run: RunOptions,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A bundled name, a checkpoint file, or file.py:factory; repeatable. Without it, "
            "bedrooms64.",
            rich_help_panel="Model",
        ),
    ] = None,
    concept: _Concepts = None,
    boxes: Annotated[
        list[Path] | None,
        typer.Option(help="COCO file of boxes on the first model's samples; repeatable."),
    ] = None,
    segmenter: SegmenterName = None,
    directions: Annotated[
        list[Path] | None,
        typer.Option(
            "--directions",
            help="A direction that dissect turn wrote, or a folder of them, to move samples "
            "along; repeatable.",
        ),
    ] = None,
    edit: Annotated[
        Path | None,
        typer.Option(
            help="An edit to open, such as the edit.json that the page or a command saved."
        ),
    ] = None,
    n: _Count = None,
    start: _Start = None,
    seed: _Seed = None,
    out: Out = Path("out/studio"),
    port: _Port = 0,
    no_browser: _NoBrowser = False,
    expose_to_network: _Expose = None,
    as_json: Json = False,
) -> None:
    """See what each unit does, switch units off, and paint with them, in a page of your browser."""
    _need_extra()
    from dissect.studio import AnnotationSession, SamplePictures, ServerAddress, Workspace
    from dissect.studio.sessions.annotation import samples_to_annotate
    from dissect.studio.sessions.explore import ExploreSession

    output = Output(as_json=as_json)
    address = ServerAddress.bind(port, expose_to_network)
    names = list(dict.fromkeys(model or ["bedrooms64"]))
    generators = [_generator(run, name) for name in names]
    folder = out / "annotations"
    rows = samples_to_annotate(folder, _concepts(folder, concept), n, start, seed)
    pictures = SamplePictures(generators[0], rows)
    annotation = AnnotationSession(
        folder, pictures, _concepts(folder, concept), generators[0].grids()
    )
    reader = _segmenter(segmenter, run.resolve())
    along = _directions(directions or [], generators)
    opened = _edit(edit, generators)
    explore_sessions = {}
    for name, generator in zip(names, generators, strict=True):
        first = generator is generators[0]
        known = _known(generator, annotation if first else None, (boxes or []) if first else [])
        chosen = partial(chosen_by_auto, generator, out)
        explore_sessions[name] = ExploreSession(
            generator, known, reader, out, along, chosen, opened.get(name)
        )
    workspace = Workspace(", ".join(names), annotation, explore_sessions)
    if as_json:
        # A program needs the address now, and nothing more once the page is closed.
        output.result({"url": address.url}, "")
        sys.stdout.flush()
    _serve(address, workspace, output, browser=not no_browser)


def _serve(
    address: "ServerAddress", workspace: "Workspace", output: Output, *, browser: bool
) -> None:
    from dissect.studio import serve

    if address.policy.any_address:
        output.note(
            "CAREFUL: this page is open to other machines; whoever has the address below can use "
            "it, and what goes over the network is not encrypted"
        )
    output.note(f"{address.url}\nopen this address; Ctrl-C ends it")
    serve(address, workspace, browser=browser, note=output.note)


def _need_extra() -> None:
    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise DissectError("the page needs the extra 'studio': pip install 'dissect-gan[studio]'")


def _generator(options: RunOptions, model: str) -> "GeneratorSession":
    from dissect.studio import GeneratorSession

    return GeneratorSession(model, options.open(model))


def _folder(spec: str, size: int) -> "Pictures":
    from dissect.data import FolderSource
    from dissect.studio import FolderPictures

    kind, colon, path = spec.partition(":")
    if kind != "folder" or not colon or not path:
        raise DissectError(f"--images {spec!r} is not known: give folder:PATH")
    return FolderPictures(FolderSource(path, size=size))


def _concepts(folder: Path, concepts: list[str] | None) -> list[str]:
    from dissect.studio.sessions.annotation import concepts_in

    return concepts or concepts_in(folder) or ["window"]


def _known(
    generator: "GeneratorSession", annotation: "AnnotationSession | None", files: list[Path]
) -> "dict[str, Callable[[], Annotations]]":
    """Boxes on the generator's samples by name: files given, files that come along, and drawn ones.

    Files are read once, and those drawn here whenever they are needed.
    """
    from dissect.annotations import Annotations

    opened = {f"{path.stem} ({path})": Annotations.load(path) for path in files}
    for path in _bundled(generator.name, annotation.concepts if annotation is not None else ()):
        opened[f"{path.stem} (bundled)"] = Annotations.load(path, path.stem)
    known: dict[str, Callable[[], Annotations]] = {}
    for name, annotations in opened.items():
        annotations.check_model(generator.fingerprint)
        known[name] = partial(_same, annotations)
    if annotation is not None:
        for concept in annotation.concepts:
            known[f"{concept} (drawn here)"] = annotation.file(concept).annotations
    return known


def chosen_by_auto(generator: "GeneratorSession", out: Path, probe: "Probe") -> "Intervention":
    """The gated edit that a search found for the layer and the concept of a probe.

    Raises:
        DissectError: none was searched, or the file is damaged.
    """
    from dissect.selection import find_results

    layer, concept = probe.layer, probe.concept
    results = find_results(out, generator.name, generator.fingerprint, layer, concept, probe)
    if "probe" not in results:
        words = ["--model", generator.name, "--concept", concept, "--layer", layer]
        raise DissectError(
            f"no edit was searched for {concept} in {layer} of this model; "
            f"dissect search {shlex.join([*words, '--out', str(out)])} does"
        )
    return results["probe"].intervention


def _directions(paths: list[Path], generators: "list[GeneratorSession]") -> "dict[str, Direction]":
    """The directions of files and folders, each of which must belong to one of the generators."""
    from dissect.studio.sessions.walk import fitting, open_directions

    opened = open_directions(paths)
    for name, direction in opened.items():
        if not any(fitting(generator, {name: direction}) for generator in generators):
            direction.check(generators[0].fingerprint)
            raise DissectError(
                f"the direction {name!r} has {len(direction.vector)} components, and the latents "
                f"of {generators[0].name} have {generators[0].latent(0, 0).numel()}"
            )
    return opened


def _edit(path: Path | None, generators: "list[GeneratorSession]") -> "dict[str, Intervention]":
    """The edit of a file by the name of the generator that it belongs to.

    Raises:
        DissectError: no such file, another kind of file, or an edit of another generator.
    """
    from dissect.surgery import Intervention

    if path is None:
        return {}
    opened = Intervention.load(path)
    own = [one for one in generators if opened.units.model in (None, one.fingerprint)]
    # The session of a generator that it does not belong to refuses it with the reason.
    return {(own or generators)[0].name: opened}


def _same(annotations: "Annotations") -> "Annotations":
    return annotations


def _bundled(model: str, concepts: Sequence[str]) -> list[Path]:
    """The files of boxes that come with a model; first those of a concept that is drawn here."""
    from dissect.annotations import annotation_file

    for concept in dict.fromkeys([*concepts, "window"]):
        with suppress(DissectError):
            first = annotation_file(model, concept)
            return [first, *sorted(set(first.parent.glob("*.json")) - {first})]
    return []


def _segmenter(name: str | None, device: "torch.device") -> "Segmenter | None":
    from dissect.segmentation import load_segmenter

    try:
        return load_segmenter(name, device=device)
    except DissectError:
        if name is None:
            return None  # none is bundled with this installation
        raise
