import numpy as np
import pytest
import torch

from dissect._utils.errors import DissectError
from dissect.latent_space import (
    crossfade_rows,
    interpolate,
    interpolation_rows,
    nearest_images,
    step_sizes,
)


def test_a_linear_path_by_hand():
    path = interpolate(torch.tensor([0.0, 2.0]), torch.tensor([4.0, 0.0]), 5)
    assert path.tolist() == [[0, 2], [1, 1.5], [2, 1], [3, 0.5], [4, 0]]


def test_a_spherical_path_keeps_its_length_and_turns_evenly():
    path = interpolate(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 5.0]), 5, "spherical")
    lengths = path.norm(dim=1)
    assert torch.allclose(lengths, torch.tensor([3.0, 3.5, 4.0, 4.5, 5.0]))
    angles = torch.rad2deg(torch.atan2(path[:, 1], path[:, 0]))
    assert torch.allclose(angles, torch.tensor([0.0, 22.5, 45.0, 67.5, 90.0]))


def test_a_spherical_path_between_opposite_ends_is_straight():
    path = interpolate(torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]), 3, "spherical")
    assert torch.allclose(path, torch.tensor([[1.0, 0], [0, 0], [-1, 0]]))


def test_each_row_of_a_walk_begins_where_the_last_ended():
    points = torch.randn(5, 7)
    rows = interpolation_rows(points, 4)
    assert rows.shape == (4, 4, 7)
    assert torch.equal(rows[1:, 0], rows[:-1, -1])
    assert torch.equal(rows[:, 0], points[:-1])


def test_impossible_walks_are_refused():
    with pytest.raises(DissectError, match="at least 2"):
        interpolation_rows(torch.zeros(1, 3), 4)
    with pytest.raises(DissectError, match="at least 2"):
        interpolate(torch.zeros(3), torch.ones(3), 1)
    with pytest.raises(DissectError, match="linear or spherical"):
        interpolate(torch.zeros(3), torch.ones(3), 4, "round")


def test_step_sizes_by_hand():
    sizes = step_sizes(torch.tensor([[[0.0, 0], [3, 4], [3, 4]], [[0, 0], [1, 1], [2, 2]]]))
    step = (25 / 2) ** 0.5
    assert sizes.mean == pytest.approx((step / 2, 1))
    assert sizes.largest == pytest.approx((step, 1))
    assert sizes.ratios == pytest.approx((2, 1))


class Two:
    """A source of two images, one black, one white."""

    name, size = "two", 4

    def __len__(self):
        return 2

    def images(self, indices):
        return np.stack([np.full((4, 4, 3), 255 * i, np.uint8) for i in indices])


def test_a_generator_that_copies_is_told_from_one_that_does_not():
    grey = torch.linspace(-1, 1, 9)[:, None, None, None].expand(9, 3, 4, 4)
    copies = nearest_images(grey, Two(), 2)
    assert copies[:, 0, 0, 0].tolist()[:4] == [-1] * 4
    assert copies[:, 0, 0, 0].tolist()[5:] == [1] * 4
    assert step_sizes(copies[None]).ratio == pytest.approx(8)
    assert step_sizes(grey[None]).ratio == pytest.approx(1)
    faded = crossfade_rows(copies[None][:, [0, -1]], 9)
    assert torch.allclose(faded[0], grey)
