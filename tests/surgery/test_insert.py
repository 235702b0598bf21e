"""Concepts put in: what units, at which level, where, and what a segmenter sees of it."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.stats import Estimate
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.cli.insert import _map_values, _outlined
from dissect.effect.placement import Placement, place, place_everywhere
from dissect.figures import placement_figure, rasterized, replacement_figure
from dissect.probe.fit import fit_from_labels, labelled_cells
from dissect.segmentation import Segmenter
from dissect.segmentation.pseudo_labels import ConceptLabels, pseudo_label
from dissect.surgery import Intervention, bake, inserted
from dissect.surgery.apply import unit_levels
from dissect.units import Units

# Two images, four units, a grid of one row and three cells; the concept is at the first cell of
# the first image, and at the second cell of the second.
COVERAGE = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.8, 0.3]]])


def hand(*units):
    """(2, len(units), 1, 3) from the cells of each unit, image by image."""
    return torch.tensor(units, dtype=torch.float32).reshape(len(units), 2, 1, 3).transpose(0, 1)


ACTS = hand(
    [5, 1, 0, 1, 4, 0],  # rises where the concept is: by 4 and by 3
    [9, 2, 0, 9, 2, 0],  # is of the place alone, not of the concept
    [0, 2, 1, 2, 0, 1],  # falls
    [1, 0, 0, 0, 0, 0],  # rises by 1 and by 0
)


def test_the_units_are_those_that_rise_where_the_concept_is_at_the_same_place():
    repeated, cover = ACTS.repeat(3, 1, 1, 1), COVERAGE.repeat(3, 1, 1)
    found = Intervention.insert(repeated, cover, layer="x", concept="spot", model="m", k=3)
    # Unit 1 is large at the concept's first cell, and as large there without the concept.
    assert found.units.indices == (0, 3)
    assert (found.units.concept, found.units.model, found.units.rule) == ("spot", "m", "rise:3")
    spread = repeated.transpose(0, 1).flatten(1).double().std(1)
    wanted = [3.5 / float(spread[0]), 0.5 / float(spread[3])]
    assert found.units.scores == pytest.approx(wanted)
    assert Intervention.insert(repeated, cover, layer="x", k=1).units.indices == (0,)


def test_a_level_is_a_quantile_over_the_cells_of_the_concept():
    repeated, cover = ACTS.repeat(3, 1, 1, 1), COVERAGE.repeat(3, 1, 1)

    def levels(q):
        return Intervention.insert(repeated, cover, layer="x", k=2, level=q).replacement.tolist()

    assert levels(0) == [4, 2, 0, 0]
    assert levels(0.5) == [4.5, 5.5, 0, 0.5]
    assert levels(1) == [5, 9, 0, 1]
    # 0.8 of a cell is less than all of it: only the first cells are the concept's.
    whole = Intervention.insert(
        repeated.repeat(2, 1, 1, 1), cover.repeat(2, 1, 1), layer="x", k=1, inside=1
    )
    assert whole.replacement.tolist() == [5, 9, 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coverage": COVERAGE}, "2 cells of 'x' are at least 0.75 spot"),
        ({"coverage": torch.ones(6, 1, 3)}, "0 have none of it"),
        ({"coverage": torch.ones(6, 3)}, "are of the same cells"),
        ({"k": 5}, "cannot take 5 units of 'x', which has 4"),
        ({"k": 0}, "cannot take 0 units"),
        ({"level": 1.5}, "a level is in"),
        ({"inside": 0}, "`inside` is in"),
    ],
)
def test_what_cannot_be_put_in_is_one_line(change, message):
    settings = {"coverage": COVERAGE.repeat(3, 1, 1), "k": 2} | change
    acts = ACTS if change.get("coverage") is COVERAGE else ACTS.repeat(3, 1, 1, 1)
    cover = settings.pop("coverage")
    with pytest.raises(DissectError, match=message) as caught:
        Intervention.insert(acts, cover, layer="x", concept="spot", **settings)
    assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.1, 100),
    shift=st.lists(st.floats(-5, 5), min_size=6, max_size=6),
)
def test_the_choice_is_the_same_in_other_units_of_measure(seed, scale, shift):
    """Neither a unit's scale nor what a place adds to it changes which units rise."""
    random = torch.Generator().manual_seed(seed)
    acts = torch.rand(12, 5, 2, 3, generator=random, dtype=torch.float64)
    cover = torch.zeros(12, 2, 3)
    cover[:6] = (torch.rand(6, 2, 3, generator=random) > 0.5).float()
    if (cover > 0).sum() < 5:
        return
    found = Intervention.insert(acts, cover, layer="x", k=5)
    scaled = Intervention.insert(acts * scale, cover, layer="x", k=5)
    assert scaled.units.indices == found.units.indices
    assert torch.allclose(scaled.replacement, found.replacement * scale, rtol=1e-4)
    moved = acts + torch.tensor(shift, dtype=torch.float64).reshape(1, 1, 2, 3)
    # Spreads change with what places add, yet no unit that rises falls by it.
    assert set(Intervention.insert(moved, cover, layer="x", k=5).units.indices) == set(
        found.units.indices
    )


