"""An edit of units as a module of its own, so that it stays in a network without hooks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dissect._utils.device import no_autocast
from dissect._utils.errors import DissectError

__all__ = ["GatedEdit", "moved_along"]


def moved_along(
    activation: Tensor,
    read: Tensor,
    write: Tensor,
    bias: Tensor,
    amount: Tensor,
    values: Tensor,
    *,
    rectified: bool = False,
) -> Tensor:
    """The activation a after a -= amount * (read a + bias - value) * write, for k directions.

    Args:
        activation: (N, C, ...).
        read, write: (k, C).
        bias, amount, values: (k,); the amount is 1 where the direction's value is to become
            the one given, and 0 where it is to stay.
        rectified: whether a direction's value below 0 counts as 0.
    """
    # Half precision has too few digits for a sum over hundreds of channels.
    wide = activation.to(torch.promote_types(activation.dtype, torch.float32))
    grid = wide if wide.ndim == 4 else wide.reshape(*wide.shape[:2], -1, 1)
    amount, values = (each.to(wide).reshape(1, -1, 1, 1) for each in (amount, values))
    with no_autocast(activation.device):
        found = F.conv2d(grid, read.to(wide)[..., None, None], bias.to(wide))
        if rectified:
            found = found.relu()
        moved = grid - F.conv2d((found - values) * amount, write.to(wide).T[..., None, None])
    return moved.reshape(wide.shape).to(activation.dtype)


class GatedEdit(nn.Module):
    """What a layer gives, (N, C, H, W), with some of its units edited where a gate is open.

    The activation a of an edited unit becomes a - strength * (a - value) at the cells where the
    gate is open; everything else passes as it is. The gate is one 1x1 convolution, a logistic
    function and a threshold: the probe of Radford et al. (2015), section 6.3.1, put to work. In
    evaluation mode it gives, bit for bit, what `dissect.ablated` does with a hook, and
    `torch.export` takes it like any other layer.

    Args:
        units: how many units the layer has (C).
        probe: whether a probe opens the gate; without one, the region alone does.
        grid: (H, W), where the edit keeps to a region of the grid; None is no region.
        threshold: in [0, 1), what the probability times the region must be above.
        strength: from 0 (no edit) through 1 (the values themselves) to 2; None is a strength of
            its own for each unit.
        directions: how many directions of the channels' space are edited in place of channels
            (k), each by its own strength.
        rectified: whether a direction's value below 0 counts as 0.

    Attributes:
        edited: (C,) bool, which units are edited; with directions, all.
        values: (C,) what stands in the place of an edited unit: 0 removes it; (k,) of directions.
        strengths: (C,) or (k,) in [0, 2]; None where there is one strength.
        read, write, bias: (k, C), (k, C) and (k,) of the directions; None without such.
        region: (H, W) in [0, 1], by which the probability is multiplied; None without a grid.
        probe: the 1x1 convolution to the logit; None where there is no probe.

    Raises:
        DissectError: a number of units, a grid, a threshold or a strength that cannot be.
    """

    edited: Tensor
    values: Tensor
    strengths: Tensor | None
    region: Tensor | None
    read: Tensor | None
    write: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        units: int,
        *,
        probe: bool = True,
        grid: tuple[int, int] | None = None,
        threshold: float = 0.5,
        strength: float | None = 1.0,
        directions: int | None = None,
        rectified: bool = False,
    ) -> None:
        super().__init__()
        if directions is not None and (directions < 1 or strength is not None):
            raise DissectError("an edit has at least 1 direction, each with its own strength")
        if strength is not None and not 0 <= strength <= 2:
            raise DissectError(f"strength must be from 0 to 2, not {strength:g}")
        if not 0 <= threshold < 1:
            raise DissectError(f"threshold must be at least 0 and below 1, not {threshold:g}")
        if units < 1 or (grid is not None and min(grid) < 1):
            raise DissectError("an edit needs a layer of at least 1 unit, on a grid of such cells")
        self.threshold = float(threshold)
        self.strength = None if strength is None else float(strength)
        self.rectified = rectified
        along, edited = directions is not None, units if directions is None else directions
        self.register_buffer("edited", torch.full((units,), along))
        self.register_buffer("values", torch.zeros(edited))
        self.register_buffer("strengths", torch.ones(edited) if strength is None else None)
        self.register_buffer("read", torch.zeros(edited, units) if along else None)
        self.register_buffer("write", torch.zeros(edited, units) if along else None)
        self.register_buffer("bias", torch.zeros(edited) if along else None)
        self.register_buffer("region", None if grid is None else torch.ones(*grid))
        # It is the probe's, not the network's to train.
        self.probe = nn.Conv2d(units, 1, 1).requires_grad_(False) if probe else None

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that make such a module, but for `units`; what JSON can hold."""
        config = {
            "probe": self.probe is not None,
            "grid": None if self.region is None else list(self.region.shape),
            "threshold": self.threshold,
            "strength": self.strength,
        }
        if self.read is not None:
            config |= {"directions": len(self.read), "rectified": self.rectified}
        return config

    def forward(self, activation: Tensor) -> Tensor:
        """The edited activation, of the same shape."""
        units = len(self.edited)
        if activation.ndim < 2 or activation.shape[1] != units:
            raise DissectError(
                f"this edit is of a layer of {units} units, and got {tuple(activation.shape)}"
            )
        shape = (1, units, *([1] * (activation.ndim - 2)))
        after = self._moved(activation) if self.read is not None else self._set(activation, shape)
        chosen = self.edited.reshape(shape)
        gate = self._gate(activation.detach())
        if gate is not None:
            chosen = chosen & gate.unsqueeze(1)
        return torch.where(chosen, after, activation)

    def _set(self, activation: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Every channel as far towards its value as its strength says."""
        values = self.values.to(activation.dtype).reshape(shape)
        amount: float | Tensor | None = self.strength
        if self.strengths is not None:
            amount = self.strengths.to(activation.dtype).reshape(shape)
        if amount is None or self.strength == 1:
            return values.expand_as(activation)
        return activation - amount * (activation - values)

    def _moved(self, activation: Tensor) -> Tensor:
        """The activation moved along every direction."""
        along = (self.read, self.write, self.bias, self.strengths, self.values)
        given = [value for value in along if value is not None]
        return moved_along(activation, *given, rectified=self.rectified)

    def extra_repr(self) -> str:
        """What `print` says of it beside the convolution."""
        strength = "of each unit" if self.strength is None else f"{self.strength:g}"
        return f"threshold={self.threshold:g}, strength={strength}"

    def _gate(self, activation: Tensor) -> Tensor | None:
        """The cells where the edit acts, (N, H, W) or (1, H, W), bool; None is everywhere."""
        if self.probe is None and self.region is None:
            return None
        if activation.ndim != 4:
            raise DissectError(f"a gate needs a grid (N, C, H, W), not {tuple(activation.shape)}")
        if self.region is not None and self.region.shape != activation.shape[2:]:
            raise DissectError(
                f"this edit keeps to a region of a {tuple(self.region.shape)} grid, and got "
                f"{tuple(activation.shape)}"
            )
        if self.probe is None:
            return None if self.region is None else self.region.unsqueeze(0) > self.threshold
        # As `Probe.probability` has it, step for step: the last bit decides at the threshold.
        kind = torch.float64 if activation.dtype == torch.float64 else torch.float32
        bias = None if self.probe.bias is None else self.probe.bias.to(kind)
        with no_autocast(activation.device):
            logit = F.conv2d(activation.to(kind), self.probe.weight.to(kind), bias).squeeze(1)
        probability = logit.sigmoid()
        if self.region is not None:
            probability = probability * self.region.to(kind)
        return probability > self.threshold
