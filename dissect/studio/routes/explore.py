"""What the page asks of generators: units, edits, walks, and files to save."""

import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.schema import NonEmpty
from dissect.studio.routes.messages import RequestParams, WholeNumber, get, png_response, post
from dissect.studio.sessions import ExploreSession
from dissect.studio.sessions.explore import Edited
from dissect.studio.sessions.generator import png
from dissect.studio.sessions.layer_study import LayerStudy
from dissect.studio.sessions.page_edit import PageEdit
from dissect.studio.sessions.unit_ranking import RankingKind
from dissect.studio.sessions.walk import WalkPoint, walk_images
from dissect.surgery import Gate, Intervention

__all__ = ["explore_routes"]

_SampleIndex = Annotated[int, Field(ge=0, le=1_000_000)]


class _Model(RequestParams):
    model: NonEmpty


class _Layer(_Model):
    layer: NonEmpty
    concept: NonEmpty


class _Sample(RequestParams):
    seed: WholeNumber
    index: _SampleIndex


class _SampleImage(_Sample):
    model: WholeNumber


class _SampleOf(_Sample, _Model):
    pass


class _LayerSample(_Sample, _Layer):
    pass


class _Ranking(_Layer):
    by: RankingKind
    known: WholeNumber = 0


class _Edit(PageEdit, _LayerSample):
    control: WholeNumber | None = None


class _Save(_Edit):
    what: Literal["edit", "picture", "checkpoint"]


class _Walk(_Model):
    start: _Sample
    end: _Sample
    points: Annotated[tuple[WalkPoint, ...], Field(min_length=1, max_length=16)]


