"""Units ranked in the background."""

import threading
import time
from dataclasses import replace

import pytest
import torch
from helpers.studio import Toy, running, segmenter, spot_boxes, workspace

from dissect.studio import ExploreSession, Workspace
from dissect.studio.sessions.unit_ranking import UnitRankingJob


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
    boxes = spot_boxes(made.explore_sessions["toy"].generator)
    toy = ExploreSession(
        made.explore_sessions["toy"].generator,
        {"spot (given)": lambda: boxes},
        blind,
        tmp_path / "saved",
    )
    with running(Workspace("toy", made.annotation, {"toy": toy})) as client:
        assert ranked(client, "effect")["values"] == [0, 0, 0, 0]


def eventually(true, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_ranking_waits_while_the_page_is_used_and_yields_to_a_later_request(tmp_path):
    idle = threading.Event()
    job = UnitRankingJob(Toy().eval(), segmenter(), idle.is_set, tmp_path, timeout=0)
    eventually(lambda: job.request("layer8x8", "effect").done == 1)
    time.sleep(0.3)
    assert job.request("layer8x8", "effect").done == 1
    # While the hand works, the other one is begun, and waits in its turn.
    eventually(lambda: job.request("layer8x8", "iou").done > 0)
    idle.set()
    eventually(lambda: job.request("layer8x8", "iou").finished)
    eventually(lambda: job.request("layer8x8", "effect").finished)
    assert job.request("layer8x8", "effect").done == 6 * 4
    job.close()
