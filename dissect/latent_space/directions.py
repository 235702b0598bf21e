"""Directions in latent space along which one attribute changes, and their files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors, write_tensors
from dissect._utils.records import Record, read_record, write_record

__all__ = ["Direction", "from_components", "from_exemplars", "from_regression"]

_KIND, _VERSION = "direction", 1


@dataclass(frozen=True)
class Direction:
    """A vector in the latent space of one model.

    `direction.applied(z, [-1, 0, 1])` goes from one end of its range to the other.

    Attributes:
        vector: (D,); added once it leads to the end of the range.
        attribute: what changes along it.
        method: how it was found: exemplars, regression, held or components.
        fingerprint: of the model; None fits any.
        about: what else there is to say, ready for JSON.
    """

    vector: Tensor
    attribute: str
    method: str
    fingerprint: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)

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
    def picked_ends(self) -> tuple[str, str] | None:
        """The names of the two concepts picked by eye that it leads between; None without any."""
        ends = self.about.get("ends")
        if not isinstance(ends, Mapping) or len(ends) != 2 or set(ends) == {"low", "high"}:
            return None
        first, last = (str(name) for name in ends)
        return first, last

    def ends(self, ordinary: Tensor) -> Tensor:
        """Latents (2, D) at the two ends of the axis, as long as ordinary ones (N, D).

        The mean of a few latents is short, and a generator that was trained on a cube draws what
        lies deep inside it grey. Components stay within the range of the ordinary ones.
        """
        length = float(ordinary.norm(dim=1).mean())
        vector = self.of_length(length).vector.to(ordinary)
        return torch.stack([-vector, vector]).clamp(ordinary.min(), ordinary.max())

    def of_length(self, length: float) -> "Direction":
        """The same direction, `length` long."""
        vector = self.vector * (length / self.length)
        return Direction(vector, self.attribute, self.method, self.fingerprint, self.about)

    def applied(self, z: Tensor, positions: Tensor, *, centred: bool = False) -> Tensor:
        """Latents moved along the direction: (N, P, D) for z (N, D) and positions (P,).

        Args:
            z: latents.
            positions: multiples of the vector; the paper's axis goes from -1 to 1.
            centred: take what each latent already has of the direction away first, so that all
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
        if centred:
            z = z - (z @ vector / (vector @ vector))[:, None] * vector
        moved: Tensor = z[:, None] + positions.to(z)[None, :, None] * vector
        return moved

    def check(self, fingerprint: str) -> None:
        """Refuse another model than the direction was found in.

        Raises:
            DissectError: the fingerprints differ.
        """
        if self.fingerprint is not None and self.fingerprint != fingerprint:
            raise DissectError(
                f"the direction of {self.attribute!r} was found in another model (fingerprint "
                f"{self.fingerprint}, this one has {fingerprint})"
            )

    def save(self, path: str | Path) -> Path:
        """`path`, now holding the direction: JSON, or safetensors where it ends so."""
        values = {
            "attribute": self.attribute,
            "method": self.method,
            "fingerprint": self.fingerprint,
            "about": dict(self.about),
        }
        vector = self.vector.detach().cpu().float().contiguous()
        if Path(path).suffix == ".safetensors":
            header = json.dumps({"kind": _KIND, "version": _VERSION, **values})
            return write_tensors(path, {"vector": vector}, {"direction": header})
        return write_record(path, _KIND, _VERSION, {**values, "vector": vector.tolist()})

    @classmethod
    def load(cls, path: str | Path) -> "Direction":
        """The direction that a file holds.

        Raises:
            DissectError: the file is absent, damaged, or holds no direction.
        """
        if Path(path).suffix == ".safetensors":
            record, vector = _read_safetensors(Path(path))
        else:
            record = read_record(path, _KIND, _VERSION)
            vector = torch.tensor(record.numbers("vector"), dtype=torch.float32)
        about = record.fields.get("about")
        return cls(
            vector,
            record.text("attribute"),
            record.text("method"),
            record.text_or_none("fingerprint"),
            about if isinstance(about, dict) else {},
        )


def _read_safetensors(path: Path) -> tuple[Record, Tensor]:
    tensors, about = read_tensors(path)
    try:
        vector = tensors["vector"].float()
        record = Record.of(json.loads(about["direction"]), str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise DissectError(f"{path} is damaged or holds no direction") from error
    return record, vector


def from_exemplars(first: Tensor, last: Tensor) -> Tensor:
    """Half the way from the mean of some exemplars to the mean of others: (D,).

    Section 6.3.2 of Radford et al. (2015): four samples that look left and four that look right.
    Half, so that positions -1 to 1 reach from the one mean to the other.

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
        held: the shortest change under which the regressions of all other attributes stay as
            they are. Attributes that latents hardly tell are left free.

    Raises:
        DissectError: fewer than two latents a component.
    """
    if len(z) < 2 * z.shape[1]:
        raise DissectError(
            f"a regression on {z.shape[1]} components needs {2 * z.shape[1]} samples or more; "
            f"got {len(z)}"
        )
    centred = (z - z.mean(0)).double()
    target = (values - values.mean(0)).double()
    target = target / target.std(0).clamp(min=1e-9)
    damping = 1e-3 * len(z) * torch.eye(z.shape[1], dtype=torch.float64, device=z.device)
    weights = torch.linalg.solve(centred.T @ centred + damping, centred.T @ target)  # (D, A)
    found = weights[:, column]
    if held:
        told = (centred @ weights).square().mean(0) > 0.1
        told[column] = False
        others = weights[:, told]
        if others.shape[1]:
            basis, _ = torch.linalg.qr(others)
            found = found - basis @ (basis.T @ found)
    unit: Tensor = (found / found.norm()).to(z)
    return unit


def from_components(
    z: Tensor, activations: Tensor, values: Tensor, column: int, *, components: int = 20
) -> tuple[Tensor, int]:
    """The principal component of activations that goes with an attribute: (D,), and its number.

    GANSpace (Haerkoenen et al. 2020, section 2.2): principal components of a layer's activations,
    brought back to latents by regression of the latents on the components. The component whose
    coordinate correlates most with the attribute is taken, its sign so that the attribute grows.

    Args:
        z: (N, D).
        activations: of a layer, for those latents, (N, ...).
        values: attributes of their images, (N, A).
        column: the attribute.
        components: how many are looked at.
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