def test_inserted_values_are_set_to_the_bit_and_bake_writes_them():
    class Bare(nn.Module):
        def forward(self, x):
            return x

    model = nn.Sequential(Bare(), nn.Identity())
    x, region = torch.arange(8.0).reshape(1, 2, 2, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    units = Units("0", (1,), 2)
    with inserted(model, units, where=region, values=[0.1]):
        after = model(x)
    assert after[0, 0].tolist() == [[0, 1], [2, 3]]
    assert torch.equal(after[0, 1], torch.tensor([[0.1, 5], [6, 0.1]]))
    baked = bake(model, units, where=region, replacement=torch.tensor([0.1]))
    assert torch.equal(baked(x), after)
    each = torch.stack([region, 1 - region])
    with inserted(model, units, where=each, values=torch.tensor([9.0])):
        assert model(x.repeat(2, 1, 1, 1))[:, 1].tolist() == [[[9, 5], [6, 9]], [[4, 9], [9, 7]]]
    with pytest.raises(DissectError, match="one value for each of the 1 units"):
        inserted(model, units, values=[1.0, 2.0])


def putting(units, levels):
    return Intervention(units, replacement=levels)


def test_a_swap_puts_one_concept_in_and_the_other_to_zero():
    put = putting(Units("x", (3, 1), 5, concept="door"), torch.tensor([1.0, 2, 3, 4, 5]))
    both = Intervention.swap(Units("x", (0, 1, 4), 5, concept="window", rule="positive"), put)
    assert both.units.indices == (3, 1, 0, 4)
    assert unit_levels(both).tolist() == [4, 2, 0, 0]
    assert both.units.concept == "door"
    assert put.replacement.tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(DissectError, match="choose both on one layer"):
        Intervention.swap(Units("y", (0,), 5), put)


def test_the_control_is_of_other_units_at_their_own_levels():
    put = putting(Units("x", (0, 1), 6, concept="door"), torch.arange(6.0))
    control = put.control(3)
    assert len(control.units) == 2
    assert not set(control.units.indices) & {0, 1}
    assert unit_levels(control).tolist() == [float(unit) for unit in control.units.indices]
    assert control.units.concept == "door"


# A generator of 8 x 8 pixels from 4 x 4 cells: unit 0 draws white, unit 1 draws grey where white
# is not; the segmenter calls white a spot. A spot stands where z says.


class Spots(nn.Module):
    latent_size = 2

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, z):
        cells = torch.zeros(len(z), 2, 4, 4, device=z.device)
        cells[:, 1, 2:] = 1.0
        column = ((z[:, 0] + 1) * 2).long().clamp(0, 3)
        with_spot = z[:, 1] > 0
        cells[torch.arange(len(z))[with_spot], 0, 0, column[with_spot]] = 1.0
        cells = self.layer(cells)
        # Grey wins over white: no spot can be put in on the lower half.
        value = torch.where(cells[:, 1] > 0, torch.zeros(()), 2 * cells[:, 0] - 1)
        pixels = value.repeat_interleave(2, 1).repeat_interleave(2, 2)
        return pixels.unsqueeze(1).expand(-1, 3, -1, -1).contiguous()


