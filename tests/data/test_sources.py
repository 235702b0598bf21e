import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images, to_tensor
from dissect.cli.data import app
from dissect.data import RenderedSource, batch_at, batches, cache_folder, source, source_kinds


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


# Sources by name


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("bedroms", r"unknown source 'bedroms'; known ones: .*'bedrooms'"),
        ("", "known ones: .*'folder'.*'lsun'"),
        ("folder", "needs an argument: folder:PATH"),
        ("folder:", "needs an argument: folder:PATH"),
        ("lsun", "needs an argument: lsun:PATH"),
        ("bedrooms:", None),
        ("bedrooms:large", "takes no argument; write bedrooms"),
    ],
)
def test_a_wrong_name_is_told_what_would_be_right(spec: str, said: str | None):
    if said is None:
        assert len(source(spec, count=1, size=16)) == 1
        return
    with pytest.raises(DissectError, match=said) as caught:
        source(spec)
    assert "\n" not in str(caught.value)


def test_a_bare_folder_is_told_its_spec(tmp_path: Path):
    with pytest.raises(DissectError, match=f"did you mean folder:{tmp_path}"):
        source(str(tmp_path))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"count": 0}, {"seed": -1}])
def test_sizes_counts_and_seeds_have_a_least_value(wrong):
    with pytest.raises(DissectError, match="at least"):
        source("bedrooms", **wrong)


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path: Path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", "~/elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "elsewhere"
    monkeypatch.setenv("DISSECT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert "dissect" in cache_folder().name


# Between images and tensors


def test_every_level_comes_back_and_the_ends_are_minus_one_and_one():
    images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    tensor = to_tensor(images)
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert (tensor.min().item(), tensor.max().item()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_images(tensor), images)


def test_channels_and_rows_keep_their_places():
    images = np.zeros((2, 4, 5, 3), np.uint8)
    images[1, 2, 3, 0] = 255
    tensor = to_tensor(images)
    assert tensor.shape == (2, 3, 4, 5)
    assert (tensor == 1).nonzero().tolist() == [[1, 0, 2, 3]]
    np.testing.assert_array_equal(to_images(tensor), images)


def test_what_is_between_is_rounded_and_what_is_outside_is_clamped():
    values = torch.tensor([-9.0, -1 + 0.6 / 127.5, 0.0, 0.999, 7.0, float("inf")])
    tensor = values.view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_images(tensor)[0, 0, :, 0].tolist() == [0, 1, 128, 255, 255, 255]


def test_half_precision_and_gradients_are_no_hindrance():
    tensor = torch.zeros(1, 3, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    assert to_images(tensor).dtype == np.uint8
    frozen = np.zeros((1, 2, 2, 3), np.uint8)
    frozen.flags.writeable = False
    assert to_tensor(frozen).mean().item() == -1.0


@pytest.mark.parametrize(
    "images", [np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2, 3)), np.zeros((1, 3, 2, 2), "u1")]
)
def test_other_arrays_are_refused(images):
    with pytest.raises(DissectError, match="uint8 of shape"):
        to_tensor(images)


def test_other_tensors_are_refused():
    with pytest.raises(DissectError, match=r"\(B, 3, H, W\); got \(1, 4, 2, 2\)"):
        to_images(torch.zeros(1, 4, 2, 2))


# Batches

counts = st.integers(1, 60)


@given(counts, counts, st.integers(0, 5), st.integers(0, 50))
def test_a_batch_is_a_function_of_seed_and_step(length, size, seed, start):
    size = min(size, length)
    resumed = list(islice(batches(range(length), size, seed, start_step=start), 5))
    unbroken = list(islice(batches(range(length), size, seed), start, start + 5))
    np.testing.assert_array_equal(resumed, unbroken)
    np.testing.assert_array_equal(batch_at(length, size, seed, start), unbroken[0])


@given(counts, counts, st.integers(0, 5))
def test_an_epoch_visits_no_image_twice_and_leaves_less_than_a_batch(length, size, epoch):
    size = min(size, length)
    steps = length // size
    visited = np.concatenate(
        list(islice(batches(range(length), size, 0, start_step=epoch * steps), steps))
    )
    assert len(set(visited.tolist())) == len(visited) == steps * size
    assert length - len(visited) < size
    assert visited.min() >= 0
    assert visited.max() < length


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [
        tuple(batch_at(100, 100, seed, epoch).tolist()) for seed in (0, 1) for epoch in range(3)
    ]
    assert len(set(orders)) == 6
    assert all(sorted(order) == list(range(100)) for order in orders)


def test_a_batch_may_be_changed_without_harm():
    stream = batches(range(4), 4)
    next(stream)[:] = 0
    np.testing.assert_array_equal(next(stream), batch_at(4, 4, 0, 1))


@pytest.mark.parametrize(("size", "seed", "start"), [(0, 0, 0), (11, 0, 0), (1, -1, 0), (1, 0, -1)])
def test_wrong_batches_are_refused_at_once(size, seed, start):
    with pytest.raises(DissectError):
        batches(range(10), size, seed, start)


# The command


def run(*words: str) -> dict:
    result = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_data_lists_every_source():
    said = run()
    assert [entry["spec"] for entry in said["sources"]] == [kind.spec for kind in source_kinds()]
    text = CliRunner().invoke(app, []).stdout
    assert "bedrooms" in text
    assert "folder:PATH" in text


def test_data_info_counts_and_names_what_is_skipped(tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (4, 4)).save(photos / "good.png")
    (photos / "bad.png").write_bytes(b"")
    said = run("info", f"folder:{photos}")
    assert said["n_images"] == 1
    assert list(said["skipped"]) == ["bad.png"]


def test_data_render_fills_the_cache(cache: Path):
    said = run("render", "bedrooms", "--count", "3", "--size", "16")
    assert said["n_images"] == 3
    assert [Path(path) for path in said["files"]] == list(cache.rglob("*.bin"))


def test_data_render_writes_images_and_masks(tmp_path: Path):
    words = ("--count", "2", "--size", "32", "--seed", "4", "--out", str(tmp_path / "out"))
    said = run("render", "bedrooms", *words)
    assert sorted(
        Path(path).relative_to(tmp_path / "out").as_posix() for path in said["files"]
    ) == [
        "classes.json",
        "images/000000.png",
        "images/000001.png",
        "masks/000000.png",
        "masks/000001.png",
    ]
    assert all(Path(path).is_file() for path in said["files"])
    rendered = source("bedrooms", count=2, size=32, seed=4)
    assert isinstance(rendered, RenderedSource)
    image = np.asarray(Image.open(tmp_path / "out" / "images" / "000001.png"))
    mask = np.asarray(Image.open(tmp_path / "out" / "masks" / "000001.png"))
    np.testing.assert_array_equal(image, rendered.images([1])[0])
    np.testing.assert_array_equal(mask, rendered.masks([1])[0])
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())["classes"]
    assert tuple(classes) == rendered.classes == tuple(said["classes"])


def test_data_render_refuses_what_is_not_rendered(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DissectError, match="read, not rendered"):
        CliRunner().invoke(
            app, ["render", f"folder:{tmp_path}", "--count", "1"], catch_exceptions=False
        )
