"""What a page may ask of generators: units, edits, walks, and files saved."""

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.records import Record
from dissect.studio.edits import Edit, Where
from dissect.studio.explorer import Edited, Explorer
from dissect.studio.messages import Asked, checked_whole, get, picture, post
from dissect.studio.painter import png
from dissect.studio.ranking import RANKINGS
from dissect.studio.study import Study
from dissect.studio.walking import Stop, walked
from dissect.surgery import Gate

__all__ = ["exploring_routes"]

_MOST_SAMPLES = 1_000_000
_MOST_STOPS = 16
_FURTHEST = 3.0
_LEVELS = 255


def exploring_routes(explorers: Mapping[str, Explorer]) -> list[Route]:
    """The routes of the rooms that look into a generator."""

    def about(asked: Asked) -> dict[str, Any]:
        explorer = _explorer(explorers, asked.text("model"))
        height, width = explorer.painter.image(0, 0).shape[:2]
        segmenter = explorer.segmenter
        return {
            "layers": list(explorer.layers),
            "concepts": explorer.concepts(),
            "width": width,
            "height": height,
            "classes": None if segmenter is None else list(segmenter.classes),
            "directions": [
                {
                    "name": name,
                    "attribute": one.attribute,
                    "ends": list(one.picked_ends or ("less", "more")),
                }
                for name, one in explorer.directions.items()
            ],
        }

    def sample(asked: Asked) -> Response:
        names = list(explorers)
        number = asked.whole("model", len(names) - 1)
        seed, index = asked.whole("seed"), asked.whole("index", _MOST_SAMPLES)
        return picture(png(explorers[names[number]].painter.image(seed, index)))

    def units(asked: Asked) -> dict[str, Any]:
        explorer = _explorer(explorers, asked.text("model"))
        study = explorer.study(asked.text("layer"), asked.text("concept"))
        return {
            "grid": list(study.grid),
            "scores": {name: list(values) for name, values in study.scores.items()},
            "top": study.top,
            "positive": list(study.probe.units("positive").indices),
            "auto": _auto(explorer, study),
        }

    def ranking(asked: Asked) -> dict[str, Any]:
        sent = asked.sent
        explorer = _explorer(explorers, sent.text("model"))
        study = explorer.study(sent.text("layer"), sent.text("concept"))
        by = sent.text("by")
        if by not in RANKINGS:
            raise DissectError(f"units are ranked by {' or '.join(RANKINGS)}, not {by!r}")
        progress = explorer.ranking(study, by)
        found = progress.found
        known = asked.sent_whole("known") if sent.has("known") else 0
        values = None
        if found is not None and found.n != known:
            values = found.values[:, explorer.class_of(study)].round(5).tolist()
        return {
            "done": progress.done,
            "total": progress.total,
            "finished": progress.finished,
            "samples": 0 if found is None else found.n,
            "values": values,
        }

    def strengths(asked: Asked) -> dict[str, Any]:
        explorer = _explorer(explorers, asked.text("model"))
        study = explorer.study(asked.text("layer"), asked.text("concept"))
        seed, index = asked.whole("seed"), asked.whole("index", _MOST_SAMPLES)
        acts = explorer.strengths(study.probe.layer, seed, index)
        share = acts / study.ceiling.clamp(min=1e-12).reshape(-1, 1, 1)
        gates: dict[str, Gate | None] = {"probe": study.probe}
        with suppress(DissectError):  # which the list of units told
            gates["auto"] = explorer.auto(study).gate
        open_at = {
            name: _packed(_levels(gate.probability(acts.unsqueeze(0))[0]))
            for name, gate in gates.items()
            if gate is not None
        }
        return {"levels": _packed(_levels(share)), "gates": open_at}

    def before(asked: Asked) -> dict[str, Any]:
        explorer = _explorer(explorers, asked.text("model"))
        seed, index = asked.whole("seed"), asked.whole("index", _MOST_SAMPLES)
        return _shown(explorer.before(seed, index))

    def edit(asked: Asked) -> dict[str, Any]:
        explorer, study, wanted, seed, index = _edit(explorers, asked)
        if asked.sent.has("control"):
            draw = asked.sent_whole("control")
            return _shown(explorer.control(study, wanted, seed, index, draw))
        return _shown(explorer.after(study, wanted, seed, index))

    def measure(asked: Asked) -> dict[str, Any]:
        explorer, study, wanted, seed, _ = _edit(explorers, asked)
        draw = asked.sent_whole("control") if asked.sent.has("control") else 0
        concept = asked.sent.text("concept")
        return asdict(explorer.measured(study, concept, wanted, seed, draw))

    def save(asked: Asked) -> dict[str, Any]:
        explorer, study, wanted, seed, index = _edit(explorers, asked)
        what = asked.sent.text("what")
        if what == "units":
            path = explorer.save_units(study, wanted)
        elif what == "checkpoint":
            saved = explorer.save_generator(study, wanted, seed, index)
            return {"file": str(saved.path), "how": saved.how, "difference": saved.difference}
        elif what == "picture":
            pair = explorer.before(seed, index), explorer.after(study, wanted, seed, index)
            path = explorer.save_picture([one.pixels for one in pair])
        else:
            raise DissectError(f"what to save is units, picture or checkpoint, not {what!r}")
        return {"file": str(path)}

    def walk(asked: Asked) -> dict[str, Any]:
        explorer = _explorer(explorers, asked.sent.text("model"))
        ends = [asked.sent.record(name) for name in ("start", "end")]
        start, end = (
            explorer.painter.latent(
                checked_whole(one, "seed"), checked_whole(one, "index", _MOST_SAMPLES)
            )
            for one in ends
        )
        stops = [_stop(one) for one in asked.sent.items("stops")]
        if not 1 <= len(stops) <= _MOST_STOPS:
            raise DissectError(f"'stops' must be 1 to {_MOST_STOPS} points of a walk")
        along = list(explorer.directions.values())
        made = walked(explorer.painter, start, end, stops, along)
        height, width = made.shape[1:3]
        return {"pictures": [_packed(one) for one in made], "height": height, "width": width}

    return [
        get("/api/model", about),
        get("/api/sample/{model}/{seed}/{index}.png", sample),
        get("/api/units", units),
        post("/api/ranking", ranking),
        get("/api/strengths", strengths),
        get("/api/before", before),
        post("/api/edit", edit),
        post("/api/measure", measure),
        post("/api/save", save),
        post("/api/walk", walk),
    ]


