import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from studio_tools import Toy, running, segmenter, spot_boxes, spot_of, workspace

from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.cli import main
from dissect.errors import DissectError
from dissect.latent_space import Direction
from dissect.models import Generator, fingerprint, load
from dissect.studio import (
    BoxFile,
    ConflictError,
    Drawing,
    Explorer,
    Painter,
    SamplePictures,
    Workspace,
    take_place,
)
from dissect.studio.drawing import concepts_in, samples_to_draw_on
from dissect.studio.edits import Edit
from dissect.studio.ranking import Ranker
from dissect.studio.serve import open_page
from dissect.studio.walking import Stop, fitting, open_directions, walked
from dissect.units import Units

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    made = workspace(folder)
    with running(made) as client:
        yield client, made, folder


@pytest.fixture(scope="module")
def pictures():
    return SamplePictures(Painter("toy", Toy().eval()), [(0, index) for index in range(6)])


# Boxes in a file.


def test_a_change_is_in_the_file_when_it_is_answered(tmp_path, pictures):
    file = BoxFile(tmp_path / "spot.json", "spot", pictures)
    assert {one.version for one in file.drawn()} == {"unseen"}
    first = file.change(4, [Box(1, 2, 3, 4)], "unseen")
    file.change(1, [], "unseen")
    read = Annotations.load(tmp_path / "spot.json")
    assert read.latent_rows == ((0, 1), (0, 4))
    assert read.boxes == ((), (Box(1, 2, 3, 4),))
    assert read.check_images(np.stack([pictures.pixels(1), pictures.pixels(4)])) is None
    file.change(4, None, first.version)
    assert Annotations.load(tmp_path / "spot.json", "spot", allow_empty=True).latent_rows == (
        (0, 1),
    )


def test_a_change_to_boxes_that_others_changed_is_refused_and_shows_theirs(tmp_path, pictures):
    one = BoxFile(tmp_path / "spot.json", "spot", pictures)
    other = BoxFile(tmp_path / "spot.json", "spot", pictures)
    one.change(0, [Box(1, 1, 5, 5)], "unseen")
    other.change(2, [Box(2, 2, 5, 5)], "unseen")  # another image: no quarrel
    with pytest.raises(ConflictError) as caught:
        other.change(0, [Box(9, 9, 5, 5)], "unseen")
    assert caught.value.current.boxes == (Box(1, 1, 5, 5),)
    assert one.drawn()[2].boxes == (Box(2, 2, 5, 5),)
    assert Annotations.load(tmp_path / "spot.json").n_boxes == 2


def test_images_that_are_not_shown_stay_in_the_file(tmp_path, pictures):
    spot_boxes(Painter("toy", Toy().eval()), 9).save(tmp_path / "spot.json")
    file = BoxFile(tmp_path / "spot.json", "spot", pictures)
    file.change(0, [], file.drawn()[0].version)
    after = Annotations.load(tmp_path / "spot.json")
    assert len(after) == 9
    assert after.n_boxes == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: coco["categories"].append({"id": 2, "name": "door"}), "would lose the rest"),
        (
            lambda coco: coco["annotations"][0].update(segmentation=[[0, 0, 4, 0, 4, 4]]),
            "polygons or masks",
        ),
        (lambda coco: coco["info"].update(model="0" * 16), "of model"),
        (lambda coco: coco.pop("images"), "not COCO"),
        (
            lambda coco: [one.update(width=64, height=64) for one in coco["images"]],
            "give the --size",
        ),
    ],
)
def test_a_file_that_cannot_be_continued_is_refused_and_left_alone(
    tmp_path, pictures, change, message
):
    path = spot_boxes(Painter("toy", Toy().eval()), 3).save(tmp_path / "spot.json")
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))
    before = path.read_bytes()
    with pytest.raises(DissectError, match=message):
        BoxFile(path, "spot", pictures)
    assert path.read_bytes() == before


boxes = st.lists(
    st.tuples(*[st.integers(0, 24), st.integers(0, 24), st.integers(1, 8), st.integers(1, 8)]).map(
        lambda edges: Box(*edges)
    ),
    max_size=4,
)


