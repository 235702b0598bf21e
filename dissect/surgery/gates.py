"""Where an edit acts: gates that open at some cells of a layer's grid and stay shut at others.

Of each cell a gate gives a probability, and an edit acts where that is above its threshold. The
gate of Radford et al. (2015), section 6.3.1, is the logistic-regression probe of a concept.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from dissect._utils.device import no_autocast
from dissect._utils.errors import DissectError

__all__ = ["Gate", "LayerGate", "LinearGate", "MaskGate", "linear_gate", "open_cells"]


@runtime_checkable
class Gate(Protocol):
    """What gives the probability that an edit acts at a cell; a `Probe` is one.

    A gate that reads one layer says which in an attribute `layer` (see `LayerGate`).
    """

    def probability(self, activations: Tensor) -> Tensor:
        """(N, C, H, W) of the layer, before the edit, to (N, H, W) in [0, 1]."""


class LayerGate(Gate, Protocol):
    """A gate that says which layer it reads."""

    @property
    def layer(self) -> str:
        """The layer's name."""


@dataclass(frozen=True, eq=False)
class LinearGate:
    """A gate that is one 1x1 convolution and a logistic function, so that a network can hold it.

    Attributes:
        layer: the layer that it reads.
        weight: (C,) float64, in units of the activations.
        bias: a number.

    Raises:
        DissectError: no weights, or weights or a bias that are not finite.

    Example:
        >>> import torch
        >>> gate = LinearGate("layer8x8", torch.tensor([2.0, -1.0]), bias=0.0)
        >>> gate.probability(torch.ones(1, 2, 1, 1)).item()
        0.7310585975646973
    """

    layer: str
    weight: Tensor
    bias: float

    def __post_init__(self) -> None:
        weight = self.weight.detach().double().cpu()
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", float(self.bias))
        if weight.ndim != 1 or not len(weight):
            raise DissectError(f"a linear gate has one weight a unit, not {tuple(weight.shape)}")
        if not bool(weight.isfinite().all()) or not torch.isfinite(torch.tensor(self.bias)):
            raise DissectError("the weights and the bias of a gate must be finite numbers")

    def probability(self, activations: Tensor) -> Tensor:
        """The probability at every cell, (N, H, W) in [0, 1], in float32 or float64.

        Args:
            activations: (N, C, H, W) of the gate's layer, on any device, of any float type.

        Raises:
            DissectError: another number of units.
        """
        if activations.ndim != 4 or activations.shape[1] != len(self.weight):
            raise DissectError(
                f"the probe reads (N, {len(self.weight)}, H, W) of {self.layer!r}, not "
                f"{tuple(activations.shape)}"
            )
        # Half precision has too few digits for a sum over hundreds of units.
        dtype = torch.promote_types(activations.dtype, torch.float32)
        weight = self.weight.to(activations.device, dtype).reshape(1, -1, 1, 1)
        bias = torch.tensor([self.bias], dtype=dtype, device=activations.device)
        # The same convolution that `bake` writes into networks: the last bit decides there.
        with no_autocast(activations.device):
            return conv2d(activations.to(dtype), weight, bias).squeeze(1).sigmoid()

    def __repr__(self) -> str:
        return f"LinearGate({self.layer!r}, {len(self.weight)} units)"


@dataclass(frozen=True, eq=False)
class MaskGate:
    """A gate that is a region of the grid.

    Attributes:
        region: (H, W) in [0, 1] or bool, the same for every sample; or (N, H, W), for one batch.
        inner: a gate whose probability is multiplied by the region, such as a `Probe`.

    Raises:
        DissectError: a region of another shape.

    Example:
        >>> import torch
        >>> left = MaskGate(torch.tensor([[1.0, 0.0]]))
        >>> left.probability(torch.zeros(3, 8, 1, 2)).shape
        torch.Size([3, 1, 2])
    """

    region: Tensor
    inner: Gate | None = None

    def __post_init__(self) -> None:
        if self.region.ndim not in (2, 3):
            raise DissectError(f"a region is (H, W) or (N, H, W), not {tuple(self.region.shape)}")

    @property
    def layer(self) -> str | None:
        """The layer that the inner gate reads, where it says so."""
        return getattr(self.inner, "layer", None)

    def probability(self, activations: Tensor) -> Tensor:
        """(N, C, H, W) of the layer to (N, H, W) in [0, 1]."""
        region = self.region.to(activations.device)
        if self.inner is None:
            return region.expand(len(activations), *region.shape[-2:])
        probability = self.inner.probability(activations)
        return probability * region.to(probability)

    def __repr__(self) -> str:
        inner = "" if self.inner is None else f", {self.inner!r}"
        return f"MaskGate({tuple(self.region.shape)}{inner})"


def linear_gate(gate: Gate) -> LinearGate | None:
    """`gate` as one 1x1 convolution, where it is one or, as a `Probe`, gives one; else None."""
    if isinstance(gate, LinearGate):
        return gate
    convert = getattr(gate, "gate", None)
    linear = convert() if callable(convert) else None
    return linear if isinstance(linear, LinearGate) else None


def open_cells(gate: Gate | Tensor, activation: Tensor, threshold: float, layer: str) -> Tensor:
    """The cells where an edit acts, (N, H, W) or what broadcasts to it, bool.

    Args:
        gate: a gate, or its probabilities, (H, W) or (N, H, W); True is open.
        activation: (N, C, H, W) of the layer, as it comes to the edit.
        threshold: what the probability must be above.
        layer: the layer's name, for errors.

    Raises:
        DissectError: an activation without a grid, or a gate of another grid or batch.
    """
    if activation.ndim != 4:
        raise DissectError(
            f"a gate needs a grid (N, C, H, W), and layer {layer!r} gives {tuple(activation.shape)}"
        )
    batch, grid = activation.shape[0], tuple(activation.shape[2:])
    if isinstance(gate, Tensor):
        value = gate
    else:
        with torch.no_grad():
            value = gate.probability(activation.detach())
    shape = tuple(value.shape)
    if shape not in (grid, (1, *grid), (batch, *grid)):
        raise DissectError(
            f"the gate has shape {shape}; at layer {layer!r} it must be {grid} or {(batch, *grid)}"
        )
    is_open = value.to(activation.device)
    if is_open.dtype != torch.bool:
        is_open = is_open > threshold
    return is_open if is_open.ndim == 3 else is_open.unsqueeze(0)