CLASSES = ("black", "grey", "spot")
EYES = Segmenter(CLASSES, lambda images: images[:, 0].round().long() + 1)


@pytest.fixture
def spots():
    return Spots().eval()


def test_a_segmenter_labels_what_it_sees(spots):
    labels = pseudo_label(spots, EYES, "spot", 30, seed=4, start=2)
    assert labels.concept == "spot"
    assert labels.annotations.latent_rows == tuple((4, place) for place in range(2, 32))
    cover = labels.coverage((4, 4))
    _, same = labelled_cells(spots, labels, "layer")
    assert torch.equal(cover, same)
    acts, _ = labelled_cells(spots, labels, "layer")
    assert torch.equal(cover, acts[:, 0])
    # On a grid of half the size a spot is a quarter of a cell.
    assert labels.coverage((2, 2)).unique().tolist() == [0, 0.25]
    boxes = [box for image in labels.annotations.boxes for box in image]
    assert len(boxes) == int(labels.masks.any((1, 2)).sum()) > 0
    assert {(box.width, box.height) for box in boxes} == {(2, 2)}
    grey = pseudo_label(spots, EYES, "grey", 3)
    assert [boxes[0] for boxes in grey.annotations.boxes] == [Box(0, 4, 8, 4)] * 3
    with pytest.raises(DissectError, match="does not know 'door'"):
        pseudo_label(spots, EYES, "door", 3)
    with pytest.raises(DissectError, match="no 16x16 cells"):
        labels.coverage((16, 16))


def test_labels_without_masks_are_the_boxes():
    image = AnnotatedImage(height=8, width=8, boxes=(Box(0, 0, 4, 2),))
    labels = ConceptLabels(Annotations("spot", (image,)))
    assert labels.coverage((4, 4))[0, 0].tolist() == [1, 1, 0, 0]


def test_a_probe_is_fitted_to_what_the_segmenter_sees(spots):
    labels = pseudo_label(spots, EYES, "spot", 40, seed=1)
    fitted = fit_from_labels(spots, labels, "layer", seed=1)
    assert fitted.concept == "spot"
    assert fitted.units().indices[0] == 0
    assert fitted.score.auc > 0.99


def spot_insertion():
    return putting(Units("layer", (0,), 2, concept="spot"), torch.tensor([1.0, 0.0]))


def latents(*rows):
    return torch.tensor(rows, dtype=torch.float32)


Z = latents(*[(-0.9, -1.0)] * 5, *[(-0.9, 1.0)] * 3)  # five without a spot, three with it at left


def test_a_place_counts_only_where_there_was_none(spots):
    left = torch.zeros(4, 4)
    left[0, 0] = 1
    found = place(spots, EYES, Z, spot_insertion(), left)
    assert found.eligible[:, 0].tolist() == [True] * 5 + [False] * 3
    assert found.before[:, 0].tolist() == [0.0] * 5 + [1.0] * 3
    assert found.probability().tolist() == [1.0]
    assert found.estimate().to_dict() == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert found.change.tolist() == [0.0]
    assert found.by_surroundings(fewest=1) == {"black": (5, Estimate(1.0, 1.0, 1.0))}
    control = place(spots, EYES, Z, spot_insertion().control(0), left)
    assert control.estimate().value == 0.0


