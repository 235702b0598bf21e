"""The networks' forward and backward passes in fewer multiplications, for the CPU.

A strided convolution with a 4x4 kernel is four interleaved 2x2 convolutions without stride, and
a 2x2 convolution that makes 2x2 outputs at a time needs 9 products instead of 16 (Winograd's
F(2x2, 2x2): Lavin and Gray 2015, "Fast algorithms for convolutional neural networks"). Its
transforms only add and subtract, so the result is that of the plain convolution within the
rounding of float32. The products become batched matrix products over the channels, which pay
where channels are many; the other layers, other kernels and other devices keep their modules.
Under autocast to bfloat16 it is `dissect.training.products` that makes the layers.

One layer is a product of three: the activation on the small grid `x` (N, H, W, C), the one on the
large grid `y` (N, 2H, 2W, D) and the kernel `w` (C, D, 4, 4). A transposed convolution makes y
from x, a convolution makes x from y, and each is the other's gradient. Along each axis, a tile of
two values of x meets four of y in six products ("slots"), with w the kernel along one axis:

    slot           0              1            2            3            4             5
    from x   x[-1] - x[0]       x[0]    x[0] - x[1]  x[0] - x[1]       x[1]    x[1] - x[2]
    from w       w[3]       w[1] + w[3]    -w[1]         w[2]     w[0] + w[2]      -w[0]
    to y         y[0]       y[0], y[2]      y[2]         y[1]     y[1], y[3]        y[3]
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dissect.training.products import apply_in_bfloat16, halves

__all__ = ["fast_forward"]

_SLOTS = 6
_Slots = tuple[Tensor, ...]
_Shape = tuple[int, int, int]  # images, height, width


def fast_forward(network: nn.Module, x: Tensor) -> Tensor:
    """What `network(x)` returns in training, faster on the CPU; its gradients too.

    Equal to the module's own result within the rounding of float32, under autocast of bfloat16, and
    the same bytes each time.
    Batch-norm statistics move as the modules move them. Hooks on the parts of a layer may not see
    the calls: this is for training alone.

    Args:
        network: a `Generator` or `Discriminator`.
        x: what it takes.
    """
    reduced = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
    if x.device.type == "cpu" and reduced == torch.bfloat16:
        apply = apply_in_bfloat16
    elif x.device.type == "cpu" and x.dtype == torch.float32 and not reduced:
        apply = _apply
    else:
        return cast(Tensor, network(x))
    generates = x.dim() == 2
    if generates:
        x = x.reshape(x.shape[0], -1, 1, 1)
    for layer in network.children():
        for part in layer.children():
            x = apply(part, x)
    return x if generates else x.squeeze(1)


def _apply(part: nn.Module, x: Tensor) -> Tensor:
    # What comes before an activation does not need its output for its gradient: it is replaced.
    if isinstance(part, nn.ReLU):
        return functional.relu_(x)
    if isinstance(part, nn.LeakyReLU):
        return functional.leaky_relu_(x, part.negative_slope)
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and halves(part):
        upward, square = isinstance(part, nn.ConvTranspose2d), x.shape[2] == x.shape[3]
        small, large = part.weight.shape[:2]
        side = x.shape[2] if upward else x.shape[2] // 2
        if part.kernel_size == (4, 4) and square and (upward or x.shape[2] % 2 == 0):
            if side % 2 == 0 and part.bias is None and _worthwhile(small, large, side):
                winograd: Any = _WinogradUp if upward else _WinogradDown
                return cast(Tensor, winograd.apply(x, part.weight))
            if large <= 4 and small >= 16:
                colour: Any = _ColourUp if upward else _ColourDown
                return cast(Tensor, colour.apply(x, part.weight, part.bias))
    return cast(Tensor, part(x))


def _worthwhile(small: int, large: int, side: int) -> bool:
    # Measured: with few channels the transforms cost more than the products they save, and with
    # large grids they leave the cache.
    return min(small, large) >= 128 or (min(small, large) >= 64 and side <= 8)


class _WinogradUp(torch.autograd.Function):
    """y = conv_transpose2d(x, w, stride=2, padding=1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        small, kernel = _from_x(x), _from_w(w)
        ctx.save_for_backward(small, kernel)
        ctx.shape = (x.shape[0], x.shape[2], x.shape[3])
        return _to_y(small, kernel, ctx.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        small, kernel = ctx.saved_tensors
        large = _from_y(grad)
        dx = _to_x(large, kernel, ctx.shape) if ctx.needs_input_grad[0] else None
        return dx, _to_w(small, large) if ctx.needs_input_grad[1] else None


class _WinogradDown(torch.autograd.Function):
    """x = conv2d(y, w, stride=2, padding=1)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor) -> Tensor:
        large, kernel = _from_y(y), _from_w(w)
        ctx.save_for_backward(large, kernel)
        ctx.shape = (y.shape[0], y.shape[2] // 2, y.shape[3] // 2)
        return _to_x(large, kernel, ctx.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        large, kernel = ctx.saved_tensors
        small = _from_x(grad)
        dy = _to_y(small, kernel, ctx.shape) if ctx.needs_input_grad[0] else None
        return dy, _to_w(small, large) if ctx.needs_input_grad[1] else None


class _ColourUp(torch.autograd.Function):
    """conv_transpose2d to few channels: one matrix product, then sums of shifted planes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        y = _planes_to_y(x, w)
        return y if bias is None else y.add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        return _module_gradients(ctx.needs_input_grad, grad, x, w, transposed=True)


class _ColourDown(torch.autograd.Function):
    """conv2d from few channels, whose gradient towards them is `_ColourUp`'s forward."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(y, w)
        return functional.conv2d(y, w, bias, 2, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, w = ctx.saved_tensors
        towards, *needed = ctx.needs_input_grad
        dy = _planes_to_y(grad, w) if towards else None
        if not any(needed):
            return dy, None, None
        rest = _module_gradients((False, *needed), grad, y, w, transposed=False)
        return dy, *rest[1:]


def _module_gradients(
    needed: tuple[bool, ...], grad: Tensor, x: Tensor, w: Tensor, *, transposed: bool
) -> tuple[Tensor | None, ...]:
    channels = w.shape[1 if transposed else 0]
    stride, padding, dilation, extra = [2, 2], [1, 1], [1, 1], [0, 0]
    found = torch.ops.aten.convolution_backward(
        grad, x, w, [channels], stride, padding, dilation, transposed, extra, 1, list(needed)
    )
    return tuple(g if wanted else None for g, wanted in zip(found, needed, strict=True))


def _planes_to_y(x: Tensor, w: Tensor) -> Tensor:
    """conv_transpose2d(x, w, stride=2, padding=1) for few output channels, channels last."""
    n, small, side, _ = x.shape
    large = w.shape[1]
    rows = w.permute(2, 3, 1, 0).reshape(-1, small)
    planes = (rows @ _channels_last(x).reshape(-1, small).t()).view(4, 4, large, n, side, side)
    y = x.new_empty(n, side, 2, side, 2, large)
    for a in (0, 1):
        for b in (0, 1):
            # Row 2i + a of y is kernel row 1 + a at row i of x, and row 3 - 3a one row away.
            phase = planes[1 + a, 1 + b]
            for ky, kx in ((3 - 3 * a, 1 + b), (1 + a, 3 - 3 * b), (3 - 3 * a, 3 - 3 * b)):
                to_row, from_row = _shift(side, 0 if ky == 1 + a else 1 - 2 * a)
                to_column, from_column = _shift(side, 0 if kx == 1 + b else 1 - 2 * b)
                phase[..., to_row, to_column] += planes[ky, kx][..., from_row, from_column]
            y[:, :, a, :, b] = phase.permute(1, 2, 3, 0)
    return y.view(n, 2 * side, 2 * side, large).permute(0, 3, 1, 2)


def _shift(side: int, by: int) -> tuple[slice, slice]:
    """Where values go that move `by` places, and where they come from."""
    return slice(max(by, 0), side + min(by, 0)), slice(max(-by, 0), side - max(by, 0))


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


# The transforms of the table above: each axis in turn, then (36, tiles, channels) for the product.


def _from_x(x: Tensor) -> Tensor:
    return _from_grid(_channels_last(x), 2, _slots_from_x)


def _from_y(y: Tensor) -> Tensor:
    return _from_grid(_channels_last(y), 4, _slots_from_y)


def _to_x(large: Tensor, kernel: Tensor, small_shape: _Shape) -> Tensor:
    return _to_grid(torch.bmm(large, kernel.mT), small_shape, 2, _x_from_slots)


def _to_y(small: Tensor, kernel: Tensor, small_shape: _Shape) -> Tensor:
    n, h, w = small_shape
    return _to_grid(torch.bmm(small, kernel), (n, 2 * h, 2 * w), 4, _y_from_slots)


def _from_grid(grid: Tensor, tile: int, transform: Callable[[Tensor, _Slots, int], None]) -> Tensor:
    n, h, w, c = grid.shape
    rows = grid.new_empty(_SLOTS, n, h // tile, w, c)
    transform(grid, rows.unbind(), 1)
    both = grid.new_empty(_SLOTS, _SLOTS, n, h // tile, w // tile, c)
    transform(rows, both.unbind(1), 3)
    return both.view(_SLOTS * _SLOTS, -1, c)


def _to_grid(
    slots: Tensor, shape: _Shape, tile: int, transform: Callable[[_Slots, Tensor, int], None]
) -> Tensor:
    """The grid as (N, C, H, W), stored channels last."""
    n, h, w = shape
    c = slots.shape[-1]
    both = slots.view(_SLOTS, _SLOTS, n, h // tile, w // tile, c)
    rows = slots.new_empty(_SLOTS, n, h // tile, w, c)
    transform(both.unbind(1), rows, 3)
    grid = slots.new_empty(n, h, w, c)
    transform(rows.unbind(), grid, 1)
    return grid.permute(0, 3, 1, 2)


def _from_w(w: Tensor) -> Tensor:
    c, d = w.shape[:2]
    rows = w.new_empty(_SLOTS, 4, c, d)
    _slots_from_w(w.permute(2, 3, 0, 1).unbind(), rows.unbind())
    both = w.new_empty(_SLOTS, _SLOTS, c, d)
    _slots_from_w(rows.unbind(1), both.unbind(1))
    return both.view(_SLOTS * _SLOTS, c, d)


def _to_w(small: Tensor, large: Tensor) -> Tensor:
    slots = torch.bmm(small.mT, large)
    c, d = slots.shape[1:]
    both = slots.view(_SLOTS, _SLOTS, c, d)
    rows = slots.new_empty(_SLOTS, 4, c, d)
    _w_from_slots(both.unbind(1), rows.unbind(1))
    # Laid out channels last, as the weight is.
    w = slots.new_empty(c, 4, 4, d).permute(0, 3, 1, 2)
    _w_from_slots(rows.unbind(), w.permute(2, 3, 0, 1).unbind())
    return w


def _interleaved(x: Tensor, axis: int, parts: int) -> _Slots:
    """Views of every value of `x` along `axis` whose place is 0, 1, ... modulo `parts`."""
    shape = (*x.shape[:axis], x.shape[axis] // parts, parts, *x.shape[axis + 1 :])
    return x.view(shape).unbind(axis + 1)


def _slots_from_x(x: Tensor, out: _Slots, axis: int) -> None:
    even, odd = _interleaved(x, axis, 2)
    last = even.shape[axis] - 1
    # Outside the grid x is zero.
    torch.neg(even.narrow(axis, 0, 1), out=out[0].narrow(axis, 0, 1))
    across = odd.narrow(axis, 0, last), even.narrow(axis, 1, last)
    torch.sub(*across, out=out[0].narrow(axis, 1, last))
    torch.sub(*across, out=out[5].narrow(axis, 0, last))
    out[5].narrow(axis, last, 1).copy_(odd.narrow(axis, last, 1))
    torch.sub(even, odd, out=out[2])
    for slot, values in ((1, even), (3, out[2]), (4, odd)):
        out[slot].copy_(values)


def _x_from_slots(slots: _Slots, x: Tensor, axis: int) -> None:
    even, odd = _interleaved(x, axis, 2)
    last = even.shape[axis] - 1
    within = slots[2] + slots[3]
    torch.add(slots[1], within, out=even).sub_(slots[0])
    even.narrow(axis, 1, last).sub_(slots[5].narrow(axis, 0, last))
    torch.sub(slots[4], within, out=odd).add_(slots[5])
    odd.narrow(axis, 0, last).add_(slots[0].narrow(axis, 1, last))


def _slots_from_y(y: Tensor, out: _Slots, axis: int) -> None:
    quarters = _interleaved(y, axis, 4)
    for slot, quarter in ((0, 0), (2, 2), (3, 1), (5, 3)):
        out[slot].copy_(quarters[quarter])
    torch.add(quarters[0], quarters[2], out=out[1])
    torch.add(quarters[1], quarters[3], out=out[4])


def _y_from_slots(slots: _Slots, y: Tensor, axis: int) -> None:
    quarters = _interleaved(y, axis, 4)
    for quarter, (a, b) in enumerate(((0, 1), (3, 4), (1, 2), (4, 5))):
        torch.add(slots[a], slots[b], out=quarters[quarter])


def _slots_from_w(w: _Slots, out: _Slots) -> None:
    out[0].copy_(w[3])
    torch.add(w[1], w[3], out=out[1])
    torch.neg(w[1], out=out[2])
    out[3].copy_(w[2])
    torch.add(w[0], w[2], out=out[4])
    torch.neg(w[0], out=out[5])


def _w_from_slots(slots: _Slots, w: _Slots) -> None:
    torch.sub(slots[4], slots[5], out=w[0])
    torch.sub(slots[1], slots[2], out=w[1])
    torch.add(slots[3], slots[4], out=w[2])
    torch.add(slots[0], slots[1], out=w[3])
