import math
import re

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from dissect._utils.errors import DissectError
from dissect.dissection import (
    ConceptCounts,
    Dissection,
    Thresholds,
    activation_stats,
    count_units,
    network_dissection,
    steps,
    study,
    top_images,
)
from dissect.dissection.iou import OBSERVED, PERMUTED
from dissect.dissection.upsampling import Upsampling
from dissect.models import Generator
from dissect.segmentation import Segmenter

GRID = 8


class Spots(nn.Module):
    """Rooms of 16x16 pixels with one bright spot, and three units of 8x8 cells.

    Unit 0 draws the spot, unit 1 is on at another place that means nothing, unit 2 is silent.
    """

    def __init__(self):
        super().__init__()
        self.units = nn.Identity()

    @staticmethod
    def make_latents(n, seed, start):
        rows = [np.random.default_rng((seed, start + i)).integers(0, GRID**2, 2) for i in range(n)]
        return torch.from_numpy(np.array(rows)).reshape(n, 2)

    def forward(self, z):
        maps = nn.functional.one_hot(z, GRID**2).float().unflatten(2, (GRID, GRID))
        # Strengths that differ, so that samples have an order.
        maps = maps * (1 + z[:, :, None, None] / 64)
        maps = self.units(torch.cat([maps, torch.zeros_like(maps[:, :1])], 1))
        bright = (maps[:, :1] > 0).float().repeat_interleave(2, 2).repeat_interleave(2, 3)
        return bright.expand(-1, 3, -1, -1) * 2 - 1


EYES = Segmenter(("wall", "spot", "never"), lambda images: (images.mean(1) > 0).long())
LEVEL = 1 - 4 / 256


@pytest.fixture(scope="module")
def found():
    return network_dissection(
        Spots().eval(), ["units"], EYES, n=200, quantile=LEVEL, effect_n=9, seed=4
    )


def counted(acts, labels, others, threshold, quantiles, concepts=2):
    """Counts where the grid is as fine as the image."""
    acts = torch.as_tensor(acts, dtype=torch.float32)
    counts = ConceptCounts(
        Thresholds.from_quantiles(
            torch.tensor(threshold), torch.as_tensor(quantiles, dtype=torch.float32)
        ),
        concepts,
    )
    size = torch.as_tensor(labels).shape[1:]
    up = Upsampling(tuple(acts.shape[2:]), tuple(size))
    counts.update(acts, torch.as_tensor(labels), torch.as_tensor(others), up)
    return counts


def test_iou_and_auc_by_hand():
    acts = [[[[3, 1], [0, 0]], [[0, 0], [0, 5]]]]
    counts = counted(acts, [[[1, 0], [0, 1]]], [[[0, 0], [1, 1]]], [0.5, 0.5], [[0.5, 2]] * 2)
    # Unit 0 is on in the upper row, unit 1 at the lower right.
    assert counts.iou().tolist() == [[1 / 3, 1 / 3], [0, 1 / 2]]
    assert counts.iou(PERMUTED).tolist() == [[1, 0], [0, 1 / 2]]
    assert counts.above().tolist() == [1 / 2, 1 / 4]
    assert counts.shown().tolist() == [1 / 2, 1 / 2]
    # At best inside the concept, or around it.
    assert counts.max_iou().tolist() == [[1, 1], [1 / 2, 1 / 2]]
    # Unit 0, concept 1: 3 and 0 against 1 and 0; two pairs won, one lost, one tied.
    assert counts.auc().tolist() == [[1 - 2.5 / 4, 2.5 / 4], [1 / 4, 3 / 4]]
    # Concept 1 below, with the other sample's masks: 0 and 0 against 3 and 1.
    assert counts.auc(PERMUTED).tolist() == [[1, 0], [1 / 4, 3 / 4]]
    assert counts.auc_error().max() == 0


