"""`search.json`: results of a search, kept so that they need not be searched again."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import torch

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, NonEmpty, read_file, write_file
from dissect.models import bundled, bundled_file
from dissect.probe import Probe
from dissect.selection.objective import Metrics
from dissect.selection.search import SearchResult
from dissect.surgery import Intervention
from dissect.surgery.edit_file import EditFile
from dissect.surgery.gates import linear_gate

__all__ = ["SEARCH_FILE", "find_results", "load_results", "save_results", "matches"]

SEARCH_FILE = "search.json"


class _MetricsFields(FileModel):
    removed: float
    prevalence: float
    kept_mean: float
    kept: float
    outside_change: float
    n: int


class _ResultFields(FileModel):
    gate: NonEmpty
    meets_objective: bool
    edit: EditFile
    smaller: tuple[EditFile, ...]
    search: _MetricsFields
    holdout: _MetricsFields


class _SearchFile(FileModel):
    KIND: ClassVar[str] = "search"

    results: dict[str, _ResultFields]


def save_results(path: str | Path, results: Mapping[str, SearchResult]) -> Path:
    """`path`, now holding results by name, such as `probe` and `everywhere`, as JSON.

    Raises:
        DissectError: the file cannot be written.
    """
    fields = {name: _to_fields(result) for name, result in results.items()}
    return write_file(path, _SearchFile(results=fields))


def load_results(path: str | Path) -> dict[str, SearchResult]:
    """The results that `save_results` wrote.

    Raises:
        DissectError: no such file, not a file of a search, or a field of a wrong type or value.
    """
    results = read_file(path, _SearchFile).results
    return {name: _from_fields(fields, f"{path}: {name!r}") for name, fields in results.items()}


def find_results(
    folder: Path, model_name: str, fingerprint: str, layer: str, concept: str, probe: Probe
) -> dict[str, SearchResult]:
    """The results of an earlier search of this very model, layer, concept and boxes, if any.

    First in `search.json` of the folder, then beside the weights of a bundled model.

    Args:
        folder: that a search wrote to.
        model_name: what the model was loaded by.
        fingerprint: of the model.
        layer: the layer that is to be edited.
        concept: the concept that is to be removed.
        probe: the probe that was fitted to the boxes at hand.

    Raises:
        DissectError: a damaged file in `folder`.
    """
    files = [folder / SEARCH_FILE]
    if model_name in bundled():
        with suppress(DissectError):  # nothing was searched for this concept and layer
            files.append(bundled_file(model_name, f"auto-{concept}-{layer}.json"))
    for file in files:
        if file.exists():
            results = load_results(file)
            if results and all(
                matches(one, fingerprint, layer, concept, probe) for one in results.values()
            ):
                return results
    return {}


def matches(result: SearchResult, model: str, layer: str, concept: str, probe: Probe) -> bool:
    """Whether a result is of this model, layer and concept, and of these boxes if it uses boxes.

    Args:
        result: of a search.
        model: the fingerprint of the generator.
        layer: the layer that is to be edited.
        concept: the concept that is to be removed.
        probe: the probe that was fitted to the boxes at hand.
    """
    units, gate = result.intervention.units, result.intervention.gate
    if (units.model, units.layer, units.concept) != (model, layer, concept):
        return False
    linear = None if gate is None else linear_gate(gate)
    if result.gate_name != "boxes" or linear is None:
        return True
    return len(linear.weight) == len(probe.weight) and torch.allclose(
        linear.weight, probe.weight, rtol=1e-3, atol=1e-6
    )


def _to_fields(result: SearchResult) -> _ResultFields:
    return _ResultFields(
        gate=result.gate_name,
        meets_objective=result.meets_objective,
        edit=result.intervention.to_file(),
        smaller=tuple(edit.to_file() for edit in result.smaller),
        search=_MetricsFields(**asdict(result.search)),
        holdout=_MetricsFields(**asdict(result.holdout)),
    )


def _from_fields(fields: _ResultFields, where: str) -> SearchResult:
    return SearchResult(
        fields.gate,
        Intervention.from_file(fields.edit, where),
        tuple(Intervention.from_file(edit, where) for edit in fields.smaller),
        Metrics(**dict(fields.search)),
        Metrics(**dict(fields.holdout)),
        fields.meets_objective,
    )
