"""A training in several processes, which together make the steps of one.

Each process takes its share of every batch; gradients are averaged by DistributedDataParallel, so
that all hold the same weights; the first alone writes. The images and latents of a step depend on
the seed and the step as ever: the world's size changes the results by rounding only, if batch norm
takes its statistics over the whole batch.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from dissect.errors import DissectError
from dissect.training.fast import fast_forward

__all__ = ["Forward", "World", "joined", "shared_forward", "synchronized"]

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class World:
    """The processes that train together, and which of them this one is."""

    rank: int = 0
    size: int = 1

    @classmethod
    def of_environment(cls) -> "World":
        """The world that `torchrun` describes in the environment; without it, one process."""
        rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
        return cls(int(rank), int(size)) if rank.isdigit() and size.isdigit() else cls()

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share_of(self, batch_size: int) -> slice:
        """Which rows of a batch are this process's.

        Raises:
            DissectError: the batch cannot be divided evenly.
        """
        if batch_size % self.size:
            raise DissectError(
                f"a batch of {batch_size} cannot be shared evenly by {self.size} processes; give "
                f"a --batch-size that is a multiple of {self.size}"
            )
        rows = batch_size // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is set in any process: all get the same answer at the same step."""
        if self.size == 1:
            return flag
        found = torch.tensor(float(flag), device=device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def is_broken_by(self, error: Exception) -> bool:
        """Whether `error` says that another process does not answer any more."""
        words = str(error).lower()
        return self.size > 1 and ("gloo" in words or "nccl" in words or "connection" in words)

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over the processes."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.size


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """In the block the processes of `world` can talk to one another.

    Raises:
        DissectError: they do not find one another.
    """
    if world.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise DissectError(f"the processes cannot join: {error}") from error
    try:
        yield
    finally:
        dist.destroy_process_group()


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
