"""Rule `lowrank`: k directions whose removal removes a concept, learned by gradient.

The edit a -> a - (read · a) * write of each direction changes the weights that read the layer by a
matrix of rank k, so that a network without the concept has the same class, names and shapes. Edits
of low rank are known from language models (Meng et al. 2022, ROME, section 3.1) and from
generators (Bau et al. 2020, Rewriting a deep generative model, section 3.2); here they are learned
against pixels of the segmenter, with a price on change elsewhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.progress import ProgressCallback, no_progress
from dissect.selection.descent import EditLoss, minimize_loss
from dissect.selection.samples import Samples
from dissect.units import Directions

__all__ = ["MAX_RANK", "DirectionObjective", "optimize_directions"]

MAX_RANK = 32
# What the directions beside the first one start from, in units of an even start.
_START = 0.01


@dataclass(frozen=True, repr=False)
class DirectionObjective(EditLoss):
    """What directions are to minimise (see `EditLoss`), with prices that suit few of them."""

    left: float = 4.0
    outside: float = 32.0
    outlines: float = 260.0
    inpainting: float = 2.0
    log: bool = True
    all_pixels: bool = True
    steps: int = 700
    batch_size: int = 16
    learning_rate: float = 0.05


def optimize_directions(
    samples: Samples,
    objective: DirectionObjective,
    rank: int,
    *,
    open_cells: Tensor | None = None,
    progress: ProgressCallback = no_progress,
) -> Directions:
    """The `rank` directions whose removal removes the concept and changes least elsewhere.

    The first starts as the linear discriminant of cells with the concept and cells without it.
    Everywhere, directions have no bias, so that weights can hold the edit; where a gate opens, they
    have one.

    Args:
        samples: to learn on.
        objective: what is minimised.
        rank: how many directions.
        open_cells: (N, h, w) bool, where the edit acts; None is everywhere.
        progress: called with 1 after each step.

    Raises:
        DissectError: a rank below 1 or above the number of channels, or what `minimize_loss`
            raises.
    """
    channels, device = samples.acts.shape[1], samples.acts.device
    if not 1 <= rank <= min(channels, MAX_RANK):
        raise DissectError(
            f"a layer of {channels} channels takes 1 to {min(channels, MAX_RANK)} directions, "
            f"not {rank}"
        )
    read, write = (side.to(device).requires_grad_() for side in _start(samples, rank, objective))
    bias = torch.zeros(rank, device=device, requires_grad=open_cells is not None)

    def change(activation: Tensor, rows: Tensor) -> Tensor:
        values = torch.einsum("kc,nchw->nkhw", read, activation) + bias.reshape(1, -1, 1, 1)
        if open_cells is not None:
            values = values * open_cells[rows].unsqueeze(1).to(device)
        return activation - torch.einsum("kc,nkhw->nchw", write, values)

    parameters = [read, write] if open_cells is None else [read, write, bias]
    minimize_loss(samples, objective, parameters, change, open_cells=open_cells, progress=progress)
    return _ordered(read.detach().cpu(), write.detach().cpu(), bias.detach().cpu())


def _start(samples: Samples, rank: int, objective: EditLoss) -> tuple[Tensor, Tensor]:
    """What the directions read and write at first, each (rank, C)."""
    cells = samples.acts.detach().float().cpu().movedim(1, -1).flatten(0, 2)
    coverage = samples.coverage.flatten().cpu()
    inside, outside = cells[coverage > 0.5], cells[coverage == 0]
    if not len(inside) or not len(outside):
        inside, outside = cells[coverage >= coverage.quantile(0.99)], cells
    difference = inside.mean(0) - outside.mean(0)
    spread = torch.cov(cells.T)
    ridge = 1e-3 * spread.diagonal().mean() * torch.eye(len(spread))
    discriminant = torch.linalg.solve(spread + ridge, difference)
    discriminant = discriminant / (discriminant @ difference).clamp_min(1e-12)
    # Adam's steps are of one size: both sides start equally long.
    balance = (difference.norm() / discriminant.norm().clamp_min(1e-12)).sqrt()
    random = torch.Generator().manual_seed(objective.seed)
    read, write = (_START * torch.randn(rank, len(spread), generator=random) for _ in range(2))
    read[0], write[0] = discriminant * balance, difference / balance
    return read, write


def _ordered(read: Tensor, write: Tensor, bias: Tensor) -> Directions:
    """The same edit as directions that write along orthogonal axes, the longest first."""
    left, sizes, right = torch.linalg.svd(write.double().T @ read.double(), full_matrices=False)
    rank = len(read)
    turned = left[:, :rank].T @ write.double().T  # the values along the new axes, from the old
    offsets = turned @ bias.double()
    return Directions(
        (sizes[:rank].sqrt().unsqueeze(1) * right[:rank]).float(),
        (sizes[:rank].sqrt().unsqueeze(1) * left[:, :rank].T).float(),
        (offsets / sizes[:rank].sqrt().clamp_min(1e-12)).float() if bool(bias.any()) else None,
    )
