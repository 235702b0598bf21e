"""What a generator returns, as images: three colours in [-1, 1], float32."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from dissect._utils.errors import DissectError

__all__ = ["Output", "as_rgb", "image_of", "rescaled", "stated_range"]

Output = int | str | Callable[[Any], Tensor]
"""Which part of what a module returns is the image: a place, a name, or a function."""

_CHANNELS = (1, 2, 3, 4)


def image_of(returned: Any, n: int, output: Output | None) -> Tensor:
    """The images (N, 1 to 4, H, W) among what a generator returned for `n` latents.

    Args:
        returned: a tensor, or a tuple, list, mapping or object that holds tensors.
        n: number of latents.
        output: which part is the image. Without it, the only part that can be one.

    Raises:
        DissectError: no such part, none that can be an image, or several.
    """
    if callable(output):
        returned = output(returned)
    elif output is not None:
        parts = _parts(returned)
        if output not in parts:
            known = ", ".join(map(repr, parts)) or "none"
            raise DissectError(f"the generator gives no part {output!r}; it gives: {known}")
        returned = parts[output]
    if not isinstance(returned, Tensor):
        images = {name: part for name, part in _parts(returned).items() if _is_image(part, n)}
        if len(images) != 1:
            raise DissectError(_which(returned, images))
        (returned,) = images.values()
    if not isinstance(returned, Tensor) or not _is_image(returned, n):
        raise DissectError(
            f"the generator gives {tuple(returned.shape)} for {n} latents, not images (N, C, H, W) "
            "of 1 to 4 channels: name the image in dissect.adapt(model, output=...)"
        )
    return returned


def as_rgb(images: Tensor) -> Tensor:
    """Images (N, 1 to 4, H, W) in [-1, 1] as three colours.

    Grey is repeated. The last of 2 or 4 channels is how opaque a pixel is, -1 not at all; what
    shows through is white.

    >>> import torch
    >>> as_rgb(torch.zeros(2, 1, 4, 4)).shape
    torch.Size([2, 3, 4, 4])
    """
    channels = images.shape[1]
    if channels in (2, 4):
        alpha = (images[:, -1:] + 1) / 2
        images = images[:, :-1] * alpha + (1 - alpha)
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def rescaled(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Images whose values run over `value_range`, in [-1, 1]."""
    low, high = value_range
    return images if value_range == (-1, 1) else (images - low) * (2 / (high - low)) - 1


def stated_range(images: Tensor) -> tuple[float, float] | None:
    """The range of the last operation that made the images, read from their graph.

    None where there is no graph, or where the operation has no range of its own.
    """
    node = images.grad_fn
    while node is not None:
        name = type(node).__name__
        if name.startswith("Sigmoid"):
            return (0.0, 1.0)
        if name.startswith("Tanh"):
            return (-1.0, 1.0)
        if not name.startswith(_KEEP_VALUES):
            return None
        node = node.next_functions[0][0] if node.next_functions else None
    return None


# Operations that neither move nor scale a value.
_KEEP_VALUES = ("View", "UnsafeView", "Reshape", "Slice", "Select", "ToCopy", "Clone", "Permute")


def _is_image(part: object, n: int) -> bool:
    return (
        isinstance(part, Tensor)
        and part.ndim == 4
        and len(part) == n
        and part.shape[1] in _CHANNELS
        and part.is_floating_point()
    )


def _parts(returned: Any) -> dict[Any, Any]:
    """What a container holds, by place or name."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        return dict(enumerate(returned))
    return dict(getattr(returned, "__dict__", {}))


def _which(returned: Any, images: Mapping[Any, Tensor]) -> str:
    kind = type(returned).__name__
    if images:
        parts = ", ".join(f"{name!r} {tuple(part.shape)}" for name, part in images.items())
        return (
            f"the generator gives a {kind} with several images ({parts}): say which in "
            "dissect.adapt(model, output=...)"
        )
    return (
        f"the generator gives a {kind} without images (N, C, H, W) of 1 to 4 channels: say which "
        "part is the image in dissect.adapt(model, output=...)"
    )
