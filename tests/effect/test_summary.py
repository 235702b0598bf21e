import numpy as np
import pytest
from helpers.effect import effect_of

from dissect._utils.errors import DissectError
from dissect._utils.stats import frechet_distance
from dissect.effect.summary import distance, summarize


def test_the_figures_are_those_of_the_effect():
    found = effect_of(0.0, (4, 10), (4, 6), windows=(0, 1, 3))
    summary = summarize([found])
    assert summary.removed.value == found.removal() == 0.5
    assert (
        (summary.shown_before.value, summary.shown_after.value)
        == found.prevalence_before_after()
        == (0.75, 0.75)
    )
    assert summary.kept["wall"].value == pytest.approx(found.iou_kept("wall"))
    assert summary.kept_mean.value == pytest.approx(found.mean_iou_kept())
    assert summary.outside_change.value == pytest.approx(found.change())
    assert summary.inside_change.value == pytest.approx(found.change(outside=False))
    assert {name: one.value for name, one in summary.replaced_by.items()} == {
        "wall": 0,
        "door": 0.5,
        "window": 0.5,
    }
    assert "window" not in summary.kept


def test_what_is_the_same_in_every_image_has_no_spread():
    summary = summarize([effect_of(0.0, (4, 10), (4, 6), windows=(0, 1, 2, 3))])
    assert summary.removed.interval == pytest.approx((0.5, 0.5))
    assert summary.shown_before.interval == (1, 1)


def test_an_interval_over_images_is_that_of_a_share_of_them():
    # Half of 4 images: the share of a resample is binomial, of 4 draws at 1/2, and its 2.5% and
    # 97.5% quantiles are 0 and 1 (each end has probability 1/16).
    summary = summarize([effect_of(0.0, (0, 1), (0, 1), windows=(0, 1))])
    assert summary.shown_before.interval == (0, 1)


def test_intervals_are_near_those_of_the_effect_itself():
    found = effect_of(-1.0, (4, 10), (4, 6), windows=(0, 2))
    summary = summarize([found], resamples=4_000)
    low, high = found.estimate("outside_change", resamples=4_000, seed=1).interval
    assert summary.outside_change.interval == pytest.approx((low, high), abs=1e-3)


def test_of_several_sets_the_figure_is_the_mean_and_the_interval_holds_their_spread():
    all_windows = (0, 1, 2, 3)
    none = effect_of(-1.0, (0, 1), (0, 1), windows=all_windows)
    half = effect_of(-1.0, (4, 10), (4, 6), windows=all_windows)
    summary = summarize([none, half, none, half])
    assert (summary.n, summary.sets) == (4, 4)
    assert summary.removed.value == 0.25
    # Every image gives the same: what is left is the draw of four sets, each 0 or a half.
    assert summary.removed.interval == pytest.approx((0.0, 0.5))


def test_the_same_seed_gives_the_same_intervals():
    found = effect_of(-1.0, (4, 10), (4, 6), windows=(0, 2))
    assert summarize([found], seed=3).to_dict() == summarize([found], seed=3).to_dict()


def test_sets_on_other_images_do_not_go_together():
    first = effect_of(-1.0, (4, 10), (4, 6), windows=(0,))
    other = effect_of(-1.0, (4, 10), (4, 6), windows=(1,))
    with pytest.raises(DissectError, match="same images"):
        summarize([first, other])
    with pytest.raises(DissectError, match="no effect"):
        summarize([])


def test_values_are_ready_for_json():
    values = summarize([effect_of(0.0, (4, 10), (4, 6))]).to_dict()
    assert values["removed"] == 0.5
    assert values["removed_ci"][0] <= 0.5 <= values["removed_ci"][1]
    assert set(values["kept"]) == set(values["kept_ci"]) == {"wall", "door"}
    assert all(type(end) is float for end in values["kept_ci"]["wall"])


def test_a_shift_of_every_sample_is_a_distance_without_spread():
    random = np.random.default_rng(0)
    real, samples = random.normal(size=(2, 500, 3))
    found = distance(real, samples, samples + [2.0, 0, 0], resamples=40)
    expected = frechet_distance(real, samples + [2.0, 0, 0]) - frechet_distance(real, samples)
    assert found.change.value == pytest.approx(expected)
    assert found.change.low < expected < found.change.high
    # The mean differs by 2 from one that is within sampling error of the real one.
    assert found.change.value == pytest.approx(4, abs=0.5)
    assert found.change.high - found.change.low < 1


def test_an_edit_that_does_nothing_does_not_change_the_distance():
    random = np.random.default_rng(0)
    real, samples = random.normal(size=(2, 50, 3))
    found = distance(real, samples, samples, resamples=20)
    assert found.change.interval == (0, 0)
    assert found.before == found.after
