"""The loop from latents to images; there is no other one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dissect._utils.batches import chosen_batch_size, fitting
from dissect._utils.device import device_of
from dissect._utils.errors import DissectError
from dissect.models.pictures import as_rgb

__all__ = ["Edit", "generate", "generate_batches"]

# An image is counted as 256 float32 maps of its own size: the input and the output of a wide layer
# at the image's resolution, and what a convolution needs beside them.
_MAPS = 256

# The size of a model's images is known once one was made. It is no more than a hint on memory.
_image_sizes: WeakKeyDictionary[nn.Module, tuple[int, int]] = WeakKeyDictionary()


class Edit(Protocol):
    """What `generate` can apply to a model for a while, such as an `Intervention`."""

    def applied(self, model: nn.Module, /) -> AbstractContextManager[None]:
        """A context manager in which `model` is edited."""


def generate(
    model: nn.Module, z: Tensor, *, batch_size: int | None = None, edit: Edit | None = None
) -> Tensor:
    """The images (N, C, H, W) that `model` makes of the latents `z`, on its device.

    Args:
        model: a generator in eval mode, or the part of one after a layer.
        z: N inputs of the model, the first axis N long; they are moved to its device.
        batch_size: images made at once. None fits a batch into about 1 GiB, at most 100 images;
            for that, one image of a model that was not met before is made first.
        edit: applied to the model while it runs.

    Raises:
        DissectError: no latents, a batch size below 1, or a model that makes no images.

    >>> from dissect.models import Generator, generate, latents_for
    >>> generator = Generator(widths=(8, 8, 8, 8)).eval()
    >>> tuple(generate(generator, latents_for(generator, 3, seed=0)).shape)
    (3, 3, 64, 64)
    """
    return torch.cat(list(generate_batches(model, z, batch_size=batch_size, edit=edit)))


def generate_batches(
    model: nn.Module, z: Tensor, *, batch_size: int | None = None, edit: Edit | None = None
) -> Iterator[Tensor]:
    """The same images batch by batch, for what does not keep them all.

    Args:
        model, z, batch_size, edit: as `generate` takes them. Between two batches the model is not
            edited.

    Raises:
        DissectError: as `generate`.
    """
    if not len(z):
        raise DissectError("images need at least 1 latent")
    if batch_size is not None and batch_size < 1:
        raise DissectError(f"a batch holds at least 1 image, not {batch_size}")
    z = z.to(device_of(model))
    for part in z.split(batch_size or _batch_size(model, z)):
        with nullcontext() if edit is None else edit.applied(model):
            images = _images(model, part)
        yield images


def _batch_size(model: nn.Module, z: Tensor) -> int:
    """How many latents a pass takes: what was set for the model, or what fits."""
    chosen = chosen_batch_size(model)
    if chosen is not None or len(z) == 1:
        return chosen or 1
    if model not in _image_sizes:
        height, width = _images(model, z[:1]).shape[2:]
        _image_sizes[model] = (height, width)
    height, width = _image_sizes[model]
    return fitting(_MAPS * height * width)


def _images(model: nn.Module, z: Tensor) -> Tensor:
    with torch.inference_mode():
        images = model(z)
    if not isinstance(images, Tensor) or images.ndim != 4 or len(images) != len(z):
        raise DissectError(
            f"{type(model).__name__} makes no image: it must return a tensor (N, C, H, W)"
        )
    return as_rgb(images)
