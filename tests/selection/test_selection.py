from dataclasses import replace

import pytest
import torch
from helpers.selection import CULPRIT, GRID, SEGMENTER, UNITS, generator

from dissect._utils.errors import DissectError
from dissect.models import fingerprint
from dissect.probe import fit_probe
from dissect.selection import search as auto
from dissect.selection.inpaint import inpaint_background
from dissect.selection.objective import Metrics, Objective, Trial
from dissect.selection.samples import draw_samples
from dissect.selection.scores import ace_scores, causal_scores, gradient_scores, iou_scores
from dissect.selection.search import SearchConfig, search_edit, search_steps
from dissect.selection.stored import load_results, matches, save_results
from dissect.selection.strengths import StrengthObjective, optimize_strengths
from dissect.surgery.apply import unit_amounts
from dissect.surgery.intervention import Intervention
from dissect.units import Units, parse_rule


@pytest.fixture(scope="module")
def model():
    return generator()


@pytest.fixture(scope="module")
def samples(model):
    return draw_samples(model, "layer", SEGMENTER, "window", 40)


def test_samples_know_the_concepts_cells(samples):
    # The culprit paints one cell of 4 x 4 in three samples of five.
    assert samples.coverage.sum() == 24
    assert set(samples.coverage.unique().tolist()) == {0.0, 1.0}
    assert (samples.acts[:, CULPRIT] == samples.coverage).all()
    assert len(samples.rows_with_concept()) == 24


def test_inside_is_what_units_are_where_the_concept_is(samples):
    found = samples.mean_inside()
    # The culprit is 1 there, and nothing else knows of it: relu(u - 0.2) has the mean 0.32.
    assert found[CULPRIT] == 1.0
    others = [found[unit].item() for unit in range(UNITS) if unit != CULPRIT]
    assert sum(others) / len(others) == pytest.approx(0.32, abs=0.06)


def test_every_rule_finds_the_unit_that_draws_the_concept(model, samples):
    iou = iou_scores(model, "layer", SEGMENTER, "window", n=40, quantile=0.9)
    for scores in (
        iou,
        ace_scores(samples, iou),
        causal_scores(model, "layer", SEGMENTER, "window", n=20),
        gradient_scores(samples),
    ):
        assert scores.shape == (UNITS,)
        assert scores.isfinite().all()
        assert scores.argmax() == CULPRIT
        assert scores[CULPRIT] > 1.5 * scores.sort().values[-2]


def test_doses_are_spared_where_they_do_nothing(samples):
    objective = StrengthObjective(
        outside=5.0, l2=0.0, l1=0.5, log=True, all_pixels=True, learning_rate=0.1
    )
    strengths = optimize_strengths(samples, objective)
    assert strengths[CULPRIT] > 0.7
    assert strengths[[unit for unit in range(UNITS) if unit != CULPRIT]].max() < 0.05


def test_doses_may_turn_a_units_sign_and_keep_to_some_units(samples):
    among = torch.ones(UNITS, dtype=torch.bool)
    among[CULPRIT + 1 :] = False
    objective = StrengthObjective(l2=0.0, log=True, max_strength=2.0, learning_rate=0.1)
    strengths = optimize_strengths(samples, objective, start=0.0, among=among)
    assert strengths[CULPRIT] > 1.0
    assert strengths.max() <= 2.0
    assert (strengths[CULPRIT + 1 :] == 0).all()


def test_what_is_to_be_kept_holds_a_dose_back(samples):
    # The wall is where no window is: taking the window away moves the wall's outline.
    free = StrengthObjective(l2=0.0, log=True, learning_rate=0.1)
    held = replace(free, outlines=500.0, keep=("window",))
    strengths = [optimize_strengths(samples, objective)[CULPRIT] for objective in (free, held)]
    assert strengths[0] > 0.7
    with pytest.raises(DissectError, match="does not know 'lamps'"):
        optimize_strengths(samples, replace(free, keep=("lamps",)))


def test_colours_around_a_region_know_nothing_of_what_is_in_it():
    images = torch.rand(3, 3, 16, 16) * 0.2 + torch.tensor([-0.5, 0.0, 0.5]).reshape(3, 1, 1)
    region = torch.zeros(3, 16, 16, dtype=torch.bool)
    region[0, 4:9, 4:9] = region[1, :, :15] = region[2] = True
    other = torch.where(region.unsqueeze(1), 1.0, images)
    found, same = inpaint_background(images, region), inpaint_background(other, region)
    assert torch.equal(found[:2], same[:2])
    # A mean of what is outside: the left half's colours count more on the left.
    images[0, :, :, 8:] += 1.0
    assert (inpaint_background(images, region)[0, :, 6, 8] > found[0, :, 6, 8] + 0.3).all()
    assert (inpaint_background(images, region)[0, :, 6, 4] < found[0, :, 6, 4] + 0.5).all()
    # As far as the other side of a wide region; and all region leaves nothing to take.
    assert (found[1] - images[1, :, :, 15:].mean((1, 2), keepdim=True)).abs().max() < 0.1
    assert torch.equal(found[2], images[2])


