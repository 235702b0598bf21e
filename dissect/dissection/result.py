"""What a dissection found: every unit against every concept, saved and loaded as JSON."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dissect._utils.errors import DissectError
from dissect._utils.records import Record, read_record, write_record
from dissect._utils.schema import near_names

__all__ = ["DETECTOR", "Dissection", "LayerUnits"]

_KIND, _VERSION = "dissection", 1

# A unit is a detector of the concept that it matches best, from more than this IoU on (Bau et al.
# 2017, section 3; 2019, section 4).
DETECTOR = 0.05

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_BY_UNIT = ("threshold", "above", "mean", "deviation")
_BY_CONCEPT = ("iou", "iou_shuffled", "auc", "auc_shuffled")


@dataclass(frozen=True)
class LayerUnits:
    """The C units of one layer against K concepts.

    Attributes:
        layer: its name.
        grid: (h, w).
        threshold: (C,) the quantile of the unit's upsampled activation, above which it is on.
        above: (C,) share of the pixels in which it is on.
        mean, deviation: (C,) of its activation.
        iou: (C, K) in [0, 1], of where the unit is on with the concept.
        iou_shuffled: (C, K) the same with masks of other samples: what lying in the usual place
            is worth.
        auc: (C, K) of the unit's activation for the concept's cells; NaN where no cell is of the
            concept by half of its area.
        auc_shuffled: (C, K) the same with masks of other samples.
        cells: (K,) how many cells that is.
        auc_error: the most by which binning can have moved an AUC.
        removed: (C, K) share of the concept's pixels that zeroing the unit alone takes away, below
            0 where it adds some, NaN where there are none; None where it was not measured.
        change: (C,) mean absolute change of the images without the unit, on the [-1, 1] scale.
        top: (C, T) the samples with the largest activations, by index of their latents, the
            largest first.
        top_values: (C, T) those activations.
    """

    layer: str
    grid: tuple[int, int]
    threshold: _Floats
    above: _Floats
    mean: _Floats
    deviation: _Floats
    iou: _Floats
    iou_shuffled: _Floats
    auc: _Floats
    auc_shuffled: _Floats
    cells: _Ints
    auc_error: float
    removed: _Floats | None
    change: _Floats | None
    top: _Ints
    top_values: _Floats

    def __len__(self) -> int:
        return len(self.threshold)

    def best(self, *, shuffled: bool = False) -> _Ints:
        """(C,) the concept of the largest IoU, by number; -1 for a unit that meets none."""
        iou = self.iou_shuffled if shuffled else self.iou
        found: _Ints = np.where(iou.max(1) > 0, iou.argmax(1), -1)
        return found

    def is_detector(self, *, shuffled: bool = False, iou: float = DETECTOR) -> NDArray[np.bool_]:
        """(C,) whether the unit's largest IoU is above `iou`."""
        values = self.iou_shuffled if shuffled else self.iou
        found: NDArray[np.bool_] = values.max(1) > iou
        return found

    def detectors(self, *, shuffled: bool = False, iou: float = DETECTOR) -> _Ints:
        """(K,) how many units are detectors of each concept; a unit counts for its best alone."""
        best = self.best(shuffled=shuffled)[self.is_detector(shuffled=shuffled, iou=iou)]
        return np.bincount(best, minlength=self.iou.shape[1])


