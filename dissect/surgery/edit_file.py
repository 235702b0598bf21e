"""`edit.json`: what an `Intervention` is in a file.

Tensors are lists of numbers in the same file, for two files can be torn apart. A number of JSON
has all digits of a double, so that float32 and float64 values come back to the bit.
"""

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, NonEmpty
from dissect.surgery.gates import Gate, LinearGate, MaskGate, linear_gate
from dissect.surgery.layer_edit import LayerEdit
from dissect.units import Units, UnitsFile

__all__ = ["EditFile", "edit_arguments", "edit_fields"]

Floats = tuple[float, ...]
Rows = Annotated[tuple[Floats, ...], Field(min_length=1)]


class _LinearGateFields(FileModel):
    type: Literal["linear"]
    layer: NonEmpty
    weight: Annotated[Floats, Field(min_length=1)]
    bias: float


class _MaskGateFields(FileModel):
    type: Literal["mask"]
    region: Rows
    inner: "_GateFields | None" = None


_GateFields = Annotated[_LinearGateFields | _MaskGateFields, Field(discriminator="type")]


class EditFile(FileModel):
    """The fields of an `Intervention`, which says what they are."""

    KIND: ClassVar[str] = "edit"

    units: UnitsFile
    gate: _GateFields | None = None
    region: Rows | None = None
    threshold: float = 0.5
    strength: float = 1.0
    unit_strengths: Floats | None = None
    replacement: Literal["zero"] | Floats = "zero"
    also: tuple["EditFile", ...] = ()


def edit_fields(edit: LayerEdit) -> dict[str, Any]:
    """The edit as plain values of JSON.

    Raises:
        DissectError: a gate that is neither linear nor a mask, or a region of each sample.
    """
    replacement, strengths = edit.replacement, edit.unit_strengths
    return {
        "units": edit.units.to_dict(),
        "gate": _gate_fields(edit.gate),
        "region": None if edit.region is None else _tensor_fields(edit.region),
        "threshold": float(edit.threshold),
        "strength": float(edit.strength),
        "unit_strengths": None if strengths is None else list(strengths),
        "replacement": replacement.tolist() if isinstance(replacement, Tensor) else replacement,
    }


def edit_arguments(file: EditFile) -> dict[str, Any]:
    """The arguments that make the `Intervention`, except its `also`.

    Raises:
        DissectError: units or a gate that cannot be, or rows of a region that differ in length.
    """
    replacement = file.replacement
    return {
        "units": Units.from_file(file.units),
        "gate": _gate_from(file.gate),
        "region": None if file.region is None else _tensor_from(file.region),
        "threshold": file.threshold,
        "strength": file.strength,
        "unit_strengths": file.unit_strengths,
        "replacement": "zero" if isinstance(replacement, str) else _tensor_from(replacement),
    }


def _gate_fields(gate: Gate | None) -> dict[str, Any] | None:
    """A gate as JSON has it.

    Raises:
        DissectError: a gate of another type than `LinearGate`, `MaskGate`, or what gives one of
            them, as a `Probe` does.
    """
    if gate is None:
        return None
    if isinstance(gate, MaskGate):
        inner = _gate_fields(gate.inner)
        return {"type": "mask", "region": _tensor_fields(gate.region), "inner": inner}
    linear = linear_gate(gate)
    if linear is None:
        raise DissectError(
            f"a gate of type {type(gate).__name__} cannot be saved: use a probe or a region"
        )
    weight = linear.weight.tolist()
    return {"type": "linear", "layer": linear.layer, "weight": weight, "bias": linear.bias}


def _gate_from(fields: _LinearGateFields | _MaskGateFields | None) -> Gate | None:
    """The gate of such fields.

    Raises:
        DissectError: rows of a region that differ in length.
    """
    if fields is None:
        return None
    if isinstance(fields, _MaskGateFields):
        return MaskGate(_tensor_from(fields.region), _gate_from(fields.inner))
    return LinearGate(fields.layer, torch.tensor(fields.weight, dtype=torch.float64), fields.bias)


def _tensor_fields(region: Tensor) -> list[list[float]]:
    """A region (H, W) as rows of numbers.

    Raises:
        DissectError: a region of its own for each sample.
    """
    if region.ndim != 2:
        raise DissectError(
            f"a region in a file is the same for every sample, (H, W), not {tuple(region.shape)}"
        )
    return region.double().tolist()


def _tensor_from(values: Any) -> Tensor:
    """Numbers as float32, or as float64 where they need it.

    Raises:
        DissectError: rows that differ in length.
    """
    if values and isinstance(values[0], tuple) and len({len(row) for row in values}) > 1:
        raise DissectError("the rows of a region must be of one length")
    exact = torch.tensor(values, dtype=torch.float64)
    single = exact.float()
    return single if torch.equal(single.double(), exact) else exact
