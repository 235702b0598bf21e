"""The whole measurement of an edit: its effect, its dose and response, and its controls.

Everything is measured on the same latents, so that edits differ by what they do and not by the
images that they happened to meet. What comes before the layer runs once for all of them.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect.effect import Effect, joined, measure, observe
from dissect.errors import DissectError
from dissect.intervention import Intervention
from dissect.layers import can_be_compiled
from dissect.partial import begun_at, rest_of
from dissect.segment import Segmenter
from dissect.threads import one_a_core

__all__ = ["STRENGTHS", "EffectStudy", "doses", "measure_each", "study_effect", "study_size"]

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
# Latents whose images and activations are in memory at once, on each core.
_CHUNK = 50

_Key = tuple[str, str, float]
# The effects by trial, and the features of the images before.
_Measured = tuple[dict[_Key, Effect], NDArray[np.float64] | None]


@dataclass(frozen=True)
class Trial:
    """One edit to be measured.

    Attributes:
        intervention: the edit.
        n: on how many latents, the first ones.
        with_features: whether its images' features are wanted.
    """

    intervention: Intervention
    n: int
    with_features: bool = True


@dataclass(frozen=True)
class EffectStudy:
    """What was measured, by the name of the edit, such as `everywhere` (the paper's) or `probe`.

    Attributes:
        edits: each edit itself, on all latents; also those beside, which have no controls or
            doses.
        random: an edit's controls: as many random units, edited alike, on the first `few` latents.
        by_units: the strongest so many of its units, by their number, on the first `few` latents.
        by_strength: all its units at each strength from 0.25 to 2, on the first `few` latents.
        few: how many latents those are.
        features: (N, F) of the images before, or None where the segmenter has no features.
    """

    edits: Mapping[str, Effect]
    random: Mapping[str, Sequence[Effect]]
    by_units: Mapping[str, Mapping[int, Effect]]
    by_strength: Mapping[str, Mapping[float, Effect]]
    few: int
    features: NDArray[np.float64] | None


def doses(count: int) -> list[int]:
    """Numbers of units at which a dose-response curve is read: powers of 2, and all."""
    return sorted(
        {2**power for power in range(1, count.bit_length()) if 2**power < count} | {count}
    )


def study_effect(
    model: nn.Module,
    edits: Mapping[str, Intervention],
    z: Tensor,
    segmenter: Segmenter,
    concept: str,
    *,
    beside: Mapping[str, Intervention] | None = None,
    controls: int = 20,
    few: int = 300,
    seed: int = 0,
    watch: Callable[[int], None] = lambda _: None,
) -> EffectStudy:
    """What each edit does to the images of `z`, beside as many random units edited alike.

    Args:
        model: the generator, in eval mode.
        edits: by name; of one layer.
        z: latents that were not used for choosing them.
        segmenter: the eyes.
        concept: what was to be removed.
        beside: further edits, to be measured without controls and other doses.
        controls: how many random sets are measured for each edit.
        few: on how many of the latents, the first ones, the controls and the other doses are
            measured; on all of them where there are fewer.
        seed: of the random sets.
        watch: called with the number of images after each batch; `study_size` in all.

    Raises:
        DissectError: no units, edits of different layers, no pixel of the concept in any image,
            or what `measure` and `ablated` raise.
    """
    few = min(few, len(z))
    trials = _trials(edits, beside or {}, len(z), few, controls, seed)
    effects, features = measure_each(model, trials, z, segmenter, concept, watch=watch)
    main = {name: effects["edit", name, 0] for name in (*edits, *(beside or {}))}
    for found in main.values():
        if not found.before.sum():
            raise DissectError(
                f"the segmenter sees no {concept} in any of {len(z)} samples: there is nothing to "
                "remove; try more samples"
            )
    by_units, by_strength = {}, {}
    for name, edit in edits.items():
        # The edit itself is one of the doses.
        whole = main[name].first(few)
        by_units[name] = {k: effects.get(("units", name, k), whole) for k in doses(len(edit.units))}
        by_strength[name] = {
            dose: effects.get(("strength", name, dose), whole) for dose in STRENGTHS
        }
    random = {name: [effects["random", name, k] for k in range(controls)] for name in edits}
    return EffectStudy(main, random, by_units, by_strength, few, features)


def study_size(
    edits: Mapping[str, Intervention],
    n: int,
    *,
    beside: Mapping[str, Intervention] | None = None,
    controls: int = 20,
    few: int = 300,
) -> int:
    """How many images `study_effect` draws of `n` latents, before and after, for a progress bar."""
    trials = _trials(edits, beside or {}, n, min(few, n), controls, 0)
    return n + sum(trial.n for trial in trials.values())


def measure_each(
    model: nn.Module,
    trials: Mapping[_Key, Trial],
    z: Tensor,
    segmenter: Segmenter,
    concept: str,
    *,
    watch: Callable[[int], None] = lambda _: None,
) -> _Measured:
    """The effect of each trial, by its key, and the features of the images before.

    The latents are worked off in chunks, so that memory does not grow with their number; on the
    CPU several chunks at once, the segmenter and `watch` being called from several threads.

    Raises:
        DissectError: edits of different layers, or what `measure` and `ablated` raise.
    """
    layers = {trial.intervention.units.layer for trial in trials.values()}
    if len(layers) != 1:
        raise DissectError(f"edits of one layer are compared, not of {len(layers)}")
    (layer,) = layers
    lock = threading.Lock()

    def measured(start: int, stopped: threading.Event) -> _Measured:
        with lock:  # it registers hooks on the model
            rest, inputs = begun_at(model, layer, z[start : start + _CHUNK])
        return _measure_chunk(rest, inputs, start, trials, segmenter, concept, watch, stopped)

    chunks = range(0, len(z), _CHUNK)
    if _can_be_shared_out(model, layer, z):
        found = one_a_core(measured, chunks)
    else:
        found = [measured(start, threading.Event()) for start in chunks]
    effects = {key: joined([part[key] for part, _ in found if key in part]) for key in trials}
    features = [seen for _, seen in found if seen is not None]
    return effects, np.concatenate(features) if features else None


def _measure_chunk(
    rest: nn.Module,
    inputs: Tensor,
    start: int,
    trials: Mapping[_Key, Trial],
    segmenter: Segmenter,
    concept: str,
    watch: Callable[[int], None],
    stopped: threading.Event,
) -> _Measured:
    """The trials on the latents from `start` on, as far as each goes."""
    before = observe(rest, segmenter, inputs, watch=watch)
    effects: dict[_Key, Effect] = {}
    for key, trial in trials.items():
        n = min(trial.n - start, len(inputs))
        if stopped.is_set() or n <= 0:
            continue
        effects[key] = measure(
            rest,
            segmenter,
            inputs[:n],
            concept,
            partial(trial.intervention.on, rest),
            before=before.first(n),
            with_features=trial.with_features,
            watch=watch,
        )
    return effects, before.features


def _can_be_shared_out(model: nn.Module, layer: str, z: Tensor) -> bool:
    """Whether chunks can be edited side by side: each has a model of its own to put hooks on.

    Not where that is the whole model, nor where anything may be compiled (`edit` then changes the
    modules that follow, too). A GPU is busy with one chunk.
    """
    return rest_of(model, layer) is not None and z.device.type == "cpu" and not can_be_compiled()


def _trials(
    edits: Mapping[str, Intervention],
    beside: Mapping[str, Intervention],
    n: int,
    few: int,
    controls: int,
    seed: int,
) -> dict[_Key, Trial]:
    trials = {("edit", name, 0.0): Trial(edit, n) for name, edit in beside.items()}
    for name, edit in edits.items():
        if not len(edit.units):
            raise DissectError("there is no unit to remove: choose at least one")
        trials["edit", name, 0] = Trial(edit, n)
        for k in doses(len(edit.units))[:-1]:
            trials["units", name, k] = Trial(edit.strongest(k), few, with_features=False)
        for dose in STRENGTHS:
            if dose != edit.strength:
                trials["strength", name, dose] = Trial(edit.at(dose), few, with_features=False)
        for k in range(controls):
            trials["random", name, k] = Trial(edit.control(seed + k), few)
    return trials
