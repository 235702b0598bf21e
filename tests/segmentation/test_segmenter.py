import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import torch

from dissect._utils.errors import DissectError
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.data import source
from dissect.segmentation import (
    BoxMatch,
    Segmenter,
    UNet,
    evaluate_on_boxes,
    evaluate_on_renders,
    intersection_over_union,
    load_segmenter,
    load_unet,
    pseudo_label,
    save_unet,
)
from dissect.segmentation.regions import majority_vote
from dissect.training.augment import degrade
from dissect.training.segmenter import SegmenterConfig, train_segmenter


def test_every_pixel_has_logits_of_its_own():
    network = UNet(("a", "b", "c"), widths=(4, 6)).eval()
    assert network(torch.zeros(2, 3, 16, 24)).shape == (2, 3, 16, 24)
    assert network.features(torch.zeros(2, 3, 16, 24)).shape == (2, 6)
    with pytest.raises(DissectError, match=r"\(N, 3, H, W\)"):
        network(torch.zeros(1, 1, 18, 18))


def test_sides_of_any_length_have_a_class_for_every_pixel():
    torch.manual_seed(0)
    network = UNet(("a", "b", "c"), widths=(4, 6)).eval()
    images = torch.rand(2, 3, 18, 25)
    assert network(images).shape == (2, 3, 18, 25)
    assert Segmenter.from_unet(network).labels(images).shape == (2, 18, 25)
    # What was added does not reach the other end.
    whole = torch.cat([images, images[:, :, -1:].expand(-1, -1, 2, -1)], 2)[:, :, :, :24]
    assert torch.equal(network(images[:, :, :, :24]), network(whole)[:, :, :18])


def test_a_users_functions_compute_in_float32_under_autocast():
    seen = []

    def label(images):
        product = images.flatten(2) @ images.flatten(2).transpose(1, 2)
        seen.append((images.dtype, product.dtype))
        return (images.mean(1) > 0).long()

    for thread_safe in (False, True):
        segmenter = Segmenter(("a", "b"), label, thread_safe=thread_safe)
        with torch.autocast("cpu", torch.bfloat16):
            segmenter.labels(torch.ones(1, 3, 2, 2, dtype=torch.bfloat16))
    assert seen == [(torch.float32, torch.float32)] * 2


def test_a_factory_gives_a_segmenter(tmp_path):
    path = tmp_path / "seg.py"
    path.write_text(
        "from dissect import Segmenter\n"
        "def label(images):\n    return (images.mean(1) > 0).long()\n"
        "def make():\n    return Segmenter(('rest', 'eye'), label)\n"
        "def wrong():\n    return 3\n"
    )
    assert load_segmenter(f"{path}:make").classes == ("rest", "eye")
    with pytest.raises(DissectError, match=r"must return a dissect\.Segmenter"):
        load_segmenter(f"{path}:wrong")


def test_a_saved_segmenter_labels_alike(tmp_path):
    torch.manual_seed(0)
    network = UNet(("a", "b", "c"), widths=(4, 6)).eval()
    path = save_unet(tmp_path / "s.safetensors", network, card={"steps": 3}, half=False)
    again, card = load_unet(path)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(again(images), network(images))
    assert again.classes == ("a", "b", "c")
    assert card == {"steps": 3}


def test_folded_batch_norms_change_no_logit_and_later_training_no_segmenter():
    network = UNet(("a", "b", "c"), widths=(4, 6))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, -2, 2)
            torch.nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.2, 3)
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    folded = network.folded()
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    assert network.training
    network.eval()
    assert torch.allclose(folded(images), network(images), atol=1e-4, rtol=1e-4)
    eyes = Segmenter.from_unet(network)
    before = eyes.labels(images)
    torch.nn.init.zeros_(network.classify.weight)
    torch.nn.init.constant_(network.classify.bias, 1)
    assert torch.equal(eyes.labels(images), before)


