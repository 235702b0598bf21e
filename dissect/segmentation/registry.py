"""Segmenters by what a user writes: nothing, a file, or `transformers:NAME`."""

from functools import lru_cache
from pathlib import Path

import torch

from dissect._utils.errors import DissectError
from dissect.segmentation.segmenter import Segmenter, bundled_segmenter, load_segmenter
from dissect.segmentation.transformers import from_transformers

__all__ = ["open_segmenter"]

_PREFIX = "transformers:"


def open_segmenter(
    text: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> Segmenter:
    """The segmenter that `text` names, on `device`; the same again while its file is the same.

    Args:
        text: None for the bundled one, a file of `dissect train --segmenter`, or
            `transformers:NAME` with a name on the Hugging Face hub or a folder (see
            `from_transformers`, also for the words of its classes).
        device: where it computes.

    Raises:
        DissectError: an absent or damaged file, no such model, or transformers not installed.
    """
    name = str(bundled_segmenter() if text is None else text)
    if name.startswith(_PREFIX):
        if not name.removeprefix(_PREFIX):
            raise DissectError("transformers: needs a name or a folder after the colon")
        return _opened(name, torch.device(device), ())
    try:
        about = Path(name).stat()
    except OSError:
        return _loaded(name, torch.device(device))  # which says what is wrong with it
    return _opened(name, torch.device(device), (about.st_mtime_ns, about.st_size, about.st_ino))


@lru_cache(maxsize=4)
def _opened(name: str, device: torch.device, state: tuple[int, ...]) -> Segmenter:
    if name.startswith(_PREFIX):
        return from_transformers(name.removeprefix(_PREFIX), device=device)
    return _loaded(name, device)


def _loaded(name: str, device: torch.device) -> Segmenter:
    network, card = load_segmenter(name, device=device)
    return Segmenter.of(network, card.get("source"))