@dataclass(frozen=True)
class Dissection:
    """The units of some layers of a generator against the concepts of a segmenter.

    Attributes:
        concepts: names of all K.
        layers: what was found in each.
        shown: (K,) share of all pixels that are of each concept.
        n, seed: counted on the latents 0 to n - 1 of the seed; thresholds are chosen on the next n.
        quantile: the level of the thresholds.
        effect_n: samples on which `removed` and `change` were measured; 0 where they were not.
        model: the generator's fingerprint, where that is known.
    """

    concepts: tuple[str, ...]
    layers: tuple[LayerUnits, ...]
    shown: _Floats
    n: int
    seed: int
    quantile: float
    effect_n: int = 0
    model: str | None = None

    def __getitem__(self, layer: str) -> LayerUnits:
        for one in self.layers:
            if one.layer == layer:
                return one
        names = ", ".join(one.layer for one in self.layers)
        raise DissectError(f"{layer!r} was not dissected; these were: {names}")

    def __len__(self) -> int:
        return sum(map(len, self.layers))

    def number(self, concept: str) -> int:
        """The number of a concept.

        Raises:
            DissectError: it is none of these.
        """
        if concept not in self.concepts:
            near = near_names(concept, self.concepts)
            raise DissectError(f"{concept!r} is none of the concepts; they are: {near}")
        return self.concepts.index(concept)

    def detectors(self, *, shuffled: bool = False, iou: float = DETECTOR) -> dict[str, int]:
        """How many units of all layers are detectors of each concept (see `LayerUnits`)."""
        counts = sum(one.detectors(shuffled=shuffled, iou=iou) for one in self.layers)
        return dict(zip(self.concepts, np.asarray(counts).tolist(), strict=True))

    def ceiling(self, concept: str) -> float:
        """The largest IoU with the concept that a unit on in 1 - quantile of all pixels can have.

        A unit that is on in 0.5% of the pixels cannot match a bed that covers 20% of them.
        """
        on, shown = 1 - self.quantile, float(self.shown[self.number(concept)])
        return min(on, shown) / max(on, shown)

    def save(self, path: str | Path) -> Path:
        """`path`, now holding everything as JSON; `Dissection.load` gives the same back."""
        layers = []
        for one in self.layers:
            values = {name: _plain(getattr(one, name)) for name in (*_BY_UNIT, *_BY_CONCEPT)}
            more = {name: _plain(getattr(one, name)) for name in ("removed", "change")}
            layers.append(
                {
                    "layer": one.layer,
                    "grid": list(one.grid),
                    "cells": one.cells.tolist(),
                    "auc_error": one.auc_error,
                    **values,
                    **more,
                    "top": one.top.tolist(),
                    "top_values": _plain(one.top_values),
                }
            )
        fields = {
            "concepts": list(self.concepts),
            "shown": _plain(self.shown),
            "n": self.n,
            "seed": self.seed,
            "quantile": self.quantile,
            "effect_n": self.effect_n,
            "model": self.model,
            "layers": layers,
        }
        return write_record(path, _KIND, _VERSION, fields)

    @classmethod
    def load(cls, path: str | Path) -> "Dissection":
        """The dissection that `save` wrote.

        Raises:
            DissectError: no such file, not a dissection, or a field of a wrong type or shape.
        """
        record = read_record(path, _KIND, _VERSION)
        concepts = record.items("concepts")
        if not concepts or not all(isinstance(name, str) for name in concepts):
            raise record.refuse("concepts", "a list of names")
        layers = tuple(
            _layer(Record.of(value, f"{path}: 'layers' [{place}]"), len(concepts))
            for place, value in enumerate(record.items("layers"))
        )
        return cls(
            tuple(concepts),
            layers,
            np.array(record.numbers("shown", len(concepts))),
            record.integer("n", 1),
            record.integer("seed"),
            record.number("quantile"),
            record.integer("effect_n"),
            record.text_or_none("model"),
        )


def _layer(record: Record, concepts: int) -> LayerUnits:
    units = len(record.items("threshold"))
    top = _array(record, "top", (units, None)).astype(np.int64)
    grid = record.integers("grid")
    if len(grid) != 2:
        raise record.refuse("grid", "two whole numbers")
    effect = record.has("removed")
    return LayerUnits(
        layer=record.text("layer"),
        grid=(grid[0], grid[1]),
        **{name: _array(record, name, (units,)) for name in _BY_UNIT},
        **{name: _array(record, name, (units, concepts)) for name in _BY_CONCEPT},
        cells=_array(record, "cells", (concepts,)).astype(np.int64),
        auc_error=record.number("auc_error"),
        removed=_array(record, "removed", (units, concepts)) if effect else None,
        change=_array(record, "change", (units,)) if effect else None,
        top=top,
        top_values=_array(record, "top_values", top.shape),
    )


def _array(record: Record, key: str, shape: tuple[int | None, ...]) -> Any:
    """A field as an array of this shape, null as NaN; None in the shape is any length."""
    wanted = "numbers of shape " + " x ".join("any" if n is None else str(n) for n in shape)
    try:
        array = np.array(record.items(key), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise record.refuse(key, wanted) from error
    fits = len(array.shape) == len(shape) and all(
        n in (None, m) for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise record.refuse(key, wanted)
    return array


def _plain(values: _Floats | None) -> Any:
    """Nested lists, rounded to the precision that they have; NaN is null."""
    if values is None:
        return None
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [None if math.isnan(value) else float(f"{value:.7g}") for value in values]
