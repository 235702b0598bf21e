import pickle

import numpy as np
import pytest
from helpers.labelled import (
    Python2Pickle,
    jpeg,
    packed,
    pictures,
    write_batches,
    write_jpegs,
    write_svhn,
)
from scipy.io import savemat

from dissect._utils.errors import DissectError
from dissect.data import labelled, source
from dissect.data.batchfile import read_batch
from dissect.data.cifar10 import CLASSES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


@pytest.fixture
def sets():
    images, labels = pictures(50)
    test_images, test_labels = pictures(20, seed=1)
    return images, labels, test_images, test_labels


def line(act):
    with pytest.raises(DissectError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# CIFAR-10, the official batches


def test_official_batches_give_their_images_and_labels(tmp_path, sets):
    write_batches(tmp_path / "cifar-10-batches-py", *sets)
    train, test = labelled(f"cifar10:{tmp_path}")
    assert train.classes == CLASSES
    assert np.array_equal(train.images(range(50)), sets[0])
    assert np.array_equal(train.labels, sets[1])
    assert np.array_equal(test.images([19, 3]), sets[2][[19, 3]])
    assert np.array_equal(test.labels, sets[3])


def test_batches_are_read_out_of_their_archive(tmp_path, sets):
    write_batches(tmp_path / "in" / "cifar-10-batches-py", *sets)
    archive = packed(tmp_path / "in", tmp_path / "cifar-10-python.tar.gz", "w:gz")
    train, _ = labelled(f"cifar10:{archive}")
    assert np.array_equal(train.images(range(50)), sets[0])


def test_our_python_2_pickle_is_one(sets):
    numbers = {b"a": [1, -2, None, True], b"b": (b"x",)}
    assert pickle.loads(Python2Pickle.dumps(numbers), encoding="bytes") == numbers


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_a_batch_cut_short_is_named(tmp_path, sets, kept):
    write_batches(tmp_path / "c", *sets)
    file = tmp_path / "c" / "data_batch_3"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    said = line(lambda: source(f"cifar10:{tmp_path / 'c'}", size=32))
    assert "data_batch_3 is cut short" in said


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_something_is_refused_and_does_not(
    tmp_path, sets, protocol, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_batches(tmp_path / "c", *sets)
    (tmp_path / "c" / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}, protocol))
    said = line(lambda: source(f"cifar10:{tmp_path / 'c'}", size=32))
    assert "which a batch of CIFAR-10 does not hold" in said
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["builtins eval", "numpy load", "numpy.core.multiarray dot"])
def test_other_names_are_refused_even_of_numpy(name):
    content = f"c{name.replace(' ', chr(10))}\n.".encode()
    assert "which a batch of CIFAR-10 does not hold" in line(lambda: read_batch(content, "b", 10))


def test_an_array_that_says_a_wrong_shape_is_refused():
    good = Python2Pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3072), np.uint8)})
    assert read_batch(good, "b", 10)[0].shape == (1, 32, 32, 3)
    wrong = Python2Pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)})
    assert "not uint8 of (N, 3072)" in line(lambda: read_batch(wrong, "b", 10))
    lying = good.replace(b"J\x00\x0c\x00\x00", b"J\x00\x0c\x01\x00")
    assert lying != good
    assert "not uint8 of (N, 3072)" in line(lambda: read_batch(lying, "b", 10))
    few = Python2Pickle.dumps({b"labels": [1, 2], b"data": np.zeros((1, 3072), np.uint8)})
    assert "1 images and 2 labels" in line(lambda: read_batch(few, "b", 10))
    high = Python2Pickle.dumps({b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)})
    assert "from 0 to 9" in line(lambda: read_batch(high, "b", 10))


def test_absent_batches_and_other_classes_are_named(tmp_path, sets):
    write_batches(tmp_path / "c", *sets)
    (tmp_path / "c" / "data_batch_2").unlink()
    assert "lacks data_batch_2" in line(lambda: source(f"cifar10:{tmp_path / 'c'}", size=32))
    write_batches(tmp_path / "d", *sets, names=(*CLASSES[:-1], "lorry"))
    said = line(lambda: source(f"cifar10:{tmp_path / 'd'}", size=32))
    assert "lorry, truck differ" in said


# CIFAR-10, folders of JPEG files


def test_jpeg_folders_alternate_the_classes(tmp_path, sets):
    write_jpegs(tmp_path / "j", *sets)
    archive = packed(tmp_path / "j", tmp_path / "j.tar.xz")
    for place in (tmp_path / "j", archive):
        train, test = labelled(f"cifar10:{place}")
        assert (len(train), len(test)) == (50, 20)
        assert list(train.labels[:12]) == [*range(10), 0, 1]
        colours = train.images(range(50)).mean((1, 2))
        assert np.abs(colours - sets[0].mean((1, 2))).max() < 6, "JPEG keeps the mean colour"


def test_changed_files_are_read_again(tmp_path, sets):
    write_jpegs(tmp_path / "j", *sets)
    before, _ = labelled(f"cifar10:{tmp_path / 'j'}")
    assert np.array_equal(before.images([0]), labelled(f"cifar10:{tmp_path / 'j'}")[0].images([0]))
    (tmp_path / "j" / "train" / "airplane" / "0000.jpg").write_bytes(jpeg(255 - sets[0][0]))
    after, _ = labelled(f"cifar10:{tmp_path / 'j'}")
    assert not np.array_equal(before.images([0]), after.images([0]))


