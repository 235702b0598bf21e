"""The options that name an edit, and the edits that they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.output import Output
from dissect.cli.study import Study

if TYPE_CHECKING:
    from torch import Tensor

    from dissect.surgery import Intervention
    from dissect.units import Units

__all__ = ["EditOptions", "region_of", "save_edits"]

_WHERE = {"both": ("everywhere", "probe"), "everywhere": ("everywhere",), "probe": ("probe",)}
_RULES = (
    "A rule that chooses units: positive (every weight above 0, as in the paper), top:K (the K "
    "largest weights), iou:K or ace:K (as GAN Dissection chooses), causal:K (by measured effect), "
    "gradient:K (by attribution), lowrank:K (K directions, learned), probe, leace:K, inlp:K, pca:K "
    "or nmf:K (directions in closed form), or auto (units, strengths and gate searched together). "
    "Without it, auto where a search has been made for this model, as for the bundled one; else "
    "positive."
)
_PANEL = "Edit"
_MEAN_OVER = 100


@dataclass(frozen=True)
class EditOptions:
    """Which edit: a file, or what a rule chooses; where it acts; what is changed of it."""

    edit: Annotated[
        list[Path] | None,
        typer.Option(
            help="An edit.json, or a units.json whose units are removed; several, of one layer or "
            "more, act together. Without it, --rule chooses.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    rule: Annotated[str | None, typer.Option(help=_RULES, rich_help_panel=_PANEL)] = None
    where: Annotated[
        str | None,
        typer.Option(
            help="Where the edit of a rule acts: everywhere (as in the paper), probe (only at "
            "cells that the probe calls the concept), or both, one beside the other, as without "
            "it.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a field of the edit: strength=1.5 (0 leaves the units, 1 removes them, "
            "2 turns their sign), threshold=0.3 (of the probe), replacement=mean (of fresh "
            "samples, in place of zero), or region=x,y,width,height (in pixels; several are "
            "united). Repeatable.",
            rich_help_panel=_PANEL,
        ),
    ] = None

    def check(self) -> None:
        """Refuse what is wrong in itself, before any work.

        Raises:
            DissectError: an unknown rule, place or field, or a file beside a rule.
        """
        from dissect.units import parse_rule

        if self.where is not None and self.where not in _WHERE:
            raise DissectError(f"--where {self.where!r} is not known: use {', '.join(_WHERE)}")
        if self.rule is not None:
            parse_rule(self.rule)
            if self.edit:
                raise DissectError("--edit names an edit and --rule chooses one: leave one out")
        if self.rule == "auto" and self.changes:
            raise DissectError(
                "auto searches strengths, threshold and region itself: leave out --set, or name "
                "another rule"
            )
        self._parsed()

    @property
    def places(self) -> tuple[str, ...]:
        """`everywhere`, `probe`, or both."""
        return _WHERE[self.where or "both"]

    def load(self, study: Study, output: Output, out: Path) -> "dict[str, Intervention]":
        """The edits, by `everywhere` and `probe`.

        Args:
            study: the model and the concept.
            output: where remarks and files go, if a search has to be made.
            out: the folder in which an earlier search is looked for, and a new one kept.

        Raises:
            DissectError: a file of another model or layer, or a value out of its range.
        """
        edits = (
            self._by_rule(study, output, out)
            if not self.edit
            else self._from_files(self.edit, study)
        )
        return {name: self._changed(edit, study) for name, edit in edits.items()}

    def _from_files(self, files: list[Path], study: Study) -> "dict[str, Intervention]":
        edit, *others = [_loaded(file) for file in files]
        for other in others:
            edit += other
        named = ", ".join(map(str, files))
        if study.layer not in edit.layers:
            raise DissectError(
                f"{named} edits {', '.join(edit.layers)}, and --layer is {study.layer}: give "
                f"--layer {edit.layers[0]}"
            )
        for part in edit.parts:
            part.units.check(study.fingerprint, part.units.layer, part.units.channels)
        if not others and _holds_units(files[0]):
            edit.units.check(study.fingerprint, study.layer, len(study.probe.weight))
            return self._plain(edit.units, study)
        if self.where is not None:
            raise DissectError(
                f"{named} says itself where it acts: leave out --where {self.where}, or give one "
                "units.json"
            )
        gated = any(part.where is not None for part in edit.parts)
        return {"probe" if gated else "everywhere": edit}

    def _by_rule(self, study: Study, output: Output, out: Path) -> "dict[str, Intervention]":
        from dissect.cli.searched import find_or_search, units_by_rule

        if self.rule in (None, "auto") and not self.changes:
            results = find_or_search(study, output, out, search=self.rule == "auto")
            if results:
                edits = {
                    name: results[name].intervention for name in self.places if name in results
                }
                if not edits:
                    raise DissectError(
                        f"the search that was made for this model has no edit for --where "
                        f"{self.where}: name another --rule, or search again in another --out"
                    )
                return edits
        return self._plain(units_by_rule(self.rule or "positive", study), study)

    def _plain(self, units: "Units", study: Study) -> "dict[str, Intervention]":
        """The paper's edit of these units, and the same where the probe sees the concept."""
        from dissect.surgery import Intervention

        gates = {"everywhere": None, "probe": study.probe}
        return {name: Intervention(units, gates[name]) for name in self.places}

    def _changed(self, edit: "Intervention", study: Study) -> "Intervention":
        """The edit with what `--set` names, in each of its parts."""
        changes = self._parsed()
        others = [layer for layer in edit.layers if layer != study.layer]
        if others and {"region", "replacement"} & changes.keys():
            raise DissectError(
                f"--set region and replacement are of one layer, and the edit also acts on "
                f"{others[0]}: leave them out"
            )
        boxes = changes.pop("region", None)
        if boxes is not None:
            changes["region"] = region_of(boxes, study)
        return _with(edit, changes, study)

    def _parsed(self) -> dict[str, Any]:
        """The fields that `--set` names, as far as they can be read without the model."""
        changes: dict[str, Any] = {}
        for text in self.changes or ():
            name, equals, value = text.partition("=")
            if name not in ("strength", "threshold", "replacement", "region") or not equals:
                raise DissectError(
                    f"--set {text!r} is not known: use strength=NUMBER, threshold=NUMBER, "
                    "replacement=zero, replacement=mean or region=x,y,width,height"
                )
            if name == "region":
                changes.setdefault("region", []).append(value)
            elif name == "replacement":
                if value not in ("zero", "mean"):
                    raise DissectError(f"--set {text!r}: a replacement is zero or mean")
                changes["replacement"] = value
            else:
                changes[name] = _number(text, value, 0, 2 if name == "strength" else 1)
        return changes


