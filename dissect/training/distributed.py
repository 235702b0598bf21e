"""A training in several processes, which together make the steps of one.

Each process takes its share of every batch; gradients are averaged by DistributedDataParallel, so
that all hold the same weights; the first alone writes. The images and latents of a step depend on
the seed and the step as ever: the world's size changes the results by rounding only, if batch norm
takes its statistics over the whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from dissect.processes import World
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
                        setattr(module, name, _SynchronizedNorm(norm))
                        replaced.append((module, name, norm))
    try:
        yield
    finally:
        for module, name, norm in replaced:
            setattr(module, name, norm)


class _SynchronizedNorm(nn.BatchNorm2d):
    """A batch norm that shares its parameters and buffers with another, and asks the world."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        function: Any = _NormalizeTogether
        y, mean, variance, count = function.apply(x, self.weight, self.bias, self.eps)
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
    """Batch norm over all processes' rows (Ioffe and Szegedy 2015, algorithm 1)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Any, ...]:
        values = x.float()
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = values.sum((0, 2, 3))
        dist.all_reduce(mean)
        mean /= count
        # In two passes: the difference of two large sums would lose digits.
        variance = (values - mean[:, None, None]).square_().sum((0, 2, 3))
        dist.all_reduce(variance)
        variance /= count
        scale = (variance + eps).rsqrt()
        normal = (values - mean[:, None, None]) * scale[:, None, None]
        ctx.save_for_backward(normal, weight, scale)
        ctx.count = count
        y = normal * weight[:, None, None] + bias[:, None, None]
        ctx.mark_non_differentiable(mean, variance)
        return y.to(x.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        normal, weight, scale = ctx.saved_tensors
        dy = grad.float()
        bias_gradient = dy.sum((0, 2, 3))
        weight_gradient = (dy * normal).sum((0, 2, 3))
        # What this process's rows do to the statistics is felt in every process's loss.
        sums = torch.stack([bias_gradient, weight_gradient])
        dist.all_reduce(sums)
        shift, tilt = (sums / ctx.count)[:, :, None, None]
        dx = (dy - shift - normal * tilt) * (weight * scale)[:, None, None]
        return dx.to(grad.dtype), weight_gradient, bias_gradient, None
