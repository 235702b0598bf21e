"""The same latents drawn before and after an edit, with the control beside them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.images import to_images
from dissect.annotations import Annotations
from dissect.hooks import activations
from dissect.models import generate, latents_for
from dissect.surgery import Intervention
from dissect.surgery.gates import LayerGate

__all__ = ["compare", "draw_each", "fresh_latents", "top_samples_by_concept"]


def fresh_latents(model: nn.Module, n: int, seed: int, annotations: Annotations) -> Tensor:
    """`n` latents of `seed` that come after every annotated one, so that none was looked at.

    Raises:
        DissectError: the boxes record no latents.
    """
    seen = [index for drawn, index in annotations.latent_rows if drawn == seed]
    return latents_for(model, n, seed, start=max(seen, default=-1) + 1)


def top_samples_by_concept(model: nn.Module, gate: LayerGate, z: Tensor, k: int) -> list[int]:
    """The `k` rows of `z` whose images the gate opens most, in order of rows.

    Most by the sum of the probability over the cells.
    """
    total = gate.probability(activations(model, gate.layer, z)).sum((1, 2))
    return sorted(total.topk(min(k, len(z))).indices.tolist())


def compare(
    model: nn.Module,
    z: Tensor,
    edit: Intervention,
    *,
    gate: LayerGate | None = None,
    background: Tensor | None = None,
    control_seed: int = 0,
) -> dict[str, NDArray[np.uint8]]:
    """Images (N, H, W, 3) uint8 of the same latents in three to five states.

    - `before`: untouched.
    - `everywhere`: the edit at all positions (Radford et al. 2015, section 6.3.1), or in all of
      its region where it has one.
    - `probe`: the edit at the cells that the gate opens; only where a gate is given.
    - `filled`: every unit of the layer, at those cells, set to what it is elsewhere; only where
      both are given.
    - `random`: the control. As many random units of the layer, edited as in `everywhere`.

    Args:
        model: the generator, in eval mode.
        z: its latents.
        edit: what is done to which units; it has no gate of its own.
        gate: a gate of the units' layer, such as a probe.
        background: (C,) the mean of every unit of the layer at cells without the concept.
        control_seed: of the random units.

    Raises:
        DissectError: a gate of another layer, or a region of another grid.
    """
    states: dict[str, Intervention | None] = {"before": None, "everywhere": edit}
    if gate is not None:
        states["probe"] = replace(edit, gate=gate)
        if background is not None:
            states["filled"] = Intervention.fill(
                gate, background, layer=gate.layer, threshold=edit.threshold
            )
    states["random"] = edit.control(control_seed)
    return draw_each(model, z, states)


def draw_each(
    model: nn.Module, z: Tensor, states: Mapping[str, Intervention | None]
) -> dict[str, NDArray[np.uint8]]:
    """Images (N, H, W, 3) uint8 of the same latents under each edit; None is no edit."""
    return {name: to_images(generate(model, z, edit=edit)) for name, edit in states.items()}