def test_the_map_tells_where_it_can_be_put_in_and_where_not(spots):
    found = place_everywhere(spots, EYES, Z, spot_insertion(), (4, 4), patch=(1, 1))
    # Where all eight are free, and where five are; never on the grey half.
    assert found.probability().tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.eligible.sum(0)[0].tolist() == [5, 8, 8, 8]
    around = found.by_surroundings()
    assert around["black"] == (61, Estimate(1.0, 1.0, 1.0))
    assert around["grey"] == (64, Estimate(0.0, 0.0, 0.0))
    assert list(around) == ["grey", "black"]
    larger = place_everywhere(spots, EYES, Z, spot_insertion(), (4, 4), patch=(2, 2))
    assert larger.probability().shape == (3, 3)
    # A patch of two rows of which one is grey is half a spot after, and counts as one.
    assert larger.after[0, 1].tolist() == [0.5, 0.5, 0.5]
    few = place_everywhere(spots, EYES, Z[3:], spot_insertion(), (4, 4), patch=(1, 1))
    assert np.isnan(few.probability()[0, 0])
    calls = []
    place_everywhere(spots, EYES, Z, spot_insertion(), (4, 4), patch=(4, 3), progress=calls.append)
    assert calls == [1, 1]


def test_an_interval_is_as_wide_as_the_images_differ():
    def placed(after):
        zero = np.zeros((40, 1))
        return Placement("spot", CLASSES, zero, np.array(after)[:, None], zero.astype(int), zero[0])

    low, high = placed([1.0] * 20 + [0.0] * 20).estimate().interval
    # 1.96 standard deviations of a mean of 40 coins: 0.155.
    assert low == pytest.approx(0.5 - 0.155, abs=0.05)
    assert high == pytest.approx(0.5 + 0.155, abs=0.05)
    assert placed([0.0] * 40).estimate().interval == (0, 0)


def test_what_cannot_be_placed_is_one_line(spots):
    with pytest.raises(DissectError, match="does not fit"):
        place_everywhere(spots, EYES, Z, spot_insertion(), (4, 4), patch=(5, 1))
    with pytest.raises(DissectError, match="at least 1 latent"):
        place(spots, EYES, Z[:0], spot_insertion(), torch.ones(4, 4))
    with pytest.raises(DissectError, match="the gate has shape"):
        place(spots, EYES, Z, spot_insertion(), torch.ones(2, 2))
    door = putting(Units("layer", (0,), 2, concept="door"), torch.ones(2))
    with pytest.raises(DissectError, match="does not know 'door'"):
        place(spots, EYES, Z, door, torch.ones(4, 4))


def test_the_figures_can_be_drawn(spots):
    found = place_everywhere(spots, EYES, Z, spot_insertion(), (4, 4), patch=(1, 1))
    images = np.zeros((8, 8, 8, 3), np.uint8)
    first = rasterized(placement_figure(found, images, (4, 4), (1, 1)))
    assert first.width > first.height > 300
    assert first.tobytes() == rasterized(placement_figure(found, images, (4, 4), (1, 1))).tobytes()
    figure = replacement_figure("spot", {"a": {"spot": 0.5, "grey": 0.5}, "b": {"black": 1.0}})
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert sum(widths) == pytest.approx(2)
    assert rasterized(figure).width > 500


def test_the_outline_goes_around_the_region_and_no_pixel_of_it_is_painted():
    images = np.zeros((1, 8, 8, 3), np.uint8)
    region = torch.zeros(4, 4)
    region[1, 1:3] = 1
    painted = (_outlined(images, region)[0] != 0).any(2)
    assert not painted[2:4, 2:6].any()
    assert painted.sum() == 4 * 6 - 2 * 4
    assert painted[1, 1:7].all()


def test_records_of_a_placement_are_plain_json(spots):
    found = place_everywhere(spots, EYES, Z[3:], spot_insertion(), (4, 4), patch=(1, 1))
    values = json.loads(json.dumps(_map_values(found), allow_nan=False))
    assert values["map"][0][0] is None
    assert values["map"][0][1] == 1.0
