"""The whole measurement of one edit: at each gate its effect, its dose-response and its controls.

Everything is measured on the same latents, so that edits differ by what they do and not by the
images that they happened to meet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect.effect import Edit, Effect, frechet_distance, measure, observe
from dissect.errors import DissectError
from dissect.segment import Segmenter
from dissect.surgery import Gate, ablated
from dissect.units import Units

__all__ = ["EffectStudy", "doses", "study_effect", "study_size"]

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


@dataclass(frozen=True)
class EffectStudy:
    """What was measured, by gate: `everywhere` (the paper's edit) or `probe`.

    Attributes:
        edits: the edit itself; `filled` is `dissect.comparison.filled`, where that was asked for.
        by_units: the strongest so many of the units, by their number.
        by_strength: all the units at each strength from 0.25 to 2.
        random: the controls: as many random units, at the same strength and gate.
        frechet: Fréchet distance of the samples to real images in the segmenter's features,
            `before` and after each edit; empty without features or real images.
    """

    edits: Mapping[str, Effect]
    by_units: Mapping[str, Mapping[int, Effect]]
    by_strength: Mapping[str, Mapping[float, Effect]]
    random: Mapping[str, Sequence[Effect]]
    frechet: Mapping[str, float]


def doses(count: int) -> list[int]:
    """Numbers of units at which a dose-response curve is read: powers of 2, and all."""
    return sorted(
        {2**power for power in range(1, count.bit_length()) if 2**power < count} | {count}
    )


def study_size(count: int, gates: int, controls: int) -> int:
    """How many edits `study_effect` measures, and its first look, for a progress bar."""
    return 1 + gates * (len(doses(count)) + len(STRENGTHS) + controls)


def study_effect(
    model: nn.Module,
    units: Units,
    z: Tensor,
    segmenter: Segmenter,
    concept: str,
    *,
    gates: Mapping[str, Gate | None],
    strength: float = 1.0,
    threshold: float = 0.5,
    controls: int = 20,
    seed: int = 0,
    real: NDArray[np.float64] | None = None,
    fill: Edit | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> EffectStudy:
    """What removing `units` does, at each gate, beside as many random units.

    Args:
        model: the generator, in eval mode.
        units: which units; best first, for the curve over their number.
        z: latents that were not used for choosing them.
        segmenter: the eyes.
        concept: what was to be removed.
        gates: by name, where the edit acts; None is everywhere.
        strength: from 0 through 1 (gone) to 2 (sign turned).
        threshold: the probability from which a gate is open.
        controls: how many random sets are measured at each gate.
        seed: of the random sets.
        fill: a further edit to be measured beside them, under the name `filled`.
        real: (n, F) features of real images, for the Fréchet distance.
        watch: called with 1 after each edit measured.

    Raises:
        DissectError: no units, or what `measure` and `ablated` raise.
    """
    if not len(units):
        raise DissectError("there is no unit to remove: choose at least one")
    before = observe(model, segmenter, z)
    watch(1)

    def effect(chosen: Units, gate: Gate | None, dose: float) -> Effect:
        found = measure(
            model,
            segmenter,
            z,
            concept,
            lambda: ablated(model, chosen, where=gate, threshold=threshold, strength=dose),
            before=before,
        )
        watch(1)
        return found

    by_units = {
        name: {k: effect(_strongest(units, k), gate, strength) for k in doses(len(units))}
        for name, gate in gates.items()
    }
    edits = {name: curve[len(units)] for name, curve in by_units.items()}
    if fill is not None:
        edits["filled"] = measure(model, segmenter, z, concept, fill, before=before)
    by_strength = {
        name: {dose: effect(units, gate, dose) for dose in STRENGTHS}
        for name, gate in gates.items()
    }
    random = {
        name: [effect(units.random(seed + k), gate, strength) for k in range(controls)]
        for name, gate in gates.items()
    }
    frechet: dict[str, float] = {}
    if real is not None and before.features is not None:
        frechet["before"] = frechet_distance(real, before.features)
        for name, found in edits.items():
            if found.features is not None:
                frechet[name] = frechet_distance(real, found.features)
    return EffectStudy(edits, by_units, by_strength, random, frechet)


def _strongest(units: Units, k: int) -> Units:
    return units if k == len(units) else units.top(k)
