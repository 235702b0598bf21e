"""A training in several processes, which together make the steps of one.

Each process takes its share of every batch; gradients are averaged by DistributedDataParallel, so
that all hold the same weights, or the weights are shared (`dissect.training.shared_weights`); the
first process alone writes. The images and latents of a step depend on the seed and the step as
ever: the world's size changes the results by rounding only, if batch norm takes its statistics over
the whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dissect._utils.distributed import World
from dissect.training.fast import fast_forward

__all__ = ["Forward", "shared_forward", "synchronized"]

Forward = Callable[[Tensor], Tensor]


def shared_forward(network: nn.Module, world: World) -> Forward:
    """`network` in training, its gradients averaged over the world's processes."""
    if world.size == 1:
        return lambda x: fast_forward(network, x)
    shared = DistributedDataParallel(_Fast(network))
    # Buffers are batch-norm statistics: they follow from the batches, and are not sent about.
    shared.broadcast_buffers = False
    return shared


class _Fast(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return fast_forward(self.network, x)


@contextmanager
def synchronized(*networks: nn.Module, world: World) -> Iterator[None]:
    """In the block the batch norms of `networks` in training take the whole world's statistics.

    `torch.nn.SyncBatchNorm` does the same on CUDA alone.
    """
    replaced = []
    if world.size > 1:
        for network in networks:
            for module in list(network.modules()):
                for name, norm in module.named_children():
                    if isinstance(norm, nn.BatchNorm2d):
                        setattr(module, name, _SynchronizedNorm(norm, world))
                        replaced.append((module, name, norm))
    try:
        yield
    finally:
        for module, name, norm in replaced:
            setattr(module, name, norm)


class _SynchronizedNorm(nn.BatchNorm2d):
    """A batch norm that shares its parameters and buffers with another, and asks the world."""

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self._exchange = world.exchanged
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        function: Any = _NormalizeTogether
        y, mean, variance, count = function.apply(
            x, self.weight, self.bias, self.eps, self._exchange
        )
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        result: Tensor = y
        return result


class _NormalizeTogether(torch.autograd.Function):
    """Batch norm over all processes' rows (Ioffe and Szegedy 2015, algorithm 1).

    Each pass over the values is one of torch's own for batch norm: in bfloat16, they are many times
    faster than sums and products of their own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, exchange: Forward
    ) -> tuple[Any, ...]:
        here = x.numel() // x.shape[1]
        # What a running average becomes that forgets all but this batch: mean, unbiased variance.
        own = weight.new_zeros(2, len(weight))
        torch.ops.aten.batch_norm_update_stats(x, own[0], own[1], 1.0)
        own[1] *= (here - 1) / here
        means, variances = exchange(own).unbind(1)
        mean = means.mean(0)
        # Chan et al. 1979: the difference of two large sums would lose digits.
        variance = variances.mean(0) + means.var(0, correction=0)
        y, *_ = torch.native_batch_norm(x, weight, bias, mean, variance, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps, ctx.exchange = eps, exchange
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance, here * len(means)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        rows = x.numel() // x.shape[1]
        _, weight_gradient, bias_gradient = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, scale, True, ctx.eps, [False, True, True]
        )
        # What a row does to the statistics is felt in every process's loss: a line through the
        # values of each channel, along the means of both gradients over all rows.
        together = ctx.exchange(torch.stack([weight_gradient, bias_gradient]))
        both = together.sum(0) / (rows * len(together))
        slope = both[0] * scale
        gain = weight * scale
        offset = gain * (mean * slope - both[1])
        # gain * grad + offset, in float32 within; a variance of 1 leaves the gain as it is.
        zeros, ones = torch.zeros_like(gain), torch.ones_like(gain)
        dx = torch.native_batch_norm(grad, gain, offset, zeros, ones, False, 0.0, 0.0)[0]
        # This slope is a small part of it, and may be rounded as the values are.
        dx.addcmul_(x, (gain * slope).neg_().to(x.dtype)[:, None, None])
        return dx, weight_gradient, bias_gradient, None, None