def test_cells_that_are_partly_the_concept_are_neither():
    # Cells of 2x2 pixels: concept 1 covers all, a half, a quarter and none of them.
    labels = [[[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]]
    counts = counted([[[[4, 3], [9, 1]]]], labels, labels, [0.5], [[2, 3.5, 5]])
    assert counts.positives().tolist() == [3, 2]
    # 4 and 3 against 1; the cell of 9 is left out.
    assert counts.auc()[0, 1] == 1
    # Concept 0 is 3, 9 and 1 against 4: 9 alone is stronger.
    assert counts.auc()[0, 0] == pytest.approx(1 / 3)


def test_auc_is_within_its_error_of_the_exact_one():
    random = np.random.default_rng(0)
    label = random.integers(0, 2, (40, 6, 6))
    acts = np.maximum(random.normal(label[:, None] * [[[[0.3]], [[1.5]]]], 1), 0)
    values = acts.transpose(1, 0, 2, 3).reshape(2, -1)
    levels = np.quantile(values, np.arange(1, 16) / 16, axis=1).T
    counts = counted(acts, label, label, [1.0, 1.0], levels)
    exact = [roc_auc_score(label.ravel(), row) for row in values]
    off = np.abs(counts.auc()[:, 1].numpy() - exact)
    error = counts.auc_error()[:, 1].numpy()
    assert (off <= error).all()
    assert 0 < error.max() < 0.03
    finer = np.quantile(values, np.arange(1, 256) / 256, axis=1).T
    assert counted(acts, label, label, [1.0, 1.0], finer).auc_error().max() < 0.002


def test_what_never_shows_has_no_auc_and_no_iou():
    counts = counted([[[[1.0, 0.0]]]], [[[0, 0]]], [[[0, 0]]], [0.5], [[0.5]], concepts=2)
    assert counts.iou()[0].tolist() == [1 / 2, 0]
    assert counts.auc()[0].isnan().all()


@pytest.mark.parametrize(("grid", "size"), [((4, 4), (16, 16)), ((3, 5), (8, 9)), ((8, 8), (4, 4))])
def test_upsampling_is_bilinear(grid, size):
    maps = torch.rand(2, 3, *grid)
    wanted = nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)
    large = Upsampling(grid, size)(maps)
    assert torch.allclose(large, wanted, atol=1e-6)
    assert bool((large.amax((2, 3)) <= maps.amax((2, 3)) + 1e-6).all())


def test_the_unit_that_draws_the_concept_is_found(found):
    units = found["units"]
    spot = found.number("spot")
    assert units.grid == (GRID, GRID)
    # 4 of 256 pixels are the spot. Where unit 0 has a value of v, bilinear enlargement gives 9/16
    # of v to those pixels and 3/16 or less to others; the threshold lies between.
    assert found.shown.tolist() == pytest.approx([252 / 256, 4 / 256, 0])
    assert found.max_iou("spot") == pytest.approx(1)
    assert units.iou[0, spot] == 1
    assert units.best().tolist()[0] == spot
    assert units.auc[0, spot] == 1
    # The other one does no better than with masks of other samples, and neither does well.
    assert units.iou[1, spot] < 0.05
    assert units.iou_shuffled[:, spot].max() < 0.05
    assert abs(units.auc[1, spot] - 0.5) < 0.03
    assert abs(units.auc_shuffled[0, spot] - 0.5) < 0.03


def test_a_silent_unit_has_no_concept(found):
    units = found["units"]
    assert units.threshold[2] == 0
    assert units.above[2] == 0
    assert units.best()[2] == -1
    assert not units.is_detector()[2]
    assert units.auc[2, found.number("spot")] == 0.5


def test_detectors_are_counted_for_their_best_concept(found):
    assert found.detectors() == {"wall": 0, "spot": 1, "never": 0}
    assert sum(found.detectors(shuffled=True).values()) == 0
    assert found.detectors(iou=1) == {"wall": 0, "spot": 0, "never": 0}


def test_removing_the_unit_removes_its_concept(found):
    units = found["units"]
    assert units.removed[:, found.number("spot")].tolist() == [1, 0, 0]
    assert np.isnan(units.removed[:, found.number("never")]).all()
    # 4 pixels of 256 go from 1 to -1.
    assert units.change.tolist() == pytest.approx([2 * 4 / 256, 0, 0])


def test_the_strongest_samples_are_drawn_again_and_outlined(found):
    model = Spots().eval()
    units = found["units"]
    z = Spots.make_latents(200, 4, 0).numpy()
    order = np.lexsort((np.arange(200), -z[:, 0]))[:5]
    assert units.top[0].tolist() == order.tolist()
    assert units.top_values[0].tolist() == pytest.approx((1 + z[order, 0] / 64).tolist())
    # Equal values: the first latents.
    assert units.top[2].tolist() == [0, 1, 2, 3, 4]
    samples = top_images(model, found)
    first = samples.images[samples.place["units"][0, 0]]
    row, column = divmod(int(z[order[0], 0]), GRID)
    assert (first[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] == 255).all()
    assert samples.on["units"][0, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].all()
    assert not samples.on["units"][2].any()
    few = top_images(model, found, pictures=6)
    assert few.place["units"].shape == (3, 2)


def same(one, other):
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(other, name), err_msg=name)


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_the_size_of_batches_changes_nothing(found, monkeypatch, batch):
    monkeypatch.setattr(study, "_BATCH", batch)
    again = network_dissection(
        Spots().eval(), ["units"], EYES, n=200, quantile=LEVEL, effect_n=9, seed=4
    )
    same(again["units"], found["units"])


