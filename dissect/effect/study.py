"""The whole measurement of an edit: its effect, its dose and response, and its controls.

Everything is measured on the same latents, so that edits differ by what they do and not by the
images that they happened to meet. Where all edits are of one layer, what comes before it runs
once for all of them.
"""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dissect._utils.distributed import ProcessGroup
from dissect._utils.errors import DissectError
from dissect._utils.parallel import parallel_map
from dissect._utils.progress import ProgressCallback, no_progress
from dissect._utils.result import Result
from dissect.effect.measure import Effect, joined, measure_effect, observe
from dissect.segmentation import Segmenter
from dissect.surgery.intervention import Intervention
from dissect.surgery.split import split_at

__all__ = ["STRENGTHS", "EffectStudy", "measure_each", "study_effect", "study_size", "unit_counts"]

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
# Latents whose images and activations are in memory at once, on each core.
_CHUNK = 50
# Edits that are worth looking anew at what was before them.
_FEWEST = 8

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


@dataclass(frozen=True, repr=False)
class EffectStudy(Result):
    """What was measured, by the name of the edit, such as `everywhere` (the paper's) or `probe`.

    Attributes:
        edits: each edit itself, on all latents; also those beside, which have no controls or
            doses.
        random: an edit's controls: as many random units, edited alike.
        by_units: the strongest so many of its units, by their number.
        by_strength: all its units at each strength from 0.25 to 2.
        n_control_samples: how many latents, the first ones, these three are measured on.
        features: (N, F) of the images before, or None where the segmenter has no features.
    """

    edits: Mapping[str, Effect]
    random: Mapping[str, Sequence[Effect]]
    by_units: Mapping[str, Mapping[int, Effect]]
    by_strength: Mapping[str, Mapping[float, Effect]]
    n_control_samples: int
    features: NDArray[np.float64] | None

    def summary(self) -> dict[str, Any]:
        """The edits, and how many latents they and their controls were measured on."""
        return {
            "edits": ", ".join(self.edits),
            "n": len(next(iter(self.edits.values()))),
            "n_control_samples": self.n_control_samples,
        }

    def rows(self) -> list[dict[str, Any]]:
        """The main figures of each edit and of each of its controls."""
        effects = [(name, effect) for name, effect in self.edits.items()]
        effects += [
            (f"random, {name}", effect) for name, sets in self.random.items() for effect in sets
        ]
        return [{"edit": name, **effect.summary()} for name, effect in effects]


def unit_counts(count: int) -> list[int]:
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
    n_control_samples: int = 300,
    seed: int = 0,
    group: ProcessGroup | None = None,
    progress: ProgressCallback = no_progress,
) -> EffectStudy:
    """What each edit does to the images of `z`, beside as many random units edited alike.

    Args:
        model: the generator, in eval mode.
        edits: by name; faster where all of them are of one layer.
        z: latents that were not used for choosing them.
        segmenter: what labels the images.
        concept: what was to be removed.
        beside: further edits, to be measured without controls and other doses.
        controls: how many random sets are measured for each edit.
        n_control_samples: on how many of the latents, the first ones, the controls and the other
            doses are measured; on all of them where there are fewer.
        seed: of the random sets.
        group: the processes that share out the work, all of which call this and get the result.
        progress: called with the number of images after each batch, and of those that other
            processes work on; `study_size` in all.

    Raises:
        DissectError: no units, no pixel of the concept in any image, or what `measure_effect` and
            `Intervention.applied` raise.
    """
    n_control_samples = min(n_control_samples, len(z))
    trials = _trials(edits, beside or {}, len(z), n_control_samples, controls, seed)
    effects, features = measure_each(
        model, trials, z, segmenter, concept, group=group, progress=progress
    )
    main = {name: effects["edit", name, 0] for name in (*edits, *(beside or {}))}
    for effect in main.values():
        if not effect.before.sum():
            raise DissectError(
                f"the segmenter sees no {concept} in any of {len(z)} samples: there is nothing to "
                "remove; try more samples"
            )
    by_units, by_strength = {}, {}
    for name, edit in edits.items():
        # The edit itself is one of the doses.
        whole = main[name].first(n_control_samples)
        by_units[name] = {
            k: effects.get(("units", name, k), whole) for k in unit_counts(len(edit.units))
        }
        by_strength[name] = {
            dose: effects.get(("strength", name, dose), whole) for dose in STRENGTHS
        }
    random = {name: [effects["random", name, k] for k in range(controls)] for name in edits}
    return EffectStudy(main, random, by_units, by_strength, n_control_samples, features)


def study_size(
    edits: Mapping[str, Intervention],
    n: int,
    *,
    beside: Mapping[str, Intervention] | None = None,
    controls: int = 20,
    n_control_samples: int = 300,
) -> int:
    """How many images `study_effect` draws of `n` latents, before and after, for a progress bar."""
    trials = _trials(edits, beside or {}, n, min(n_control_samples, n), controls, 0)
    return n + sum(trial.n for trial in trials.values())


