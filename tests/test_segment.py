import numpy as np
import pytest
import torch

from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.data import source
from dissect.errors import DissectError
from dissect.segment import Segmenter, UNet, box_score, load_segmenter, save_segmenter
from dissect.segment.check import intersection_over_union
from dissect.training.augment import roughen
from dissect.training.segmenter import SegmenterConfig, train_segmenter


def test_every_pixel_has_logits_of_its_own():
    network = UNet(("a", "b", "c"), widths=(4, 6)).eval()
    assert network(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 16, 24)
    assert network.features(torch.zeros(2, 3, 16, 24)).shape == (2, 6)
    with pytest.raises(DissectError, match="multiples of 4"):
        network(torch.zeros(1, 3, 18, 18))


def test_a_saved_segmenter_labels_alike(tmp_path):
    torch.manual_seed(0)
    network = UNet(("a", "b", "c"), widths=(4, 6)).eval()
    path = save_segmenter(tmp_path / "s.safetensors", network, card={"steps": 3}, half=False)
    again, card = load_segmenter(path)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(again(images), network(images))
    assert again.classes == ("a", "b", "c")
    assert card == {"steps": 3}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_segmenter_is_one_line(tmp_path, share):
    network = UNet(("a", "b"), widths=(4, 6))
    path = save_segmenter(tmp_path / "s.safetensors", network, card={})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DissectError, match="damaged or no segmenter"):
        load_segmenter(path)
    with pytest.raises(DissectError, match="no such segmenter"):
        load_segmenter(tmp_path / "none")


def test_intersection_over_union_by_hand():
    true = np.array([[0, 0, 1], [1, 1, 2]])
    predicted = np.array([[0, 1, 1], [1, 2, 2]])
    scores = intersection_over_union(predicted, true, ("a", "b", "c", "never"))
    assert scores == {"a": 1 / 2, "b": 2 / 4, "c": 1 / 2, "never": 1.0}


BRIGHT = Segmenter(("rest", "window"), lambda images: (images.mean(1) > 0).long())


def test_boxes_found_and_false_alarms_by_hand():
    images = np.zeros((4, 16, 16, 3), np.uint8)
    images[0, 2:6, 2:8] = 255  # a window, its box around it
    images[1, 2:3, 2:8] = 255  # a quarter of the box: not found
    images[2, 0:5, 0:4] = 255  # 20 pixels where no box is: an alarm
    images[3, 0:1, 0:19] = 255  # 16 pixels: a speck
    box = (Box(2, 2, 6, 4),)
    drawn = (box, box, (), ())
    annotated = tuple(AnnotatedImage(16, 16, b, file_name=f"{k}") for k, b in enumerate(drawn))
    score = box_score(BRIGHT, images, Annotations("window", annotated))
    assert (score.n_boxes, score.n_found, score.recall) == (2, 1, 0.5)
    assert (score.n_without, score.n_alarms, score.false_alarms) == (2, 1, 0.5)


def test_roughened_images_stay_images_and_depend_on_the_seed_alone():
    images = torch.rand(8, 3, 32, 32) * 2 - 1
    first = roughen(images, torch.Generator().manual_seed(1))
    assert torch.equal(first, roughen(images, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, roughen(images, torch.Generator().manual_seed(2)))
    assert float(first.abs().max()) <= 1
    assert first.shape == images.shape


def test_roughening_keeps_shapes_in_their_place():
    images = torch.full((32, 3, 32, 32), -0.8)
    images[:, :, 8:24, 8:24] = 0.8
    rough = roughen(images, torch.Generator().manual_seed(0)).mean(1)
    inside, outside = rough[:, 11:21, 11:21].mean((1, 2)), rough[:, :5].mean((1, 2))
    assert bool((inside > outside + 0.8).all())


@pytest.fixture
def renders(monkeypatch, tmp_path):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path))
    return source("bedrooms", size=32, count=48, progress=False)


def test_a_segmenter_learns_the_same_from_the_same_seed(renders):
    config = SegmenterConfig(steps=80, batch_size=8, widths=(8, 16))
    seen = []
    first = train_segmenter(renders, config, watch=lambda *row: seen.append(row))
    second = train_segmenter(renders, config)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert [step for step, _, _ in seen] == list(range(10, 90, 10))
    assert seen[-1][1] < 0.9 * seen[0][1]
    assert not first.training
