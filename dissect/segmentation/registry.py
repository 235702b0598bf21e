"""Segmenters by name: the bundled one, a weights file, `transformers:NAME`, `file.py:factory`."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch

from dissect._utils.errors import DissectError
from dissect.models.factory import call_factory
from dissect.segmentation.segmenter import Segmenter
from dissect.segmentation.transformers import from_transformers
from dissect.segmentation.unet import bundled_unet, load_unet

__all__ = ["LOADERS", "load_segmenter"]


def _from_transformers(name: str, device: torch.device) -> Segmenter:
    return from_transformers(name, device=device)


LOADERS: Mapping[str, Callable[[str, torch.device], Segmenter]] = {
    "transformers": _from_transformers,
}
"""What loads `PREFIX:NAME`, by prefix. A name without a known prefix is a file."""


def load_segmenter(
    name: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> Segmenter:
    """The segmenter called `name`, on `device`.

    A segmenter is loaded once: until its file changes, the same object is returned.

    Args:
        name: None for the bundled segmenter, a file that `dissect train-segmenter` wrote,
            `transformers:NAME` with a name on the Hugging Face hub or a folder (see
            `from_transformers`, also for how its labels are renamed), or `file.py:factory` with a
            function without arguments that returns a `Segmenter`.
        device: where it computes.

    Raises:
        DissectError: the file is absent or damaged, there is no such model, transformers is not
            installed, or a factory that fails or returns something else.

    >>> load_segmenter().classes[:4]
    ('wall', 'floor', 'ceiling', 'window')
    """
    text = str(bundled_unet() if name is None else name)
    prefix, colon, rest = text.partition(":")
    if colon and prefix in LOADERS:
        if not rest:
            raise DissectError(f"{prefix}: needs a name or a folder after the colon")
        return _load(text, torch.device(device), ())
    file, colon, factory = text.rpartition(":")
    if colon and file.endswith(".py"):
        return _from_factory(Path(file), factory)
    try:
        state = Path(text).stat()
    except OSError:
        return _load.__wrapped__(text, torch.device(device), ())  # raises with the reason
    return _load(text, torch.device(device), (state.st_mtime_ns, state.st_size, state.st_ino))


def _from_factory(file: Path, name: str) -> Segmenter:
    segmenter = call_factory(file, name)
    if not isinstance(segmenter, Segmenter):
        raise DissectError(
            f"{file}:{name}() must return a dissect.Segmenter(classes, function), not a "
            f"{type(segmenter).__name__}"
        )
    return segmenter


@lru_cache(maxsize=4)
def _load(name: str, device: torch.device, state: tuple[int, ...]) -> Segmenter:
    prefix, _, rest = name.partition(":")
    if prefix in LOADERS:
        return LOADERS[prefix](rest, device)
    network, card = load_unet(name, device=device)
    return Segmenter.from_unet(network, card.get("source"))