def test_regions_have_one_class_only_where_the_network_says_so(tmp_path):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.manual_seed(3)
    plain = UNet(("wall", "window", "picture"), (4, 6))
    plain.classify.weight.data.mul_(20)
    voting = UNet(plain.classes, plain.widths, ("window", "picture"))
    voting.load_state_dict(plain.state_dict())
    pixels = Segmenter.from_unet(plain).labels(images)
    assert torch.equal(pixels, plain.eval()(images).argmax(1))
    assert not torch.equal(Segmenter.from_unet(voting).labels(images), pixels)
    path = save_unet(tmp_path / "s.safetensors", voting, card={})
    assert load_unet(path)[0].region_classes == ("window", "picture")
    assert load_unet()[0].region_classes == ("window", "picture", "mirror")
    with pytest.raises(DissectError, match="region classes must be classes: mirror"):
        UNet(("wall",), (4, 6), ("mirror",))


@pytest.mark.parametrize("thread_safe", [False, True])
def test_a_segmenter_runs_in_one_thread_at_a_time_unless_it_may_run_in_several(thread_safe):
    running, most = 0, []
    meeting = threading.Barrier(2)

    def function(images):
        nonlocal running
        running += 1
        with suppress(threading.BrokenBarrierError):
            meeting.wait(0.2 if not thread_safe else 10)
        most.append(running)
        running -= 1
        return images[:, 0].long()

    segmenter = Segmenter(("a", "b"), function, None, function, thread_safe=thread_safe)
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(call, torch.zeros(1, 3, 4, 4))
            for call in (segmenter.labels, segmenter.features)
        ]
        for call in calls:
            call.result()
    assert max(most) == (2 if thread_safe else 1)


def test_probabilities_add_up_and_pass_gradients_to_the_images():
    eyes = Segmenter.from_unet(UNet(("a", "b", "c"), widths=(4, 6)))
    images = (torch.rand(2, 3, 16, 16) * 2 - 1).requires_grad_()
    probability = eyes.probability(images)
    assert torch.allclose(probability.sum(1), torch.ones(2, 16, 16), atol=1e-5)
    probability[:, 1].sum().backward()
    assert bool((images.grad != 0).any())
    assert torch.equal(eyes.labels(images.detach()), probability.argmax(1))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_segmenter_is_one_line(tmp_path, share):
    network = UNet(("a", "b"), widths=(4, 6))
    path = save_unet(tmp_path / "s.safetensors", network, card={})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DissectError, match="is damaged"):
        load_unet(path)
    with pytest.raises(DissectError, match="no such segmenter"):
        load_unet(tmp_path / "none")


def test_intersection_over_union_by_hand():
    true = np.array([[0, 0, 1], [1, 1, 2]])
    predicted = np.array([[0, 1, 1], [1, 2, 2]])
    scores = intersection_over_union(predicted, true, ("a", "b", "c", "never"))
    assert np.isnan(scores.pop("never"))
    assert scores == {"a": 1 / 2, "b": 2 / 4, "c": 1 / 2}


BRIGHT = Segmenter(("rest", "window"), lambda images: (images.mean(1) > 0).long())


def test_boxes_found_and_false_alarms_by_hand():
    images = np.zeros((4, 16, 16, 3), np.uint8)
    images[0, 2:6, 2:8] = 255  # a window, its box around it
    images[1, 2:3, 2:8] = 255  # a quarter of the box: not found
    images[2, 0:2, 0:2] = 255  # 4 of 256 pixels where no box is: an alarm
    images[3, 0:1, 0:3] = 255  # 3 pixels: too few
    box = (Box(2, 2, 6, 4),)
    drawn = (box, box, (), ())
    annotated = tuple(AnnotatedImage(16, 16, b, file_name=f"{k}") for k, b in enumerate(drawn))
    score = evaluate_on_boxes(BRIGHT, images, Annotations("window", annotated), min_area=1 / 64)
    assert (score.n_boxes, score.n_detected, score.recall) == (2, 1, 0.5)
    assert (score.negatives, score.false_alarms, score.false_alarm_rate) == ((2, 3), (2,), 0.5)
    assert score.to_dict()["areas"] == [24 / 256, 6 / 256, 4 / 256, 3 / 256]
    assert repr(score).count("\n") == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda images: torch.zeros(len(images), 8, 8, dtype=torch.long), "shape .2, 16, 16."),
        (lambda images: torch.zeros(len(images), 16, 16), "whole numbers"),
        (lambda images: torch.full((len(images), 16, 16), 2), "class 2, and has 2 names"),
    ],
)
def test_masks_of_another_size_or_kind_are_one_line(answer, message):
    with pytest.raises(DissectError, match=message):
        Segmenter(("rest", "window"), answer).labels(torch.zeros(2, 3, 16, 16))


