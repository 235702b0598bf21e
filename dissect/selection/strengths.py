"""The strength at which each unit is removed, optimised by gradient.

GAN Dissection's ACE (Bau et al. 2019, section 3.2, equations 5 to 7) optimises a strength in
[0, 1] for every unit of a layer at once, and ranks the units by it. `optimize_strengths` is that,
for any gate and for strengths up to 2, with a price on changes elsewhere and on the replacement.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from dissect._utils.progress import ProgressCallback, no_progress
from dissect.selection.descent import EditLoss, minimize_loss
from dissect.selection.samples import Samples

__all__ = ["StrengthObjective", "optimize_strengths"]


@dataclass(frozen=True, repr=False)
class StrengthObjective(EditLoss):
    """What strengths are to minimise: besides the loss, `l2` times the sum of their squares, and
    `l1` times their mean.

    Attributes:
        max_strength: the largest strength: 1 removes a unit, 2 turns its sign.
    """

    l2: float = 0.005
    l1: float = 0.0
    max_strength: float = 1.0


def optimize_strengths(
    samples: Samples,
    objective: StrengthObjective,
    *,
    start: Tensor | float = 0.5,
    among: Tensor | None = None,
    open_cells: Tensor | None = None,
    progress: ProgressCallback = no_progress,
) -> Tensor:
    """The strength of every unit at which the concept is removed best, (C,) from 0.

    The mean over the second half of the steps, so that units at the end of the range have an order
    too. At open cells the activation a of a unit becomes a - strength * a.

    Args:
        samples: to learn on.
        objective: what is minimised.
        start: the strengths to start from, one or (C,).
        among: (C,) bool, the units that may have a strength above 0; None is all.
        open_cells: (N, h, w) bool, where the edit acts; None is everywhere.
        progress: called with 1 after each step.

    Raises:
        DissectError: what `minimize_loss` raises.
    """
    units, device = samples.acts.shape[1], samples.acts.device
    allowed = torch.ones(units, device=device) if among is None else among.to(device).float()
    strengths = torch.full((units,), start) if isinstance(start, float) else start.float().clone()
    strengths = (strengths.to(device) * allowed).clamp(0, objective.max_strength).requires_grad_()
    late = torch.zeros(units)

    def change(activation: Tensor, rows: Tensor) -> Tensor:
        amount = strengths.reshape(1, -1, 1, 1)
        if open_cells is not None:
            amount = amount * open_cells[rows].unsqueeze(1).to(device)
        return activation - amount * activation

    def penalized(loss: Tensor) -> Tensor:
        return loss + objective.l2 * strengths.square().sum() + objective.l1 * strengths.mean()

    def after_step(step: int) -> None:
        strengths.mul_(allowed).clamp_(0, objective.max_strength)
        if 2 * (step + 1) > objective.steps:
            late.add_(strengths.cpu())

    minimize_loss(
        samples,
        objective,
        [strengths],
        change,
        penalized=penalized,
        after_step=after_step,
        open_cells=open_cells,
        progress=progress,
    )
    return late / (objective.steps - objective.steps // 2)
