import numpy as np
import pytest
from helpers.selection import CULPRIT, SEGMENTER, UNITS, generator

from dissect.effect.curves import RuleCurve, advantages, curve_sizes, measure_rules
from dissect.effect.measure import Effect
from dissect.figures import rules_figure
from dissect.surgery.intervention import Intervention
from dissect.units import Units


def effect(after, outside):
    """Four images of 100 pixels, each with 10 of the concept before."""
    ones = np.ones(4, np.int64)
    return Effect(
        concept="window",
        classes=("wall", "window"),
        before=10 * ones,
        after=np.array(after),
        both=np.stack([90 * ones, np.array(after)], 1),
        either=np.stack([100 * ones, 10 * ones], 1),
        outside=np.array(outside),
        inside=np.zeros(4),
        outside_pixels=90 * ones,
        inside_pixels=10 * ones,
        replaced=np.stack([10 - np.array(after), np.array(after)], 1),
        features=None,
    )


def test_a_cost_is_read_where_the_curve_first_removes_so_much():
    # From half removed at 0.02 to all removed at 0.04, alike on all images.
    one = RuleCurve(
        "auto", "probe", (1, 2), (effect([5] * 4, [0.02] * 4), effect([0] * 4, [0.04] * 4))
    )
    # At three times the cost, and never more than 80%.
    other = RuleCurve(
        "iou", "probe", (1, 2), (effect([5] * 4, [0.06] * 4), effect([2] * 4, [0.12] * 4))
    )
    found = advantages(one, [other], levels=(0.25, 0.5, 0.75, 0.9))
    assert [a.level for a in found] == [0.25, 0.5, 0.75, 0.9]
    # Nothing removed costs nothing, so that a quarter costs half of what half does.
    assert [a.cost for a in found[:3]] == pytest.approx([0.03, 0.06, 0.11])
    assert [a.less.value for a in found[:3]] == pytest.approx([0.02, 0.04, 0.08])
    assert found[0].less.low == pytest.approx(found[0].less.high)
    assert found[3].cost is None
    assert found[3].less is None


def test_an_interval_holds_what_other_images_would_give():
    one = RuleCurve("auto", "probe", (1,), (effect([0] * 4, [0.0, 0.0, 0.0, 0.0]),))
    other = RuleCurve("ace", "probe", (1,), (effect([0] * 4, [0.0, 0.1, 0.1, 0.2]),))
    (found,) = advantages(one, [other], levels=(0.9,))
    assert found.less.value == pytest.approx(0.09)
    assert 0.0 <= found.less.low < found.less.value < found.less.high <= 0.18


def test_sizes_grow_by_factors_and_hold_the_rules_own():
    assert curve_sizes(20, [13]) == [4, 6, 8, 11, 13, 16]
    assert curve_sizes(3, [3]) == [3]


@pytest.fixture(scope="module")
def curves():
    model = generator()
    others = tuple(unit for unit in range(UNITS) if unit != CULPRIT)
    orders = {"auto": (CULPRIT, *others), "positive": (*others, CULPRIT)}
    edits = {
        (name, "everywhere"): Intervention(Units("layer", o, UNITS)) for name, o in orders.items()
    }
    seen = []
    found = measure_rules(
        model,
        edits,
        {("auto", "everywhere"): 1},
        model.make_latents(30, 4, 0),
        SEGMENTER,
        "window",
        progress=seen.append,
    )
    assert sum(seen) == 30 * (1 + sum(len(curve.sizes) for curve in found))
    return found


def test_a_rule_that_takes_the_right_unit_first_is_seen_to(curves):
    auto, positive = curves
    assert auto.sizes == (1, 4, 6)
    assert [e.removal() for e in auto.effects] == [1.0, 1.0, 1.0]
    assert auto.effects[0].change() == 0.0
    assert positive.sizes == (4, 6)
    assert [e.removal() for e in positive.effects] == [0.0, 1.0]
    assert (auto.first_removing(), positive.first_removing()) == (0, 1)
    assert positive.rows()[0]["n_units"] == 4
    for found in advantages(auto, [positive]):
        assert found.less.low > 0


def test_the_figure_shows_each_rule_once_in_its_legend(curves):
    figure = rules_figure(curves, "window")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["auto", "positive"]
