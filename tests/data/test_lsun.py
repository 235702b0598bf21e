import hashlib
import os
import pickle
import shutil
import sys
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect._utils.errors import DissectError
from dissect.data import LsunSource, source

lmdb = pytest.importorskip("lmdb", reason="lmdb is not installed (the extra lsun)")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


def encoded(image: Image.Image, kind: str = "WEBP") -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **({"lossless": True, "method": 0} if kind == "WEBP" else {}))
    return stream.getvalue()


def plain(level: int, width: int = 8, height: int = 8) -> bytes:
    return encoded(Image.new("RGB", (width, height), (level, 2 * level, 255 - level)))


def write(folder: Path, records: dict[bytes, bytes]) -> Path:
    """A database in `folder`, in place of any that was there."""
    shutil.rmtree(folder, ignore_errors=True)
    with (
        lmdb.open(str(folder), map_size=2**26) as database,
        database.begin(write=True) as writing,
    ):
        for key, value in records.items():
            writing.put(key, value)
    return folder


@pytest.fixture
def three(tmp_path: Path) -> Path:
    # Keys of unlike length; the database sorts them.
    return write(tmp_path / "three_lmdb", {b"ccc": plain(30), b"a": plain(10), b"bb\0": plain(20)})


def levels(opened: LsunSource) -> list[int]:
    return opened.images(range(len(opened)))[:, 0, 0, 0].tolist()


def test_real_bedrooms_come_back_in_the_order_of_their_keys(shared_data: Path, tmp_path: Path):
    pictures = {}
    for path in sorted((shared_data / "lsun-bedrooms-sample").glob("*.png")):
        image = Image.open(path).convert("RGB")
        pictures[hashlib.sha1(path.name.encode()).hexdigest().encode()] = image
    folder = write(tmp_path / "bedroom_lmdb", {k: encoded(v) for k, v in pictures.items()})
    bedrooms = source(f"lsun:{folder}")
    keys = sorted(pictures)
    assert isinstance(bedrooms, LsunSource)
    assert len(bedrooms) == 196
    assert [bedrooms.key(index) for index in range(196)] == keys
    np.testing.assert_array_equal(
        bedrooms.images([195, 0, 77]),
        np.stack([np.asarray(pictures[keys[index]]) for index in (195, 0, 77)]),
    )


def test_keys_of_any_length_lead_to_their_images(three: Path):
    opened = LsunSource(three, size=4)
    assert [opened.key(index) for index in range(3)] == [b"a", b"bb\0", b"ccc"]
    assert levels(opened) == [10, 20, 30]
    assert opened.images([]).shape == (0, 4, 4, 3)


def test_the_longer_side_is_cropped_to_the_centre(tmp_path: Path):
    # A red middle of 16 x 16 between blue wings; resizing blurs its edges alone.
    image = Image.new("RGB", (48, 16), "blue")
    image.paste("red", (16, 0, 32, 16))
    opened = LsunSource(write(tmp_path / "wide", {b"k": encoded(image)}), size=8)
    assert (opened.images([0])[0, :, 2:6] == (255, 0, 0)).all()


def test_jpeg_values_are_read_too(tmp_path: Path):
    value = encoded(Image.new("RGB", (16, 16), (200, 100, 50)), "JPEG")
    opened = LsunSource(write(tmp_path / "jpeg", {b"k": value}), size=4)
    np.testing.assert_allclose(opened.images([0])[0, 0, 0], (200, 100, 50), atol=3)


def test_the_count_takes_the_first(three: Path):
    assert levels(LsunSource(three, size=4, count=2)) == [10, 20]
    with pytest.raises(DissectError, match="has 3 images, fewer than the 4 asked for"):
        LsunSource(three, count=4)
    with pytest.raises(DissectError, match="index 2 is out of range"):
        LsunSource(three, count=2).images([2])


def test_the_index_is_made_once_and_again_when_the_database_changes(three: Path, cache: Path):
    LsunSource(three, size=4)
    [index] = cache.rglob("*.keys")
    written = index.stat().st_mtime_ns
    LsunSource(three, size=4)
    assert index.stat().st_mtime_ns == written
    write(three, {b"a": plain(40), b"b": plain(50)})
    assert levels(LsunSource(three, size=4)) == [40, 50]