def _explorer(explorers: Mapping[str, Explorer], name: str) -> Explorer:
    if name not in explorers:
        known = ", ".join(explorers)
        raise DissectError(f"no model {name!r} was opened here; there are: {known}")
    return explorers[name]


def _edit(
    explorers: Mapping[str, Explorer], asked: Asked
) -> tuple[Explorer, Study, Edit, int, int]:
    sent = asked.sent
    explorer = _explorer(explorers, sent.text("model"))
    study = explorer.study(sent.text("layer"), sent.text("concept"))
    seed, index = asked.sent_whole("seed"), asked.sent_whole("index", _MOST_SAMPLES)
    return explorer, study, _wanted(sent), seed, index


def _stop(value: Any) -> Stop:
    sent = Record.of(value, "a stop")
    share = sent.number("share")
    moved = sent.numbers("moved") if sent.has("moved") else ()
    if not 0 <= share <= 1 or any(abs(amount) > _FURTHEST for amount in moved):
        raise DissectError(
            f"a stop is a share from 0 to 1, and moved by at most {_FURTHEST:g} along a direction"
        )
    return Stop(share, moved)


def _auto(explorer: Explorer, study: Study) -> dict[str, Any]:
    """The edit that rule `auto` chose, as the page sends one; or why there is none."""
    try:
        chosen = explorer.auto(study, afresh=True)
    except DissectError as error:
        return {"none": str(error)}
    return {
        "units": list(chosen.units.indices),
        "strength": chosen.strength,
        "threshold": chosen.threshold,
    }


def _wanted(sent: Record) -> Edit:
    where = sent.text("where")
    if where not in get_args(Where):
        raise DissectError(f"'where' is one of {', '.join(get_args(Where))}, not {where!r}")
    return Edit(
        units=sent.integers("units"),
        strength=sent.number("strength"),
        where=where,  # type: ignore[arg-type]
        threshold=sent.number("threshold") if sent.has("threshold") else 0.5,
        remove=sent.integers("remove") if sent.has("remove") else (),
        insert=sent.integers("insert") if sent.has("insert") else (),
    )


def _shown(edited: Edited) -> dict[str, Any]:
    labels = edited.labels
    counts = None if labels is None else np.bincount(labels.ravel()).tolist()
    return {
        "pixels": _packed(edited.pixels),
        "labels": None if labels is None else _packed(labels),
        "counts": counts,
    }


def _levels(shares: Tensor) -> NDArray[np.uint8]:
    """Shares in [0, 1] as bytes."""
    levels: NDArray[np.uint8] = (shares.nan_to_num().clamp(0, 1) * _LEVELS).round().byte().numpy()
    return levels


def _packed(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
