"""What a dissection found: every unit against every concept, saved and loaded as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from dissect._utils.errors import DissectError
from dissect._utils.result import Result
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file
from dissect._utils.text import near_names

__all__ = ["DETECTOR", "Dissection", "LayerUnits"]

# A unit is a detector of the concept that it matches best, from more than this IoU on (Bau et al.
# 2017, section 3; 2019, section 4).
DETECTOR = 0.05

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class LayerUnits(Result):
    """The C units of one layer against K concepts.

    Attributes:
        layer: its name.
        grid: (h, w).
        threshold: (C,) the quantile of the unit's upsampled activation, above which it is on.
        above: (C,) share of the pixels in which it is on.
        mean, std: (C,) of its activation.
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
    std: _Floats
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

    def summary(self) -> dict[str, Any]:
        """The layer, its units, and how many of them are detectors."""
        return {
            "layer": self.layer,
            "n_units": len(self),
            "n_detectors": int(self.is_detector().sum()),
        }

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


@dataclass(frozen=True, repr=False)
class Dissection(Result):
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

    def max_iou(self, concept: str) -> float:
        """The largest IoU with the concept that a unit on in 1 - quantile of all pixels can have.

        A unit that is on in 0.5% of the pixels cannot match a bed that covers 20% of them.
        """
        on, shown = 1 - self.quantile, float(self.shown[self.number(concept)])
        return min(on, shown) / max(on, shown)

    def summary(self) -> dict[str, Any]:
        """The layers, and how much was counted."""
        return {
            "layers": ", ".join(one.layer for one in self.layers),
            "n_units": len(self),
            "n_concepts": len(self.concepts),
            "n": self.n,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Each unit with its best concept, the largest IoU first."""
        rows: list[dict[str, Any]] = []
        for one in self.layers:
            for unit, best in enumerate(one.best().tolist()):
                k = max(best, 0)
                rows.append(
                    {
                        "layer": one.layer,
                        "unit": unit,
                        "concept": self.concepts[best] if best >= 0 else None,
                        "iou": float(one.iou[unit, k]),
                        "iou_shuffled": float(one.iou_shuffled[unit, k]),
                        "auc": float(one.auc[unit, k]),
                        "removed": np.nan if one.removed is None else float(one.removed[unit, k]),
                        "threshold": float(one.threshold[unit]),
                        "top": one.top[unit].tolist(),
                    }
                )
        return sorted(rows, key=lambda row: -row["iou"])

    def save(self, path: str | Path) -> Path:
        """`path`, now holding everything as JSON; `Dissection.load` gives the same back, exactly.

        Raises:
            DissectError: the file cannot be written.
        """
        return write_file(path, parse(_DissectionFile, self.to_dict(), str(path)))

    @classmethod
    def load(cls, path: str | Path) -> "Dissection":
        """The dissection that `save` wrote.

        Raises:
            DissectError: no such file, not a dissection, or a field of a wrong type or shape.
        """
        stored = read_file(path, _DissectionFile)
        values = {name: getattr(stored, name) for name in type(stored).model_fields}
        values["layers"] = tuple(map(_layer, stored.layers))
        values["shown"] = np.array(stored.shown, np.float64)
        return cls(**values)


_Row = tuple[float | None, ...]
_Table = tuple[_Row, ...]


class _LayerFile(FileModel):
    """The fields of `LayerUnits`; what is not a number is null."""

    layer: NonEmpty
    grid: tuple[int, int]
    threshold: _Row
    above: _Row
    mean: _Row
    std: _Row
    iou: _Table
    iou_shuffled: _Table
    auc: _Table
    auc_shuffled: _Table
    cells: tuple[int, ...]
    auc_error: float
    removed: _Table | None
    change: _Row | None
    top: tuple[tuple[int, ...], ...]
    top_values: _Table


class _DissectionFile(FileModel):
    KIND: ClassVar[str] = "dissection"
    VERSION: ClassVar[int] = 2

    concepts: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    layers: tuple[_LayerFile, ...]
    shown: tuple[float, ...]
    n: Annotated[int, Field(ge=1)]
    seed: int
    quantile: float
    effect_n: int
    model: str | None

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        concepts = len(self.concepts)
        if len(self.shown) != concepts:
            raise ValueError(f"'shown' must have {concepts} numbers")
        for one in self.layers:
            units, top = len(one.threshold), len(one.top[0]) if one.top else 0
            shapes: dict[str, tuple[int, ...]] = {"cells": (concepts,)}
            shapes |= dict.fromkeys(("above", "mean", "std", "change"), (units,))
            shapes |= dict.fromkeys(("top", "top_values"), (units, top))
            tables = ("iou", "iou_shuffled", "auc", "auc_shuffled", "removed")
            shapes |= dict.fromkeys(tables, (units, concepts))
            for name, shape in shapes.items():
                value = getattr(one, name)
                if value is not None and _shape(value) != shape:
                    wanted = " x ".join(map(str, shape))
                    raise ValueError(f"{name!r} of layer {one.layer!r} must have {wanted} numbers")
        return self


def _shape(values: Any) -> tuple[int, ...] | None:
    """The shape of a row or a table; None where its rows differ."""
    if not values or not isinstance(values[0], tuple):
        return (len(values),)
    lengths = {len(row) for row in values}
    return (len(values), *lengths) if len(lengths) == 1 else None


def _layer(stored: _LayerFile) -> LayerUnits:
    values = {name: getattr(stored, name) for name in type(stored).model_fields}
    for name, value in values.items():
        if isinstance(value, tuple) and name != "grid":
            values[name] = np.array(value, np.int64 if name in ("cells", "top") else np.float64)
    return LayerUnits(**values)
