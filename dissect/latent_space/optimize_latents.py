"""Latents that change one attribute of a sample while all others are held."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect.segmentation import AttributeReader

__all__ = ["optimize_latents"]

_TO_MIDDLE = 4  # steps from a sample to the middle of the range
_LONGEST = 0.8  # length of a step, beyond which the gradients are not valid
_DAMPING = 0.01
_TRIES = 4
_WEIGHT = 2.0  # of the attribute that changes, against each that is held
_BATCH = 50


def optimize_latents(
    generator: nn.Module,
    reader: AttributeReader,
    z: Tensor,
    column: int,
    targets: Tensor,
    spread: Tensor,
) -> Tensor:
    """Latents (N, P, D) whose images show an attribute at each target, and otherwise change little.

    A straight direction holds the other attributes at best on average: their gradients differ
    between samples and change along the way. Here the gradients of all attributes by the latent,
    through generator and reader, are computed anew at every step. Each step is the shortest that
    brings the attribute to its target and the others back to their first values (Gauss-Newton,
    damped). Hijack-GAN (Wang, Yu and Fritz 2021, section 3) follows the gradients of a proxy of
    the reader in the same way.

    The first steps lead from the sample to the middle target, the others outwards from there.

    Args:
        generator: latents to images.
        reader: one that can be differentiated (`AttributeReader.differentiable`).
        z: (N, D).
        column: the attribute that changes.
        targets: (P,), rising, an odd number: values of the attribute, in its unit.
        spread: std (A,) of each attribute among ordinary samples, by which errors are weighted.

    Raises:
        DissectError: an even number of targets, or a reader without gradients.
    """
    if reader.differentiable is None:
        raise DissectError(
            "optimizing latents needs a reader that can be differentiated; this one cannot"
        )
    if len(targets) % 2 == 0:
        raise DissectError(f"optimizing latents needs an odd number of targets; got {len(targets)}")
    through = reader.differentiable
    parts = [
        _optimize_part(generator, through, part, column, targets.to(part), spread.to(part))
        for part in z.split(_BATCH)
    ]
    return torch.cat(parts)


def _optimize_part(
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
        fraction = step / _TO_MIDDLE
        wanted[:, column] = own[:, column] + fraction * (targets[half] - own[:, column])
        at = _step(generator, through, at, wanted, column, spread)
    path: list[Tensor] = [at] * count
    for way in (-1, 1):
        at = path[half]
        for position in range(half + way, count if way > 0 else -1, way):
            wanted[:, column] = targets[position]
            at = _step(generator, through, at, wanted, column, spread)
            path[position] = at
    return torch.stack(path, 1)


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
    gradients = torch.stack(rows, 1)  # (N, A, D)
    square = gradients @ gradients.mT
    ridge = _DAMPING * square.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp(min=1e-6)
    eye = torch.eye(square.shape[1]).to(square)
    inverse = gradients.mT @ torch.linalg.inv(square + ridge * eye)
    with torch.no_grad():
        values = values.detach()
        reach = torch.full_like(z[:, :1], _LONGEST)
        error = (wanted / scale - values).square().sum(1, keepdim=True)
        # Gradients are expensive and images cheap. The same gradients are used for several steps,
        # and a step that increases the error is undone and shortened.
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
