from contextlib import nullcontext

import numpy as np
import pytest
import torch
from helpers.effect import EYES, Picture, effect_of, painted, scene

from dissect._utils.errors import DissectError
from dissect.effect.measure import grown, is_shown, joined, measure_effect, observe
from dissect.effect.summary import summarize
from dissect.segmentation import Segmenter


def test_what_was_removed_is_counted_in_pixels_and_images():
    found = effect_of(-1.0, (4, 10), (4, 6))
    # Half of each window of 24 pixels is painted as wall.
    assert found.before.tolist() == [24, 24, 0, 0]
    assert found.after.tolist() == [12, 12, 0, 0]
    assert found.removal() == 0.5
    # 12 of 256 pixels are more than an image must have to show the concept.
    assert found.prevalence_before_after() == (0.5, 0.5)
    assert found.replaced.sum(0).tolist() == [24, 0, 24]


def test_what_became_of_the_concept():
    found = effect_of(0.0, (0, 16), (0, 16))
    assert found.removal() == 1.0
    assert found.replaced.sum(0).tolist() == [0, 48, 0]
    assert found.iou_kept("wall") == 0.0


def test_more_of_the_concept_is_removed_below_zero():
    found = effect_of(1.0, (0, 4), (0, 6))
    assert found.removal() == -2.0
    assert found.iou_kept("wall") == pytest.approx((1024 - 48 - 96) / (1024 - 48))


def test_change_is_split_at_the_region_of_the_concept():
    # One corner pixel, far from the window, goes from -1 to 0: a change of 1 there.
    found = effect_of(0.0, (15, 16), (15, 16), windows=(0,))
    # The window's 6 x 4 pixels with a margin of 1 are 8 x 6.
    assert found.outside_pixels.tolist() == [256 - 48, 256, 256, 256]
    assert found.change() == pytest.approx(4 / (4 * 256 - 48))
    assert found.change(outside=False) == 0.0


def test_no_edit_changes_nothing():
    model = Picture().eval()
    found = measure_effect(
        model, EYES, scene((0,)), "window", lambda: painted(model, 0.0, slice(0), slice(0))
    )
    assert found.removal() == 0.0
    assert found.mean_iou_kept() == 1.0
    assert found.change() == 0.0


def test_what_the_concept_became_is_a_share_of_its_pixels():
    found = effect_of(0.0, (4, 10), (4, 5))
    # A column of 6 of each window's 24 pixels is a door now.
    assert found.replaced.tolist() == [[0, 6, 18], [0, 6, 18], [0, 0, 0], [0, 0, 0]]
    assert found.replacement().tolist() == [0, 0.25, 0.75]


def test_where_there_was_no_concept_nothing_is_measured():
    found = effect_of(-1.0, (4, 10), (4, 6), windows=())
    assert np.isnan(found.removal())
    assert np.isnan(found.replacement()).all()
    assert np.isnan(found.change(outside=False))
    assert np.isnan(found.iou_kept("door"))
    assert found.to_dict()["inside"] == [None] * 4
    assert summarize([found]).to_dict()["removed"] is None


@pytest.mark.parametrize(("side", "pixels", "margin"), [(64, 20, 2), (128, 80, 4), (256, 320, 8)])
def test_thresholds_are_fractions_of_the_image(side, pixels, margin):
    mask = torch.zeros(2, side, side, dtype=torch.bool)
    mask[0].view(-1)[: pixels - 1] = True
    mask[1].view(-1)[:pixels] = True
    assert is_shown(mask).tolist() == [False, True]
    point = torch.zeros(1, side, side, dtype=torch.bool)
    point[0, side // 2, side // 2] = True
    assert int(grown(point).sum()) == (2 * margin + 1) ** 2


def test_images_that_stayed_as_they_were_are_not_segmented_again():
    looked = []

    def label(images):
        looked.append(len(images))
        return EYES.label(images)

    eyes = Segmenter(EYES.classes, label, features=EYES.features)
    model = Picture().eval()
    z = scene((0, 2))
    seen = observe(model, eyes, z)
    # The wall is painted as wall: only the two windows change.
    change = lambda: painted(model, -1.0, slice(4, 10), slice(4, 8))  # noqa: E731
    found = measure_effect(model, eyes, z, "window", change, before=seen)
    assert looked == [4, 2]
    assert found.removal() == 1.0
    assert found.features.tolist() == [[-1.0] * 3] * 4
    assert seen.features[0, 0] > -1


@pytest.mark.parametrize("batch", [1, 3])
def test_the_size_of_a_batch_changes_nothing(batch):
    whole = effect_of(0.0, (4, 10), (4, 6), windows=(0, 3))
    parts = effect_of(0.0, (4, 10), (4, 6), windows=(0, 3), batch_size=batch)
    for name, value in whole.arrays().items():
        assert np.array_equal(value, getattr(parts, name), equal_nan=True), name


def test_effects_on_different_latents_are_joined():
    found = effect_of(-1.0, (4, 10), (4, 6))
    both = joined([found, found])
    assert len(both) == 8
    assert both.removal() == found.removal()
    assert both.first(4).before.tolist() == found.before.tolist()
    with pytest.raises(DissectError, match="not of the same concept"):
        joined([found, measure_effect(Picture().eval(), EYES, scene((0,)), "door", nullcontext)])


def test_features_are_left_out_where_nobody_wants_them():
    model = Picture().eval()
    found = measure_effect(model, EYES, scene((0,)), "window", nullcontext, with_features=False)
    assert found.features is None


def test_the_interval_holds_the_figure_and_shrinks_with_samples():
    found = effect_of(-1.0, (4, 10), (4, 6), windows=(0, 1, 2))
    low, high = found.estimate("shown_before").interval
    assert low <= 0.75 <= high
    assert low < high
    assert found.estimate("removal").high == 0.5


def test_what_was_observed_before_can_be_used_again():
    model = Picture().eval()
    z = scene((0, 3))
    seen = observe(model, EYES, z)
    change = lambda: painted(model, -1.0, slice(4, 10), slice(4, 6))  # noqa: E731
    again = measure_effect(model, EYES, z, "window", change, before=seen)
    assert again.removal() == measure_effect(model, EYES, z, "window", change).removal() == 0.5
    with pytest.raises(DissectError, match="of other latents"):
        measure_effect(model, EYES, z[:2], "window", change, before=seen)


def test_an_unknown_concept_is_one_line():
    model = Picture().eval()
    with pytest.raises(DissectError, match="does not know 'windows'.*window"):
        measure_effect(
            model, EYES, scene(()), "windows", lambda: painted(model, 0.0, slice(0), slice(0))
        )


def test_a_segmenter_that_gives_masks_of_another_size_is_refused():
    wrong = Segmenter(("a", "b"), lambda images: torch.zeros(len(images), 3, 3, dtype=torch.long))
    with pytest.raises(DissectError, match=r"of shape \(4, 16, 16\)"):
        observe(Picture().eval(), wrong, scene(()))
    nameless = Segmenter(("a",), lambda images: torch.ones(len(images), 16, 16, dtype=torch.long))
    with pytest.raises(DissectError, match="gave class 1, and has 1 names"):
        observe(Picture().eval(), nameless, scene(()))
