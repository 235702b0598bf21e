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
from dissect.studio.routes.messages import RequestParams, checked_whole, get, picture, post
from dissect.studio.sessions.edits import Edit, Where
from dissect.studio.sessions.explore import Edited, ExploreSession
from dissect.studio.sessions.generator import png
from dissect.studio.sessions.layer_study import LayerStudy
from dissect.studio.sessions.unit_ranking import RANKINGS
from dissect.studio.sessions.walk import Stop, walked
from dissect.surgery import Gate

__all__ = ["explore_routes"]

_MOST_SAMPLES = 1_000_000
_MOST_STOPS = 16
_FURTHEST = 3.0
_LEVELS = 255


def explore_routes(explore_sessions: Mapping[str, ExploreSession]) -> list[Route]:
    """The routes of the rooms that look into a generator."""

    def about(params: RequestParams) -> dict[str, Any]:
        session = _session(explore_sessions, params.text("model"))
        height, width = session.generator.image(0, 0).shape[:2]
        segmenter = session.segmenter
        return {
            "layers": list(session.layers),
            "concepts": session.concepts(),
            "width": width,
            "height": height,
            "classes": None if segmenter is None else list(segmenter.classes),
            "directions": [
                {
                    "name": name,
                    "attribute": one.attribute,
                    "ends": list(one.picked_ends or ("less", "more")),
                }
                for name, one in session.directions.items()
            ],
        }

    def sample(params: RequestParams) -> Response:
        names = list(explore_sessions)
        number = params.whole("model", len(names) - 1)
        seed, index = params.whole("seed"), params.whole("index", _MOST_SAMPLES)
        return picture(png(explore_sessions[names[number]].generator.image(seed, index)))

    def units(params: RequestParams) -> dict[str, Any]:
        session = _session(explore_sessions, params.text("model"))
        study = session.study(params.text("layer"), params.text("concept"))
        return {
            "grid": list(study.grid),
            "scores": {name: list(values) for name, values in study.scores.items()},
            "top": study.top,
            "positive": list(study.probe.units("positive").indices),
            "auto": _auto(session, study),
        }

    def ranking(params: RequestParams) -> dict[str, Any]:
        sent = params.sent
        session = _session(explore_sessions, sent.text("model"))
        study = session.study(sent.text("layer"), sent.text("concept"))
        by = sent.text("by")
        if by not in RANKINGS:
            raise DissectError(f"units are ranked by {' or '.join(RANKINGS)}, not {by!r}")
        progress = session.ranking(study, by)
        found = progress.found
        known = params.sent_whole("known") if sent.has("known") else 0
        values = None
        if found is not None and found.n != known:
            values = found.values[:, session.class_of(study)].round(5).tolist()
        return {
            "done": progress.done,
            "total": progress.total,
            "finished": progress.finished,
            "samples": 0 if found is None else found.n,
            "values": values,
        }

    def strengths(params: RequestParams) -> dict[str, Any]:
        session = _session(explore_sessions, params.text("model"))
        study = session.study(params.text("layer"), params.text("concept"))
        seed, index = params.whole("seed"), params.whole("index", _MOST_SAMPLES)
        acts = session.strengths(study.probe.layer, seed, index)
        share = acts / study.ceiling.clamp(min=1e-12).reshape(-1, 1, 1)
        gates: dict[str, Gate | None] = {"probe": study.probe}
        with suppress(DissectError):  # which the list of units told
            gates["auto"] = session.auto(study).gate
        open_at = {
            name: _packed(_levels(gate.probability(acts.unsqueeze(0))[0]))
            for name, gate in gates.items()
            if gate is not None
        }
        return {"levels": _packed(_levels(share)), "gates": open_at}

    def before(params: RequestParams) -> dict[str, Any]:
        session = _session(explore_sessions, params.text("model"))
        seed, index = params.whole("seed"), params.whole("index", _MOST_SAMPLES)
        return _shown(session.before(seed, index))

    def edit(params: RequestParams) -> dict[str, Any]:
        session, study, wanted, seed, index = _edit(explore_sessions, params)
        if params.sent.has("control"):
            draw = params.sent_whole("control")
            return _shown(session.control(study, wanted, seed, index, draw))
        return _shown(session.after(study, wanted, seed, index))

    def measure(params: RequestParams) -> dict[str, Any]:
        session, study, wanted, seed, _ = _edit(explore_sessions, params)
        draw = params.sent_whole("control") if params.sent.has("control") else 0
        concept = params.sent.text("concept")
        return asdict(session.measured(study, concept, wanted, seed, draw))

    def save(params: RequestParams) -> dict[str, Any]:
        session, study, wanted, seed, index = _edit(explore_sessions, params)
        what = params.sent.text("what")
        if what == "units":
            path = session.save_units(study, wanted)
        elif what == "checkpoint":
            saved = session.save_generator(study, wanted, seed, index)
            return {"file": str(saved.path), "how": saved.how, "difference": saved.difference}
        elif what == "picture":
            pair = session.before(seed, index), session.after(study, wanted, seed, index)
            path = session.save_picture([one.pixels for one in pair])
        else:
            raise DissectError(f"what to save is units, picture or checkpoint, not {what!r}")
        return {"file": str(path)}

    def walk(params: RequestParams) -> dict[str, Any]:
        session = _session(explore_sessions, params.sent.text("model"))
        ends = [params.sent.record(name) for name in ("start", "end")]
        start, end = (
            session.generator.latent(
                checked_whole(one, "seed"), checked_whole(one, "index", _MOST_SAMPLES)
            )
            for one in ends
        )
        stops = [_stop(one) for one in params.sent.items("stops")]
        if not 1 <= len(stops) <= _MOST_STOPS:
            raise DissectError(f"'stops' must be 1 to {_MOST_STOPS} points of a walk")
        along = list(session.directions.values())
        made = walked(session.generator, start, end, stops, along)
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


def _session(explore_sessions: Mapping[str, ExploreSession], name: str) -> ExploreSession:
    if name not in explore_sessions:
        known = ", ".join(explore_sessions)
        raise DissectError(f"no model {name!r} was opened here; there are: {known}")
    return explore_sessions[name]


def _edit(
    explore_sessions: Mapping[str, ExploreSession], params: RequestParams
) -> tuple[ExploreSession, LayerStudy, Edit, int, int]:
    sent = params.sent
    session = _session(explore_sessions, sent.text("model"))
    study = session.study(sent.text("layer"), sent.text("concept"))
    seed, index = params.sent_whole("seed"), params.sent_whole("index", _MOST_SAMPLES)
    return session, study, _wanted(sent), seed, index


def _stop(value: Any) -> Stop:
    sent = Record.of(value, "a stop")
    share = sent.number("share")
    moved = sent.numbers("moved") if sent.has("moved") else ()
    if not 0 <= share <= 1 or any(abs(amount) > _FURTHEST for amount in moved):
        raise DissectError(
            f"a stop is a share from 0 to 1, and moved by at most {_FURTHEST:g} along a direction"
        )
    return Stop(share, moved)


def _auto(session: ExploreSession, study: LayerStudy) -> dict[str, Any]:
    """The edit that rule `auto` chose, as the page sends one; or why there is none."""
    try:
        chosen = session.auto(study, afresh=True)
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
