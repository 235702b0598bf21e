import json

import numpy as np
import pytest
from helpers.command_line import run
from helpers.labelled import pictures, write_batches, write_svhn
from PIL import Image

from dissect.models import Discriminator, save_checkpoint


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "discriminator.safetensors"
    save_checkpoint(path, Discriminator(width=4, image_size=32, kernel=4))
    return str(path)


def mistake(capsys, *words):
    status, out, err = run(capsys, *words)
    last = err.strip().splitlines()[-1]
    assert (status, out, last.startswith("dissect: ")) == (2, "", True)
    assert len(err.strip().splitlines()) == 1
    return last


def test_cifar10_in_one_run(capsys, tmp_path, model):
    write_batches(tmp_path / "c", *pictures(200), *pictures(50, seed=1))
    words = ["classify", f"cifar10:{tmp_path / 'c'}", "--model", model, "--kmeans", "8"]
    status, out, _ = run(capsys, *words, "--out", str(tmp_path / "out"), "--json")
    assert status == 0
    found = json.loads(out)
    assert [row["row"] for row in found["rows"]] == ["pixels", "random", "kmeans", "discriminator"]
    assert (found["n_labels"], found["n_test"]) == (200, 50)
    main_row = found["rows"][3]["evaluation"]
    assert (found["accuracy"], found["c"]) == (main_row["accuracy"], main_row["c"])
    assert main_row["n_features"] == 16 * 28
    assert found["rows"][2]["evaluation"]["n_features"] == 32
    assert found["rows"][0]["evaluation"]["accuracy"] > 0.4, (
        "colours tell these classes; chance is 0.1"
    )
    assert json.loads((tmp_path / "out" / "classify.json").read_text())["rows"] == found["rows"]
    assert 0 < found["peak_memory_gb"] < 16
    status, text, _ = run(capsys, *words, "--out", str(tmp_path / "out"))
    assert status == 0
    assert "82.8%" in text
    assert "raw pixels" in text


def test_mirrored_features_in_every_row(capsys, tmp_path, model):
    write_batches(tmp_path / "c", *pictures(200), *pictures(50, seed=1))
    words = ["classify", f"cifar10:{tmp_path / 'c'}", "--model", model, "--kmeans", "8"]
    words += ["--mirror", "--c", "1e-4", "--out", str(tmp_path / "out")]
    status, out, _ = run(capsys, *words, "--json")
    assert status == 0
    assert [row["mirrored"] for row in json.loads(out)["rows"]] == [True] * 4
    # Plain features would lie beside them.
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 8
    status, text, _ = run(capsys, *words)
    assert status == 0
    assert "an image and its mirror image" in text


def test_svhn_in_one_run(capsys, tmp_path, model):
    write_svhn(tmp_path / "s", *pictures(300), *pictures(50, seed=1))
    words = [
        *("classify", f"svhn:{tmp_path / 's'}", "--model", model, "--kmeans", "6"),
        *("--n-labels", "50", "--n-validation", "60"),
        *("--validation-draws", "2", "--test-draws", "3", "--eval-seed", "4"),
        *("--trials", "2", "--c", "1e-4,1e-2", "--out", str(tmp_path / "out")),
    ]
    status, out, _ = run(capsys, *words, "--json")
    assert status == 0
    found = json.loads(out)
    assert [row["row"] for row in found["rows"]][-1] == "supervised"
    assert found["n_labels"] == 50
    assert len(found["rows"][-1]["search"]["trials"]) == 2
    assert list(found["rows"][0]["evaluation"]["validation"]) == ["0.0001", "0.01"]
    status, text, _ = run(capsys, *words)
    assert status == 0
    assert "mean of 3 draws" in text
    assert "77.5%" in text


def test_mistakes_are_one_line(capsys, tmp_path, model):
    write_batches(tmp_path / "c", *pictures(100), *pictures(20, seed=1))
    write_svhn(tmp_path / "s", *pictures(300), *pictures(50, seed=1))
    cifar, svhn = f"cifar10:{tmp_path / 'c'}", f"svhn:{tmp_path / 's'}"
    assert "has no labels" in mistake(capsys, "classify", "bedrooms")
    assert "another layout" in mistake(capsys, "classify", f"cifar10:{tmp_path / 's'}")
    assert "no train_32x32.mat" in mistake(capsys, "classify", f"svhn:{tmp_path / 'c'}")
    assert "give one with --model" in mistake(capsys, "classify", cifar)
    assert "takes images of 64 pixels" in mistake(
        capsys, "classify", cifar, "--model", "bedrooms64"
    )
    with_model = ("--model", model)
    assert "no row 'nothing'" in mistake(
        capsys, "classify", cifar, *with_model, "--rows", "nothing"
    )
    assert "needs few labels" in mistake(
        capsys, "classify", cifar, *with_model, "--rows", "supervised"
    )
    assert "fewer than the 101 asked for" in mistake(
        capsys, "classify", cifar, *with_model, "--n-labels", "101"
    )
    assert "no layer 'layer9x9'" in mistake(
        capsys, "classify", cifar, *with_model, "--layers", "layer9x9"
    )
    assert "--solver 'sgd' is not known" in mistake(capsys, "classify", cifar, "--solver", "sgd")
    for c in ("much", "0", "1e-3,-1", "nan", ""):
        assert "numbers above 0" in mistake(capsys, "classify", cifar, "--rows", "pixels", "--c", c)
    assert "too few" in mistake(capsys, "classify", svhn, "--rows", "pixels")
    assert "no multiple of the 10 classes" in mistake(
        capsys, "classify", svhn, "--rows", "pixels", "--n-labels", "55"
    )


def test_the_papers_imagenet_preparation_trains_a_discriminator_that_classifies(capsys, tmp_path):
    """Photographs of any size, min-resized and cropped to 32x32; no labels are seen."""
    random = np.random.default_rng(0)
    for number in range(8):
        size = (40 + number, 50)
        pixels = random.integers(0, 255, (*size, 3)).astype(np.uint8)
        (tmp_path / "imagenet").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "imagenet" / f"{number}.jpg")
    words = ["train", f"folder:{tmp_path / 'imagenet'}", "--image-size", "32", "--steps", "2"]
    words += ["--batch-size", "4", "--set", "generator_width=4"]
    words += ["--set", "discriminator_width=4", "--set", "kernel=4"]
    assert run(capsys, *words, "--out", str(tmp_path / "t"), "--threads", "1")[0] == 0
    write_batches(tmp_path / "c", *pictures(100), *pictures(20, seed=1))
    words = ["classify", f"cifar10:{tmp_path / 'c'}", "--rows", "discriminator", "--json"]
    words += ["--model", str(tmp_path / "t" / "discriminator.safetensors")]
    status, out, _ = run(capsys, *words, "--out", str(tmp_path / "out"))
    assert status == 0
    assert json.loads(out)["rows"][0]["evaluation"]["n_features"] == 16 * 28
