"""Units that are directions of a layer's channels: read, ranked, turned, saved."""

import pytest
import torch

from dissect._utils.errors import DissectError
from dissect.units import Directions, Units


def directions(k=3, channels=8, *, seed=0, bias=False, rectified=False):
    random = torch.Generator().manual_seed(seed)
    read, write = (torch.randn(k, channels, generator=random) for _ in range(2))
    offsets = torch.randn(k, generator=random) if bias else None
    return Directions(read, write, offsets, rectified)


def units(along=None):
    along = directions() if along is None else along
    k = len(along)
    return Units("layer", tuple(range(k)), k, scores=tuple(range(k)), directions=along)


def test_a_value_is_what_a_direction_reads_at_each_cell():
    along, acts = directions(bias=True), torch.randn(2, 8, 4, 5)
    expected = (acts.movedim(1, -1) @ along.read.T + along.bias).movedim(-1, 1)
    assert torch.allclose(along.values(acts), expected, atol=1e-5)
    rectified = directions(bias=True, rectified=True)
    assert torch.allclose(rectified.values(acts), expected.relu(), atol=1e-5)


def test_channels_read_as_the_unit_vectors_that_they_are():
    eye, acts = torch.eye(4), torch.randn(2, 4, 3, 3)
    along = Units("layer", (2, 0), 4, directions=Directions(eye[[2, 0]], eye[[2, 0]]))
    assert torch.equal(along.values(acts), Units("layer", (2, 0), 4).values(acts))
    assert along.channels == Units("layer", (2, 0), 4).channels == 4


def test_the_best_units_keep_their_directions():
    chosen = units().top(2)
    assert chosen.indices == (2, 1)
    assert torch.equal(chosen.directions.read, directions().read[[2, 1]])


def test_the_control_keeps_norms_and_angles_and_points_elsewhere():
    along = directions()
    turned = units().random(5).directions
    both, others = (torch.cat([one.read, one.write]) for one in (along, turned))
    assert torch.allclose(both @ both.T, others @ others.T, atol=1e-4)
    assert not torch.allclose(both, others, atol=0.1)
    assert units().random(5) == units().random(5) != units().random(6)


def test_a_file_gives_the_same_directions_back(tmp_path):
    for along in (directions(), directions(bias=True, rectified=True)):
        path = units(along).save(tmp_path / "units.json")
        assert Units.load(path) == units(along)


def test_a_file_of_channels_says_nothing_of_directions():
    assert "directions" not in Units("layer", (1,), 4).to_dict()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"read": torch.ones(2, 8)}, "not (2, 8) and (3, 8)"),
        ({"bias": torch.ones(2)}, "3 directions have as many biases"),
        ({"write": torch.full((3, 8), float("nan"))}, "the write of directions must be finite"),
    ],
)
def test_what_cannot_be_directions_is_refused(change, words):
    fields = {"read": torch.ones(3, 8), "write": torch.ones(3, 8), **change}
    with pytest.raises(DissectError, match=words.replace("(", r"\(").replace(")", r"\)")):
        Directions(**fields)


def test_directions_of_another_layer_are_refused():
    with pytest.raises(DissectError, match="do not pair"):
        Units("layer", (0,), 3, directions=directions())
    with pytest.raises(DissectError, match="chosen among 8"):
        units().check(None, "layer", 16)
    with pytest.raises(DissectError, match="read 8 channels"):
        units().values(torch.zeros(1, 16, 2, 2))
