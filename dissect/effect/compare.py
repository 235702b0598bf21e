"""The same latents drawn before and after an edit, with the control beside them."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.annotations import Annotations
from dissect.hooks import activations
from dissect.models import generate, latents_for
from dissect.surgery import MaskGate, ablated, mean_activation
from dissect.surgery.gates import Gate, LayerGate
from dissect.surgery.intervention import Intervention
from dissect.units import Units

__all__ = [
    "Edit",
    "compare",
    "draw_each",
    "edit_arguments",
    "filled",
    "fresh_latents",
    "most_of_concept",
]


@dataclass(frozen=True)
class Edit:
    """What is done to units: the arguments of `ablated`.

    Attributes:
        strength: from 0 (untouched) through 1 (gone) to 2 (sign turned).
        replacement: what stands in a unit's place: `zero`, or its `mean` over fresh latents.
        threshold: the probability from which the probe's gate is open.
        region: (H, W) in [0, 1], where the edit may act; None is everywhere.
    """

    strength: float = 1.0
    replacement: Literal["zero", "mean"] = "zero"
    threshold: float = 0.5
    region: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise DissectError(f"strength must be from 0 to 2; got {self.strength}")
        if not 0 <= self.threshold < 1:
            raise DissectError(f"threshold must be in [0, 1); got {self.threshold}")
        if self.replacement not in ("zero", "mean"):
            raise DissectError(f"replacement must be zero or mean; got {self.replacement!r}")


def fresh_latents(model: nn.Module, n: int, seed: int, annotations: Annotations) -> Tensor:
    """`n` latents of `seed` that come after every annotated one, so that none was looked at.

    Raises:
        DissectError: the boxes record no latents.
    """
    seen = [index for drawn, index in annotations.latent_rows if drawn == seed]
    return latents_for(model, n, seed, start=max(seen, default=-1) + 1)


def most_of_concept(model: nn.Module, probe: LayerGate, z: Tensor, k: int) -> list[int]:
    """The `k` rows of `z` on whose images the probe finds most of the concept, in order of rows.

    Most by the sum of the probability over the cells.
    """
    found = probe.probability(activations(model, probe.layer, z)).sum((1, 2))
    return sorted(found.topk(min(k, len(z))).indices.tolist())


def compare(
    model: nn.Module,
    z: Tensor,
    units: Units,
    *,
    probe: LayerGate | None = None,
    edit: Edit | None = None,
    elsewhere: Tensor | None = None,
    control_seed: int = 0,
) -> Mapping[str, NDArray[np.uint8]]:
    """Images (N, H, W, 3) uint8 of the same latents in four or five states.

    - `before`: untouched.
    - `everywhere`: the units edited at all positions (Radford et al. 2015, section 6.3.1), or in
      all of the region where the edit has one.
    - `probe`: the units edited only at the cells that the probe calls the concept; only where a
      probe is given.
    - `filled`: every unit of the layer, at those cells, set to what it is elsewhere (`filled`);
      only where both are given.
    - `random`: the control. As many random units of the layer, edited as in `everywhere`.

    Args:
        model: the generator, in eval mode.
        z: its latents.
        units: which units.
        probe: a probe of the units' layer.
        edit: what is done to them; None is zeroing.
        elsewhere: (C,) the mean of every unit of the layer at cells without the concept.
        control_seed: of the random units.

    Raises:
        DissectError: a probe of another layer, or a region of another grid.
    """
    edit = edit or Edit()
    if probe is not None and probe.layer != units.layer:
        raise DissectError(f"the probe reads {probe.layer!r}, the units are of {units.layer!r}")
    control = units.random(control_seed)
    images = {
        "before": to_images(generate(model, z)),
        "everywhere": _edited(model, z, units, edit, None),
    }
    if probe is not None:
        images["probe"] = _edited(model, z, units, edit, probe)
        if elsewhere is not None:
            with filled(model, probe, elsewhere, threshold=edit.threshold):
                images["filled"] = to_images(generate(model, z))
    images["random"] = _edited(model, z, control, edit, None)
    return images


def draw_each(
    model: nn.Module, z: Tensor, states: Mapping[str, Intervention | None]
) -> dict[str, NDArray[np.uint8]]:
    """Images (N, H, W, 3) uint8 of the same latents under each edit; None is no edit."""
    return {name: to_images(generate(model, z, edit=edit)) for name, edit in states.items()}


def filled(
    model: nn.Module, probe: LayerGate, elsewhere: Tensor, *, threshold: float = 0.5
) -> AbstractContextManager[None]:
    """A context manager in which the concept's cells are as cells without it are on average.

    Where zeroing leaves what the other units still say of the concept, and a strength above 1
    draws what no image has, this puts in the layer's own average of everything else. It chooses
    cells, not units: what it removes is what the layer at those cells can remove at all.

    Args:
        model: the generator, in eval mode.
        probe: which cells.
        elsewhere: (C,) every unit's mean at cells without the concept.
        threshold: the probability from which a cell is the concept's.
    """
    every = Units(probe.layer, tuple(range(len(elsewhere))), len(elsewhere))
    return ablated(model, every, where=probe, threshold=threshold, replacement=elsewhere)


def edit_arguments(
    model: nn.Module, z: Tensor, units: Units, edit: Edit, probe: LayerGate | None
) -> dict[str, Any]:
    """The arguments of `ablated`, and of `bake`, beside the model and the units.

    A unit's mean, where the edit asks for it, is taken over the latents `z`.
    """
    where: Gate | Tensor | None = probe or edit.region
    if probe is not None and edit.region is not None:
        where = MaskGate(edit.region, probe)
    replacement: Literal["zero"] | Tensor = "zero"
    if edit.replacement == "mean":
        replacement = mean_activation(model, units, z)
    return {
        "where": where,
        "threshold": edit.threshold,
        "strength": edit.strength,
        "replacement": replacement,
    }


def _edited(
    model: nn.Module, z: Tensor, units: Units, edit: Edit, probe: LayerGate | None
) -> NDArray[np.uint8]:
    with ablated(model, units, **edit_arguments(model, z, units, edit, probe)):
        return to_images(generate(model, z))
