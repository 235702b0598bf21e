import pytest
import torch

from dissect import DissectError
from dissect.models import latents


def test_row_depends_on_seed_and_index_alone():
    whole = latents(50, seed=3)
    assert torch.equal(latents(50, seed=3), whole)
    assert torch.equal(latents(9, seed=3, start=17), whole[17:26])
    assert torch.equal(torch.cat([latents(25, seed=3), latents(25, seed=3, start=25)]), whole)
    assert not torch.equal(latents(50, seed=4), whole)


@pytest.mark.parametrize("size", [1, 3, 100, 101])
def test_rows_are_independent_of_the_others_for_any_size(size):
    for distribution in ("uniform", "normal"):
        whole = latents(12, seed=1, size=size, distribution=distribution)
        assert whole.shape == (12, size)
        assert torch.equal(latents(5, 1, start=7, size=size, distribution=distribution), whole[7:])


def test_uniform_fills_minus_one_to_one():
    z = latents(2_000, seed=0)
    assert z.dtype == torch.float32
    assert -1 <= z.min() < -0.999
    assert 0.999 < z.max() <= 1
    assert abs(float(z.mean())) < 0.005
    assert abs(float(z.var()) - 1 / 3) < 0.005


def test_normal_has_mean_zero_and_variance_one():
    z = latents(2_000, seed=0, distribution="normal")
    assert bool(z.isfinite().all())
    assert abs(float(z.mean())) < 0.01
    assert abs(float(z.var()) - 1) < 0.01


def test_the_first_values_never_change():
    assert latents(1, seed=0, size=4).tolist() == [pytest.approx(FIRST, abs=1e-7)]


FIRST = [-0.97690648, -0.51690161, -0.77714831, 0.12882924]


@pytest.mark.parametrize("wrong", [{"n": -1}, {"n": 1, "seed": -1}, {"n": 1, "size": 0}])
def test_impossible_requests_are_refused(wrong):
    with pytest.raises(DissectError, match="latents need"):
        latents(**wrong)


def test_unknown_distribution_is_refused():
    with pytest.raises(DissectError, match="'uniform' or 'normal'"):
        latents(1, distribution="cauchy")
