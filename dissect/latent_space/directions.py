"""Directions in latent space along which one attribute changes, and their files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors, write_tensors
from dissect._utils.schema import FileModel, parse, read_file, write_file

__all__ = ["Direction", "from_components", "from_exemplars", "from_regression"]


class _Header(FileModel):
    """A direction but its vector: the metadata of a safetensors file."""

    KIND: ClassVar[str] = "direction"
    attribute: str
    method: str
    fingerprint: str | None = None
    about: dict[str, Any] = Field(default_factory=dict)


class _DirectionFile(_Header):
    vector: tuple[float, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Direction(ShortRepr):
    """A vector in the latent space of one model, along which an attribute changes.

    Attributes:
        vector: (D,), from the middle of the attribute's range to its end.
        attribute: what changes along it.
        method: how it was found: exemplars, regression, held, components or steered.
        fingerprint: of the model; None fits any.
        about: further facts, as plain values for JSON.

    >>> direction = Direction(torch.tensor([0.0, 2.0]), "smile", "regression")
    >>> direction.applied(torch.zeros(1, 2), torch.tensor([-1.0, 0.5])).tolist()
    [[[0.0, -2.0], [0.0, 1.0]]]
    """

    vector: Tensor
    attribute: str
    method: str
    fingerprint: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vector.ndim != 1 or not bool(self.vector.isfinite().all()):
            raise DissectError("a direction must be a vector of finite numbers")
        if not bool(self.vector.any()):
            raise DissectError(
                f"the direction of {self.attribute!r} is zero: its ends are the same"
            )

    @property
    def length(self) -> float:
        """Euclidean length."""
        return float(self.vector.norm())

    @property
    def chosen_extremes(self) -> tuple[str, str] | None:
        """The names of the two concepts, chosen by eye, that it connects; None without any."""
        ends = self.about.get("ends")
        if not isinstance(ends, Mapping) or len(ends) != 2 or set(ends) == {"low", "high"}:
            return None
        first, last = (str(name) for name in ends)
        return first, last

    def ends(self, ordinary: Tensor) -> Tensor:
        """Latents (2, D) at the two ends of the axis, as long as ordinary latents (N, D).

        The mean of a few latents is short, and a generator that was trained on a cube renders
        latents deep inside it grey. Components stay within the range of the ordinary latents.
        """
        length = float(ordinary.norm(dim=1).mean())
        vector = self.of_length(length).vector.to(ordinary)
        return torch.stack([-vector, vector]).clamp(ordinary.min(), ordinary.max())

    def of_length(self, length: float) -> "Direction":
        """The same direction, `length` long."""
        vector = self.vector * (length / self.length)
        return Direction(vector, self.attribute, self.method, self.fingerprint, self.about)

    def applied(self, z: Tensor, positions: Tensor, *, symmetric: bool = False) -> Tensor:
        """Latents moved along the direction: (N, P, D) for z (N, D) and positions (P,).

        Args:
            z: latents.
            positions: multiples of the vector; the paper's axis goes from -1 to 1.
            symmetric: first remove each latent's component along the direction, so that all rows
                begin and end alike.

        Raises:
            DissectError: latents of another size than the direction's.
        """
        if z.ndim != 2 or z.shape[1] != len(self.vector):
            raise DissectError(
                f"the direction has {len(self.vector)} components, and the latents have shape "
                f"{tuple(z.shape)}: it belongs to another model"
            )
        vector = self.vector.to(z)
        if symmetric:
            z = z - (z @ vector / (vector @ vector))[:, None] * vector
        moved: Tensor = z[:, None] + positions.to(z)[None, :, None] * vector
        return moved

    def check(self, fingerprint: str) -> None:
        """Raise if the direction was found in another model.

        Raises:
            DissectError: the fingerprints differ.
        """
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise DissectError(
                f"the direction of {self.attribute!r} was found in another model (fingerprint "
                f"{self.fingerprint}, this one has {fingerprint})"
            )

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the direction: as safetensors by its suffix, else as JSON.

        Raises:
            DissectError: the file cannot be written.
        """
        values = {
            "attribute": self.attribute,
            "method": self.method,
            "fingerprint": self.fingerprint,
            "about": dict(self.about),
        }
        vector = self.vector.detach().cpu().float()
        if Path(path).suffix == ".safetensors":
            heading = {"kind": _Header.KIND, "version": _Header.VERSION}
            return write_tensors(
                path, {"vector": vector}, {"direction": json.dumps({**heading, **values})}
            )
        return write_file(
            path, parse(_DirectionFile, {**values, "vector": vector.tolist()}, "the direction")
        )

    @classmethod
    def load(cls, path: str | Path) -> "Direction":
        """The direction that a file holds.

        Raises:
            DissectError: the file is absent, damaged, or holds no direction.
        """
        if Path(path).suffix == ".safetensors":
            header, vector = _read_safetensors(Path(path))
        else:
            content = read_file(path, _DirectionFile)
            header, vector = content, torch.tensor(content.vector, dtype=torch.float32)
        return cls(vector, header.attribute, header.method, header.fingerprint, header.about)


