"""Units ranked by what takes minutes to measure, while somebody works with the page.

A thread of its own measures on a copy of the generator, on one core, and waits whenever a hand
was at work a moment ago. What it found is kept in a file, so that it is measured once.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.records import read_record, write_record
from dissect.dissection import count_units, unit_levels
from dissect.dissection.single_unit import unit_effects
from dissect.hooks import activations, plain_copy
from dissect.models import fingerprint, generate, latents_for
from dissect.segmentation import Segmenter

__all__ = ["RANKINGS", "Kind", "RankingProgress", "UnitRankingJob", "UnitRanking"]

Kind = Literal["iou", "effect"]
RANKINGS: tuple[Kind, ...] = get_args(Kind)

# Latents of a seed that nothing is annotated or measured on.
_SEED = 1_000_003
# The IoU is counted on so many samples, and its thresholds are chosen on as many others.
_COUNTED, _QUANTILE = 300, 0.995
# A unit's own effect, on parts that add up; each part makes the ranking better.
_PART, _PARTS = 32, 6
# In seconds: how often it is looked whether the hand rests, and after how long without being asked
# for a measurement gives way to another.
_NAP, _PATIENCE = 0.05, 3.0
_KIND, _VERSION = "ranking", 1


@dataclass(frozen=True)
class UnitRanking:
    """What every unit of a layer scores for every class of the segmenter.

    Attributes:
        values: (C, K): the IoU of where the unit is on with the class (Bau et al. 2019, section
            3.1), or the share of the class's pixels that zeroing the unit alone takes away.
        n: on how many samples.
    """

    values: NDArray[np.float64]
    n: int


@dataclass(frozen=True)
class RankingProgress:
    """How far a ranking is: `done` steps of `total`, and what was found until now."""

    done: int
    total: int
    finished: bool
    found: UnitRanking | None


@dataclass
class _Task:
    layer: str
    kind: Kind
    asked: float = 0.0
    done: int = 0
    total: int = 0
    finished: bool = False
    found: UnitRanking | None = None
    error: str | None = None
    # Pixels of each class before (K,) and without each unit (C, K), a pair for every part.
    pixels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)


class _AbandonedError(Exception):
    """Something else is wanted now, or nothing any more."""


class UnitRankingJob:
    """Measures what was asked for; what nobody asks for any longer gives way to what somebody does.

    Args:
        model: a generator in evaluation mode; it is copied, for hooks in a model are everyone's.
        segmenter: what counts pixels.
        rests: whether nobody waits for a picture at the moment.
        folder: where rankings are kept.
    """

    def __init__(
        self, model: nn.Module, segmenter: Segmenter, rests: Callable[[], bool], folder: Path
    ) -> None:
        self._model = model
        self._segmenter = segmenter
        self._rests = rests
        self._folder = folder
        self._tasks: dict[tuple[str, Kind], _Task] = {}
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def ask(self, layer: str, kind: Kind) -> RankingProgress:
        """How far the ranking of the layer's units is; asking begins it, and keeps it going.

        Raises:
            DissectError: it cannot be measured.
        """
        with self._changed:
            task = self._tasks.setdefault((layer, kind), _Task(layer, kind))
            task.asked = time.monotonic()
            if not task.finished:
                self._begin()
                self._changed.notify()
        if task.error is not None:
            raise DissectError(task.error)
        return RankingProgress(task.done, task.total, task.finished, task.found)

    def close(self) -> None:
        """End the work; a ranking that was complete is in its file."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(1)

    def _begin(self) -> None:
        if self._thread is not None:
            return
        alone = threading.Event()
        threads = torch.get_num_threads()
        self._thread = threading.Thread(target=self._run, args=(alone,), daemon=True)
        self._thread.start()
        alone.wait(5)
        # Torch keeps the number for threads to come, and each thread has one of its own.
        torch.set_num_threads(threads)

    def _run(self, alone: threading.Event) -> None:
        torch.get_num_threads()  # or else the first operation would forget what is set next
        torch.set_num_threads(1)
        alone.set()
        model: nn.Module | None = None
        while (task := self._next()) is not None:
            try:
                model = plain_copy(self._model) if model is None else model
                self._work(model, task)
            except _AbandonedError:
                continue
            except Exception as error:  # whatever a foreign model does, the page must be told
                task.error = f"the units of {task.layer!r} cannot be ranked: {error}"
                task.finished = True

    def _next(self) -> _Task | None:
        """What was asked for last and is not finished; waits for that, or for the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped.is_set() or self._open())
            return None if self._stopped.is_set() else max(self._open(), key=lambda one: one.asked)

    def _open(self) -> list[_Task]:
        return [task for task in self._tasks.values() if not task.finished]

    def _pause(self, task: _Task, n: int) -> None:
        """Note `n` steps; come back when the hand rests, unless something else is wanted."""
        task.done += n
        while not self._stopped.is_set():
            forgotten = time.monotonic() - task.asked > _PATIENCE
            if forgotten and any(one.asked > task.asked for one in self._open()):
                break
            if self._rests():
                return
            self._stopped.wait(_NAP)
        raise _AbandonedError

    def _work(self, model: nn.Module, task: _Task) -> None:
        key = fingerprint(model)
        eyes = _digest(model, self._segmenter)
        layer = re.sub(r"[^\w-]", "_", task.layer)
        path = self._folder / f"{key}-{layer}-{task.kind}.json"
        task.found = _read(path, key, eyes, task) or task.found
        if task.found is None or task.pixels:
            for found in (self._iou if task.kind == "iou" else self._effect)(model, task):
                task.found = found
            assert task.found is not None
            _write(path, key, eyes, task, task.found)
        task.finished = True

    def _iou(self, model: nn.Module, task: _Task) -> Iterator[UnitRanking]:
        task.done, task.total = 0, 2 * _COUNTED

        def watch(n: int, note: str = "", /) -> None:
            self._pause(task, n)

        layer = task.layer
        levels = unit_levels(model, [layer], _COUNTED, _SEED, start=_COUNTED, watch=watch)
        cuts = {layer: levels[layer].cuts(_QUANTILE)}
        counts = count_units(model, cuts, self._segmenter, _COUNTED, _SEED, watch=watch)
        yield UnitRanking(counts[layer].concepts.iou().double().cpu().numpy(), _COUNTED)

    def _effect(self, model: nn.Module, task: _Task) -> Iterator[UnitRanking]:
        units = activations(model, task.layer, latents_for(model, 1, _SEED)).shape[1]
        task.total = _PARTS * units
        for part in range(len(task.pixels), _PARTS):
            task.done = part * units
            z = latents_for(model, _PART, _SEED, start=2 * _COUNTED + part * _PART)
            found = unit_effects(
                model, task.layer, z, self._segmenter, watch=lambda n: self._pause(task, n)
            )
            task.pixels.append((found.before, found.after))
            before, after = (np.sum(counts, axis=0) for counts in zip(*task.pixels, strict=True))
            share = np.where(before > 0, 1 - after / np.maximum(before, 1), 0.0)
            yield UnitRanking(share, (part + 1) * _PART)


def _digest(model: nn.Module, segmenter: Segmenter) -> str:
    """What tells a segmenter from others: what it sees in a few samples."""
    labels = (
        segmenter.labels(generate(model, latents_for(model, 8, _SEED)))
        .to(torch.uint8)
        .cpu()
        .numpy()
    )
    seen = hashlib.sha256(",".join(segmenter.classes).encode())
    seen.update(labels.tobytes())
    return seen.hexdigest()[:16]


def _read(path: Path, model: str, eyes: str, task: _Task) -> UnitRanking | None:
    """The ranking that an earlier session left, where it is of this model and these eyes."""
    with suppress(DissectError):
        record = read_record(path, _KIND, _VERSION)
        wanted = (model, eyes, task.layer, task.kind)
        if tuple(record.text(key) for key in ("model", "eyes", "layer", "by")) != wanted:
            return None
        units, classes = record.integer("units", 1), record.integer("classes", 1)
        values = np.array(record.numbers("values", units * classes))
        return UnitRanking(values.reshape(units, classes), record.integer("n", 1))
    return None


def _write(path: Path, model: str, eyes: str, task: _Task, found: UnitRanking) -> None:
    units, classes = found.values.shape
    about = {"model": model, "eyes": eyes, "layer": task.layer, "by": task.kind}
    counts = {"n": found.n, "units": units, "classes": classes}
    values = found.values.ravel().tolist()
    with suppress(DissectError):  # where nothing can be written, nothing is kept
        write_record(path, _KIND, _VERSION, {**about, **counts, "values": values})
