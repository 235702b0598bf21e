"""The images of a run."""

from pathlib import Path

from dissect._utils.errors import DissectError
from dissect.data import ImageSource, PackedSource, source
from dissect.data.dedup import SubsetSource, read_keep
from dissect.data.dedup.keep import keep_digest
from dissect.training.config import TrainConfig

__all__ = ["open_images"]


def open_images(
    config: TrainConfig, *, pack: bool = False, show_progress: bool | None = None
) -> ImageSource:
    """The source of `config`, without the images that its list leaves out.

    Args:
        config: of the run.
        pack: decode all of it once, into the cache folder (see `PackedSource`).
        show_progress: whether to show a progress bar while it is prepared; None: on a terminal.

    Raises:
        DissectError: as `source`; or the list is of another source, or is not the one that the
            run was begun with.
    """
    opened: ImageSource = source(
        config.source,
        size=config.image_size,
        count=config.images,
        seed=config.source_seed,
        show_progress=show_progress,
    )
    if pack:
        opened = PackedSource(opened, show_progress=show_progress)
    if config.keep is None:
        return opened
    path = Path(config.keep)
    if keep_digest(path) != config.keep_digest:
        raise DissectError(f"{path} has changed since this run was begun with it; begin a new run")
    return SubsetSource(opened, read_keep(path, len(opened)))