def test_a_convolutional_generator_gives_the_same_whatever_the_batch(monkeypatch):
    torch.manual_seed(0)
    generator = Generator(latent_size=6, width=4, image_size=32, kernel=4).eval()
    layers = ["layer4x4", "layer8x8", "layer16x16"]
    runs = []
    for batch in (50, 11):
        monkeypatch.setattr(study, "_BATCH", batch)
        runs.append(network_dissection(generator, layers, EYES, n=60, quantile=0.9))
    # A convolution may round another way in a batch of another size, and a value beside the end
    # of a bin, or beside a threshold, change its side.
    for layer in layers:
        one, other = (found[layer] for found in runs)
        np.testing.assert_allclose(one.threshold, other.threshold, rtol=1e-4)
        np.testing.assert_allclose(one.above, other.above, atol=1e-4)
        assert (one.top == other.top).all()


def test_parts_add_up_to_the_whole_and_states_do_not_grow():
    model = Spots().eval()

    def levels(n, first):
        return activation_stats(model, ["units"], n, 4, start=first)["units"]

    part, rest, thresholds = levels(130, 200), levels(70, 330), levels(200, 200).thresholds(LEVEL)
    part.pixels.merge(rest.pixels)
    part.cells.merge(rest.cells)
    for mine, its in zip(part.thresholds(LEVEL), thresholds, strict=True):
        assert torch.equal(mine, its)

    def counts(n, first):
        return count_units(model, {"units": thresholds}, EYES, n, 4, start=first)["units"]

    first, second, everything = counts(60, 0), counts(140, 60), counts(200, 0)
    first.concepts.merge(second.concepts)
    first.top.merge(second.top)
    for mine, its in ((first.concepts, everything.concepts), (first.top, everything.top)):
        for name, value in its.state_dict().items():
            assert torch.equal(mine.state_dict()[name], value), name
    small, large = (
        {name: value.numel() for name, value in one.concepts.state_dict().items()}
        for one in (counts(5, 0), everything)
    )
    assert small == large
    revived = ConceptCounts.from_state_dict(everything.concepts.state_dict())
    assert torch.equal(revived.auc(OBSERVED).nan_to_num(), everything.concepts.auc().nan_to_num())
    with pytest.raises(DissectError, match="other thresholds"):
        other = Thresholds(thresholds.threshold + 1, thresholds.edges)
        everything.concepts.merge(ConceptCounts(other, 3))


def test_a_dissection_is_saved_and_loaded(found, tmp_path):
    again = Dissection.load(found.save(tmp_path / "d.json"))
    assert (again.concepts, again.n, again.seed, again.effect_n) == (found.concepts, 200, 4, 9)
    for name, value in vars(found["units"]).items():
        loaded = getattr(again["units"], name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(loaded, value, err_msg=name)
        else:
            assert loaded == value, name
    assert again.detectors() == found.detectors()
    text = (tmp_path / "d.json").read_text()
    (tmp_path / "d.json").write_text(text.replace('"cells"', '"celles"'))
    with pytest.raises(DissectError, match="has no 'cells'"):
        Dissection.load(tmp_path / "d.json")
    short = re.sub(r'"change": \[[^,]*,', '"change": [', text)
    (tmp_path / "d.json").write_text(short)
    with pytest.raises(DissectError, match="'change' of layer 'units' must have"):
        Dissection.load(tmp_path / "d.json")


def test_only_some_concepts(found):
    only = network_dissection(
        Spots().eval(), ["units"], EYES, n=200, quantile=LEVEL, concepts=["spot"], seed=4
    )
    assert only.concepts == ("spot",)
    assert only["units"].iou[:, 0].tolist() == found["units"].iou[:, 1].tolist()
    assert only["units"].removed is None


def test_every_step_is_told():
    done = []
    progress = lambda n, note="", /: done.append(n)  # noqa: E731
    network_dissection(Spots().eval(), ["units"], EYES, n=60, effect_n=4, progress=progress)
    assert sum(done) == steps(60, 3, 4) == 2 * 60 + 3 * 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": ["unit"]}, "did you mean 'units'"),
        ({"layers": []}, "at least one layer"),
        ({"concepts": ["spots"]}, "does not know 'spots'"),
        ({"n": 0}, "n=0"),
        ({"top": 0}, "top=0"),
        ({"quantile": 1.0}, "between 0 and 1"),
        ({"quantile": math.nan}, "between 0 and 1"),
        ({"effect_n": -1}, "effect_n=-1"),
    ],
)
def test_a_mistake_is_told(wrong, message):
    given = {"layers": ["units"], "n": 4, **wrong}
    with pytest.raises(DissectError, match=message):
        network_dissection(Spots().eval(), given.pop("layers"), EYES, **given)


def test_a_layer_without_a_grid_is_refused():
    flat = nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 2, 2)))
    flat.latent_size = 2
    with pytest.raises(DissectError, match="not a grid of units"):
        network_dissection(flat.eval(), ["0"], EYES, n=4)
