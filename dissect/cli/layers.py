"""`dissect layers`: the layers of a generator, and what can be done with each."""

from typing import TYPE_CHECKING, Any

from dissect.cli.options import GeneratorOptions, Json, with_groups
from dissect.cli.output import Output

if TYPE_CHECKING:
    from dissect.surgery.layers import LayerAbilities

__all__ = ["layers"]


@with_groups
def layers(model: GeneratorOptions, as_json: Json = False) -> None:
    """List the layers: shape, runs, cost, and which can be recorded, edited, baked and excised."""
    from dissect.models import fingerprint, latents_for
    from dissect.surgery.layers import layer_abilities

    printed = Output(as_json=as_json)
    generator = model.load()
    found = layer_abilities(generator, latents_for(generator, 1))
    rows = [_row(one) for one in found]
    printed.result(
        {"model": model.model, "fingerprint": fingerprint(generator), "layers": rows}, _text(found)
    )


def _row(one: "LayerAbilities") -> dict[str, Any]:
    frame = one.frame
    return {
        "layer": one.output.name,
        "module": one.output.module,
        "shape": None if one.output.shape is None else list(one.output.shape[1:]),
        "dtype": one.output.dtype,
        "runs": one.output.runs,
        "cost": one.output.done,
        "picture": None if frame is None else [frame.top, frame.bottom, frame.left, frame.right],
        **{name: reason == "" for name, reason in _reasons(one).items()},
        "why_not": {name: reason for name, reason in _reasons(one).items() if reason},
    }


def _reasons(one: "LayerAbilities") -> dict[str, str]:
    return {
        "recorded": one.recorded,
        "edited": one.edited,
        "baked": one.baked,
        "excised": one.excised,
    }


def _text(found: "list[LayerAbilities]") -> str:
    width = max((len(one.output.name) for one in found), default=5)
    lines = [
        f"{'layer':<{width}}  {'module':<18}{'units and grid':<18}{'runs':>4}{'cost':>6}  can be"
    ]
    for one in found:
        shape = "" if one.output.shape is None else " x ".join(map(str, one.output.shape[1:]))
        can = ", ".join(name for name, reason in _reasons(one).items() if not reason) or "nothing"
        lines.append(
            f"{one.output.name:<{width}}  {one.output.module[:17]:<18}{shape:<18}"
            f"{one.output.runs:>4}{one.output.done:>6.0%}  {can}"
        )
        if one.frame is not None:
            rows, columns = one.frame.size
            lines.append(
                f"{'':<{width}}  the picture is the {rows} x {columns} cells from row "
                f"{one.frame.top} and column {one.frame.left} on; around it is a margin"
            )
        reasons: dict[str, list[str]] = {}
        for name, reason in _reasons(one).items():
            if reason:
                reasons.setdefault(reason, []).append(name)
        lines += [
            f"{'':<{width}}  not {' or '.join(names)}: {reason}"
            for reason, names in reasons.items()
        ]
    lines.append("cost: the part of a pass up to the layer, which recording it takes")
    return "\n".join(lines)
