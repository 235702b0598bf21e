"""Rules that find directions, on a generator of which one unit draws the concept."""

from dataclasses import replace

import pytest
import torch
from helpers.selection import CULPRIT, SEGMENTER, UNITS, generator

from dissect._utils.errors import DissectError
from dissect.effect.measure import measure_effect
from dissect.models import latents_for
from dissect.probe import fit_probe
from dissect.selection.closed_form import (
    inlp_directions,
    leace_directions,
    nmf_directions,
    pca_directions,
    probe_direction,
)
from dissect.selection.directions import DirectionObjective, optimize_directions
from dissect.selection.rules import DIRECTED, Scorer
from dissect.selection.samples import draw_samples
from dissect.surgery import Intervention
from dissect.units import Units

OBJECTIVE = DirectionObjective(steps=120, outside=8.0, outlines=0.0, learning_rate=0.05)


@pytest.fixture(scope="module")
def model():
    return generator()


@pytest.fixture(scope="module")
def samples(model):
    return draw_samples(model, "layer", SEGMENTER, "window", 60)


@pytest.fixture(scope="module")
def probe(samples):
    return fit_probe(samples.acts, samples.coverage, layer="layer", concept="window")


def edit_of(along):
    k = len(along)
    return Intervention(Units("layer", tuple(range(k)), k, directions=along))


def measured(model, edit):
    z = latents_for(model, 60, seed=5)
    return measure_effect(model, SEGMENTER, z, "window", edit, with_features=False)


def towards_culprit(direction):
    return float(direction[CULPRIT].abs() / direction.norm())


def test_one_learned_direction_reads_and_writes_what_draws_the_concept(model, samples):
    along = optimize_directions(samples, OBJECTIVE, 1)
    assert towards_culprit(along.read[0]) > 0.9
    assert towards_culprit(along.write[0]) > 0.9
    effect = measured(model, edit_of(along))
    assert effect.removal() > 0.9
    assert along.bias is None
    controls = [measured(model, edit_of(along).control(seed)).removal() for seed in range(5)]
    assert sorted(controls)[2] < 0.5


def test_the_same_seed_learns_the_same_and_more_rank_comes_ordered(samples):
    objective = replace(OBJECTIVE, steps=20)
    one, again = (optimize_directions(samples, objective, 3) for _ in range(2))
    assert one == again
    assert len(one) == 3
    norms = one.write.norm(dim=1)
    assert (norms[:-1] >= norms[1:]).all()
    assert torch.allclose(one.write @ one.write.T, torch.diag(norms**2), atol=1e-5)


def test_directions_under_a_gate_have_a_bias_and_leave_closed_cells(model, samples, probe):
    cells = probe.probability(samples.acts) > 0.5
    along = optimize_directions(samples, replace(OBJECTIVE, steps=60), 2, open_cells=cells)
    assert along.bias is not None
    edit = Intervention(Units("layer", (0, 1), 2, directions=along), probe.gate(), threshold=0.5)
    assert measured(model, edit).removal() > 0.8


def test_erasure_leaves_nothing_that_a_linear_reader_finds(samples):
    along = leace_directions(samples)
    cells = samples.acts.movedim(1, -1).flatten(0, 2)
    erased = cells - along.values(cells) @ along.write
    label = samples.coverage.flatten()
    before, after = (
        torch.cov(torch.cat([one, label.unsqueeze(1)], 1).T)[-1, :-1].abs().max()
        for one in (cells, erased)
    )
    assert float(after) < 1e-5 < 0.01 < float(before)


@pytest.mark.parametrize("labels", [4, 9])
def test_erasure_takes_parts_of_a_cell_and_neighbours(samples, labels):
    assert 1 <= len(leace_directions(samples, labels)) <= labels


def test_directions_in_closed_form_point_at_the_concept(samples, probe):
    for along in (
        probe_direction(probe),
        pca_directions(samples, 1),
        nmf_directions(samples, 1, components=UNITS),
        inlp_directions(samples, 1),
    ):
        assert towards_culprit(along.read[0]) > 0.6
        assert towards_culprit(along.write[0]) > 0.6


def test_probes_after_one_another_are_orthogonal(samples):
    along = inlp_directions(samples, 3)
    assert torch.allclose(along.read @ along.read.T, torch.eye(3), atol=1e-5)


@pytest.mark.parametrize("name", DIRECTED)
def test_every_rule_gives_units_of_the_model(model, probe, name, monkeypatch):
    monkeypatch.setattr(
        "dissect.selection.rules.DirectionObjective",
        lambda keep: replace(OBJECTIVE, keep=keep, steps=2),
    )
    scorer = Scorer(model, "layer", "window", probe, lambda: SEGMENTER, n=20)
    units = scorer.units("probe" if name == "probe" else f"{name}:1")
    assert units.directions is not None
    assert units.concept == "window"
    units.check(None, "layer", UNITS)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("lowrank:7", "1 to 6 directions, not 7"),
        ("pca:7", "cannot take 7 directions"),
        ("leace:2", "use leace:1"),
        ("inlp:9", "cannot take 9 directions"),
        ("probe:2", "takes no count"),
    ],
)
def test_more_directions_than_there_are_is_one_line(model, probe, rule, words):
    scorer = Scorer(model, "layer", "window", probe, lambda: SEGMENTER, n=20)
    with pytest.raises(DissectError, match=words):
        scorer.units(rule)