def test_doses_go_as_far_as_the_colours_around(samples):
    # So dear a strength is not worth the window; that its red should be the wall's, -1, is.
    alone = StrengthObjective(l2=0.0, l1=100.0, learning_rate=0.1)
    strengths = (
        optimize_strengths(samples, alone),
        optimize_strengths(samples, replace(alone, inpainting=500.0)),
    )
    assert strengths[0][CULPRIT] < 0.05
    assert strengths[1][CULPRIT] > 0.9


def test_a_gate_that_never_opens_teaches_nothing(samples):
    shut = torch.zeros(len(samples), GRID, GRID, dtype=torch.bool)
    with pytest.raises(DissectError, match="opens on no sample with a window"):
        optimize_strengths(samples, StrengthObjective(), open_cells=shut)


@pytest.fixture(scope="module")
def probe(samples):
    return fit_probe(
        samples.acts, samples.coverage, layer="layer", concept="window", resamples=1, sign_fits=1
    )


@pytest.fixture(scope="module")
def search():
    return SearchConfig(n=40, sizes=(0.5, 0.2), thresholds=(0.3, 0.5))


def test_auto_pays_for_colours_where_it_is_gated(monkeypatch, model, probe, search):
    prices = []

    def learned(samples, objective, *, open_cells, **options):
        prices.append((open_cells is not None, objective.inpainting > 0))
        return optimize_strengths(samples, objective, open_cells=open_cells, **options)

    monkeypatch.setattr(auto, "optimize_strengths", learned)
    search_edit(model, "layer", SEGMENTER, "window", {"probe": probe, "all": None}, config=search)
    assert set(prices) == {(True, True), (False, False)}


@pytest.mark.parametrize("where", ["everywhere", "probe"])
def test_auto_takes_that_unit_alone(model, probe, where, search):
    steps = []
    gates = {where: probe if where == "probe" else None}
    result = search_edit(
        model,
        "layer",
        SEGMENTER,
        "window",
        gates,
        config=search,
        progress=lambda n, note="": steps.append(n),
    )
    edit = result.intervention
    assert result.gate_name == where
    assert edit.units.indices == (CULPRIT,)
    assert edit.units.rule == "auto"
    assert unit_amounts(edit, torch.empty(0)).item() > 0.8
    assert result.meets_objective
    assert result.holdout.removed == 1.0
    assert result.holdout.prevalence == 0.0
    assert result.holdout.outside_change == 0.0
    assert sum(steps) <= search_steps(search)


def test_a_result_is_the_same_when_it_is_read_again(model, probe, tmp_path, search):
    result = search_edit(model, "layer", SEGMENTER, "window", {"boxes": probe}, config=search)
    path = save_results(tmp_path / "auto.json", {"probe": result})
    again = load_results(path)["probe"]
    assert again.holdout == result.holdout
    assert again.intervention.units == result.intervention.units
    assert again.intervention.unit_strengths == result.intervention.unit_strengths
    z = model.make_latents(5, 3, 0)
    with result.intervention.applied(model):
        images = model(z)
    with again.intervention.applied(model):
        assert torch.equal(model(z), images)
    assert not torch.equal(model(z), images)
    assert matches(again, fingerprint(model), "layer", "window", probe)
    assert not matches(again, fingerprint(model), "layer", "bed", probe)
    assert not matches(again, "0" * 16, "layer", "window", probe)
    other = replace(probe, weight=probe.weight * 2)
    assert not matches(again, fingerprint(model), "layer", "window", other)


def trial(removed, shown, change, units, kept=1.0):
    edit = Intervention(Units("layer", tuple(range(units)), 50))
    return Trial("everywhere", edit, Metrics(removed, shown, 1.0, kept, change, 100))


def test_the_goal_wants_little_change_and_then_few_units():
    goal = Objective(removed=0.98, prevalence=0.01, keep=("bed",), kept=0.95, slack=1.1)
    few, least, costly = (
        trial(0.99, 0.0, 0.0105, 5),
        trial(0.985, 0.01, 0.010, 9, kept=0.95),
        trial(1.0, 0.0, 0.02, 1),
    )
    nearly, not_nearly = trial(0.97, 0.0, 0.001, 2), trial(0.9, 0.05, 0.0001, 1)
    moved = trial(1.0, 0.0, 0.001, 1, kept=0.92)
    found = goal.ranked([not_nearly, costly, moved, nearly, least, few])
    assert found == [few, least, costly, nearly, moved, not_nearly]
    assert goal.shortfall(not_nearly.metrics) == pytest.approx(0.12)
    assert goal.shortfall(moved.metrics) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wild:3", "unknown rule 'wild:3'"),
        ("iou", "needs a count"),
        ("ace:0", "needs a count"),
        ("auto:3", "takes no count"),
        ("causal:x", "needs a count"),
    ],
)
def test_a_rule_that_cannot_be_is_one_line(text, message):
    with pytest.raises(DissectError, match=message):
        parse_rule(text)


def test_an_unknown_concept_or_layer_is_one_line(model):
    with pytest.raises(DissectError, match="does not know 'windows'"):
        draw_samples(model, "layer", SEGMENTER, "windows", 4)
    with pytest.raises(DissectError, match="no layer 'layr'"):
        draw_samples(model, "layr", SEGMENTER, "window", 4)
    with pytest.raises(DissectError, match="sees no lamp in any of 4"):
        draw_samples(model, "layer", SEGMENTER, "lamp", 4)
