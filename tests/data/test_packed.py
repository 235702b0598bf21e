"""Packed sources: the same images without decoding, whatever happens to the cache."""

import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.data import PackedSource, source


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path):
    """Eleven pictures of different sizes, one of them cut short."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for place in range(11):
        pixels = random.integers(0, 256, (20 + place, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place:02d}.jpg")
    whole = (folder / "04.jpg").read_bytes()
    (folder / "04.jpg").write_bytes(whole[: len(whole) // 2])
    return folder


def opened(photos):
    return source(f"folder:{photos}", size=16)


# Three images of 16x16 a block.
def packed(photos):
    return PackedSource(opened(photos), block_bytes=3 * 16 * 16 * 3)


def test_packed_images_are_the_sources_own(photos):
    whole, fast = opened(photos), packed(photos)
    assert len(fast) == len(whole) == 10
    order = [9, 0, 4, 4, 2]
    assert (fast.images(order) == whole.images(order)).all()
    assert fast.skipped == whole.skipped
    assert list(fast.skipped) == ["04.jpg"]
    assert len(fast.cache_files) == 4
    other = pickle.loads(pickle.dumps(fast))
    assert (other.images(range(10)) == whole.images(range(10))).all()


def test_an_interrupted_packing_goes_on_and_the_rest_is_not_decoded_again(photos):
    files = packed(photos).cache_files
    before = [file.stat().st_mtime_ns for file in files]
    files[2].unlink()
    cut = files[3].read_bytes()[:-1]
    files[3].write_bytes(cut)
    again = packed(photos)
    assert (again.images(range(10)) == opened(photos).images(range(10))).all()
    after = [file.stat().st_mtime_ns for file in files]
    assert before[:2] == after[:2]
    assert before[2:] != after[2:]


def test_a_changed_file_is_packed_anew(photos):
    first = packed(photos).images([0])
    Image.new("RGB", (20, 20), (1, 2, 3)).save(photos / "00.jpg")
    os.utime(photos / "00.jpg", ns=(1, 1))
    second = packed(photos).images([0])
    assert (first != second).any()
    assert (second == opened(photos).images([0])).all()


def test_what_is_rendered_is_packed_already():
    with pytest.raises(DissectError, match="nothing to pack"):
        PackedSource(source("bedrooms", size=16, count=4))


def test_a_database_is_packed_with_its_broken_records_named(tmp_path):
    lmdb = pytest.importorskip("lmdb")
    folder = tmp_path / "beds_lmdb"
    random = np.random.default_rng(1)
    with (
        lmdb.open(str(folder), map_size=2**24) as database,
        database.begin(write=True) as writing,
    ):
        for place in range(6):
            path = tmp_path / "one.png"
            Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
            value = b"no image" if place == 2 else path.read_bytes()
            writing.put(f"key{place}".encode(), value)
    whole = source(f"lsun:{folder}", size=8)
    with pytest.warns(UserWarning, match="image 2"):
        fast = PackedSource(whole)
    assert list(fast.skipped) == ["key2"]
    again = PackedSource(source(f"lsun:{folder}", size=8))
    # Nothing is decoded, and yet the broken one is known.
    assert list(again.skipped) == ["key2"]
    assert (again.images([2]) == again.images([3])).all()


def test_the_command_packs_and_train_uses_it(photos, tmp_path, capfd):
    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(list(words))
        assert end.value.code == 0
        return capfd.readouterr()

    said = run("data", "pack", f"folder:{photos}", "--size", "16", "--json")
    found = json.loads(said.out)
    assert found["n_images"] == 10
    assert found["n_skipped"] == 1
    assert "04.jpg" in said.err
    (file,) = found["files"]
    written = os.stat(file).st_mtime_ns
    sizes = "--image-size 16 --batch-size 4 --set generator_width=4 --set discriminator_width=4"
    for name, more in (("plain", []), ("packed", ["--pack"])):
        words = ["train", f"folder:{photos}", *sizes.split(), "--steps", "2", *more]
        run(*words, "--out", str(tmp_path / name))
    name = "step-0000002.safetensors"
    plain, fast = (tmp_path / run / name for run in ("plain", "packed"))
    from safetensors.numpy import load_file

    one, other = load_file(plain), load_file(fast)
    assert all((one[key] == other[key]).all() for key in one)
    assert os.stat(file).st_mtime_ns == written