def test_wrong_folders_are_told_the_layout(tmp_path, sets):
    assert "no CIFAR-10 at" in line(lambda: labelled(f"cifar10:{tmp_path / 'no'}"))
    (tmp_path / "empty").mkdir()
    assert "another layout" in line(lambda: labelled(f"cifar10:{tmp_path / 'empty'}"))
    write_jpegs(tmp_path / "flat" / "train", *sets)  # train/train/... has no test/ beside it
    assert len(labelled(f"cifar10:{tmp_path / 'flat'}")[0]) == 50, "a folder in a folder is found"
    write_jpegs(tmp_path / "half", *sets[:2], sets[2][:0], sets[3][:0])
    assert "no images below test/" in line(lambda: labelled(f"cifar10:{tmp_path / 'half'}"))
    write_jpegs(tmp_path / "other", *sets, names=(*CLASSES[:3], "kitten", *CLASSES[4:]))
    said = line(lambda: labelled(f"cifar10:{tmp_path / 'other'}"))
    assert "cat, kitten differ" in said
    (tmp_path / "x.tar").write_bytes(b"no tar at all")
    assert "no tar archive" in line(lambda: labelled(f"cifar10:{tmp_path / 'x.tar'}"))


def test_an_archive_cut_short_is_named(tmp_path, sets):
    write_jpegs(tmp_path / "j", *sets)
    archive = packed(tmp_path / "j", tmp_path / "j.tar.xz")
    archive.write_bytes(archive.read_bytes()[:-2000])
    assert "cut short" in line(lambda: labelled(f"cifar10:{archive}"))


def test_broken_and_large_pictures_are_named(tmp_path, sets):
    write_jpegs(tmp_path / "j", *sets)
    file = tmp_path / "j" / "train" / "cat" / "0001.jpg"
    file.write_bytes(b"no picture")
    said = line(lambda: labelled(f"cifar10:{tmp_path / 'j'}"))
    assert "train/cat/0001.jpg" in said
    file.write_bytes(jpeg(np.zeros((32, 40, 3), np.uint8)))
    assert "40 x 32 pixels" in line(lambda: labelled(f"cifar10:{tmp_path / 'j'}"))


# As a source of training


def test_the_source_gives_training_images_at_their_size_or_smaller(tmp_path, sets):
    write_batches(tmp_path / "c", *sets)
    spec = f"cifar10:{tmp_path / 'c'}"
    assert source(spec, size=32, count=7).images([6]).shape == (1, 32, 32, 3)
    small = source(spec, size=16)
    assert small.images([0, 1]).shape == (2, 16, 16, 3)
    assert small.images([]).shape == (0, 16, 16, 3)
    assert "smaller than the 64 asked for" in line(lambda: source(spec, size=64))
    said = line(lambda: source(spec, size=32, count=51))
    assert "has 50 images, fewer than the 51 asked for" in said
    assert "out of range" in line(lambda: source(spec, size=32).images([50]))


# SVHN


def test_svhn_gives_digits_with_ten_as_zero(tmp_path, sets):
    write_svhn(tmp_path / "s", *sets)
    train, test = labelled(f"svhn:{tmp_path / 's'}")
    assert np.array_equal(train.images(range(50)), sets[0])
    assert np.array_equal(train.labels, sets[1])
    assert (len(test), test.classes[0]) == (20, "0")
    assert source(f"svhn:{tmp_path / 's'}", size=32, count=3).images([2]).shape == (1, 32, 32, 3)


def test_svhn_files_that_do_not_fit_are_named(tmp_path, sets):
    assert "has no train_32x32.mat" in line(lambda: labelled(f"svhn:{tmp_path}"))
    file = tmp_path / "train_32x32.mat"
    savemat(file, {"images": sets[0]})
    assert "has no X and no y" in line(lambda: labelled(f"svhn:{tmp_path}"))
    savemat(file, {"X": sets[0], "y": sets[1] + 1})
    assert "X must be uint8 (32, 32, 3, N)" in line(lambda: labelled(f"svhn:{tmp_path}"))
    savemat(file, {"X": sets[0].transpose(1, 2, 3, 0), "y": sets[1]})
    assert "labels must be 1 to 10" in line(lambda: labelled(f"svhn:{tmp_path}"))
    savemat(file, {"X": sets[0].transpose(1, 2, 3, 0), "y": sets[1][:9] + 1})
    assert "50 images and 9 labels" in line(lambda: labelled(f"svhn:{tmp_path}"))
    file.write_bytes(file.read_bytes()[:3000])
    assert "cut short or no MATLAB file" in line(lambda: labelled(f"svhn:{tmp_path}"))


def test_a_source_without_labels_is_told_which_have_some():
    assert "use cifar10:PATH or svhn:PATH" in line(lambda: labelled("bedrooms"))


def test_the_jpegs_beside_the_checkout_are_all_there(shared_data):
    archive = shared_data / "cifar10-jpeg.tar.xz"
    if not archive.is_file():
        pytest.skip("cifar10-jpeg.tar.xz is not in ../shared/data")
    train, test = labelled(f"cifar10:{archive}")
    assert np.array_equal(np.bincount(train.labels), [5000] * 10)
    assert np.array_equal(np.bincount(test.labels), [1000] * 10)
