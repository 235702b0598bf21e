"""Strided convolutions as few large matrix products, for CPUs that compute in bfloat16.

Such a processor multiplies matrices far faster than it does anything else, and oneDNN's
convolutions keep up with that on large grids only: on small grids of many channels a matrix
product and the copies around it (Chellapilla et al. 2006, "High performance convolutional neural
networks for document processing") take a fraction of the time.

One layer is a product of three: the activation on the small grid `x` (N, C, H, W), the one on the
large grid `y` (N, D, 2H, 2W) and the kernel `w` (C, D, k, k). With x as a matrix of one row a
place, w as a matrix of C rows and `unfold(y)` the k * k values of y that meet each place of x:

    convolution                x = unfold(y) w'
    transposed convolution     y = fold(x w)
    gradient of the kernel    dw = x' unfold(y)

The first two are each other's gradient. All is stored channels last, so that a row is contiguous;
the kernels stay in float32 and are rounded for the product, as autocast rounds them.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["apply_in_bfloat16", "halves"]

# Measured: the more channels for the places of the grid, the more a product gains over oneDNN's
# convolutions. Channels of the one grid times those of the other, for a place of the small grid:
_LEAST = 512  # from here on the kernel's gradient is faster as a product
_FOLDED = 2048  # and from here on the way to the large grid, too


def apply_in_bfloat16(part: nn.Module, x: Tensor) -> Tensor:
    """What `part(x)` returns under autocast to bfloat16 on the CPU, faster; its gradients too.

    Equal within the rounding of bfloat16, and the same bytes each time.

    Args:
        part: a module of a layer of a `Generator` or `Discriminator`.
        x: what it takes; a linear part takes images too.
    """
    if isinstance(part, nn.Flatten):
        return x  # for the linear part, which needs no other order of the values
    if isinstance(part, nn.Linear) and x.dim() == 4:
        rows, weight = (
            _grid(images).flatten(1) for images in (x, part.weight.unflatten(1, x.shape[1:]))
        )
        return functional.linear(rows, weight, part.bias)
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and part.bias is None:
        upward, (height, width) = isinstance(part, nn.ConvTranspose2d), x.shape[2:]
        if upward and height == width == 1 and _projects(part):
            grid = x.flatten(1).bfloat16() @ _kernel(part.weight)
            return _images(grid.unflatten(1, (*part.kernel_size, -1)))
        side = height if upward else height // 2
        doubles = halves(part) and height == width and (upward or height % 2 == 0)
        if doubles and _worthwhile(part.weight, side):
            product: Any = _Up if upward else _Down
            return cast(Tensor, product.apply(x, part.weight))
    return cast(Tensor, part(x))


def halves(conv: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    """Whether `conv` is one of the layers that halve or double the grid, its kernel 4x4 or 5x5."""
    kernel = conv.kernel_size[0]
    padding = (kernel - 1) // 2
    extra = kernel - 4 if isinstance(conv, nn.ConvTranspose2d) else 0
    return (
        kernel in (4, 5)
        and conv.kernel_size == (kernel, kernel)
        and (conv.stride, conv.dilation, conv.groups) == ((2, 2), (1, 1), 1)
        and (conv.padding, conv.output_padding) == ((padding, padding), (extra, extra))
    )


def _projects(conv: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    shape = (conv.padding, conv.output_padding, conv.dilation, conv.groups)
    return shape == ((0, 0), (0, 0), (1, 1), 1) and conv.kernel_size[0] == conv.kernel_size[1]


def _worthwhile(w: Tensor, side: int) -> bool:
    return w.shape[0] * w.shape[1] >= (_LEAST if w.requires_grad else _FOLDED) * side**2


class _Up(torch.autograd.Function):
    """y from x: the transposed convolution."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        kernel = _kernel(w)
        ctx.save_for_backward(x, kernel)
        ctx.kernel_shape = w.shape
        return _to_large(x, kernel, w.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        met = _unfold(grad, ctx.kernel_shape)
        dx = _to_small(met, kernel, grad.shape) if ctx.needs_input_grad[0] else None
        dw = _to_kernel(x, met, ctx.kernel_shape) if ctx.needs_input_grad[1] else None
        return dx, dw


class _Down(torch.autograd.Function):
    """x from y: the convolution."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor) -> Tensor:
        met, kernel = _unfold(y, w.shape), _kernel(w)
        # k * k / 4 times the size of y: kept only if the kernel learns.
        ctx.save_for_backward(met if ctx.needs_input_grad[1] else None, kernel)
        ctx.kernel_shape = w.shape
        return _to_small(met, kernel, y.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        met, kernel = ctx.saved_tensors
        dy = _to_large(grad, kernel, ctx.kernel_shape) if ctx.needs_input_grad[0] else None
        dw = _to_kernel(grad, met, ctx.kernel_shape) if ctx.needs_input_grad[1] else None
        return dy, dw


def _grid(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as a grid (N, H, W, C)."""
    return images.permute(0, 2, 3, 1)


def _images(grid: Tensor) -> Tensor:
    """A grid (N, H, W, C) as images (N, C, H, W), stored channels last."""
    return grid.permute(0, 3, 1, 2)


def _rows(x: Tensor) -> Tensor:
    """Images (N, C, H, W) as a matrix (N * H * W, C)."""
    return _grid(x.bfloat16()).reshape(-1, x.shape[1])


def _kernel(w: Tensor) -> Tensor:
    """The kernel (C, D, k, k) as a matrix (C, k * k * D)."""
    return _grid(w.bfloat16()).flatten(1)


def _to_large(x: Tensor, kernel: Tensor, shape: torch.Size) -> Tensor:
    small, large, k, _ = shape
    if small * large >= _FOLDED * x.shape[2] ** 2:
        return _fold(_rows(x) @ kernel, x.shape, shape)
    w = _images(kernel.view(small, k, k, large))
    return functional.conv_transpose2d(x.bfloat16(), w, None, 2, (k - 1) // 2, k - 4)


def _to_small(met: Tensor, kernel: Tensor, large: torch.Size) -> Tensor:
    n, _, height, width = large
    return _images((met @ kernel.t()).view(n, height // 2, width // 2, -1))


def _to_kernel(x: Tensor, met: Tensor, shape: torch.Size) -> Tensor:
    c, d, k, _ = shape
    # Transposed first, which costs less than what the product of a transposed matrix does.
    dw = _rows(x).t().contiguous() @ met
    return _images(dw.float().view(c, k, k, d))


def _unfold(y: Tensor, shape: torch.Size) -> Tensor:
    """What each place of the small grid meets, as a matrix (N * H * W, k * k * D)."""
    n, d, height, width = y.shape
    k = shape[-1]
    before, after = (k - 1) // 2, k // 2 - 1
    framed = functional.pad(y.bfloat16().permute(0, 2, 3, 1), (0, 0, before, after, before, after))
    # The values of neighbouring columns are contiguous: one copy takes a whole row of the kernel.
    image, row, column, _ = framed.stride()
    windows = framed.as_strided(
        (n, height // 2, width // 2, k, k * d), (image, 2 * row, 2 * column, row, 1)
    )
    return windows.reshape(-1, k * k * d)


def _fold(spread: Tensor, small: torch.Size, shape: torch.Size) -> Tensor:
    """Sum what each place of the small grid gives to the large one: `_unfold`'s adjoint.

    Args:
        spread: a matrix (N * H * W, k * k * D); changed in place.
        small: the shape (N, C, H, W) of the small grid.
        shape: that of the kernel.
    """
    n, _, height, width = small
    _, d, k, _ = shape
    grid = spread.view(n, height, width, k, k, d)
    middle = (k - 1) // 2
    # Two of the kernel's rows fall on the place's own two rows of y: the others are added to
    # those of the neighbours. Then the columns likewise.
    for place, axis in ((1, 3), (2, 4)):
        for tap in range(k):
            by, own = divmod(tap - middle, 2)
            if by:
                _add_moved(grid.select(axis, middle + own), grid.select(axis, tap), place, by)
        grid = grid.narrow(axis, middle, 2)
    return _images(grid.transpose(2, 3).reshape(n, 2 * height, 2 * width, d))


def _add_moved(to: Tensor, values: Tensor, axis: int, by: int) -> None:
    """Add to `to` the values moved by `by` places along `axis`; those that leave it are lost."""
    length = to.shape[axis] - abs(by)
    to.narrow(axis, max(by, 0), length).add_(values.narrow(axis, max(-by, 0), length))
