"""Sources by name: the one table in which a new source is entered."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dissect._utils.errors import DissectError
from dissect._utils.io import user_path
from dissect._utils.text import near_names
from dissect.data.folder import FolderSource
from dissect.data.labelled import LabelledSource
from dissect.data.lsun import LsunSource
from dissect.data.protocol import ImageSource
from dissect.data.rendered import RenderedSource, Renderer, source_version

__all__ = ["Request", "SourceKind", "absolute_source", "labelled", "source", "source_kinds"]

_RENDERED_COUNT = 50_000


@dataclass(frozen=True)
class Request:
    """What was asked of a source, besides its name."""

    argument: str
    size: int
    count: int | None
    seed: int
    show_progress: bool | None


@dataclass(frozen=True)
class SourceKind:
    """An entry of the table: `name` or, where an argument is needed, `name:ARGUMENT`."""

    name: str
    argument: str | None
    summary: str
    open: Callable[[Request], ImageSource]

    @property
    def spec(self) -> str:
        """How it is written, such as `folder:PATH`."""
        return f"{self.name}:{self.argument}" if self.argument else self.name


def source(
    spec: str,
    *,
    size: int = 64,
    count: int | None = None,
    seed: int = 0,
    show_progress: bool | None = None,
) -> ImageSource:
    """The images that `spec` names: `bedrooms`, `faces`, `folder:PATH`, ... (see `source_kinds`).

    Args:
        spec: a name, with its argument after a colon.
        size: width and height of every image, in pixels.
        count: how many images. Rendered sources draw so many (50,000 by default); the others use
            the first so many (all by default).
        seed: of a rendered source; the others have none.
        show_progress: whether to show a progress bar on stderr while the source is prepared; None:
            where stderr is a terminal.

    Raises:
        DissectError: no such source, a missing or needless argument, a size, count or seed out of
            range, or what the source itself cannot do.
    """
    if size < 1 or seed < 0 or (count is not None and count < 1):
        raise DissectError(
            f"{spec}: size and count must be at least 1 and seed at least 0; "
            f"got size {size}, count {count}, seed {seed}"
        )
    name, _, argument = spec.partition(":")
    kinds = {kind.name: kind for kind in source_kinds()}
    if name not in kinds:
        hint = f" (did you mean folder:{spec}?)" if _is_folder(spec) else ""
        near = near_names(name, kinds)
        raise DissectError(f"unknown source {spec!r}{hint}; known ones: {near}")
    kind = kinds[name]
    if kind.argument and not argument:
        raise DissectError(f"the source {name} needs an argument: {kind.spec}")
    if argument and not kind.argument:
        raise DissectError(f"the source {name} takes no argument; write {kind.spec}")
    return kind.open(Request(argument, size, count, seed, show_progress))


def absolute_source(spec: str) -> str:
    """`spec` with its path from the root: it names the same images in any working directory.

    Raises:
        DissectError: no such home folder.
    """
    name, _, argument = spec.partition(":")
    paths = {kind.name for kind in source_kinds() if kind.argument == "PATH"}
    if name not in paths or not argument or argument == "PATH":
        return spec
    return f"{name}:{user_path(argument)}"


def _is_folder(path: str) -> bool:
    with suppress(DissectError, OSError):
        return user_path(path).is_dir()
    return False


def labelled(
    spec: str, *, show_progress: bool | None = None
) -> tuple[LabelledSource, LabelledSource]:
    """The training and the test images of `cifar10:PATH` or `svhn:PATH`, with their classes.

    Raises:
        DissectError: another source, or what the source itself cannot do.
    """
    from dissect.data.cifar10 import cifar10
    from dissect.data.svhn import svhn

    name, _, path = spec.partition(":")
    readers = {"cifar10": cifar10, "svhn": svhn}
    if name not in readers or not path:
        raise DissectError(f"{spec!r} has no labels: use cifar10:PATH or svhn:PATH")
    read = readers[name]
    return read(path, "train", show_progress=show_progress), read(
        path, "test", show_progress=show_progress
    )


def source_kinds() -> tuple[SourceKind, ...]:
    """Every source there is, in the order in which they are listed."""
    return (
        SourceKind("bedrooms", None, "procedural bedrooms with exact masks", _bedrooms),
        SourceKind("faces", None, "procedural faces with exact attributes", _faces),
        SourceKind("folder", "PATH", "the images below a folder", partial(_files, FolderSource)),
        SourceKind(
            "lsun",
            "PATH",
            "an LSUN category, streamed from its LMDB",
            partial(_files, LsunSource),
        ),
        SourceKind("cifar10", "PATH", "the training images of CIFAR-10, 32 pixels", _cifar10),
        SourceKind("svhn", "PATH", "the training digits of SVHN, 32 pixels", _svhn),
    )


def _bedrooms(request: Request) -> ImageSource:
    from dissect.data.synthetic import bedrooms

    renderer = Renderer(
        name="bedrooms",
        render=bedrooms.render,
        classes=bedrooms.CLASSES,
        version=source_version(Path(bedrooms.__file__).parent),
    )
    return _rendered(renderer, request)


def _faces(request: Request) -> ImageSource:
    from dissect.data.synthetic import faces, rng

    renderer = Renderer(
        name="faces",
        render=faces.render,
        classes=faces.CLASSES,
        version=source_version(Path(faces.__file__).parent, rng.__file__),
    )
    return _rendered(renderer, request)


def _rendered(renderer: Renderer, request: Request) -> ImageSource:
    return RenderedSource(
        renderer,
        size=request.size,
        count=request.count or _RENDERED_COUNT,
        seed=request.seed,
        show_progress=request.show_progress,
    )


def _files(kind: type[FolderSource] | type[LsunSource], request: Request) -> ImageSource:
    return kind(
        request.argument,
        size=request.size,
        count=request.count,
        show_progress=request.show_progress,
    )


def _cifar10(request: Request) -> ImageSource:
    from dissect.data.cifar10 import cifar10

    train = cifar10(request.argument, show_progress=request.show_progress)
    return train.first(request.count, request.size)


def _svhn(request: Request) -> ImageSource:
    from dissect.data.svhn import svhn

    return svhn(request.argument).first(request.count, request.size)