def measure_each(
    model: nn.Module,
    trials: Mapping[_Key, Trial],
    z: Tensor,
    segmenter: Segmenter,
    concept: str,
    *,
    group: ProcessGroup | None = None,
    progress: ProgressCallback = no_progress,
) -> _Measured:
    """The effect of each trial, by its key, and the features of the images before.

    The latents are worked off in chunks, so that memory does not grow with their number; on the
    CPU several chunks at once, the segmenter and `progress` being called from several threads, and
    where there are several processes, in all of them.

    Raises:
        DissectError: what `measure_effect` and `Intervention.applied` raise.
    """
    layers = sorted({layer for trial in trials.values() for layer in trial.intervention.layers})
    group = group or ProcessGroup()
    lock = threading.Lock()

    def measured(piece: _Piece, stopped: threading.Event) -> dict[str, Tensor]:
        with lock:  # it registers hooks on the model
            head, tail = split_at(model, *layers)
            inputs = head(z[piece.start : piece.start + _CHUNK])
        return _measure_piece(piece, tail, inputs, segmenter, concept, progress, stopped)

    # Chunks are edited side by side where each has a tail of its own to put hooks on. A GPU is
    # busy with one chunk.
    side_by_side = split_at(model, *layers)[1] is not model and z.device.type == "cpu"
    workers = group.size * (torch.get_num_threads() if side_by_side else 1)
    pieces = _pieces(trials, len(z), workers)
    own_pieces = group.split(
        pieces, on_others=lambda taken: progress(sum(piece.size for piece in taken))
    )
    if side_by_side:
        measurements = parallel_map(measured, own_pieces)
    else:
        measurements = [measured(piece, threading.Event()) for piece in own_pieces]
    own_rows = {name: values for part in measurements for name, values in part.items()}
    rows: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    all_rows = group.all_gather_object(own_rows)
    for name, values in (item for process_rows in all_rows for item in process_rows.items()):
        part, _, field = name.rpartition("/")
        rows[part][field] = values.numpy()
    effects = {
        key: joined(
            [
                Effect.from_arrays(concept, segmenter.classes, rows[f"{number}/{start}"])
                for start in range(0, trial.n, _CHUNK)
            ]
        )
        for number, (key, trial) in enumerate(trials.items())
    }
    before = [rows[f"before/{start}"] for start in range(0, len(z), _CHUNK)]
    features = [seen["features"] for seen in before if seen]
    return effects, np.concatenate(features) if features else None


@dataclass(frozen=True)
class _Piece:
    """Some trials on some latents, which one process and thread measures.

    Attributes:
        start, count: which latents.
        trials: by their numbers, and each with the number of these latents that it is tried on.
        first: whether no other piece of these latents tells what was seen before.
    """

    start: int
    count: int
    trials: Mapping[int, tuple[Trial, int]]
    first: bool

    @property
    def size(self) -> int:
        """How many images are drawn, those of before counted once for all pieces."""
        return self.count * self.first + sum(n for _, n in self.trials.values())


def _pieces(trials: Mapping[_Key, Trial], n: int, workers: int) -> list[_Piece]:
    """All trials on all of `n` latents, in pieces that keep so many workers busy to the end.

    A chunk's trials stay together where they can: each piece sees anew what was before the edits.
    """
    share = sum(trial.n for trial in trials.values()) / workers
    pieces = []
    for start in range(0, n, _CHUNK):
        count = min(_CHUNK, n - start)
        tried = {
            number: (trial, min(trial.n - start, count))
            for number, trial in enumerate(trials.values())
            if trial.n > start
        }
        size = sum(each for _, each in tried.values())
        parts = 1 if workers == 1 else min(ceil(2 * size / share), ceil(len(tried) / _FEWEST))
        numbers = list(tried)
        for part in range(parts):
            chosen = {number: tried[number] for number in numbers[part::parts]}
            pieces.append(_Piece(start, count, chosen, part == 0))
    return pieces


def _measure_piece(
    piece: _Piece,
    tail: nn.Module,
    inputs: Tensor,
    segmenter: Segmenter,
    concept: str,
    progress: ProgressCallback,
    stopped: threading.Event,
) -> dict[str, Tensor]:
    """What was measured image by image, by names that no other piece uses."""
    before = observe(tail, segmenter, inputs, progress=progress if piece.first else no_progress)
    rows: dict[str, Tensor] = {}
    if piece.first and before.features is not None:
        rows[f"before/{piece.start}/features"] = torch.from_numpy(before.features)
    for number, (trial, n) in piece.trials.items():
        if stopped.is_set():
            break
        effect = measure_effect(
            tail,
            segmenter,
            inputs[:n],
            concept,
            trial.intervention,
            before=before.first(n),
            with_features=trial.with_features,
            progress=progress,
        )
        for name, values in effect.arrays().items():
            rows[f"{number}/{piece.start}/{name}"] = torch.from_numpy(values)
    return rows


def _trials(
    edits: Mapping[str, Intervention],
    beside: Mapping[str, Intervention],
    n: int,
    n_control_samples: int,
    controls: int,
    seed: int,
) -> dict[_Key, Trial]:
    trials = {("edit", name, 0.0): Trial(edit, n) for name, edit in beside.items()}
    dosed = partial(Trial, n=n_control_samples, with_features=False)
    for name, edit in edits.items():
        if not len(edit.units):
            raise DissectError("there is no unit to remove: choose at least one")
        trials["edit", name, 0] = Trial(edit, n)
        for k in unit_counts(len(edit.units))[:-1]:
            trials["units", name, k] = dosed(edit.strongest(k))
        for dose in STRENGTHS:
            if dose != edit.strength:
                trials["strength", name, dose] = dosed(edit.with_strength(dose))
        for k in range(controls):
            trials["random", name, k] = Trial(edit.control(seed + k), n_control_samples)
    return trials
