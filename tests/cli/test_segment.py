"""`dissect segment`, and training on a generator's samples."""

import json

import pytest
import torch
from helpers.command_line import run
from PIL import Image

from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors
from dissect.data import source
from dissect.models import Generator, generate, latents_for, load, save_checkpoint
from dissect.segmentation import load_segmenter, load_unet
from dissect.training.segmenter import SegmenterConfig, train_segmenter


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_a_segmenter_is_measured_on_renders_and_boxes(capsys, tmp_path):
    words = ("evaluate", "segmenter", "--n", 40, "--out", tmp_path, "--json")
    status, out, err = run(capsys, *words)
    assert status == 0, err
    found = json.loads(out)
    assert found["n_renders"] == 40
    assert found["iou"]["bed"] > 0.9
    assert found["n_boxes"] == 52
    assert found["n_negatives"] == 102
    assert found["recall"] >= 0.9
    assert found["false_alarm_rate"] <= 0.1
    low, high = found["recall_ci"]
    assert low < found["recall"] <= high
    assert Image.open(tmp_path / "evaluate.png").width > 1_000


def test_images_of_a_source_and_samples_are_segmented(capsys, tmp_path):
    status, out, err = run(capsys, "segment", "--n", 5, "--seed", 3, "--out", tmp_path, "--json")
    assert status == 0, err
    found = json.loads(out)
    tensors, metadata = read_tensors(tmp_path / "segment.safetensors")
    z = latents_for(load("bedrooms64"), 5, 3)
    labels = load_segmenter().labels(generate(load("bedrooms64"), z))
    assert torch.equal(tensors["labels"].long(), labels)
    assert json.loads(metadata["classes"])[3] == "window"
    share = float((labels == 3).float().mean())
    assert found["mean_area"]["window"] == pytest.approx(share, abs=1e-5)
    areas = json.loads((tmp_path / "segment.json").read_text())["areas"]
    assert len(areas["window"]) == 5
    assert Image.open(tmp_path / "segment.png").width > 4 * 2 * 2 * 64
    words = ("segment", "bedrooms", "--n", 3, "--out", tmp_path / "b", "--json")
    status, out, err = run(capsys, *words)
    assert status == 0, err
    assert json.loads(out)["mean_area"]["wall"] > 0.1


def test_a_segmenter_gets_used_to_samples_and_says_of_which(capsys, tmp_path):
    generator = Generator(latent_size=8, width=4, image_size=64, kernel=4).eval()
    file = save_checkpoint(tmp_path / "g.safetensors", generator)
    words = ["--finetune-on", file, "--images", 64, "--steps", 8, "--batch-size", 8]
    status, _, err = run(capsys, "train-segmenter", *words, "--out", tmp_path)
    assert status == 0, err
    _, card = load_unet(tmp_path / "segmenter.safetensors")
    assert card["adapted_to"] == str(file)
    assert card["samples"] == 3_000


def test_samples_change_what_is_learned_and_the_seed_alone_does_it():
    renders = source("bedrooms", count=48, size=32, show_progress=False)
    torch.manual_seed(0)
    generator = Generator(latent_size=8, width=4, image_size=32, kernel=4).eval()
    samples = generate(generator, latents_for(generator, 24, 1))
    config = SegmenterConfig(steps=20, batch_size=8, widths=(4, 8), sure=0.1)
    once, again = (train_segmenter(renders, config, samples=samples) for _ in range(2))
    alone = train_segmenter(renders, config)
    same = [torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True)]
    assert all(same)
    other = [torch.equal(a, b) for a, b in zip(once.parameters(), alone.parameters(), strict=True)]
    assert not all(other)
    with pytest.raises(DissectError, match="of the renders' size, 32x32"):
        train_segmenter(renders, config, samples=torch.zeros(4, 3, 64, 64))


def test_an_unknown_segmenter_is_one_line(capsys, tmp_path):
    for name in ("nothing.safetensors", "transformers:"):
        status, _, err = run(capsys, "segment", "--segmenter", name, "--out", tmp_path)
        assert status == 2
        (line,) = err.strip().splitlines()
        assert name.removesuffix(".safetensors") in line
