"""Turning one attribute of samples while all others are held, along a path of their own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.segmentation import AttributeReader

__all__ = ["steered"]

_TO_MIDDLE = 4  # steps from where a sample is to the middle of the range
_LONGEST = 0.8  # of one step: beyond it the slopes say little
_DAMPING = 0.01
_TRIES = 4
_WEIGHT = 2.0  # of the attribute that changes, against each that is held
_BATCH = 50


def steered(
    generator: nn.Module,
    reader: AttributeReader,
    z: Tensor,
    column: int,
    targets: Tensor,
    spread: Tensor,
) -> Tensor:
    """Latents (N, P, D) whose images show an attribute at each target, and else what they showed.

    A straight direction holds the other attributes at best on average; what moves them is another
    for each sample, and changes on the way. So the slopes of all attributes by the latent, through
    generator and reader, are taken anew at every step, and the shortest step is made that brings
    the attribute to its target and the others back to what they were (Gauss-Newton, damped). Paths
    that bend by slopes are those of Hijack-GAN (Wang, Yu and Fritz 2021, section 3), which follows
    a proxy of the reader.

    The first steps lead from where a sample is to the middle target, the others outwards.

    Args:
        generator: latents to images.
        reader: one that can be differentiated (`AttributeReader.differentiable`).
        z: (N, D).
        column: the attribute that changes.
        targets: (P,), rising, an odd number: what the attribute should be, in its unit.
        spread: deviation (A,) of each attribute among ordinary samples; errors are weighed by it.

    Raises:
        DissectError: an even number of targets, or a reader without slopes.
    """
    if reader.differentiable is None:
        raise DissectError("steering needs a reader that can be differentiated; this one cannot")
    if len(targets) % 2 == 0:
        raise DissectError(f"steering needs an odd number of targets; got {len(targets)}")
    through = reader.differentiable
    parts = [
        _steered(generator, through, part, column, targets.to(part), spread.to(part))
        for part in z.split(_BATCH)
    ]
    return torch.cat(parts)


def _steered(
    generator: nn.Module,
    through: Callable[[Tensor], Tensor],
    z: Tensor,
    column: int,
    targets: Tensor,
    spread: Tensor,
) -> Tensor:
    count, half = len(targets), len(targets) // 2
    with torch.no_grad():
        own = through(generator(z))
    wanted = own.clone()
    at = z
    for step in range(1, _TO_MIDDLE + 1):
        share = step / _TO_MIDDLE
        wanted[:, column] = own[:, column] + share * (targets[half] - own[:, column])
        at = _step(generator, through, at, wanted, column, spread)
    found: list[Tensor] = [at] * count
    for way in (-1, 1):
        at = found[half]
        for place in range(half + way, count if way > 0 else -1, way):
            wanted[:, column] = targets[place]
            at = _step(generator, through, at, wanted, column, spread)
            found[place] = at
    return torch.stack(found, 1)


def _step(
    generator: nn.Module,
    through: Callable[[Tensor], Tensor],
    z: Tensor,
    wanted: Tensor,
    column: int,
    spread: Tensor,
) -> Tensor:
    z = z.detach().requires_grad_(True)
    scale = spread.clamp(min=1e-6)
    scale[column] /= _WEIGHT
    values = through(generator(z)) / scale
    rows = [
        torch.autograd.grad(values[:, k].sum(), z, retain_graph=True)[0]
        for k in range(values.shape[1])
    ]
    slopes = torch.stack(rows, 1)  # (N, A, D)
    square = slopes @ slopes.mT
    ridge = _DAMPING * square.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp(min=1e-6)
    eye = torch.eye(square.shape[1]).to(square)
    inverse = slopes.mT @ torch.linalg.inv(square + ridge * eye)
    with torch.no_grad():
        values = values.detach()
        reach = torch.full_like(z[:, :1], _LONGEST)
        error = (wanted / scale - values).square().sum(1, keepdim=True)
        # The slopes are dear, an image is cheap: what the first step missed is made up for with
        # the same slopes, and a step that leads further off is taken back and made shorter.
        for _ in range(_TRIES):
            step = (inverse @ (wanted / scale - values)[:, :, None])[:, :, 0]
            tried = z + step * (reach / torch.maximum(step.norm(dim=1, keepdim=True), reach))
            seen = through(generator(tried)) / scale
            missed = (wanted / scale - seen).square().sum(1, keepdim=True)
            better = missed < error
            z, values = torch.where(better, tried, z), torch.where(better, seen, values)
            error = torch.minimum(missed, error)
            reach = torch.where(better, reach, step.norm(dim=1, keepdim=True).minimum(reach) / 3)
    return z