def test_an_unknown_concept_is_one_line():
    with pytest.raises(DissectError, match="does not know 'widow'; it knows: 'rest', 'window'"):
        BRIGHT.class_id("widow")


def test_boxes_on_images_of_another_size_are_one_line():
    images = np.zeros((1, 16, 16, 3), np.uint8)
    one = Annotations("window", (AnnotatedImage(32, 24, (), file_name="0"),))
    with pytest.raises(DissectError, match="images of 32x24 pixels, and these have 16x16"):
        evaluate_on_boxes(BRIGHT, images, one)


def test_a_thin_box_at_the_edge_still_has_a_pixel():
    images = np.zeros((1, 16, 16, 3), np.uint8)
    images[0, :, 15] = 255
    one = AnnotatedImage(16, 16, (Box(15.6, 2, 0.3, 4),), file_name="0")
    assert evaluate_on_boxes(BRIGHT, images, Annotations("window", (one,))).detected == ((True,),)


class Stripe(torch.nn.Module):
    """The same image for every latent: a stripe of 7 pixels, and one of 8."""

    latent_size = 2

    def forward(self, z):
        image = -torch.ones(len(z), 3, 64, 64)
        image[:, :, 3, 10:17] = 1
        image[:, :, 9, 20:28] = 1
        return image


def test_regions_below_a_five_hundredth_of_the_image_get_no_box():
    labels = pseudo_label(Stripe(), BRIGHT, "window", 2)
    assert labels.masks.sum((1, 2)).tolist() == [15, 15]
    assert labels.annotations.boxes == ((Box(20, 9, 8, 1),),) * 2


def test_intervals_of_shares_by_hand():
    # Wilson: 19 of 20, z = 1.96: (0.95 + 0.096 -/+ 1.96 sqrt(0.002375 + 0.0024)) / 1.19207
    score = BoxMatch(tuple([(True,)] * 19 + [(False,)]), (0.0,) * 20, 0.5, 0.01)
    assert score.recall_ci == pytest.approx((0.7639, 0.9911), abs=1e-3)
    assert np.isnan(score.false_alarm_rate)
    assert score.false_alarm_rate_ci == (0, 1)


def painted(masks):
    """Images that say the class of every pixel by their brightness: -0.8, 0, 0.8."""
    return ((masks - 1) * 0.8).unsqueeze(1).expand(-1, 3, -1, -1).contiguous()


def test_roughened_images_stay_images_and_depend_on_the_seed_alone():
    images, masks = torch.rand(8, 3, 32, 32) * 2 - 1, torch.randint(0, 5, (8, 32, 32))
    first = degrade(images, masks, torch.Generator().manual_seed(1))
    again = degrade(images, masks, torch.Generator().manual_seed(1))
    other = degrade(images, masks, torch.Generator().manual_seed(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert float(first[0].abs().max()) <= 1
    assert first[0].shape == images.shape
    assert (first[1].shape, first[1].dtype) == (masks.shape, masks.dtype)
    assert set(first[1].unique().tolist()) <= set(masks.unique().tolist())


def test_masks_move_with_the_shapes():
    masks = torch.zeros(64, 32, 32, dtype=torch.long)
    masks[:, 8:24, 8:24] = 2
    rough, moved = degrade(painted(masks), masks, torch.Generator().manual_seed(0))
    assert float((moved != masks).float().mean()) > 0.02
    bright = rough.mean(1)
    middle = (bright.amax((1, 2), keepdim=True) + bright.amin((1, 2), keepdim=True)) / 2
    agree = ((bright > middle) == (moved == 2)).float().mean((1, 2))
    # Where the masks stayed behind, a shift of two pixels alone would cost a tenth.
    assert float(agree.median()) > 0.95


@pytest.fixture
def renders(monkeypatch, tmp_path):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path))
    return source("bedrooms", size=32, count=48, show_progress=False)


