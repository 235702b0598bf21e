import errno
import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dissect._utils.errors import DissectError
from dissect._utils.io import (
    atomic_write,
    make_folder,
    read_json,
    read_metadata,
    read_tensors,
    remove_unfinished,
    write_animation,
    write_bytes,
    write_image,
    write_json,
    write_tensors,
)


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
    path = write_image(tmp_path / "image.png", Image.fromarray(pixels))
    assert np.array_equal(np.asarray(Image.open(path)), pixels)


TENSORS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name != "__metadata__"),
    st.sampled_from([torch.float16, torch.float32, torch.int64, torch.bool]).flatmap(
        lambda dtype: st.lists(st.integers(0, 1), max_size=6).map(
            lambda values: torch.tensor(values, dtype=dtype)
        )
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TENSORS, st.dictionaries(st.text(), st.text(), max_size=3))
def test_tensors_and_metadata_come_back_as_they_were_written(tmp_path, tensors, metadata):
    path = write_tensors(tmp_path / "x.safetensors", tensors, metadata)
    found, told = read_tensors(path)
    assert told == read_metadata(path) == metadata
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_the_bytes_of_tensors_do_not_depend_on_the_memory_format(tmp_path):
    value = torch.arange(24.0).reshape(1, 2, 3, 4)
    plain = write_tensors(tmp_path / "a", {"x": value})
    other = write_tensors(tmp_path / "b", {"x": value.to(memory_format=torch.channels_last)})
    assert plain.read_bytes() == other.read_bytes()


def test_tensors_that_were_read_do_not_change_with_the_file(tmp_path):
    path = write_tensors(tmp_path / "x", {"x": torch.ones(1000)})
    found = read_tensors(path)[0]["x"]
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))
    assert bool((found == 1).all())


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("read", [read_tensors, read_metadata])
def test_a_truncated_safetensors_file_is_one_line(tmp_path, part, read):
    path = write_tensors(tmp_path / "x", {"x": torch.ones(1000)}, {"a": "b"})
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(DissectError, match="x is damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_tensors, read_metadata])
def test_what_is_no_safetensors_file_is_named(tmp_path, read):
    with pytest.raises(DissectError, match=r"no such file: .*none"):
        read(tmp_path / "none")
    with pytest.raises(DissectError, match="cannot read"):
        read(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="permissions are of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_the_umask_and_leaves_it_alone(tmp_path, mask):
    before = os.umask(mask)
    try:
        path = write_bytes(tmp_path / "x", b"x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    write_bytes(tmp_path / "file", b"")
    with pytest.raises(DissectError, match="cannot make the folder"):
        make_folder(tmp_path / "file" / "inside")


def test_only_old_remains_of_the_named_files_are_removed(tmp_path):
    for name in (".step-1.bin.ab", ".step-notes", "step-1.bin", ".other.bin.ab"):
        write_bytes(tmp_path / name, b"")
    remove_unfinished(tmp_path, "step-*.bin", older_than=60)
    assert len(list(tmp_path.iterdir())) == 4
    remove_unfinished(tmp_path, "step-*.bin")
    assert {path.name for path in tmp_path.iterdir()} == {
        ".step-notes",
        "step-1.bin",
        ".other.bin.ab",
    }


def test_an_animation_has_every_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), (value, 0, 0)) for value in (0, 100, 200)]
    with Image.open(write_animation(tmp_path / "x.gif", frames, milliseconds=60)) as found:
        assert found.n_frames == 3
        assert found.info["duration"] == 60


@pytest.mark.parametrize("path", ["", "."])
def test_a_path_without_a_name_is_refused(path):
    with pytest.raises(DissectError, match="names no file"):
        write_bytes(path, b"")
