"""Noise that a generator draws in its forward pass, made the same for every image."""

import math
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from dissect.models.latents import Distribution, latents

__all__ = ["FixedNoise"]

_DROPOUT = {"dropout", "dropout1d", "dropout2d", "dropout3d", "dropout_", "feature_dropout"}
_NORMAL = {"randn", "randn_like", "normal", "normal_"}
_UNIFORM = {"rand", "rand_like", "uniform_"}


class FixedNoise(TorchFunctionMode):
    """A block in which what torch draws at random depends on a seed and on its turn alone.

    Every image of a batch gets the same noise, as `noise_mode="const"` of StyleGAN2 has it, so that
    neither the size of a batch nor an image's place in it matters.

    Args:
        seed: at least 0.
        n: images in the batch. Noise whose first axis is of this length is drawn for one image.
    """

    def __init__(self, seed: int, n: int) -> None:
        super().__init__()
        self._seed = seed
        self._n = n
        self._turn = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The function's result, with values of this block where they were drawn at random."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _DROPOUT:
            return self._dropout(name, *args, **kwargs)
        if kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if name in ("bernoulli", "bernoulli_"):
            drawn = func(*args, **kwargs)
            chance = args[0] if name == "bernoulli" else _argument(args, kwargs, 1, "p", 0.5)
            return drawn.copy_(self._values(drawn, "uniform") < chance)
        if name not in _NORMAL and name not in _UNIFORM:
            return func(*args, **kwargs)
        drawn = func(*args, **kwargs)
        if not isinstance(drawn, Tensor) or not drawn.is_floating_point():
            return drawn
        values = self._values(drawn, "normal" if name in _NORMAL else "uniform")
        if name in ("normal", "normal_"):
            first = 0 if name == "normal" else 1
            mean = _argument(args, kwargs, first, "mean", 0.0)
            values = values * _argument(args, kwargs, first + 1, "std", 1.0) + mean
        elif name == "uniform_":
            low, high = (
                _argument(args, kwargs, 1, "from", 0.0),
                _argument(args, kwargs, 2, "to", 1.0),
            )
            values = low + (high - low) * values
        return drawn.copy_(values) if not drawn.requires_grad else values

    def _values(self, like: Tensor, distribution: Distribution) -> Tensor:
        """Values in [0, 1), or standard normal ones, in the shape of `like`."""
        shape = like.shape
        row = shape[1:] if len(shape) > 1 and shape[0] == self._n else shape
        self._turn += 1
        seed = (self._seed * 1_000_003 + self._turn) % 2**32
        drawn = latents(1, seed, size=max(1, math.prod(row)), distribution=distribution)
        values = drawn.reshape(row) if math.prod(row) else drawn.new_empty(row)
        if distribution == "uniform":
            values = (values + 1) / 2
        return values.to(like).expand(shape)

    def _dropout(
        self, name: str, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        whole_maps = name not in ("dropout", "dropout_")
        like = input.flatten(2)[:, :, 0] if whole_maps and input.ndim > 2 else input
        kept = (self._values(like, "uniform") >= p).to(input)
        kept = kept.reshape(*kept.shape, *[1] * (input.ndim - kept.ndim))
        result = input * kept / (1 - p) if p < 1 else input * 0
        return input.copy_(result) if inplace else result


def _argument(args: Any, kwargs: Any, place: int, name: str, default: float) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)