def test_a_trained_segmenter_has_the_region_classes_that_the_renders_have(renders):
    config = SegmenterConfig(steps=1, batch_size=8, widths=(4, 6), region_classes=("door", "lift"))
    assert train_segmenter(renders, config).region_classes == ("door",)


def test_a_segmenter_learns_the_same_from_the_same_seed(renders):
    config = SegmenterConfig(steps=80, batch_size=8, widths=(8, 16))
    seen = []
    first = train_segmenter(renders, config, progress=lambda *row: seen.append(row))
    second = train_segmenter(renders, config)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert len(seen) == 8
    assert all(n == 10 for n, _ in seen)
    losses = [float(note.rpartition(" ")[2]) for _, note in seen]
    assert losses[-1] < 0.9 * losses[0]
    assert not first.training


def test_only_classes_in_common_are_scored(renders):
    everything_is_bed = Segmenter(
        ("sky", "bed"), lambda images: torch.ones(len(images), 32, 32, dtype=torch.long)
    )
    share = float((renders.masks(range(8, 48)) == renders.classes.index("bed")).mean())
    assert evaluate_on_renders(everything_is_bed, renders, 40) == {"bed": pytest.approx(share)}
    with pytest.raises(DissectError, match="knows none of the classes of bedrooms"):
        evaluate_on_renders(Segmenter(("sky",), BRIGHT.label), renders, 40)


def test_masks_of_different_shapes_are_not_compared():
    with pytest.raises(DissectError, match="shape"):
        intersection_over_union(np.zeros((2, 4, 4), int), np.zeros((2, 8, 8), int), ("a",))


def test_the_bundled_segmenter_is_small_and_good(monkeypatch, tmp_path):
    from dissect.segmentation.unet import bundled_unet

    assert bundled_unet().stat().st_size < 3_000_000
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path))
    held_out = source("bedrooms", count=200, seed=9, show_progress=False)
    scores = evaluate_on_renders(load_segmenter(), held_out, 200)
    # On 2,000 renders: window 0.90, bed 0.95, mean 0.75 are the least; 200 scatter.
    assert scores["window"] > 0.87
    assert scores["bed"] > 0.94
    assert sum(scores.values()) / len(scores) > 0.75


def test_a_segmenter_is_opened_once_while_its_file_is_the_same(tmp_path):
    assert load_segmenter() is load_segmenter(None)
    network = UNet(("a", "b"), widths=(4, 6))
    path = save_unet(tmp_path / "s.safetensors", network, card={})
    first = load_segmenter(path)
    assert load_segmenter(str(path)) is first
    save_unet(path, UNet(("a", "b", "c"), widths=(4, 6)), card={})
    assert load_segmenter(path).classes == ("a", "b", "c")
    with pytest.raises(DissectError, match="no such segmenter"):
        load_segmenter(tmp_path / "none.safetensors")
    with pytest.raises(DissectError, match="needs a name"):
        load_segmenter("transformers:")


def test_a_thing_on_a_wall_is_of_the_class_that_has_most_of_its_probability() -> None:
    things = torch.tensor([1, 2])
    labels = torch.zeros(2, 4, 6, dtype=torch.int64)
    labels[0, 1:3, 0:2], labels[0, 1:3, 2] = 1, 2  # one thing, of which a third is called 2
    labels[0, 3, 5] = 2  # another, that touches it nowhere
    labels[1, 1, 1] = 2  # at the same place as the first, in the next image
    labels[1, 3, :] = 3  # a class that is left alone
    probability = torch.zeros(2, 2, 4, 6)
    probability[0, 0, 1:3, 0:2], probability[0, 1, 1:3, 2] = 0.6, 0.9
    probability[0, 1, 3, 5] = probability[1, 1, 1, 1] = 0.5
    found = majority_vote(labels, probability, things)
    wanted = labels.clone()
    wanted[0, 1:3, 2] = 1  # 4 times 0.6 against 2 times 0.9
    assert torch.equal(found, wanted)
    probability[0, 1, 1:3, 2] = 1.5
    wanted[0, 1:3, 0:3] = 2
    assert torch.equal(majority_vote(labels, probability, things), wanted)
    assert torch.equal(majority_vote(labels, probability[:, :0], things[:0]), labels)
