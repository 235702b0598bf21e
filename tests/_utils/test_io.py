import errno
import os

import numpy as np
import pytest
from PIL import Image

from dissect._utils.errors import DissectError
from dissect._utils.io import atomic_write, read_json, save_image, write_bytes, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = write_bytes(tmp_path / "file", b"old")
    with pytest.raises(RuntimeError), atomic_write(path) as stream:
        stream.write(b"half of the new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path):
    path = write_bytes(tmp_path / "file", b"old")
    with pytest.raises(DissectError, match="No space left") as caught, atomic_write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_really_full(tmp_path):
    (tmp_path / "full").mkdir()
    # The folder is writable but the stream ends on a full device.
    with pytest.raises(DissectError, match="No space left"), atomic_write(tmp_path / "x") as stream:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, stream.fileno())
        os.close(full)
        stream.write(b"x" * 100_000)


def test_missing_folders_are_made(tmp_path):
    assert write_json(tmp_path / "a" / "b.json", {"x": 1}).read_text() == '{\n "x": 1\n}\n'
    assert read_json(tmp_path / "a" / "b.json") == {"x": 1}


def test_without_force_an_existing_file_is_kept(tmp_path):
    path = write_bytes(tmp_path / "file", b"old")
    with pytest.raises(DissectError, match="exists already"):
        write_bytes(path, b"new", force=False)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[1,", b"[" * 100_000, b"9" * 5_000])
def test_what_is_not_json_is_one_line(tmp_path, text):
    path = write_bytes(tmp_path / "x.json", text)
    with pytest.raises(DissectError) as caught:
        read_json(path)
    assert "x.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DissectError, match=r"no such file: .*nothing\.json"):
        read_json(tmp_path / "nothing.json")


def test_an_image_is_saved_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    path = save_image(tmp_path / "image.png", Image.fromarray(pixels))
    assert np.array_equal(np.asarray(Image.open(path)), pixels)
