"""Units ranked by what takes minutes to measure, while somebody works with the page.

A background thread measures on a copy of the generator, and waits while the page is in use. A
complete ranking is kept in a file, so that it is measured once.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, read_file, write_file
from dissect.dissection import activation_stats, count_units
from dissect.dissection.single_unit import unit_effects
from dissect.hooks import activations, plain_copy
from dissect.models import fingerprint, generate, latents_for
from dissect.segmentation import Segmenter

__all__ = ["RankingKind", "RankingProgress", "UnitRanking", "UnitRankingJob"]

RankingKind = Literal["iou", "effect"]

# Latents of this seed are used for nothing else.
_SEED = 1_000_003
# The IoU is counted on so many samples, and its thresholds are chosen on as many others.
_COUNTED, _QUANTILE = 300, 0.995
# A unit's effect is measured on parts of so many samples; each part improves the ranking.
_PART, _PARTS = 32, 6
# Seconds between two looks at whether the page is in use.
_POLL = 0.05


@dataclass(frozen=True)
class UnitRanking:
    """What every unit of a layer scores for every class of the segmenter.

    Attributes:
        values: (C, K): the IoU of where the unit is on with the class (Bau et al. 2019, section
            3.1), or the fraction of the class's pixels that zeroing the unit alone removes.
        n: on how many samples.
    """

    values: NDArray[np.float64]
    n: int


@dataclass(frozen=True)
class RankingProgress:
    """How far a ranking is: `done` steps of `total`, and the ranking so far."""

    done: int
    total: int
    finished: bool
    ranking: UnitRanking | None


class _RankingFile(FileModel):
    KIND: ClassVar[str] = "ranking"
    VERSION: ClassVar[int] = 2

    model: str
    segmenter: str
    layer: str
    by: RankingKind
    n: int
    values: tuple[tuple[float, ...], ...]


@dataclass
class _Task:
    layer: str
    kind: RankingKind
    requested: float = 0.0
    done: int = 0
    total: int = 0
    finished: bool = False
    ranking: UnitRanking | None = None
    error: str | None = None
    # Pixels of each class before (K,) and without each unit (C, K), a pair for every part.
    pixels: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=list)


class _InterruptedError(Exception):
    """Another ranking is requested now, or the job is closed."""


class UnitRankingJob:
    """Measures the ranking that was requested last.

    Args:
        model: a generator in evaluation mode. It is copied, because hooks in a model act on
            everyone who runs it.
        segmenter: what counts pixels.
        is_idle: whether nobody waits for a picture at the moment.
        folder: where rankings are kept.
        timeout: seconds without a request after which a ranking yields to a later one.
    """

    def __init__(
        self,
        model: nn.Module,
        segmenter: Segmenter,
        is_idle: Callable[[], bool],
        folder: Path,
        *,
        timeout: float = 3.0,
    ) -> None:
        self._model = model
        self._segmenter = segmenter
        self._is_idle = is_idle
        self._folder = folder
        self._timeout = timeout
        self._tasks: dict[tuple[str, RankingKind], _Task] = {}
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def request(self, layer: str, kind: RankingKind) -> RankingProgress:
        """How far the ranking of the layer's units is; the first request starts it.

        Raises:
            DissectError: it cannot be measured.
        """
        with self._changed:
            task = self._tasks.setdefault((layer, kind), _Task(layer, kind))
            task.requested = time.monotonic()
            if not task.finished and not self._closed.is_set():
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, daemon=True)
                    self._thread.start()
                self._changed.notify()
        if task.error is not None:
            raise DissectError(task.error)
        return RankingProgress(task.done, task.total, task.finished, task.ranking)

    def close(self) -> None:
        """End the work after the step that is running."""
        self._closed.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        model: nn.Module | None = None
        while (task := self._next()) is not None:
            try:
                model = plain_copy(self._model) if model is None else model
                self._work(model, task)
            except _InterruptedError:
                continue
            except Exception as error:  # whatever a foreign model raises, the page must show it
                task.error = f"the units of {task.layer!r} cannot be ranked: {error}"
                task.finished = True

    def _next(self) -> _Task | None:
        """Wait for the unfinished task that was requested last; None once the job is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed.is_set() or self._unfinished())
            if self._closed.is_set():
                return None
            return max(self._unfinished(), key=lambda task: task.requested)

    def _unfinished(self) -> list[_Task]:
        return [task for task in self._tasks.values() if not task.finished]

    def _step(self, task: _Task, n: int) -> None:
        """Count `n` steps, and wait while the page is in use."""
        task.done += n
        while not self._closed.is_set():
            timed_out = time.monotonic() - task.requested > self._timeout
            if timed_out and any(one.requested > task.requested for one in self._unfinished()):
                break
            if self._is_idle():
                return
            self._closed.wait(_POLL)
        raise _InterruptedError

    def _work(self, model: nn.Module, task: _Task) -> None:
        keys = fingerprint(model), _segmenter_digest(model, self._segmenter)
        layer = re.sub(r"[^\w-]", "_", task.layer)
        path = self._folder / f"{keys[0]}-{layer}-{task.kind}.json"
        task.ranking = _read(path, *keys, task) or task.ranking
        if task.ranking is None or task.pixels:
            for ranking in (self._iou if task.kind == "iou" else self._effect)(model, task):
                task.ranking = ranking
            assert task.ranking is not None
            _write(path, *keys, task, task.ranking)
        task.finished = True

    def _iou(self, model: nn.Module, task: _Task) -> Iterator[UnitRanking]:
        task.done, task.total = 0, 2 * _COUNTED

        def progress(n: int, note: str = "", /) -> None:
            self._step(task, n)

        layer = task.layer
        levels = activation_stats(
            model, [layer], _COUNTED, _SEED, start=_COUNTED, progress=progress
        )
        thresholds = {layer: levels[layer].thresholds(_QUANTILE)}
        counts = count_units(model, thresholds, self._segmenter, _COUNTED, _SEED, progress=progress)
        yield UnitRanking(counts[layer].concepts.iou().double().cpu().numpy(), _COUNTED)

    def _effect(self, model: nn.Module, task: _Task) -> Iterator[UnitRanking]:
        units = activations(model, task.layer, latents_for(model, 1, _SEED)).shape[1]
        task.total = _PARTS * units
        for part in range(len(task.pixels), _PARTS):
            task.done = part * units
            z = latents_for(model, _PART, _SEED, start=2 * _COUNTED + part * _PART)
            effects = unit_effects(
                model,
                task.layer,
                z,
                self._segmenter,
                progress=lambda n, note="", /: self._step(task, n),
            )
            task.pixels.append((effects.before, effects.after))
            before, after = (np.sum(counts, axis=0) for counts in zip(*task.pixels, strict=True))
            removed = np.where(before > 0, 1 - after / np.maximum(before, 1), 0.0)
            yield UnitRanking(removed, (part + 1) * _PART)


def _segmenter_digest(model: nn.Module, segmenter: Segmenter) -> str:
    """A digest of the segmenter's classes and of its labels of a few samples."""
    labels = segmenter.labels(generate(model, latents_for(model, 8, _SEED))).to(torch.uint8)
    digest = hashlib.sha256(",".join(segmenter.classes).encode())
    digest.update(labels.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _read(path: Path, model: str, segmenter: str, task: _Task) -> UnitRanking | None:
    """The ranking that an earlier session kept, where it is of this model and this segmenter."""
    with suppress(DissectError, ValueError):  # of rows of different lengths
        file = read_file(path, _RankingFile)
        if (file.model, file.segmenter, file.layer, file.by) == (
            model,
            segmenter,
            task.layer,
            task.kind,
        ):
            return UnitRanking(np.array(file.values), file.n)
    return None


def _write(path: Path, model: str, segmenter: str, task: _Task, ranking: UnitRanking) -> None:
    file = _RankingFile(
        model=model,
        segmenter=segmenter,
        layer=task.layer,
        by=task.kind,
        n=ranking.n,
        values=tuple(map(tuple, ranking.values.tolist())),
    )
    with suppress(DissectError):  # a folder that cannot be written keeps nothing
        write_file(path, file)