def _holds_units(file: Path) -> bool:
    from dissect._utils.io import read_json

    content = read_json(file)
    return isinstance(content, dict) and content.get("kind") == "units"


def _loaded(file: Path) -> "Intervention":
    from dissect.surgery import Intervention
    from dissect.units import Units

    return Intervention(Units.load(file)) if _holds_units(file) else Intervention.load(file)


def region_of(boxes: list[str], study: Study) -> "Tensor":
    """The cells of the layer at least half of which lie inside the boxes, (H, W) of 0 and 1.

    Args:
        boxes: each x,y,width,height in pixels.
        study: the model and its layer.

    Raises:
        DissectError: a text that is no box, a box outside the image, or one that covers no cell.
    """
    from dissect.annotations import AnnotatedImage, Annotations, Box
    from dissect.surgery.frame import picture_frame

    height, width = study.labels.annotations.size
    drawn = []
    for text in boxes:
        try:
            x, y, across, down = map(float, text.split(","))
        except ValueError as error:
            raise DissectError(
                f"region={text!r} is no box: give x,y,width,height in pixels, as in 8,4,20,24"
            ) from error
        drawn.append(Box(x, y, across, down).within(width, height))
    image = AnnotatedImage(height=height, width=width, boxes=tuple(drawn))
    grid, frame = study.grid, picture_frame(study.generator, study.layer)
    covered = Annotations("region", (image,)).coverage(grid if frame is None else frame.size)[0]
    cells = (covered if frame is None else frame.on_grid(covered, grid)) >= 0.5
    if not bool(cells.any()):
        rows, columns = grid
        raise DissectError(
            f"the region covers no cell of the {rows}x{columns} grid by half: make it larger"
        )
    return cells.float()


def save_edits(edits: "Mapping[str, Intervention]", output: Output, out: Path) -> None:
    """Each edit in a file: `edit.json` for the gated or only one, else `edit-everywhere.json`."""
    for name, edit in edits.items():
        file = "edit.json" if name == "probe" or len(edits) == 1 else f"edit-{name}.json"
        output.wrote(edit.save(out / file))


def _with(edit: "Intervention", changes: dict[str, Any], study: Study) -> "Intervention":
    also = tuple(_with(part, changes, study) for part in edit.also)
    if changes.get("replacement") == "mean":
        changes = {**changes, "replacement": _mean(study, edit.units)}
    return replace(edit, **changes, also=also)


def _mean(study: Study, units: "Units") -> "Tensor":
    """The mean of every unit of the layer over fresh samples, (C,); of directions, theirs."""
    from dissect.surgery import mean_activation
    from dissect.units import Units

    if units.directions is None:
        units = Units(units.layer, tuple(range(units.total)), units.total)
    return mean_activation(study.generator, units, study.fresh(_MEAN_OVER, 0))


def _number(text: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise DissectError(f"--set {text!r}: a number from {low:g} to {high:g} is needed")
    return number