def test_a_broken_index_is_made_again(three: Path, cache: Path):
    LsunSource(three, size=4)
    [index] = cache.rglob("*.keys")
    whole = index.read_bytes()
    for broken in (whole[:-1], b"", whole[:-9] + b"\1" + whole[-8:]):
        index.write_bytes(broken)
        assert levels(LsunSource(three, size=4)) == [10, 20, 30]
        assert index.read_bytes() == whole


def test_nothing_is_written_into_the_database_s_folder(three: Path):
    (three / "lock.mdb").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in three.iterdir()}
    three.chmod(0o555)
    (three / "data.mdb").chmod(0o444)
    try:
        assert levels(LsunSource(three, size=4)) == [10, 20, 30]
        assert {path.name: path.stat().st_mtime_ns for path in three.iterdir()} == before
    finally:
        three.chmod(0o755)


def test_two_sources_of_one_database_live_side_by_side_in_threads(three: Path):
    small, large = LsunSource(three, size=4), LsunSource(three / "data.mdb", size=6)
    shapes = []

    def read(opened: LsunSource) -> None:
        shapes.extend(opened.images([0, 1, 2]).shape for _ in range(20))

    threads = [threading.Thread(target=read, args=(opened,)) for opened in (small, large)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shapes) == [(3, 4, 4, 3)] * 20 + [(3, 6, 6, 3)] * 20


def test_a_source_travels_to_another_process(three: Path):
    opened = LsunSource(three, size=4)
    assert levels(pickle.loads(pickle.dumps(opened))) == [10, 20, 30]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_reads_while_its_parent_does(three: Path):
    opened = LsunSource(three, size=4)
    child = os.fork()
    if child == 0:
        # Nothing of pytest may run on in the child.
        os._exit(0 if levels(opened) == [10, 20, 30] else 1)
    assert levels(opened) == [10, 20, 30]
    assert os.waitpid(child, 0)[1] == 0


def test_a_broken_image_gives_its_place_to_the_next(tmp_path: Path):
    folder = write(
        tmp_path / "lmdb", {b"a": plain(10), b"b": plain(20)[:30], b"c": b"", b"d": plain(40)}
    )
    opened = LsunSource(folder, size=4)
    with (
        pytest.warns(UserWarning, match=r"image 1 \(b\) cannot be read"),
        pytest.warns(UserWarning, match=r"image 2 \(c\) cannot be read"),
    ):
        assert levels(opened) == [10, 40, 40, 40]
    assert set(opened.skipped) == {"b", "c"}


def test_values_that_are_no_images_are_refused_at_once(tmp_path: Path):
    folder = write(tmp_path / "other", {f"{n}".encode(): b"datum" for n in range(20)})
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(DissectError, match=r"values in a row .* are no images"),
    ):
        LsunSource(folder)


def test_without_lmdb_the_extra_is_named(three: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DissectError, match=r'pip install "dissect-gan\[lsun\]"'):
        LsunSource(three)


def test_what_is_no_database_is_named(tmp_path: Path):
    with pytest.raises(DissectError, match=r"no LSUN database .*absent"):
        LsunSource(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DissectError, match=r"has no data\.mdb$"):
        LsunSource(tmp_path / "empty")
    write(tmp_path / "church_lmdb", {b"k": plain(1)})
    with pytest.raises(DissectError, match="one of the databases in it: church_lmdb"):
        LsunSource(tmp_path)
    (tmp_path / "empty" / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(DissectError, match=r"cannot read .* as an LMDB database"):
        LsunSource(tmp_path / "empty")
    with pytest.raises(DissectError, match="is empty"):
        LsunSource(write(tmp_path / "nothing", {}))


def test_a_database_that_was_cut_short_is_refused_before_it_is_read(tmp_path: Path):
    # Reading past the end of a mapped file would kill the process without a word.
    folder = write(tmp_path / "lmdb", {f"{n}".encode(): os.urandom(9000) for n in range(20)})
    os.truncate(folder / "data.mdb", 3 * 4096)
    with pytest.raises(DissectError, match="is cut short"):
        LsunSource(folder)