@given(steps=st.lists(st.tuples(st.integers(0, 5), st.none() | boxes), max_size=8))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_changes_the_file_holds_what_was_answered(tmp_path, pictures, steps):
    path = tmp_path / "spot.json"
    path.unlink(missing_ok=True)
    file = BoxFile(path, "spot", pictures)
    expected = {}
    for place, drawn in steps:
        answered = file.change(place, drawn, file.drawn()[place].version)
        expected[place] = answered.boxes
    opened = BoxFile(path, "spot", pictures).drawn()
    for place, drawn in expected.items():
        assert opened[place].boxes == (None if drawn is None else tuple(drawn))


def test_a_folder_is_continued_with_the_concepts_and_the_samples_that_it_is_about(tmp_path):
    painter = Painter("toy", Toy().eval())
    begun = Drawing(tmp_path, SamplePictures(painter, [(7, 3), (7, 4), (2, 0)]), ["spot", "a door"])
    begun.file("a door").change(1, [Box(0, 0, 2, 2)], "unseen")
    (tmp_path / "units.json").write_text('{"kind": "units"}')
    (tmp_path / "broken.json").write_text("{")
    assert concepts_in(tmp_path) == ["a door"]
    assert samples_to_draw_on(tmp_path, ["a door"], None, None, None) == [(7, 3), (7, 4), (2, 0)]
    assert samples_to_draw_on(tmp_path, ["a door"], 2, 9, None) == [(0, 9), (0, 10)]
    assert samples_to_draw_on(tmp_path, ["spot"], None, None, None)[::149] == [(0, 0), (0, 149)]


# The door.


