"""What the page asks of drawings and of generators."""

import base64
import threading

import pytest
import torch
from helpers.studio import GOOD, Toy, running, spot_of, workspace

from dissect._utils.errors import DissectError
from dissect.latent_space import Direction
from dissect.probe import fit_probe
from dissect.studio import GeneratorSession
from dissect.studio.sessions.page_edit import PageEdit
from dissect.studio.sessions.walk import WalkPoint, fitting, open_directions, walk_images


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"boxes": [[1, 1, 4, 99]]}, "does not lie inside the image of 32 x 32"),
        ({"boxes": [[1, 1, 4]]}, "'boxes[0]'"),
        ({"boxes": [[1, 1, 0, 4]]}, "a positive width and height"),
        ({"boxes": [[1, 1, 2, 2]] * 500}, "at most 200 boxes"),
        ({"position": 12}, "at most 11"),
        ({"concept": "bed"}, "no concept 'bed' here; there are: 'door', 'spot'"),
        ({"pass": "third"}, "'first' or 'second'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_its_reason(tmp_path, odd, message):
    sent = {"concept": "spot", "pass": "first", "position": 0, "boxes": [], "version": "unseen"}
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


def test_coverage_is_that_of_the_library(studio):
    client, _, _ = studio
    sent = {"boxes": [[4, 4, 6, 4]], "rows": 8, "columns": 8}
    status, answer = client.post("api/coverage", sent)
    assert status == 200
    assert answer["coverage"][1][:4] == [0, 1, 0.5, 0]


def test_two_passes_agree_as_the_library_says(tmp_path):
    with running(workspace(tmp_path)) as client:
        for which, box in (("first", [4, 4, 8, 8]), ("second", [4, 4, 8, 4])):
            sent = {"concept": "door", "pass": which, "position": 1, "boxes": [box]}
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
    session = made.explore_sessions["toy"]
    study = session.study("layer8x8", "spot (given)")
    assert study.scores["weight"][0] == max(study.scores["weight"])
    spot = spot_of(session.generator, 3)
    cell = int(spot.y // 4) * 8 + int(spot.x // 4)

    def left(*units, control=None, **more):
        edit = session.intervention(study, PageEdit(units=units, **more))
        edit = edit if control is None else edit.control(control)
        return int((session.after(edit, 0, 3).labels == 1).sum())

    assert int((session.before(0, 3).labels == 1).sum()) == 64
    assert left(0) == 0
    assert left(0, where="probe") == 0
    assert left(0, where="brush", remove=(cell,)) == 48
    assert left(0, where="brush") == 64
    far = 63 - cell
    assert left(0, where="brush", insert=(far,)) == 64 + 16
    assert left(0, control=0) > 0


def test_pictures_are_drawn_while_a_probe_is_fitted(tmp_path, monkeypatch):
    go, began = threading.Event(), threading.Event()

    def slowly(*arguments, **settings):
        began.set()
        assert go.wait(30)
        return fit_probe(*arguments, **settings)

    monkeypatch.setattr("dissect.studio.sessions.layer_study.fit_probe", slowly)
    session = workspace(tmp_path).explore_sessions["toy"]
    studies = []
    threads = [
        threading.Thread(target=lambda: studies.append(session.study("layer8x8", "spot (given)")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert began.wait(30)
    assert session.before(0, 1).pixels.shape == (32, 32, 3)
    assert studies == []
    go.set()
    for thread in threads:
        thread.join(30)
    assert studies[0] is studies[1]  # the second waited for the first, and fitted nothing


def test_an_edit_is_measured_on_fresh_samples_beside_random_units(studio):
    client, _, _ = studio
    sent = {**GOOD, "units": [0], "where": "everywhere"}
    status, found = client.post("api/measure", sent)
    assert status == 200
    assert (found["n"], found["removed"], found["removed_ci"]) == (48, 1.0, [1.0, 1.0])
    assert found["random"] < 0.5  # units 1 to 3 draw no spot
    status, found = client.post("api/measure", {**sent, "where": "brush"})
    assert status == 422


def test_a_walk_ends_at_its_ends(studio):
    client, made, _ = studio
    sent = {"model": "toy", "start": {"seed": 0, "index": 1}, "end": {"seed": 0, "index": 2}}
    points = [{"fraction": fraction} for fraction in (0, 0.5, 1)]
    status, answer = client.post("api/walk", {**sent, "points": points})
    assert status == 200
    generator = made.explore_sessions["toy"].generator
    for text, index in zip(answer["pictures"][::2], (1, 2), strict=True):
        assert base64.b64decode(text) == generator.image(0, index).tobytes()


def test_a_stop_is_moved_along_each_direction_by_its_own_amount():
    generator = GeneratorSession("toy", Toy().eval())
    across, down = (Direction(vector, "spot", "held") for vector in 0.5 * torch.eye(2))
    start, end = generator.latent(0, 1), generator.latent(0, 2)
    points = [WalkPoint(fraction=0), WalkPoint(fraction=1, offsets=(0.4, -1.2))]
    drawn = walk_images(generator, start, end, points, [across, down])
    wanted = generator.pixels(torch.cat([start, end + torch.tensor([[0.2, -0.6]])]))
    assert drawn.tobytes() == wanted.tobytes()
    with pytest.raises(DissectError, match="2 directions to move along, not 1"):
        walk_images(generator, start, end, [WalkPoint(fraction=0, offsets=(1.0,))], [across, down])


def test_directions_come_from_files_and_folders_and_fit_their_own_generator(tmp_path):
    generator = GeneratorSession("toy", Toy().eval())
    ours = Direction(torch.tensor([1.0, 0.0]), "yaw", "held", generator.fingerprint)
    ours.save(tmp_path / "turn-yaw-held.json")
    ours.save(tmp_path / "turn-yaw-held.safetensors")
    theirs = Direction(torch.ones(100), "yaw", "exemplars", "0" * 16)
    theirs.save(tmp_path / "turn-yaw-exemplars.safetensors")
    (tmp_path / "turn-yaw.json").write_text('{"n": 3}')
    opened = open_directions([tmp_path])
    assert set(opened) == {"yaw, held", "yaw, exemplars"}
    assert list(fitting(generator, opened)) == ["yaw, held"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DissectError, match="has no direction"):
        open_directions([tmp_path / "empty"])
