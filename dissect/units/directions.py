"""Directions in the space of a layer's channels, as units: what each reads, and what it writes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Directions", "DirectionsFile"]

# Rules are parsed before torch is loaded: it is imported where it is used.

_Floats = tuple[float, ...]
_Rows = Annotated[tuple[_Floats, ...], Field(min_length=1)]


class DirectionsFile(FileModel):
    """`Directions` inside a file; `Directions` says what the fields are."""

    read: _Rows
    write: _Rows
    bias: _Floats | None = None
    rectified: bool = False


@dataclass(frozen=True, eq=False)
class Directions:
    """k directions of a layer of C channels.

    The value of a direction at a cell with the activation a is `read · a + bias`, and changing that
    value by d changes the activation by `d * write`. A channel is the special case in which
    both are the same unit vector. A neuron need not be the unit of computation: a feature may lie
    along any direction of the layer (Elhage et al. 2022, Toy Models of Superposition, section 2).

    Attributes:
        read: (k, C) float32.
        write: (k, C) float32.
        bias: (k,) float32; None is 0.
        rectified: whether a value below 0 counts as 0, as that of a dictionary's feature does.

    Raises:
        DissectError: shapes that do not pair, or numbers that are not finite.

    >>> import torch
    >>> along = Directions(torch.tensor([[0.6, 0.8]]), torch.tensor([[0.6, 0.8]]))
    >>> along.values(torch.tensor([[3.0, 4.0]]))
    tensor([[5.]])
    """

    read: "Tensor"
    write: "Tensor"
    bias: "Tensor | None" = None
    rectified: bool = False

    def __post_init__(self) -> None:
        import torch

        for name in ("read", "write", "bias"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, value.detach().to("cpu", torch.float32))
                if not bool(getattr(self, name).isfinite().all()):
                    raise DissectError(f"the {name} of directions must be finite numbers")
        if self.read.ndim != 2 or 0 in self.read.shape or self.read.shape != self.write.shape:
            raise DissectError(
                f"directions read and write (k, C), not {tuple(self.read.shape)} and "
                f"{tuple(self.write.shape)}"
            )
        if self.bias is not None and self.bias.shape != (len(self),):
            raise DissectError(
                f"{len(self)} directions have as many biases, not {tuple(self.bias.shape)}"
            )

    def __len__(self) -> int:
        return len(self.read)

    def __eq__(self, other: object) -> bool:
        """Whether every number is the same."""
        if not isinstance(other, Directions):
            return NotImplemented
        import torch

        own, others = self.offsets, other.offsets
        return self.rectified == other.rectified and all(
            a.shape == b.shape and torch.equal(a, b)
            for a, b in ((self.read, other.read), (self.write, other.write), (own, others))
        )

    def __hash__(self) -> int:
        return hash((*self.read.shape, self.rectified))

    def __repr__(self) -> str:
        return f"Directions({len(self)} of {self.channels} channels)"

    @property
    def channels(self) -> int:
        """How many channels the layer has (C)."""
        return self.read.shape[1]

    @property
    def offsets(self) -> "Tensor":
        """The biases, (k,), zeros where there are none."""
        return self.read.new_zeros(len(self)) if self.bias is None else self.bias

    def __getitem__(self, ranks: list[int]) -> "Directions":
        """The directions of these ranks, in their order."""
        bias = None if self.bias is None else self.bias[ranks]
        return Directions(self.read[ranks], self.write[ranks], bias, self.rectified)

    def values(self, activations: "Tensor") -> "Tensor":
        """The value of every direction, (N, k, ...), of activations (N, C, ...).

        Raises:
            DissectError: activations of another number of channels.
        """
        if activations.ndim < 2 or activations.shape[1] != self.channels:
            raise DissectError(
                f"these directions read {self.channels} channels, not {tuple(activations.shape)}"
            )
        import torch

        wide = activations.to(torch.promote_types(activations.dtype, torch.float32))
        values = torch.einsum("kc,nc...->nk...", self.read.to(wide), wide)
        shape = (1, -1, *([1] * (wide.ndim - 2)))
        values = values + self.offsets.to(wide).reshape(shape)
        return values.relu() if self.rectified else values

    def rotated(self, seed: int) -> "Directions":
        """The control: directions turned at random together, so that they point elsewhere.

        Norms and inner products among all that is read and written stay as they are. A function of
        the directions and of `seed` alone.
        """
        import torch

        both = torch.cat([self.read, self.write]).double().numpy()
        # An orthonormal basis of what they span, and a random one in its place.
        _, sizes, basis = np.linalg.svd(both, full_matrices=False)
        basis = basis[sizes > sizes[0] * 1e-9]
        rng = np.random.default_rng(seed)
        frame, upper = np.linalg.qr(rng.standard_normal((self.channels, len(basis))))
        frame *= np.sign(np.diag(upper))  # uniform over all frames (Mezzadri 2007)
        turned = torch.from_numpy((both @ basis.T) @ frame.T)
        read, write = turned.float().split(len(self))
        return Directions(read, write, self.bias, self.rectified)

    def to_file(self) -> DirectionsFile:
        """The fields of a file, their numbers to the last digit."""
        return DirectionsFile(
            read=_rows(self.read),
            write=_rows(self.write),
            bias=None if self.bias is None else tuple(self.bias.tolist()),
            rectified=self.rectified,
        )

    @classmethod
    def from_file(cls, file: DirectionsFile) -> "Directions":
        """The directions of fields that were read.

        Raises:
            DissectError: rows of different lengths, or what the directions refuse.
        """
        import torch

        if len({len(row) for row in (*file.read, *file.write)}) > 1:
            raise DissectError("the rows of directions must be of one length")
        bias = None if file.bias is None else torch.tensor(file.bias)
        return cls(torch.tensor(file.read), torch.tensor(file.write), bias, file.rectified)


def _rows(values: "Tensor") -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, values.tolist()))