def test_the_page_and_everything_on_it_comes_from_the_server(studio):
    client, _, _ = studio
    status, headers, page = client.request("GET", "")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    text = page.decode()
    assert "http:" not in text
    assert "https:" not in text
    for name in ("style.css", "main.js", "icon.svg"):
        status, _, body = client.request("GET", name)
        assert status == 200
        # The name of SVG is an address that nobody calls.
        assert b"://" not in body.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"token": "/"}, 403),
        ({"token": "/wrong/"}, 403),
        ({"token": "//"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:80"}, 421),
        ({"host": "127.0.0.1"}, 421),
        ({"headers": {"Origin": "http://evil.example"}}, 403),
        ({"headers": {"Origin": "null"}}, 403),
        ({"headers": {"Origin": "https://127.0.0.1:1"}}, 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_strangers_are_refused(studio, method, change, status):
    client, _, folder = studio
    before = sorted(folder.rglob("*"))
    body = b'{"concept":"spot","pass":"first","place":0,"boxes":[],"version":"unseen"}'
    path = "api/boxes?concept=spot&pass=first"
    answered, _, _ = client.request(method, path, body if method == "POST" else None, **change)
    assert answered == status
    assert sorted(folder.rglob("*")) == before


def test_a_post_that_a_form_of_another_page_could_send_is_refused(studio):
    client, _, _ = studio
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert client.request("POST", "api/boxes", b"{}", {"Content-Type": kind})[0] == 415
    assert client.request("PUT", "api/boxes", b"{}")[0] == 405


def test_what_is_too_large_is_refused(studio):
    client, _, _ = studio
    for length in (str((1 << 20) + 1), "9" * 15):
        # Refused by what it says of itself, before it is read.
        assert client.request("POST", "api/boxes", b"{", {"Content-Length": length})[0] == 413
    assert client.request("POST", "api/boxes", b" " * (1 << 20))[0] == 422
    assert client.request("GET", "api/boxes?" + "a" * 5_000)[0] == 414
    deep = b'{"boxes":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert client.request("POST", "api/boxes", deep)[0] == 422


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "static/../app.py",
        "app.py",
        "//etc/passwd",
        "api/picture/..%2f..%2fetc%2fpasswd.png",
    ],
)
def test_no_path_of_a_request_reaches_the_disk(studio, path):
    client, _, _ = studio
    status, _, body = client.request("GET", path)
    assert status in (404, 422)
    assert b"root:" not in body
    assert b"import" not in body


words = st.one_of(
    st.sampled_from(
        ["spot", "door", "first", "second", "toy", "layer8x8", "spot (given)", "unseen", "0", "3"]
    ),
    st.text(max_size=12),
    st.integers(-(10**20), 10**20).map(str),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 80)
    | st.integers(-(10**30), 10**30)
    | st.floats(width=32)
    | words
    | st.sampled_from(["everywhere", "probe", "brush", "units", "picture", "checkpoint"]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
GOOD = {
    "concept": "spot (given)",
    "pass": "first",
    "place": 0,
    "boxes": [[1, 1, 4, 4]],
    "version": "unseen",
    "rows": 8,
    "columns": 8,
    "model": "toy",
    "layer": "layer8x8",
    "seed": 0,
    "index": 0,
    "units": [0, 1],
    "strength": 1,
    "where": "everywhere",
    "threshold": 0.5,
    "remove": [0],
    "insert": [1],
    "control": 0,
    "what": "units",
    "start": {"seed": 0, "index": 0},
    "end": {"seed": 0, "index": 1},
    "stops": [{"share": 0, "moved": [0.5]}, {"share": 1}],
    "by": "iou",
}
# Mostly good, so that a request gets past the first thing that it is asked for.
bodies = st.dictionaries(st.sampled_from(list(GOOD)), values, max_size=3).map(
    lambda odd: {**GOOD, **odd}
)
posts = st.tuples(
    st.sampled_from(["boxes", "coverage", "edit", "measure", "ranking", "save", "walk"]),
    bodies | values,
)
gets = st.tuples(
    st.sampled_from(
        ["workspace", "boxes", "agreement", "model", "units", "strengths", "before"]
    ),
    st.dictionaries(st.sampled_from(list(GOOD)), words, max_size=3),
)


@pytest.mark.parametrize("part", range(2))
def test_no_request_breaks_the_server_or_leaves_its_folder(studio, part):
    client, _, folder = studio
    home = folder.parent
    outside = {path for path in home.rglob("*") if folder not in path.parents}
    count = 0

    @given(post=posts, get=gets, picture=words, raw=st.binary(max_size=60))
    @settings(
        max_examples=int(os.environ.get("DISSECT_FUZZ", "100")),
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=False,
    )
    def fuzz(post, get, picture, raw):
        nonlocal count
        from urllib.parse import quote, urlencode

        sent = json.dumps(post[1]).encode()
        query = urlencode(
            {**{key: GOOD[key] for key in ("model", "layer", "seed", "index")}, **get[1]},
            errors="replace",
        )
        asked = [
            client.request("POST", f"api/{post[0]}", sent),
            client.request("POST", f"api/{post[0]}", raw),
            client.request("GET", f"api/{get[0]}?{query}"),
            client.request("GET", f"api/picture/{quote(picture, safe='', errors='replace')}.png"),
            client.request(
                "GET", f"api/sample/0/{quote(picture, safe='', errors='replace')}/1.png"
            ),
            client.request("GET", quote(raw)),
        ]
        count += len(asked)
        for status, _, body in asked:
            assert status in (200, 404, 405, 409, 422), (status, body, post, get, picture)

    fuzz()
    assert count >= 500
    assert {path for path in home.rglob("*") if folder not in path.parents} == outside
    written = {path.relative_to(folder).parts[0] for path in folder.rglob("*")}
    assert written <= {"boxes", "saved"}
    for path in (folder / "boxes").glob("*.json"):
        Annotations.load(path, path.stem, allow_empty=True)
    assert client.get("api/workspace")[0] == 200


# What the page asks.


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"boxes": [[1, 1, 4, 99]]}, "does not lie inside the image of 32 x 32"),
        ({"boxes": [[1, 1, 4]]}, "a list of 4 finite numbers"),
        ({"boxes": [[1, 1, 0, 4]]}, "a positive width and height"),
        ({"boxes": [[1, 1, 2, 2]] * 500}, "at most 200 boxes"),
        ({"place": 12}, "at most 11"),
        ({"concept": "bed"}, "no concept 'bed' here; there are: 'door', 'spot'"),
        ({"pass": "third"}, "'first' or 'second'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_reason(tmp_path, odd, message):
    sent = {"concept": "spot", "pass": "first", "place": 0, "boxes": [], "version": "unseen"}
    with running(workspace(tmp_path)) as client:
        status, answer = client.post("api/boxes", {**sent, **odd})
    assert status == 422
    assert message in answer["error"]
    assert list(tmp_path.rglob("*.json")) == []


def test_an_unknown_layer_or_model_is_told_with_those_there_are(studio):
    client, _, _ = studio
    status, answer = client.get("api/before?model=other&seed=0&index=0")
    assert (status, answer["error"]) == (422, "no model 'other' was opened here; there are: toy")
    status, answer = client.post("api/edit", {**GOOD, "layer": "layer9x9"})
    assert status == 422
    assert "'layer8x8'" in answer["error"]


def test_where_no_browser_can_be_opened_the_terminal_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    said = []
    open_page("http://127.0.0.1:1/", said.append)
    assert said == ["no browser could be opened here: open the address yourself"]


def test_coverage_is_that_of_the_library(studio):
    client, _, _ = studio
    sent = {"boxes": [[4, 4, 6, 4]], "rows": 8, "columns": 8}
    status, answer = client.post("api/coverage", sent)
    assert status == 200
    assert answer["shares"][1][:4] == [0, 1, 0.5, 0]


def test_two_passes_agree_as_the_library_says(tmp_path):
    with running(workspace(tmp_path)) as client:
        for which, box in (("first", [4, 4, 8, 8]), ("second", [4, 4, 8, 4])):
            sent = {"concept": "door", "pass": which, "place": 1, "boxes": [box]}
            assert client.post("api/boxes", {**sent, "version": "unseen"})[0] == 200
        status, answer = client.get("api/agreement?concept=door")
    assert status == 200
    assert answer == {
        "images": 1,
        "mean_iou": 0.5,
        "paired": 1,
        "only_first": 0,
        "only_second": 0,
    }
    assert (tmp_path / "boxes" / "passes" / "door-second.json").exists()


def test_removing_the_spots_unit_removes_the_spot_and_only_where_it_is_brushed(studio):
    _, made, _ = studio
    explorer = made.explorers["toy"]
    study = explorer.study("layer8x8", "spot (given)")
    assert study.scores["weight"][0] == max(study.scores["weight"])
    spot = spot_of(explorer.painter, 3)
    cell = int(spot.y // 4) * 8 + int(spot.x // 4)

    def left(edit):
        return int((explorer.after(study, edit, 0, 3).labels == 1).sum())

    assert int((explorer.before(0, 3).labels == 1).sum()) == 64
    assert left(Edit((0,))) == 0
    assert left(Edit((0,), where="probe")) == 0
    assert left(Edit((0,), where="brush", remove=(cell,))) == 48
    assert left(Edit((0,), where="brush")) == 64
    far = 63 - cell
    assert left(Edit((0,), where="brush", insert=(far,))) == 64 + 16
    assert int((explorer.control(study, Edit((0,)), 0, 3, 0).labels == 1).sum()) > 0


def test_an_edit_is_measured_on_fresh_samples_beside_random_units(studio):
    client, _, _ = studio
    sent = {**GOOD, "units": [0], "where": "everywhere"}
    status, found = client.post("api/measure", sent)
    assert status == 200
    assert (found["n"], found["removed"], found["removed_ci"]) == (48, 1.0, [1.0, 1.0])
    assert found["random"] < 0.5  # units 1 to 3 draw no spot
    status, found = client.post("api/measure", {**sent, "where": "brush"})
    assert status == 422


def test_what_is_saved_loads_and_is_never_written_over(tmp_path):
    made = workspace(tmp_path)
    sent = {**GOOD, "units": [2, 0], "where": "everywhere"}
    with running(made) as client:
        for what in ("units", "picture", "units"):
            assert client.post("api/save", {**sent, "what": what})[0] == 200
        status, answer = client.post("api/save", {**sent, "what": "checkpoint"})
        assert status == 422
        assert "only generators of dissect" in answer["error"]
    units = Units.load(tmp_path / "saved" / "units-1.json")
    assert (units.indices[0], set(units.indices), units.total) == (0, {0, 2}, 4)
    assert units.model == fingerprint(made.explorers["toy"].painter.model)
    assert (tmp_path / "saved" / "units-2.json").exists()
    assert Image.open(tmp_path / "saved" / "picture-1.png").size == (2 * 32 * 4, 32 * 4)


def test_a_walk_ends_at_its_ends(studio):
    client, made, _ = studio
    import base64

    sent = {"model": "toy", "start": {"seed": 0, "index": 1}, "end": {"seed": 0, "index": 2}}
    stops = [{"share": share} for share in (0, 0.5, 1)]
    status, answer = client.post("api/walk", {**sent, "stops": stops})
    assert status == 200
    painter = made.explorers["toy"].painter
    for text, index in zip(answer["pictures"][::2], (1, 2), strict=True):
        assert base64.b64decode(text) == painter.image(0, index).tobytes()


def test_a_stop_is_moved_along_each_direction_by_its_own_amount():
    painter = Painter("toy", Toy().eval())
    across, down = (Direction(vector, "spot", "held") for vector in 0.5 * torch.eye(2))
    start, end = painter.latent(0, 1), painter.latent(0, 2)
    stops = [Stop(0), Stop(1, (0.4, -1.2))]
    drawn = walked(painter, start, end, stops, [across, down])
    wanted = painter.pixels(torch.cat([start, end + torch.tensor([[0.2, -0.6]])]))
    assert drawn.tobytes() == wanted.tobytes()
    with pytest.raises(DissectError, match="2 directions to move along, not 1"):
        walked(painter, start, end, [Stop(0, (1.0,))], [across, down])


def test_directions_come_from_files_and_folders_and_fit_their_own_generator(tmp_path):
    painter = Painter("toy", Toy().eval())
    ours = Direction(torch.tensor([1.0, 0.0]), "yaw", "held", painter.fingerprint)
    ours.save(tmp_path / "turn-yaw-held.json")
    ours.save(tmp_path / "turn-yaw-held.safetensors")
    theirs = Direction(torch.ones(100), "yaw", "exemplars", "0" * 16)
    theirs.save(tmp_path / "turn-yaw-exemplars.safetensors")
    (tmp_path / "turn-yaw.json").write_text('{"n": 3}')
    opened = open_directions([tmp_path])
    assert set(opened) == {"yaw, held", "yaw, exemplars"}
    assert list(fitting(painter, opened)) == ["yaw, held"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DissectError, match="has no direction"):
        open_directions([tmp_path / "empty"])


def ranked(client, by):
    """The scores of the toy's units for the spot, when they are all measured."""
    sent = {"model": "toy", "layer": "layer8x8", "concept": "spot (given)", "by": by}
    end = time.monotonic() + 120
    while time.monotonic() < end:
        status, answer = client.post("api/ranking", sent)
        assert status == 200, answer
        if answer["finished"]:
            return answer
        time.sleep(0.05)
    raise AssertionError("no ranking")


@pytest.mark.parametrize("by", ["iou", "effect"])
def test_units_are_ranked_in_the_background_and_the_ranking_is_kept(tmp_path, by):
    with running(workspace(tmp_path)) as client:
        answer = ranked(client, by)
    values = answer["values"]
    assert answer["samples"] >= 150
    assert max(range(4), key=lambda unit: values[unit]) == 0
    if by == "effect":
        assert values[0] == 1  # without it there is no spot
        assert values[3] == 0  # nothing is drawn with it
    [kept] = (tmp_path / "saved" / "rankings").iterdir()
    before = kept.read_bytes()
    with running(workspace(tmp_path)) as client:
        again = ranked(client, by)
    assert (again["samples"], again["values"]) == (answer["samples"], values)
    assert kept.read_bytes() == before


def test_a_ranking_that_was_kept_of_other_eyes_is_measured_anew(tmp_path):
    with running(workspace(tmp_path)) as client:
        ranked(client, "effect")
    made = workspace(tmp_path)
    blind = replace(segmenter(), label=lambda images: torch.zeros_like(images[:, 0]).long())
    boxes = spot_boxes(made.explorers["toy"].painter)
    toy = Explorer(
        made.explorers["toy"].painter, {"spot (given)": lambda: boxes}, blind, tmp_path / "saved"
    )
    with running(Workspace("toy", made.drawing, {"toy": toy})) as client:
        assert ranked(client, "effect")["values"] == [0, 0, 0, 0]


def eventually(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_measurement_waits_for_the_hand_and_gives_way_to_what_is_asked_for_now(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("dissect.studio.ranking._PATIENCE", 0.0)
    rests = threading.Event()
    ranker = Ranker(Toy().eval(), segmenter(), rests.is_set, tmp_path)
    eventually(lambda: ranker.ask("layer8x8", "effect").done == 1)
    time.sleep(0.3)
    assert ranker.ask("layer8x8", "effect").done == 1
    # While the hand works, the other one is begun, and waits in its turn.
    eventually(lambda: ranker.ask("layer8x8", "iou").done > 0)
    rests.set()
    eventually(lambda: ranker.ask("layer8x8", "iou").finished)
    eventually(lambda: ranker.ask("layer8x8", "effect").finished)
    assert ranker.ask("layer8x8", "effect").done == 6 * 4
    ranker.close()


@pytest.mark.parametrize(
    ("edit", "how"),
    [
        (Edit((0, 2)), "weights"),
        (Edit((0, 2), strength=1.5), "module"),
        (Edit((0, 2), where="probe", threshold=0.3, strength=1.5), "module"),
        (Edit((0, 2), where="brush", remove=(5, 6), insert=(9,)), "module"),
    ],
)
def test_an_edited_generator_in_a_file_draws_what_the_page_draws(tmp_path, edit, how):
    torch.manual_seed(0)
    painter = Painter("small", Generator(latent_size=4, width=4, image_size=16).eval())
    drawn = tuple(
        AnnotatedImage(16, 16, (Box(2 * index, 4, 6, 6),), seed=0, index=index)
        for index in range(5)
    )
    boxes = Annotations("spot", drawn, painter.fingerprint)
    explorer = Explorer(painter, {"spot": lambda: boxes}, None, tmp_path)
    study = explorer.study("layer4x4", "spot")
    saved = explorer.save_generator(study, edit, 0, 1)
    assert (saved.how, saved.difference) == (how, 0)
    again = Painter("saved", load(str(saved.path)))
    for index in range(4):
        assert (again.image(3, index) == explorer.after(study, edit, 3, index).pixels).all()
    with pytest.raises(DissectError, match="nothing is edited yet"):
        explorer.save_generator(study, Edit(()), 0, 1)
    with pytest.raises(DissectError, match="nothing is edited yet"):
        explorer.save_generator(study, Edit((1,), where="brush"), 0, 1)


# The commands.


def fails(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_mistakes_are_one_line(capsys, tmp_path):
    quiet = ("--no-browser", "--out", str(tmp_path))
    assert "no model" in fails(capsys, "annotate", "--model", "nowhere", *quiet)
    assert "cannot name a file" in fails(capsys, "annotate", "--concept", "../up", *quiet)
    assert "give folder:PATH" in fails(capsys, "annotate", "--images", "lsun:x", *quiet)
    assert "no folder" in fails(capsys, "annotate", "--images", f"folder:{tmp_path}/no", *quiet)
    assert "no such segmenter" in fails(capsys, "studio", "--segmenter", "no", *quiet)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "leave out --port" in fails(capsys, "annotate", "--port", port, *quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_direction_of_another_generator_is_a_mistake(capsys, tmp_path):
    quiet = ("studio", "--no-browser", "--out", str(tmp_path / "out"), "--directions")
    assert "no such file" in fails(capsys, *quiet, str(tmp_path / "none.json"))
    other = Direction(torch.ones(100), "yaw", "held", "0" * 16).save(tmp_path / "other.json")
    assert "was found in another model" in fails(capsys, *quiet, str(other))
    short = Direction(torch.ones(3), "yaw", "held").save(tmp_path / "short.json")
    assert "has 3 components" in fails(capsys, *quiet, str(short))


def test_only_a_loud_word_opens_the_page_to_others():
    place = take_place()
    assert place.listener.getsockname()[0] == "127.0.0.1"
    assert not place.door.welcomes(f"192.168.1.5:{place.door.port}")
    place.listener.close()
    exposed = take_place(expose_to_network="0.0.0.0")
    assert exposed.door.welcomes(f"192.168.1.5:{exposed.door.port}")
    assert not exposed.door.welcomes(f"evil.example:{exposed.door.port}")
    exposed.listener.close()


def started(*words, **more):
    """A process of the command line and the URL that it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dissect", *words, "--no-browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more
    )
    for line in process.stderr:
        if line.startswith("http"):
            return process, line.strip()
    raise AssertionError(f"no address; the command ended with {process.wait()}")


def test_annotate_draws_on_a_folder_and_ends_at_once_at_ctrl_c(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (60 * number, 9, 9)).save(photos / f"{number}.png")
    words = ("--images", f"folder:{photos}", "--size", "24", "--concept", "dog", "--json")
    process, url = started("annotate", *words, "--out", str(tmp_path / "boxes"))
    from studio_tools import Client

    client = Client(url)
    sent = {"concept": "dog", "pass": "first", "place": 1, "boxes": [[2, 3, 4, 5]]}
    assert client.post("api/boxes", {**sent, "version": "unseen"})[0] == 200
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["boxes"] == {"dog": 1}
    assert result["files"] == [str(tmp_path / "boxes" / "dog.json")]
    read = Annotations.load(tmp_path / "boxes" / "dog.json")
    assert (read.images[0].file_name, read.boxes) == ("1.png", ((Box(2, 3, 4, 5),),))
