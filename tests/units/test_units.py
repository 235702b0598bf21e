import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissect._utils.errors import DissectError
from dissect.units import Rule, Units, parse_rule, rank_units

# A busy machine is no mistake of the code.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def any_units(draw: st.DrawFn) -> Units:
    total = draw(st.integers(1, 600))
    indices = draw(st.lists(st.integers(0, total - 1), unique=True, max_size=40))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    scored = draw(st.booleans())
    size = len(indices)
    scores = draw(st.lists(finite, min_size=size, max_size=size)) if scored else []
    name = st.none() | st.text(min_size=1)
    return Units(
        draw(st.text(min_size=1)),
        tuple(indices),
        total,
        tuple(scores),
        draw(name),
        draw(name),
        draw(name),
    )


# rules


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("positive", Rule("positive")),
        ("top:12", Rule("top", 12)),
        (" top:1 ", Rule("top", 1)),
        ("top:007", Rule("top", 7)),
    ],
)
def test_a_rule_is_a_name_and_perhaps_a_count(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize("text", ["positive", "top:12"])
def test_a_rule_prints_as_it_is_typed(text: str) -> None:
    assert str(parse_rule(text)) == text


@pytest.mark.parametrize("text", ["", "best", "best:3", "Top:3", "top;3", ":3"])
def test_an_unknown_rule_is_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(DissectError, match=r"unknown rule .*'positive' or 'top:K'"):
        parse_rule(text)


@pytest.mark.parametrize(
    "text", ["top", "top:", "top:0", "top:-3", "top:2.5", "top:all", "top:³", "top:" + "9" * 5000]
)
def test_top_needs_a_count_of_at_least_one(text: str) -> None:
    with pytest.raises(DissectError, match="needs a count of at least 1"):
        parse_rule(text)


def test_positive_takes_no_count() -> None:
    with pytest.raises(DissectError, match="takes no count"):
        parse_rule("positive:3")


# ranking


def test_units_are_ranked_by_score_and_ties_by_index() -> None:
    units = rank_units([0.5, 2.0, -1.0, 2.0], layer="layer8x8", rule=Rule("top", 3))
    assert units.indices == (1, 3, 0)
    assert units.scores == (2.0, 2.0, 0.5)
    assert units.total == 4
    assert units.rule == "top:3"


def test_only_kept_units_are_chosen() -> None:
    keep = [True, False, True]
    units = rank_units([1, 9, 3], layer="conv", rule=Rule("positive"), keep=keep, concept="bed")
    assert units.indices == (2, 0)
    assert units.concept == "bed"
    assert units.rule == "positive"


def test_more_units_than_the_layer_has_cannot_be_ranked() -> None:
    with pytest.raises(DissectError, match="cannot take 3 units of 'conv', which has 2"):
        rank_units([1, 2], layer="conv", rule=Rule("top", 3))


def test_scores_that_are_not_numbers_cannot_be_ranked() -> None:
    with pytest.raises(DissectError, match="finite"):
        rank_units([1, float("nan")], layer="conv", rule=Rule("top", 1))


# sets of units


def test_the_top_of_a_set_goes_by_score() -> None:
    units = Units("conv", (4, 7, 2), 8, (0.1, 0.3, 0.2))
    assert units.top(2).indices == (7, 2)
    assert units.top(2).scores == (0.3, 0.2)
    assert units.top(2).rule == "top:2"


def test_the_top_of_a_set_without_scores_goes_by_rank() -> None:
    assert Units("conv", (4, 7, 2), 8).top(2).indices == (4, 7)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_the_top_of_a_set_is_not_larger_than_the_set(k: int) -> None:
    with pytest.raises(DissectError, match=f"cannot take {k} units of the set, which has 3"):
        Units("conv", (4, 7, 2), 8).top(k)


def test_indices_and_scores_of_any_array_become_plain_numbers() -> None:
    import numpy as np
    import torch

    units = Units("conv", torch.tensor([3, 1]), 4, np.array([0.5, 0.25], np.float32))  # type: ignore[arg-type]
    assert units == Units("conv", (3, 1), 4, (0.5, 0.25))
    assert all(type(index) is int for index in units.indices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv", (1, 8), 8), "unit 8 is not in 'conv': its 8 units are 0 to 7"),
        (("conv", (-1,), 8), "unit -1 is not in 'conv'"),
        (("conv", (3, 1, 3), 8), "unit 3 of 'conv' is listed twice"),
        (("conv", (), 0), "at least 1 unit"),
        (("", (), 1), "name of their layer"),
        (("conv", (1, 2), 8, (0.5,)), "1 scores do not pair with 2 units"),
        (("conv", (1,), 8, (float("inf"),)), "finite"),
    ],
)
def test_a_set_that_cannot_be_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(DissectError, match=message):
        Units(*arguments)  # type: ignore[arg-type]