def explore_routes(explore_sessions: Mapping[str, ExploreSession]) -> list[Route]:
    """The routes of the pages that show what units do, and walks between samples."""

    def session_of(params: _Model) -> ExploreSession:
        if params.model not in explore_sessions:
            known = ", ".join(explore_sessions)
            raise DissectError(f"no model {params.model!r} was opened here; there are: {known}")
        return explore_sessions[params.model]

    def study_of(params: _Layer) -> tuple[ExploreSession, LayerStudy]:
        session = session_of(params)
        return session, session.study(params.layer, params.concept)

    def edit_of(params: _Edit) -> tuple[ExploreSession, LayerStudy, Intervention]:
        session, study = study_of(params)
        return session, study, session.intervention(study, params)

    def about(params: _Model) -> dict[str, Any]:
        session = session_of(params)
        height, width = session.generator.image(0, 0).shape[:2]
        segmenter = session.segmenter
        return {
            "layers": list(session.layers),
            "edit": None
            if session.edit is None
            else {"layer": session.edit.units.layer, "concept": session.edit.units.concept},
            "concepts": session.concepts(),
            "width": width,
            "height": height,
            "classes": None if segmenter is None else list(segmenter.classes),
            "directions": [
                {
                    "name": name,
                    "attribute": one.attribute,
                    "ends": list(one.chosen_extremes or ("less", "more")),
                }
                for name, one in session.directions.items()
            ],
        }

    def sample(params: _SampleImage) -> Response:
        sessions = list(explore_sessions.values())
        if params.model >= len(sessions):
            raise DissectError(f"the request: 'model' must be at most {len(sessions) - 1}")
        return png_response(png(sessions[params.model].generator.image(params.seed, params.index)))

    def units(params: _Layer) -> dict[str, Any]:
        session, study = study_of(params)
        return {
            "grid": list(study.grid),
            "scores": {name: list(values) for name, values in study.scores.items()},
            "top": study.top,
            "positive": list(study.probe.units("positive").indices),
            "auto": _auto(session, study),
        }

    def ranking(params: _Ranking) -> dict[str, Any]:
        session, study = study_of(params)
        progress = session.ranking(study, params.by)
        ranked = progress.ranking
        values = None
        if ranked is not None and ranked.n != params.known:
            values = ranked.values[:, session.class_of(study)].round(5).tolist()
        return {
            "done": progress.done,
            "total": progress.total,
            "finished": progress.finished,
            "samples": 0 if ranked is None else ranked.n,
            "values": values,
        }

    def strengths(params: _LayerSample) -> dict[str, Any]:
        session, study = study_of(params)
        acts = session.strengths(study.probe.layer, params.seed, params.index)
        fractions = acts / study.ceiling.clamp(min=1e-12).reshape(-1, 1, 1)
        gates: dict[str, Gate | None] = {"probe": study.probe}
        with suppress(DissectError):  # the list of units gives the reason
            gates["auto"] = session.auto(study).gate
        open_at = {
            name: _packed(_as_bytes(gate.probability(acts.unsqueeze(0))[0]))
            for name, gate in gates.items()
            if gate is not None
        }
        return {"levels": _packed(_as_bytes(fractions)), "gates": open_at}

    def before(params: _SampleOf) -> dict[str, Any]:
        return _image(session_of(params).before(params.seed, params.index))

    def edit(params: _Edit) -> dict[str, Any]:
        session, _, edit = edit_of(params)
        if params.control is not None:
            edit = edit.control(params.control)
        return _image(session.after(edit, params.seed, params.index))

    def measure(params: _Edit) -> dict[str, Any]:
        if params.where == "brush":
            raise DissectError("brushed cells belong to one sample and cannot be measured on many")
        session, study, edit = edit_of(params)
        control = params.control or 0
        return asdict(session.measured(study, params.concept, edit, params.seed, control))

    def save(params: _Save) -> dict[str, Any]:
        session, _, edit = edit_of(params)
        sample = params.seed, params.index
        if params.what == "edit":
            return {"file": str(session.save_edit(edit))}
        if params.what == "checkpoint":
            saved = session.save_generator(edit, *sample)
            return {"file": str(saved.path), "how": saved.how, "difference": saved.difference}
        pair = session.before(*sample), session.after(edit, *sample)
        return {"file": str(session.save_picture([one.pixels for one in pair]))}

    def walk(params: _Walk) -> dict[str, Any]:
        session = session_of(params)
        start, end = (
            session.generator.latent(one.seed, one.index) for one in (params.start, params.end)
        )
        directions = list(session.directions.values())
        images = walk_images(session.generator, start, end, params.points, directions)
        height, width = images.shape[1:3]
        return {"pictures": [_packed(one) for one in images], "height": height, "width": width}

    return [
        get("/api/model", _Model, about),
        get("/api/sample/{model}/{seed}/{index}.png", _SampleImage, sample),
        get("/api/units", _Layer, units),
        post("/api/ranking", _Ranking, ranking),
        get("/api/strengths", _LayerSample, strengths),
        get("/api/before", _SampleOf, before),
        post("/api/edit", _Edit, edit),
        post("/api/measure", _Edit, measure),
        post("/api/save", _Save, save),
        post("/api/walk", _Walk, walk),
    ]


def _auto(session: ExploreSession, study: LayerStudy) -> dict[str, Any]:
    """The edit that exists already, as the page sends one; or why there is none."""
    try:
        chosen = session.auto(study, refresh=True)
    except DissectError as error:
        return {"none": str(error)}
    return {
        "units": list(chosen.units.indices),
        "strength": chosen.strength,
        "threshold": chosen.threshold,
        "opened": chosen is session.edit,
    }


def _image(edited: Edited) -> dict[str, Any]:
    labels = edited.labels
    counts = None if labels is None else np.bincount(labels.ravel()).tolist()
    return {
        "pixels": _packed(edited.pixels),
        "labels": None if labels is None else _packed(labels),
        "counts": counts,
    }


def _as_bytes(fractions: Tensor) -> NDArray[np.uint8]:
    """Values in [0, 1] as bytes."""
    levels: NDArray[np.uint8] = (fractions.nan_to_num().clamp(0, 1) * 255).round().byte().numpy()
    return levels


def _packed(array: NDArray[np.uint8]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
