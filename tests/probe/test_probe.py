import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.probe import QUICK, boxes_on_grid, small_probe, telling_units
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect._utils.stats import stratified_counts, wilson_interval
from dissect.probe import Probe, fit_probe
from dissect.probe.ranking import Ranking


@pytest.fixture(scope="module")
def probe() -> Probe:
    return small_probe()


def test_the_unit_that_is_on_in_boxes_is_the_one_selected() -> None:
    coverage = boxes_on_grid()
    units = torch.stack([1 - coverage, coverage], dim=1)
    probe = fit_probe(units, coverage, concept="window", model="f" * 16, **QUICK)
    # Each unit is one minus the other, so neither can weigh more.
    assert probe.weight[1] == pytest.approx(-probe.weight[0].item(), rel=1e-4)
    selected = probe.units("positive")
    assert (selected.indices, selected.total) == ((1,), 2)
    assert (selected.layer, selected.concept, selected.rule) == ("conv", "window", "positive")
    assert selected.model == "f" * 16
    assert probe.score.auc == probe.score.average_precision == 1
    # Wilson's interval of 6 images of 6: one that is a point would claim to be certain.
    assert probe.score.auc_ci == pytest.approx((6 / (6 + 1.96**2), 1), abs=1e-4)
    assert probe.sign_stability.tolist() == [1, 1]


def test_the_fit_minimises_the_penalised_logistic_loss() -> None:
    coverage = boxes_on_grid()
    units = telling_units(coverage, noise=1.0)
    # So many negatives that every cell is fitted to; C as the field has it.
    probe = fit_probe(units, coverage, negatives_per_positive=1000, C=0.5, **QUICK)
    values = units.double().permute(0, 2, 3, 1).reshape(-1, 4)
    scale = values.std(0, correction=0)
    error = probe.probability(units.double()).flatten() - coverage.flatten()
    assert error.sum().item() == pytest.approx(0, abs=1e-4)
    gradient = probe.weight * scale**2 + 0.5 * error @ values
    assert gradient[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert torch.allclose(probe.scale, scale)


def test_a_dead_unit_has_no_weight_and_is_never_selected(probe: Probe) -> None:
    assert probe.weight[3] == 0
    assert probe.scale[3] == 0
    assert probe.sign_stability[3] == 0
    assert 3 not in probe.units("positive").indices


def test_larger_numbers_change_neither_the_sign_nor_the_rank_of_a_unit() -> None:
    coverage = boxes_on_grid()
    units = telling_units(coverage, noise=1.0)
    units[:, 3] = torch.randn(coverage.shape, generator=torch.Generator().manual_seed(5))
    factors = torch.tensor([1000, 1, 1e-3, 50]).view(1, 4, 1, 1)
    before, after = (
        fit_probe(units, coverage, **QUICK),
        fit_probe(units * factors, coverage, **QUICK),
    )
    assert torch.equal(before.weight.sign(), after.weight.sign())
    assert before.units("top:4").indices == after.units("top:4").indices
    assert torch.allclose(before.weight, after.weight * factors.flatten(), rtol=1e-3)
    assert before.score.auc == pytest.approx(after.score.auc, abs=1e-3)


def test_a_constant_added_to_a_unit_changes_only_the_bias() -> None:
    coverage = boxes_on_grid()
    units = telling_units(coverage, noise=1.0)
    before, after = fit_probe(units, coverage, **QUICK), fit_probe(units + 7, coverage, **QUICK)
    assert torch.allclose(before.weight, after.weight, rtol=1e-3, atol=1e-6)
    assert after.bias == pytest.approx(before.bias - 7 * before.weight.sum().item(), rel=1e-3)


def test_units_are_ranked_by_weight_times_standard_deviation(probe: Probe) -> None:
    weights = torch.tensor([3.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    scales = torch.tensor([1.0, 9.0, 5.0, 0.0], dtype=torch.float64)
    made = replace(probe, weight=weights, scale=scales)
    assert made.units("top:3").indices == (2, 0, 3)
    assert made.units("top:3").scores == (5, 3, 0)
    assert made.units("positive").indices == (2, 0, 3)
    assert made.units("top:4").indices == (2, 0, 3, 1)


def test_a_rule_that_asks_for_too_many_units_is_refused(probe: Probe) -> None:
    with pytest.raises(DissectError, match="cannot take 5 units of 'conv', which has 4"):
        probe.units("top:5")
    with pytest.raises(DissectError, match="unknown rule"):
        probe.units("best")


def test_cells_in_boxes_are_positive_and_those_outside_all_boxes_negative() -> None:
    coverage = boxes_on_grid(images=10)
    coverage[0, 0, 0] = 0.5 if coverage[0, 0, 0] == 0 else 1
    coverage[1, 3, 3] = 0.49
    positive, outside = int((coverage >= 0.5).sum()), int((coverage == 0).sum())
    score = fit_probe(telling_units(coverage), coverage, negatives_per_positive=3, **QUICK).score
    assert (score.n_images, score.n_images_with) == (10, 5)
    assert (score.n_positive, score.n_negative) == (positive, 3 * positive)
    assert score.n_scored == positive + outside
    assert score.prevalence == positive / (positive + outside)


def test_a_doubtful_cell_is_neither_fitted_to_nor_scored() -> None:
    coverage = boxes_on_grid()
    coverage[1, 2, 2] = 0.3
    one, other = telling_units(coverage), telling_units(coverage)
    # The mean and the standard deviation of the unit stay as they are.
    one[1, 0, 2, 2], other[1, 0, 2, 2] = one[:, 0].mean() + 2, one[:, 0].mean() - 2
    assert torch.allclose(
        fit_probe(one, coverage, **QUICK).weight,
        fit_probe(other, coverage, **QUICK).weight,
        rtol=1e-2,
    )


def test_negatives_come_from_all_images_or_only_from_those_with_a_box() -> None:
    coverage = boxes_on_grid(images=10)
    everything = {"negatives_per_positive": 1000, **QUICK}
    units = telling_units(coverage)
    of_all = fit_probe(units, coverage, **everything)
    of_boxed = fit_probe(units, coverage, negatives_from="boxed", **everything)
    assert of_all.score.n_negative == 10 * 16 - 5 * 4
    assert of_boxed.score.n_negative == 5 * 16 - 5 * 4
    assert of_all.score.n_scored == of_boxed.score.n_scored == 160


def test_more_cells_than_wanted_are_thinned_alike() -> None:
    coverage = boxes_on_grid(images=40)
    score = fit_probe(telling_units(coverage), coverage, max_cells=120, **QUICK).score
    assert (score.n_positive, score.n_negative) == (40, 80)


def leaking_images(images: int = 60, units: int = 120) -> tuple[Tensor, Tensor]:
    """Images whose cells all look alike and are all of one label, drawn without regard to looks."""
    generator = torch.Generator().manual_seed(1)
    looks = torch.randn(images, units, 1, 1, generator=generator)
    cells = looks + 0.1 * torch.randn(images, units, 4, 4, generator=generator)
    label = torch.arange(images) % 2
    return cells, label.float().view(-1, 1, 1).expand(images, 4, 4).contiguous()


def test_no_image_is_on_both_sides_of_the_cross_validation() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import KFold, cross_val_predict

    activations, coverage = leaking_images()
    rows = activations.permute(0, 2, 3, 1).flatten(0, 2).numpy()
    labels = coverage.flatten().numpy() > 0
    mixed = KFold(5, shuffle=True, random_state=0)
    leaked = cross_val_predict(LogisticRegression(), rows, labels, cv=mixed, method="predict_proba")
    assert roc_auc_score(labels, leaked[:, 1]) > 0.99
    score = fit_probe(activations, coverage, negatives_per_positive=1, **QUICK).score
    assert 0.3 < score.auc < 0.7


def test_shuffled_labels_score_as_a_coin_does() -> None:
    coverage = boxes_on_grid(images=40)
    score = fit_probe(
        telling_units(coverage),
        coverage,
        layer="conv",
        shuffles=20,
        resamples=20,
        sign_fits=1,
    ).score
    low, high = score.shuffled_auc_ci
    assert score.shuffled_auc == pytest.approx(0.5, abs=0.05)
    assert low < 0.5 < high
    assert high < score.auc


def test_the_interval_surrounds_the_score_and_narrows_with_more_images() -> None:
    widths = []
    for images in (16, 160):
        coverage = boxes_on_grid(images)
        score = fit_probe(
            telling_units(coverage, noise=1.0), coverage, layer="conv", sign_fits=1
        ).score
        assert score.auc_ci[0] < score.auc < score.auc_ci[1]
        assert score.average_precision_ci[0] < score.average_precision
        assert score.average_precision < score.average_precision_ci[1]
        widths.append(score.auc_ci[1] - score.auc_ci[0])
    assert widths[1] < widths[0] / 2


def test_where_boxes_lie_is_a_baseline_of_its_own() -> None:
    fixed, moving = torch.zeros(20, 4, 4), torch.zeros(160, 4, 4)
    fixed[:, 1:3, 1:3] = 1
    moving.view(160, 16)[torch.arange(160), torch.randint(16, (160,))] = 1
    for coverage, expected in ((fixed, 1.0), (moving, 0.5)):
        units = torch.randn(len(coverage), 4, 4, 4)
        score = fit_probe(units, coverage, **QUICK).score
        assert score.position_auc == pytest.approx(expected, abs=0.1)


def test_a_sign_is_stable_where_the_unit_tells_and_not_where_it_is_noise() -> None:
    coverage = boxes_on_grid(images=40)
    units = torch.randn(40, 30, 4, 4, generator=torch.Generator().manual_seed(3))
    units[:, 0] += 2 * coverage
    stability = fit_probe(units, coverage, layer="conv", resamples=1, shuffles=2).sign_stability
    assert stability[0] == 1
    assert stability[1:].mean() < 0.95
    assert ((stability >= 0) & (stability <= 1)).all()


def test_every_fold_shows_the_concept_so_few_images_make_few_folds() -> None:
    coverage = boxes_on_grid(images=12)
    coverage[6:] = 0
    score = fit_probe(telling_units(coverage), coverage, **QUICK).score
    assert (score.n_images_with, score.folds) == (3, 3)


def test_the_same_seed_gives_the_same_probe_whatever_the_threads() -> None:
    from threadpoolctl import threadpool_limits

    coverage = boxes_on_grid(images=30)
    units = telling_units(coverage, noise=1.0)
    probes = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            probes.append(fit_probe(units, coverage, seed=3, **QUICK))
    first, second = probes
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.sign_stability, second.sign_stability)
    assert (first.bias, first.score) == (second.bias, second.score)
    assert not torch.equal(first.weight, fit_probe(units, coverage, seed=4, **QUICK).weight)


def test_arrays_and_tensors_of_any_precision_will_do() -> None:
    coverage = boxes_on_grid()
    units = telling_units(coverage).bfloat16()
    plain = fit_probe(units.float().numpy(), coverage.numpy(), **QUICK)
    for given in (units, units.double(), units.float().requires_grad_()):
        assert torch.allclose(fit_probe(given, coverage, **QUICK).weight, plain.weight, rtol=1e-4)


def tied_ranking() -> tuple[Ranking, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(6), 20)
    score = rng.integers(0, 8, size=120).astype(float)
    label = rng.random(120) < 0.3
    counts = stratified_counts(np.arange(6) < 3, 10, rng)
    return Ranking(score, label, image, np.zeros(6, np.int64)), counts


def test_areas_are_those_of_scikit_learn_ties_and_resamples_included() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    ranking, counts = tied_ranking()
    auc, precision = ranking.auc(counts), ranking.average_precision(counts)
    for row, count in enumerate(counts):
        weighed = {"sample_weight": count[ranking.image]}
        assert auc[row] == pytest.approx(roc_auc_score(ranking.label, ranking.score, **weighed))
        expected = average_precision_score(ranking.label, ranking.score, **weighed)
        assert precision[row] == pytest.approx(expected)
    assert ranking.auc()[0] == pytest.approx(roc_auc_score(ranking.label, ranking.score))


def test_cells_of_different_folds_are_never_compared() -> None:
    # Within each fold the ranking is perfect; across folds it is not.
    score = np.array([1.0, 0.0, 11.0, 10.0])
    label = np.array([True, False, True, False])
    ranking = Ranking(score, label, np.arange(4), np.array([0, 0, 1, 1]))
    assert ranking.auc()[0] == 1
    assert ranking.average_precision()[0] == 1


@pytest.mark.parametrize("images", [2, 5, 10])
@pytest.mark.filterwarnings("ignore:the concept is on")
def test_the_interval_holds_one_half_on_noise(images: int) -> None:
    rng, held, fits = np.random.default_rng(images), 0, 25
    for fit in range(fits):
        units = rng.normal(size=(images + 20, 4, 3, 3)).astype(np.float32)
        coverage = np.zeros((images + 20, 3, 3))
        coverage[np.arange(images), rng.integers(3, size=images), 1] = 1
        settings = {"resamples": 100, "shuffles": 2, "sign_fits": 1, "seed": fit}
        low, high = fit_probe(units, coverage, layer="l", **settings).score.auc_ci
        held += low <= 0.5 <= high
    # A coverage of 0.95 may show itself so.
    assert wilson_interval(held, fits)[1] > 0.95


def test_few_images_of_the_concept_are_warned_of() -> None:
    coverage = boxes_on_grid(images=40)
    units = telling_units(coverage)
    with pytest.warns(UserWarning, match="the concept is on 9 images: .* at least 10, better 20"):
        fit_probe(units[:18], coverage[:18], **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_probe(units[:20], coverage[:20], **QUICK)
        fit_probe(units[:18], coverage[:18], **{**QUICK, "resamples": 1})
