"""The adapter of transformers models, on a tiny Segformer made on the spot."""

import json
import sys

import pytest
import torch

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.segmentation import from_transformers, load_segmenter
from dissect.segmentation.preprocess import Preprocessing

SETTINGS = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
LABELS = {0: "wall", 1: "windowpane, window", 2: "desk", 3: "bed ", 4: "table"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A randomly initialised model as `save_pretrained` leaves it, with settings."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        id2label=LABELS,
        label2id={name: number for number, name in LABELS.items()},
    )
    torch.manual_seed(0)
    model = transformers.SegformerForSemanticSegmentation(config)
    torch.nn.init.normal_(model.decode_head.classifier.weight, 0, 2)
    model.decode_head.classifier.bias.data.copy_(torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0]))
    place = tmp_path_factory.mktemp("model")
    model.save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(SETTINGS))
    return place


@pytest.fixture
def images():
    coarse = torch.rand(3, 3, 4, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (64, 48), mode="bilinear")


def logits(folder, images):
    """What the model says of images prepared by hand, at their own size."""
    from transformers import SegformerForSemanticSegmentation

    model = SegformerForSemanticSegmentation.from_pretrained(folder).eval()
    mean = torch.tensor(SETTINGS["image_mean"]).view(1, 3, 1, 1)
    std = torch.tensor(SETTINGS["image_std"]).view(1, 3, 1, 1)
    x = torch.nn.functional.interpolate(images / 2 + 0.5, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        small = model(pixel_values=(x - mean) / std).logits
    return torch.nn.functional.interpolate(small, (64, 48), mode="bilinear")


def test_classes_have_our_words_and_probabilities_of_one_word_are_added(folder, images):
    eyes = from_transformers(folder)
    assert eyes.classes == ("wall", "window", "furniture", "bed")
    wall, window, desk, bed, table = torch.softmax(logits(folder, images), 1).unbind(1)
    wanted = torch.stack([wall, window, desk + table, bed], 1)
    assert torch.allclose(eyes.probability(images), wanted, atol=1e-4)
    labels = eyes.labels(images)
    assert torch.equal(labels, wanted.argmax(1))
    assert len(labels.unique()) > 1


def test_the_mapping_can_be_given(folder, images):
    eyes = from_transformers(folder, names={"Windowpane": "window", "bed": "window"})
    assert eyes.classes == ("wall", "window", "desk", "table")
    assert eyes.labels(images).shape == (3, 64, 48)
    with pytest.raises(DissectError, match="no label 'windowpain'; it has: 'bed', 'desk'"):
        from_transformers(folder, names={"windowpain": "window"})


def test_gradients_reach_the_images_and_features_are_one_row_an_image(folder, images):
    eyes = from_transformers(folder)
    leaf = images.clone().requires_grad_()
    eyes.probability(leaf)[:, eyes.class_id("window")].sum().backward()
    assert bool((leaf.grad != 0).any())
    features = eyes.features(images)
    assert features.shape == (3, 16)
    assert torch.allclose(features[1:2], eyes.features(images[1:2]), atol=1e-5)


def test_a_model_in_memory_needs_its_processor(folder, images):
    from transformers import SegformerForSemanticSegmentation

    model = SegformerForSemanticSegmentation.from_pretrained(folder)
    with pytest.raises(DissectError, match="give processor="):
        from_transformers(model)
    eyes = from_transformers(model, processor=SETTINGS)
    assert torch.equal(eyes.labels(images), from_transformers(folder).labels(images))


def test_images_are_prepared_as_the_library_prepares_them(images):
    pil = pytest.importorskip("transformers.models.segformer.image_processing_pil_segformer")
    processor = pil.SegformerImageProcessorPil(size={"height": 40, "width": 32})
    theirs = processor(list(to_images(images)), return_tensors="pt")["pixel_values"]
    ours = Preprocessing.from_processor(processor)(images)
    # Pillow rounds to whole levels on the way: 1 / 255 / 0.224 of the normalised range.
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 0.03


def test_other_settings_of_processors():
    images = torch.stack([torch.full((8, 16), value) for value in (-1.0, 0.0, 1.0)]).unsqueeze(0)
    shorter = Preprocessing.from_processor({"size": {"shortest_edge": 4}})(images)
    assert shorter.shape == (1, 3, 4, 8)
    assert shorter[0, :, 0, 0].tolist() == pytest.approx([0, 0.5, 1])
    blue_first = Preprocessing.from_processor({"do_flip_channel_order": True, "do_rescale": False})(
        images
    )
    assert blue_first[0, :, 0, 0].tolist() == pytest.approx([255, 127.5, 0])
    cropped = {"do_center_crop": True, "crop_size": {"height": 6, "width": 6}, "size": 9}
    assert Preprocessing.from_processor(cropped)(images).shape == (1, 3, 6, 6)
    for wrong, message in [
        ({"size": {"longest": 3}}, "size is not one"),
        ({"image_mean": [0.5]}, "image_mean must be three numbers"),
        ({"rescale_factor": "much"}, "rescale_factor must be a number"),
        (3, "mapping of its settings"),
    ]:
        with pytest.raises(DissectError, match=message):
            Preprocessing.from_processor(wrong)


def test_a_model_that_is_no_segmenter_is_one_line(images):
    model = torch.nn.Conv2d(3, 2, 1)
    with pytest.raises(DissectError, match="no config.id2label"):
        from_transformers(model, processor=SETTINGS)


@pytest.mark.parametrize("harm", ["no config", "weights cut short", "no settings", "no folder"])
def test_a_damaged_model_is_one_line(folder, tmp_path, harm):
    import shutil

    place = shutil.copytree(folder, tmp_path / "model")
    if harm == "no config":
        (place / "config.json").unlink()
    elif harm == "weights cut short":
        weights = place / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
    elif harm == "no settings":
        (place / "preprocessor_config.json").unlink()
    else:
        shutil.rmtree(place)
    with pytest.raises(DissectError) as told:
        load_segmenter(f"transformers:{place}")
    assert "\n" not in str(told.value)
    assert str(place) in str(told.value)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # what Python then calls not found
    with pytest.raises(DissectError, match="pip install 'dissect-gan.transformers.'"):
        load_segmenter("transformers:nobody/nothing")