# the control


@UNHURRIED
@given(st.integers(1, 40), st.data(), st.integers(0, 2**40))
def test_a_control_is_as_large_and_drawn_from_the_others(
    total: int, data: st.DataObject, seed: int
) -> None:
    indices = data.draw(st.sets(st.integers(0, total - 1)))
    units = Units("conv", tuple(indices), total, model="a" * 16)
    control = units.random(seed)
    assert len(control) == len(units)
    assert (control.layer, control.total, control.model) == (units.layer, units.total, units.model)
    if 5 * len(units) <= 4 * (units.total - len(units)):
        assert not set(control.indices) & set(units.indices)
    assert control == units.random(seed)
    if 0 < len(units) < total:
        assert set(control.indices) != set(units.indices)


def test_controls_of_other_seeds_differ() -> None:
    units = Units("conv", tuple(range(12)), 192)
    assert len({units.random(seed).indices for seed in range(20)}) == 20


def test_a_control_for_most_of_a_layer_comes_from_the_whole_layer() -> None:
    drawn = {
        index for seed in range(30) for index in Units("conv", (0, 1, 2), 4).random(seed).indices
    }
    assert drawn == {0, 1, 2, 3}


def test_every_other_unit_is_as_likely_in_a_control() -> None:
    units = Units("conv", (0, 1), 10)
    counts = dict.fromkeys(range(2, 10), 0)
    for seed in range(2000):
        for index in units.random(seed).indices:
            counts[index] += 1
    # 2 of 8 units, 2000 draws: 500 each, standard deviation 19.
    assert all(abs(count - 500) < 5 * 19 for count in counts.values())


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DissectError, match="at least 0"):
        Units("conv", (0,), 4).random(-1)


# the model they belong to


def test_units_fit_their_own_model_and_a_model_nobody_recorded() -> None:
    Units("conv", (0,), 4, model="a" * 16).check("a" * 16, "conv", 4)
    Units("conv", (0,), 4, model="a" * 16).check(None, "conv", 4)
    Units("conv", (0,), 4).check("b" * 16, "conv", 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("b" * 16, "conv", 4), "chosen on model a+, and this is b+"),
        (("a" * 16, "deconv", 4), "layer 'conv', not of 'deconv'"),
        (("a" * 16, "conv", 5), "among 4 in 'conv', which has 5"),
    ],
)
def test_units_of_another_model_are_refused(arguments: tuple[str, str, int], message: str) -> None:
    with pytest.raises(DissectError, match=message):
        Units("conv", (0,), 4, model="a" * 16).check(*arguments)


# files


@UNHURRIED
@given(units=any_units())
def test_units_come_back_from_a_file_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, units: Units
) -> None:
    path = tmp_path_factory.getbasetemp() / "units.json"
    units.save(path)
    assert Units.load(path) == units


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "probe"}, "not a units file: its 'kind' is 'probe'"),
        ({"version": 2}, "is of version 2; this dissect reads up to 1"),
        ({"version": "1"}, "'version' must be a whole number"),
        ({"layer": 3}, "'layer' .*string.*, not 3"),
        ({"total": True}, "'total' .*integer.*, not True"),
        ({"indices": [1.5]}, r"'indices\[0\]' .*integer.*, not 1.5"),
        ({"indices": {}}, "'indices' .*array"),
        ({"indices": [9]}, "unit 9 is not in 'conv'"),
        ({"scores": ["high"]}, r"'scores\[0\]' .*number.*, not 'high'"),
        ({"scores": [1, 2]}, "2 scores do not pair with 1 units"),
        ({"model": 12}, "'model' .*string.*, not 12"),
    ],
)
def test_a_mistyped_file_is_told_in_one_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "mine.json"
    Units("conv", (1,), 4, (0.5,)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DissectError, match=message) as caught:
        Units.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_typed_file_needs_no_more_than_a_layer_and_its_units(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    fields = {"kind": "units", "version": 1, "layer": "conv", "total": 4, "indices": [2, 0]}
    path.write_text(json.dumps(fields))
    assert Units.load(path) == Units("conv", (2, 0), 4)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "null", '{"layer": "conv"}'])
def test_a_file_of_something_else_is_told_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(DissectError, match=r"mine\.json"):
        Units.load(path)
