"""The one edit: which units, where, how much. It is applied, varied, saved and baked.

edit = Intervention(units, gate=probe)      # removed where the probe sees the concept
with edit.applied(G):
    after = G(z)
edit.save("edit.json")
edited = edit.bake(G)                       # a copy of G without hooks
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from dissect._utils.display import Displayed, brief, shortened
from dissect._utils.errors import DissectError
from dissect._utils.schema import parse, read_file, write_file
from dissect.hooks import edit, plain_copy
from dissect.surgery.apply import edited_activation
from dissect.surgery.edit_file import EditFile, edit_arguments, edit_fields
from dissect.surgery.gates import Gate
from dissect.surgery.layer_edit import LayerEdit
from dissect.surgery.levels import rising_units, swapped_units
from dissect.surgery.write import check_written, write_edit
from dissect.units import Units

__all__ = ["Intervention"]

_Model = TypeVar("_Model", bound=nn.Module)


@dataclass(frozen=True, eq=False, repr=False)
class Intervention(LayerEdit, Displayed):
    """What is done to units of a layer, and of other layers with it.

    The activation a of a unit becomes a - strength * (a - replacement) at the cells where the gate
    is open; every other value stays as it is, to the bit. Where the units are directions, that
    holds for the value that each reads, and all channels change along what they write.

    Radford et al. (2015), section 6.3.1, is the default; other replacements are those of GAN
    Dissection (Bau et al. 2019). An edit acts on the output of the layer, that is after its non-
    linearity: before it, the batch norm's shift would bring a zeroed unit back.

    Attributes:
        units: which ones, best first.
        gate: opens at the cells whose probability is above `threshold`, judged on the activation
            as it comes to this edit; a `Probe` is one. None is every position (the paper).
        region: (H, W) in [0, 1] or bool, by which the gate's probability is multiplied; without a
            gate, the edit acts where it is above `threshold`. Of shape (N, H, W) it is for one
            batch, and neither saved nor baked.
        threshold: in [0, 1).
        strength: from 0 (untouched) through 1 (the replacement itself) to 2 (what the unit had
            beyond it, with its sign turned).
        unit_strengths: a factor in [0, 2] of the strength for each of the units, in their order;
            no unit's strength is above 2. None is 1 for each.
        replacement: `zero`, or (units.total,), a value for each unit of the layer, so that a
            control has its own; of directions (len(units),).
        also: further edits, of this layer or others, that act with it, one after the other.

    Raises:
        DissectError: a value out of its range or of another size, or a gate of another layer.

    Example:
        >>> import torch
        >>> from dissect.units import Units
        >>> layer = torch.nn.Sequential(torch.nn.Identity()).eval()
        >>> edit = Intervention(Units("0", (1,), 3), strength=0.5)
        >>> edit
        Intervention(1 of 3 units of 0, strength=0.5)
        >>> with edit.applied(layer):
        ...     layer(torch.ones(1, 3))
        tensor([[1.0000, 0.5000, 1.0000]])
    """

    also: "tuple[Intervention, ...]" = ()

    @classmethod
    def insert(
        cls,
        activations: Tensor,
        coverage: Tensor,
        *,
        layer: str,
        concept: str = "",
        model: str | None = None,
        k: int = 64,
        level: float = 0.95,
        inside: float = 0.75,
        gate: Gate | None = None,
        region: Tensor | None = None,
        threshold: float = 0.5,
    ) -> "Intervention":
        """An edit that puts a concept in: the units that rise most where it is, at a high level.

        A unit's rise is how far its mean inside the concept is above its mean at the same
        positions without it, in standard deviations; its level is a quantile over the concept's
        cells. GAN Dissection (Bau et al. 2019) also inserts one constant a unit.

        Args:
            activations: (N, C, H, W) of one layer on N images.
            coverage: (N, H, W) in [0, 1], how much of each cell is the concept.
            layer: its name.
            concept: its name.
            model: the generator's fingerprint.
            k: how many units; fewer where fewer rise.
            level: the quantile, in [0, 1].
            inside: the coverage from which a cell is one of the concept's, in (0, 1].
            gate, region, threshold: where the concept is put in; everywhere without them.

        Raises:
            DissectError: shapes that do not match, fewer than 5 cells of the concept, none
                without, or a value out of its range.
        """
        units, levels = rising_units(
            activations,
            coverage,
            layer=layer,
            concept=concept,
            model=model,
            k=k,
            level=level,
            inside=inside,
        )
        return cls(units, gate, region, threshold, replacement=levels)

    @classmethod
    def swap(cls, removed: Units, put: "Intervention") -> "Intervention":
        """One concept's units at 0 and another's at their levels, where `put` acts.

        A unit of both is put in.

        Args:
            removed: the units of the concept that goes.
            put: the edit that puts the other one in (see `insert`).

        Raises:
            DissectError: units of different layers, or an edit that puts no values in.
        """
        units, levels = swapped_units(removed, put.units, put.replacement)
        return replace(put, units=units, replacement=levels, unit_strengths=None)

    @classmethod
    def fill(
        cls, gate: Gate, levels: Tensor, *, layer: str, threshold: float = 0.5
    ) -> "Intervention":
        """An edit that sets every unit of the layer, where the gate is open, to a level.

        It chooses cells, not units. With the mean of cells without the concept (`background_mean`)
        it shows what the layer can remove at all where the gate sees the concept.

        Args:
            gate, threshold: which cells.
            levels: (C,), a value for every unit of the layer.
            layer: its name.
        """
        every = Units(layer, tuple(range(len(levels))), len(levels))
        return cls(every, gate, threshold=threshold, replacement=levels)

    @property
    def parts(self) -> "tuple[Intervention, ...]":
        """The edits that it consists of, each of one layer, in the order in which they act."""
        further = (part for other in self.also for part in other.parts)
        return (replace(self, also=()) if self.also else self, *further)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are edited, each once."""
        return tuple(dict.fromkeys(part.units.layer for part in self.parts))

    def applied(
        self, model: nn.Module, *, allow_training: bool = False
    ) -> AbstractContextManager[None]:
        """A context manager in which `model` is edited; hooks do it, and no weight changes.

        Args:
            model: what has the layers, in evaluation mode.
            allow_training: edit a model whose batch norm or dropout is in training mode.

        Raises:
            DissectError: no such layer, or training mode; when the model runs, units of a layer of
                another size, or a gate of another grid or batch.
        """
        contexts = [
            edit(
                model,
                {part.units.layer: partial(edited_activation, part)},
                copy=False,  # what the function gives is used nowhere else
                allow_training=allow_training,
            )
            for part in self.parts
        ]
        return contexts[0] if len(contexts) == 1 else _all_of(contexts)

    def bake(self, model: _Model, *, exact: bool = True) -> _Model:
        """A copy of `model` that is edited for good; no hooks are left.

        In evaluation mode its outputs are, bit for bit, those of `applied`. Where latents of the
        model are known (`latents_for`), that is checked on two of them.

        - Removal everywhere (Radford et al. 2015, section 6.3.1), the default, goes into the
          weights where a norm or a convolution makes the units: it gets the weight 0 and the bias 0
          for them, and so does the convolution before a batch norm. Names and shapes of the weights
          stay. A value in the units' place, none below 0, is the same with the value for the bias.
        - Everything else, and removal where nothing certain makes the units, becomes a `GatedEdit`
          at the layer's end: the gate as one 1x1 convolution with its threshold, a region, a
          strength. A `nn.Sequential` gets it as its last part, `edit`; any other layer as a module
          of that name, and its class becomes one derived from its own.
        - With `exact=False`, directions without biases go into the weights of the convolutions that
          read the layer.

        Args:
            model: in evaluation mode, as it is in the copy. For removal in the weights, the layer
                must end in a norm or a convolution and activations that keep zero, as ReLU and
                LeakyReLU do, and `torch.fx` must be able to follow its forward.
            exact: bit for bit. False writes a removal everywhere of directions, of another
                strength, or of one a unit, into the weights of the convolutions that read the
                units, rather than into a module: names and shapes stay as they are, and images
                are those of `applied` within rounding (1e-5).

        Raises:
            DissectError: no such layer, units of a layer of another size, a layer that runs
                several times or has hooks of others, TorchScript, weights that cannot hold the edit
                with `exact=False`, or a gate that is not linear or differs among samples.
        """
        edited = plain_copy(model)
        parts = self.parts
        for number, part in enumerate(parts):
            following = {later.units.layer for later in parts[number + 1 :]}
            write_edit(edited, part, exact=exact or part.units.layer in following)
        check_written(model, edited, self, layers=self.layers, exact=exact)
        return edited

    def strongest(self, k: int) -> "Intervention":
        """The same edit of the `k` best units; of the edits with it, of all units where fewer.

        Raises:
            DissectError: `k` below 1 or above the number of units.
        """
        also = tuple(part.strongest(min(k, len(part.units))) for part in self.also)
        if k == len(self.units):
            return replace(self, also=also) if also else self
        units, strengths = self.units.top(k), self.unit_strengths
        if strengths is not None:
            of_unit = dict(zip(self.units.indices, strengths, strict=True))
            strengths = tuple(of_unit[unit] for unit in units.indices)
        return replace(self, units=units, unit_strengths=strengths, also=also)

    def with_strength(self, strength: float) -> "Intervention":
        """The same edit at another strength; the factors of the units stay as they are."""
        also = tuple(part.with_strength(strength) for part in self.also)
        return replace(self, strength=strength, also=also)

    def with_gate(
        self,
        gate: Gate | None = None,
        *,
        region: Tensor | None = None,
        threshold: float | None = None,
    ) -> "Intervention":
        """The same edit where this gate and this region open it; everywhere without them."""
        threshold = self.threshold if threshold is None else threshold
        return replace(self, gate=gate, region=region, threshold=threshold)

    def control(self, seed: int) -> "Intervention":
        """The same edit of as many random units (see `Units.random`), each part by this seed."""
        units = replace(self.units.random(seed), concept=self.units.concept)
        return replace(self, units=units, also=tuple(part.control(seed) for part in self.also))

    def __add__(self, other: "Intervention") -> "Intervention":
        """Both edits, this one first."""
        if not isinstance(other, Intervention):
            return NotImplemented
        return replace(self, also=(*self.also, other))

    def to_dict(self) -> dict[str, Any]:
        """The edit as JSON has it; a gate that is not linear, or a region a sample, is refused."""
        return {**edit_fields(self), "also": [part.to_dict() for part in self.also]}

    def to_file(self) -> EditFile:
        """The fields of a file, as another file may hold them."""
        return parse(EditFile, self.to_dict(), "edit")

    @classmethod
    def from_dict(cls, fields: Any, where: str = "edit") -> "Intervention":
        """The edit that `to_dict` gave; an error calls these fields `where`."""
        return cls.from_file(parse(EditFile, fields, where), where)

    @classmethod
    def from_file(cls, file: EditFile, where: str = "edit") -> "Intervention":
        """The edit of fields that were read, as another file may hold them."""
        also = tuple(cls.from_file(part, where) for part in file.also)
        try:
            return cls(**edit_arguments(file), also=also)
        except DissectError as error:
            raise DissectError(f"{where}: {error}") from error

    def save(self, path: str | Path, *, force: bool = True) -> Path:
        """`path`, now holding the edit as JSON, its numbers to the last digit.

        Raises:
            DissectError: as `to_dict`, or the file cannot be written.
        """
        return write_file(path, self.to_file(), force=force)

    @classmethod
    def load(cls, path: str | Path) -> "Intervention":
        """The edit that `save` wrote.

        Raises:
            DissectError: no such file, not a file of an edit, or a field of a wrong type or value.
        """
        return cls.from_file(read_file(path, EditFile), str(path))

    def summary(self) -> dict[str, Any]:
        """What each of its parts does, in words."""
        return {"edit": " + ".join(part.text for part in self.parts)}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each of its parts: what it edits, where, and how far."""
        return [
            {
                "layer": part.units.layer,
                part.units.noun: f"{len(part.units)} of {part.units.total}",
                "concept": part.units.concept or "",
                "where": "everywhere" if part.where is None else brief(part.where),
                "threshold": part.threshold if part.where is not None else "",
                "strength": "of each unit" if part.unit_strengths else part.strength,
                "replacement": brief(part.replacement),
            }
            for part in self.parts
        ]

    def __repr__(self) -> str:
        return shortened(f"Intervention({self.summary()['edit']})")


@contextmanager
def _all_of(contexts: list[AbstractContextManager[None]]) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield
