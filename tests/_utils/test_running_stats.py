from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dissect._utils.errors import DissectError
from dissect._utils.running_stats import RunningMoments, RunningQuantile, RunningTopK

LEVELS = (0.0, 0.001, 0.25, 0.5, 0.9, 0.995, 1.0)


def streams(kind, n, columns=3, seed=0):
    random = np.random.default_rng(seed)
    drawn = {
        "normal": random.normal(size=(columns, n)),
        "relu": np.maximum(random.normal(-0.5, 2, (columns, n)), 0),
        "heavy": random.standard_cauchy((columns, n)).clip(-1e6, 1e6),
        "tiny": 1e-5 * random.exponential(size=(columns, n)),
        "constant": np.full((columns, n), -3.7),
    }[kind]
    return torch.from_numpy(drawn).float()


def added(values, *sizes):
    running = RunningQuantile(len(values))
    for part in values.split(list(sizes) or values.shape[1], 1):
        running.update(part)
    return running


def bytes_of(state):
    return sum(value.numel() * value.element_size() for value in state.values())


@pytest.mark.parametrize("kind", ["normal", "relu", "heavy", "tiny", "constant"])
@pytest.mark.parametrize("n", [1, 7, 20_000])
def test_a_quantile_is_within_its_stated_error(kind, n):
    values = streams(kind, n)
    found = added(values).results(LEVELS).double()
    for place, level in enumerate(LEVELS):
        exact = np.quantile(values.double().numpy(), level, axis=1, method="inverted_cdf")
        bound = (
            RunningQuantile.RELATIVE_ERROR * np.abs(exact) + RunningQuantile.ABSOLUTE_ERROR + 1e-12
        )
        assert (np.abs(found[:, place].numpy() - exact) <= bound).all(), level


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_the_error_holds_for_any_values_and_level(values, level):
    tensor = torch.tensor([values], dtype=torch.float32)
    found = float(added(tensor).result(level))
    exact = sorted(values)[max(1, int(np.ceil(level * len(values)))) - 1]
    bound = RunningQuantile.RELATIVE_ERROR * abs(exact) + RunningQuantile.ABSOLUTE_ERROR
    assert abs(found - exact) <= bound * (1 + 1e-6)


def test_zeros_are_told_exactly():
    values = torch.tensor([[0.0] * 994 + [5.0] * 6])
    assert float(added(values).result(0.99)) == 0.0
    assert float(added(values).result(0.995)) == pytest.approx(5.0, rel=2**-7)


@pytest.mark.parametrize("sizes", [(1, 999), (500, 500), (3, 7, 990), (0, 1000)])
def test_parts_and_merging_change_no_bit(sizes):
    values = streams("normal", 1000)
    whole = added(values).state_dict()["counts"]
    assert torch.equal(added(values, *sizes).state_dict()["counts"], whole)
    first, *others = (added(part) for part in values.split(list(sizes), 1))
    for other in others:
        first.merge(RunningQuantile.from_state_dict(other.state_dict()))
    assert torch.equal(first.state_dict()["counts"], whole)
    assert first.count == 1000


def test_states_do_not_grow():
    quantile, top, moments = RunningQuantile(4), RunningTopK(4, 3), RunningMoments(4)
    sizes = []
    for round in range(5):
        values = streams("heavy", 2000, columns=4, seed=round)
        quantile.update(values)
        top.update(values, torch.arange(2000) + 2000 * round)
        moments.update(values)
        sizes.append([bytes_of(one.state_dict()) for one in (quantile, top, moments)])
    assert sizes[0] == sizes[-1]
    # 82 kB a column, as the class says.
    assert sizes[0][0] == 4 * (2 * 40 * 128 + 1) * 8


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 2.0**20])
def test_values_that_have_no_bin_are_refused(bad):
    running = RunningQuantile(1)
    with pytest.raises(DissectError, match="not finite"):
        running.update(torch.tensor([[1.0, bad]]))
    assert running.count == 0


def test_misuse_is_told():
    with pytest.raises(DissectError, match="nothing was added"):
        RunningQuantile(2).result(0.5)
    with pytest.raises(DissectError, match="from 0 to 1"):
        added(torch.ones(1, 3)).result(1.5)
    with pytest.raises(DissectError, match=r"with 2 columns here, not \(3, 5\)"):
        RunningQuantile(2).update(torch.ones(3, 5))
    with pytest.raises(DissectError, match="with 2 columns"):
        RunningQuantile(2).merge(RunningQuantile(3))
    with pytest.raises(DissectError, match="nothing was added"):
        RunningMoments(2).result()
    with pytest.raises(DissectError, match="as many keys"):
        RunningTopK(1, 2).update(torch.ones(1, 3), torch.arange(2))
    with pytest.raises(DissectError, match="largest 3"):
        RunningTopK(1, 2).merge(RunningTopK(1, 3))


def test_the_largest_and_their_keys():
    top = RunningTopK(2, 3)
    top.update(torch.tensor([[1.0, 9.0], [0.0, 0.0]]), torch.tensor([10, 11]))
    assert top.result()[1].tolist() == [[11, 10], [10, 11]]
    top.update(torch.tensor([[5.0, 9.0, 2.0], [0.0, 1.0, 0.0]]), torch.tensor([12, 13, 14]))
    values, keys = top.result()
    assert values.tolist() == [[9, 9, 5], [1, 0, 0]]
    # Of equal values the lower key stands first, and is the one that is kept.
    assert keys.tolist() == [[11, 13, 12], [13, 10, 11]]


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(0, 40), st.integers(1, 6))
def test_top_k_is_the_same_in_parts_in_any_order(values, cut, k):
    tensor = torch.tensor([values], dtype=torch.float32)
    keys = torch.arange(len(values))
    wanted = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    parts = [RunningTopK(1, k), RunningTopK(1, k)]
    parts[0].update(tensor[:, :cut], keys[:cut])
    parts[1].update(tensor[:, cut:], keys[cut:])
    parts[1].merge(RunningTopK.from_state_dict(parts[0].state_dict()))
    assert parts[1].result()[1][0].tolist() == wanted


def test_moments_by_hand_and_merged():
    values = torch.tensor([[1.0, 2.0, 3.0, 6.0], [5.0, 5.0, 5.0, 5.0]])
    whole, first, second = RunningMoments(2), RunningMoments(2), RunningMoments(2)
    whole.update(values)
    mean, deviation = whole.result()
    assert mean.tolist() == [3.0, 5.0]
    assert deviation.tolist() == [pytest.approx(3.5**0.5), 0.0]
    first.update(values[:, :3])
    second.update(values[:, 3:])
    first.merge(RunningMoments.from_state_dict(second.state_dict()))
    assert torch.equal(torch.stack(first.result()), torch.stack(whole.result()))


@given(st.permutations(range(12)), st.integers(0, 12), st.integers(-8, 8))
def test_moments_of_parts_are_the_same_in_any_order(order, cut, power):
    parts = (streams("normal", 60, seed=5) * 10.0**power).split(5, 1)
    whole, first, second = (RunningMoments(len(parts[0])) for _ in range(3))
    for part in parts:
        whole.update(part)
    for running, places in ((first, order[:cut]), (second, order[cut:])):
        for place in places:
            running.update(parts[place])
    second.merge(RunningMoments.from_state_dict(first.state_dict()))
    assert torch.equal(torch.stack(second.result()), torch.stack(whole.result()))
    values = torch.cat(parts, 1).double()
    mean, deviation = whole.result()
    torch.testing.assert_close(mean, values.mean(1), rtol=1e-12, atol=2.0**-90)
    torch.testing.assert_close(
        deviation, values.std(1, correction=0), rtol=1e-9, atol=1e-9 * 10.0**power
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_moments_of_what_cannot_be_summed_are_refused(bad):
    running = RunningMoments(1)
    with pytest.raises(DissectError, match="not finite, or too large"):
        running.update(torch.tensor([[1.0, bad]]))
    with pytest.raises(DissectError, match="nothing was added"):
        running.result()


@pytest.mark.parametrize(
    "parts",
    [
        [[1e14], [-1e14]] * 4,
        [[1e12 - 1, 1e12 + 1]],
        [[0.1] * 1000] * 10,
        [(1e6 + 0.01 * np.random.default_rng(0).normal(size=1001)).tolist()],
        [[-3e8, 1e-3, 7.0]] * 5,
        [[2.0**45 + 1, 2.0**45 - 1], [2.0**45]],
    ],
)
def test_a_deviation_keeps_its_digits_around_a_large_mean(parts):
    running, exact = RunningMoments(1), [Fraction(value) for part in parts for value in part]
    for part in parts:
        running.update(torch.tensor([part], dtype=torch.float64))
    mean = sum(exact) / len(exact)
    deviation = float(sum((value - mean) ** 2 for value in exact) / len(exact)) ** 0.5
    found = [float(value) for value in running.result()]
    assert found[0] == pytest.approx(float(mean), rel=1e-15, abs=1e-28)
    assert found[1] == pytest.approx(deviation, rel=1e-12, abs=1e-13)


def test_sums_that_leave_their_digits_are_refused_and_nothing_is_added():
    running = RunningMoments(1)
    with pytest.raises(DissectError, match="too large"):
        for _ in range(10):
            running.update(torch.tensor([[5e18]], dtype=torch.float64))
    mean, deviation = running.result()
    assert mean.item() == 5e18
    assert deviation.item() == 0


@pytest.mark.parametrize("n", [10, 100, 1000, 1003])
@pytest.mark.parametrize("level", [0.07, 0.1, 0.29, 0.57, 0.9, 0.995])
def test_the_rank_of_a_level_is_that_of_its_decimals(n, level):
    # Values that the bins tell apart: powers of 1.02.
    values = 1.02 ** torch.arange(n, dtype=torch.float64)[None].fmod(600)
    ordered = values[0].sort().values
    rank = -(-Fraction(str(level)) * n // 1)
    found = float(added(values.float()).result(level))
    right = float(ordered[int(rank) - 1])
    assert found == pytest.approx(right, rel=RunningQuantile.RELATIVE_ERROR)


def test_what_is_no_number_is_never_the_largest():
    top = RunningTopK(1, 2)
    with pytest.raises(DissectError, match="not a number"):
        top.update(torch.tensor([[1.0, float("nan"), 3.0]]), torch.arange(3))
    top.update(torch.tensor([[1.0, 1.0 + 1e-9]], dtype=torch.float64), torch.arange(2))
    assert top.result()[1].tolist() == [[1, 0]]
