"""Intervals and distances against what is known of them."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from dissect._utils.stats import (
    Estimate,
    cluster_interval,
    frechet_distance,
    ratio,
    resampling_counts,
    stratified_counts,
    wilson_interval,
)


def test_frechet_distance_is_the_formula_of_the_paper():
    random = np.random.default_rng(0)
    first = random.normal(size=(50, 6)) @ random.normal(size=(6, 6))
    second = random.normal(size=(70, 6)) @ random.normal(size=(6, 6)) + 1
    means = first.mean(0) - second.mean(0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    expected = means @ means + np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_normals_is_known():
    random = np.random.default_rng(0)
    first = random.normal(size=(20_000, 3))
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, first + [1, 2, 0]) == pytest.approx(5, rel=1e-6)
    # Means equal, deviations 1 and 3: (3 - 1)^2 for each of three axes.
    assert frechet_distance(first, 3 * first) == pytest.approx(12, rel=0.05)


def test_a_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(size=400)
    counts = resampling_counts(400, 4_000)
    assert (counts.sum(1) == 400).all()
    assert (counts[0] == 1).all()
    found = Estimate.from_resamples(counts @ values / 400)
    assert found.value == pytest.approx(values.mean())
    spread = 1.96 * values.std() / 20
    assert found.interval == pytest.approx((found.value - spread, found.value + spread), abs=0.01)


def test_resamples_without_a_denominator_are_left_out():
    found = Estimate.from_resamples(np.array([0.5, np.nan, 0.2, 0.2]))
    assert found.interval == (0.2, 0.2)
    nothing = Estimate.from_resamples(ratio(np.zeros(3), np.zeros(3)))
    assert np.isnan([nothing.value, *nothing.interval]).all()
    assert nothing.to_dict() == {"value": None, "low": None, "high": None}


def test_wilson_ends_are_those_of_the_textbook():
    # Newcombe 1998, table I: 81 of 263.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20)[0] == 0
    assert wilson_interval(0, 0) == (0, 1)


def test_resamples_keep_the_number_of_samples_inside_and_outside_the_stratum():
    stratum = np.array([True, False, False, True, False])
    counts = stratified_counts(stratum, 100, np.random.default_rng(0))
    assert (counts[:, stratum].sum(1) == 2).all()
    assert (counts[:, ~stratum].sum(1) == 3).all()
    assert counts.mean(0) == pytest.approx(np.ones(5), abs=0.5)


def test_an_interval_over_clusters_is_students_on_the_logit():
    resampled = np.array([0.7, 0.9])
    # 2.776 is t of 4 degrees; sqrt(5 / 4) for 5 clusters; the derivative of the logit is 6.25.
    width = 2.776 * 0.1 * 1.25**0.5 * 6.25
    expected = 1 / (1 + np.exp(-np.log(4) + width)), 1 / (1 + np.exp(-np.log(4) - width))
    assert cluster_interval(resampled, 0.8, 5) == pytest.approx(expected, abs=1e-3)
    wider = cluster_interval(resampled, 0.8, 5, inflation=2)
    assert wider[0] < expected[0]
    assert wider[1] > expected[1]
    assert cluster_interval(np.array([np.nan, 0.7, 0.9]), 0.8, 5) == pytest.approx(
        expected, abs=1e-3
    )


def test_an_interval_over_few_clusters_is_no_point_where_all_agree():
    assert cluster_interval(np.ones(9), 1.0, 5) == wilson_interval(5, 5)
    assert cluster_interval(np.zeros(9), 0.0, 5) == wilson_interval(0, 5)