def _read_safetensors(path: Path) -> tuple[_Header, Tensor]:
    tensors, metadata = read_tensors(path)
    try:
        vector = tensors["vector"].float()
        values = json.loads(metadata["direction"])
        fields = {name: values[name] for name in values if name not in ("kind", "version")}
    except (ValueError, KeyError, TypeError) as error:
        raise DissectError(f"{path} is damaged or holds no direction") from error
    return parse(_Header, fields, str(path)), vector


def from_exemplars(first: Tensor, last: Tensor) -> Tensor:
    """Half the difference between the means of two sets of exemplars: (D,).

    Section 6.3.2 of Radford et al. (2015): four samples that look left and four that look right.
    Positions -1 to 1 then reach from one mean to the other.

    Args:
        first, last: latents (K, D) of the two ends.
    """
    half: Tensor = (last.mean(0) - first.mean(0)) / 2
    return half


def from_regression(z: Tensor, values: Tensor, column: int, *, held: bool = False) -> Tensor:
    """The direction of least-squares regression of an attribute on latents: (D,), length 1.

    Args:
        z: (N, D).
        values: attributes of their images, (N, A).
        column: the attribute that changes.
        held: remove the part that changes the regressions of the other attributes. Attributes
            that latents hardly predict are left free.

    Raises:
        DissectError: fewer than two latents for each component.
    """
    if len(z) < 2 * z.shape[1]:
        raise DissectError(
            f"a regression on {z.shape[1]} components needs {2 * z.shape[1]} samples or more; "
            f"got {len(z)}"
        )
    centered = (z - z.mean(0)).double()
    target = (values - values.mean(0)).double()
    target = target / target.std(0).clamp(min=1e-9)
    damping = 1e-3 * len(z) * torch.eye(z.shape[1], dtype=torch.float64, device=z.device)
    weights = torch.linalg.solve(centered.T @ centered + damping, centered.T @ target)  # (D, A)
    vector = weights[:, column]
    if held:
        predicted = (centered @ weights).square().mean(0) > 0.1
        predicted[column] = False
        others = weights[:, predicted]
        if others.shape[1]:
            basis, _ = torch.linalg.qr(others)
            vector = vector - basis @ (basis.T @ vector)
    unit: Tensor = (vector / vector.norm()).to(z)
    return unit


def from_components(
    z: Tensor, activations: Tensor, values: Tensor, column: int, *, components: int = 20
) -> tuple[Tensor, int]:
    """The principal component of activations that follows an attribute: (D,), and its number.

    GANSpace (Haerkoenen et al. 2020, section 2.2): principal components of a layer's activations,
    mapped back to latents by regression of the latents on the components. The component that
    correlates most with the attribute is chosen, with the sign that makes the attribute grow.

    Args:
        z: (N, D).
        activations: of a layer, for those latents, (N, ...).
        values: attributes of their images, (N, A).
        column: the attribute.
        components: number of components that are compared.
    """
    from sklearn.decomposition import PCA

    flat = activations.flatten(1).float().cpu().numpy()
    kept = min(components, *flat.shape)
    coordinates = PCA(kept, svd_solver="randomized", random_state=0).fit_transform(flat)
    wanted = values[:, column].double().cpu().numpy()
    correlations = np.array([np.corrcoef(c, wanted)[0, 1] for c in coordinates.T])
    best = int(np.abs(correlations).argmax())
    scaled = torch.from_numpy(coordinates / coordinates.std(0)).double()
    back = torch.linalg.lstsq(scaled, (z - z.mean(0)).double().cpu()).solution[best]
    back = back * float(np.sign(correlations[best]))
    unit: Tensor = (back / back.norm()).to(z)
    return unit, best
