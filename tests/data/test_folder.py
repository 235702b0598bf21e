import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dissect._utils.errors import DissectError
from dissect.data import FolderSource, source
from dissect.data.decode import UnreadableImageError, square_image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for level, name in enumerate(("c.png", "a.PNG", "b/a.png", "b/z.bmp"), 1):
        Image.new("RGB", (8, 8), (10 * level, 0, 0)).save(folder / name)
    return folder


def levels(opened: FolderSource) -> list[int]:
    return opened.images(range(len(opened)))[:, 0, 0, 0].tolist()


def saved(folder: Path, image: Image.Image, name: str = "image.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def test_files_come_by_the_order_of_their_names(photos: Path):
    opened = FolderSource(photos, size=4)
    assert opened.files == ("a.PNG", "b/a.png", "b/z.bmp", "c.png")
    assert levels(opened) == [20, 30, 40, 10]
    assert opened.images([3, 0])[:, 0, 0, 0].tolist() == [10, 20]
    assert opened.images([]).shape == (0, 4, 4, 3)
    assert opened.skipped == {}


def test_hidden_files_and_other_files_are_no_images(photos: Path):
    (photos / "._c.png").write_bytes(b"resource fork")
    (photos / ".hidden").mkdir()
    Image.new("RGB", (4, 4)).save(photos / ".hidden" / "x.png")
    (photos / "notes.txt").write_text("no image")
    opened = FolderSource(photos)
    assert len(opened) == 4
    assert not opened.skipped


def test_an_unreadable_file_is_named_and_left_out(photos: Path):
    (photos / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    (photos / "cut.png").write_bytes((photos / "c.png").read_bytes()[:-25])
    (photos / "empty.webp").write_bytes(b"")
    for _ in range(2):  # found by decoding, then remembered
        opened = FolderSource(photos, size=4)
        assert set(opened.skipped) == {"b/broken.jpg", "cut.png", "empty.webp"}
        assert levels(opened) == [20, 30, 40, 10]


def test_a_jpeg_that_was_cut_short_is_left_out(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = saved(tmp_path, Image.fromarray(noise), "a.jpg")
    (tmp_path / "b.jpg").write_bytes(whole.read_bytes()[:-500])
    assert set(FolderSource(tmp_path).skipped) == {"b.jpg"}


def test_what_was_remembered_is_forgotten_when_a_file_changes(photos: Path):
    good = (photos / "c.png").read_bytes()
    (photos / "c.png").write_bytes(b"broken")
    assert set(FolderSource(photos).skipped) == {"c.png"}
    (photos / "c.png").write_bytes(good)
    assert not FolderSource(photos).skipped
    Image.new("RGB", (4, 4)).save(photos / "new.png")
    assert len(FolderSource(photos)) == 5


def test_a_broken_memory_and_an_unwritable_cache_cost_nothing(photos: Path, cache: Path):
    FolderSource(photos)
    [memory] = cache.rglob("*.json")
    for text in ("{", "[]", "{}", '{"state": 1, "skipped": 2}'):
        memory.write_text(text)
        assert len(FolderSource(photos)) == 4
    memory.unlink()
    memory.parent.rmdir()
    memory.parent.write_text("in the way")
    assert len(FolderSource(photos)) == 4


def test_a_file_that_breaks_after_the_check_is_named(photos: Path):
    opened = FolderSource(photos)
    (photos / "b" / "a.png").unlink()
    with pytest.raises(DissectError, match=r"cannot read .*b/a\.png any more"):
        opened.images([0, 1])


def test_the_count_takes_the_first(photos: Path):
    opened = source(f"folder:{photos}", size=4, count=2)
    assert isinstance(opened, FolderSource)
    assert levels(opened) == [20, 30]
    with pytest.raises(DissectError, match="has 4 images, fewer than the 5 asked for"):
        source(f"folder:{photos}", count=5)


def test_what_is_no_folder_of_images_is_named(tmp_path: Path):
    with pytest.raises(DissectError, match=r"no folder .*absent"):
        FolderSource(tmp_path / "absent")
    (tmp_path / "file.png").write_bytes(b"no image")
    with pytest.raises(DissectError, match="is a file; give its folder"):
        FolderSource(tmp_path / "file.png")
    with pytest.raises(DissectError, match=r"none of the 1 images .* file\.png: not an image"):
        FolderSource(tmp_path)
    (tmp_path / "inside").mkdir()
    with pytest.raises(DissectError, match="holds no images"):
        FolderSource(tmp_path / "inside")


def test_a_home_folder_may_be_written_with_a_tilde(photos: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(photos.parent))
    assert len(source("folder:~/photos")) == 4


def test_an_odd_name_does_not_disturb(photos: Path):
    odd = os.fsdecode(b"caf\xe9.png")
    try:
        (photos / odd).write_bytes(b"broken")
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    for _ in range(2):
        assert set(FolderSource(photos).skipped) == {odd}


def test_real_photographs_are_square_and_of_the_size(shared_data: Path):
    rooms = FolderSource(shared_data / "bedroom-photos", count=20)
    images = rooms.images(range(20))
    assert images.shape == (20, 64, 64, 3)
    assert images.std(axis=(1, 2, 3)).min() > 10


# square_image


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (41, 20), (20, 20)])
def test_the_middle_of_the_longer_side_is_kept(tmp_path: Path, width: int, height: int):
    # Brightness tells the distance from the middle of the longer side, in sides of the square.
    across = np.abs(np.arange(width) + 0.5 - width / 2)[None, :].repeat(height, 0)
    down = np.abs(np.arange(height) + 0.5 - height / 2)[:, None].repeat(width, 1)
    distance = across if width > height else down
    pixels = (distance * 10).round().astype(np.uint8)
    square = square_image(saved(tmp_path, Image.fromarray(pixels)), 20)[..., 0]
    line = square[10] if width > height else square[:, 10]
    expected = np.abs(np.arange(20) - 9.5) * 10
    np.testing.assert_allclose(line, expected, atol=4)


def test_shrinking_averages_and_does_not_pick(tmp_path: Path):
    # A chequerboard finer than the result has its mean brightness everywhere.
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    square = square_image(saved(tmp_path, Image.fromarray(board)), 8)
    np.testing.assert_allclose(square, 127.5, atol=3)


def test_an_image_of_the_right_size_is_left_as_it_is(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(
        square_image(saved(tmp_path, Image.fromarray(pixels)), 16), pixels
    )


def test_a_small_image_is_enlarged(tmp_path: Path):
    square = square_image(saved(tmp_path, Image.new("RGB", (1, 3), (9, 8, 7))), 5)
    assert square.shape == (5, 5, 3)
    assert (square == (9, 8, 7)).all()


def test_bytes_are_as_good_as_a_file(tmp_path: Path):
    path = saved(tmp_path, Image.new("RGB", (6, 6), (1, 2, 3)))
    np.testing.assert_array_equal(square_image(path.read_bytes(), 6), square_image(path, 6))


@pytest.mark.parametrize(
    ("image", "name", "colour"),
    [
        (Image.new("L", (4, 4), 77), "grey.png", (77, 77, 77)),
        (Image.new("1", (4, 4), 1), "bits.png", (255, 255, 255)),
        (Image.new("I;16", (4, 4), 128 * 257), "grey16.png", (128, 128, 128)),
        (Image.new("I", (4, 4), 65535), "grey32.tif", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), "opaque.png", (255, 0, 0)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "clear.png", (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), "faint.png", (204, 204, 204)),
        (Image.new("LA", (4, 4), (0, 0)), "grey-clear.png", (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "print.tif", (255, 0, 0)),
        (Image.new("RGB", (4, 4), (1, 2, 3)).quantize(), "palette.png", (1, 2, 3)),
        (Image.new("RGB", (4, 4), (9, 9, 9)).quantize(), "moving.gif", (9, 9, 9)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, image, name, colour):
    square = square_image(saved(tmp_path, image, name), 4)
    assert square.shape == (4, 4, 3)
    assert square.dtype == np.uint8
    np.testing.assert_allclose(square[0, 0], colour, atol=1)


def test_a_print_jpeg_becomes_rgb(tmp_path: Path):
    path = saved(tmp_path, Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "print.jpg")
    np.testing.assert_allclose(square_image(path, 4)[0, 0], (255, 0, 0), atol=3)


def test_a_palette_colour_may_be_clear(tmp_path: Path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30])
    assert (square_image(saved(tmp_path, image, transparency=0), 4) == 255).all()


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))]
)
def test_a_turned_photograph_is_set_upright(tmp_path: Path, orientation: int, corner):
    # The stored top left corner is white; the orientation tells where it belongs.
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    square = square_image(saved(tmp_path, Image.fromarray(pixels), exif=exif), 8)
    assert square[corner].tolist() == [255, 255, 255]
    assert square.sum() == 3 * 255


def test_pixels_without_a_fixed_range_are_refused(tmp_path: Path):
    path = saved(tmp_path, Image.new("F", (4, 4), 0.5), "float.tif")
    with pytest.raises(UnreadableImageError, match="no fixed range"):
        square_image(path, 4)


def test_a_file_is_told_apart_from_a_bomb_and_from_a_folder(tmp_path: Path):
    with pytest.raises(UnreadableImageError, match="not an image"):
        square_image(b"GIF but not really", 4)
    with pytest.raises(UnreadableImageError, match="Is a directory"):
        square_image(tmp_path, 4)
    # A header that promises 10^10 pixels; nobody has the memory to find out.
    header = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    length, checksum = (13).to_bytes(4, "big"), zlib.crc32(header).to_bytes(4, "big")
    bomb = b"\x89PNG\r\n\x1a\n" + length + header + checksum + bytes(4) + b"IDAT" + bytes(4)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        square_image(bomb, 4)


def test_text_in_a_png_is_no_hindrance(tmp_path: Path):
    notes = PngInfo()
    notes.add_text("comment", "x" * 1000)
    path = saved(tmp_path, Image.new("RGB", (4, 4), (5, 5, 5)), pnginfo=notes)
    assert (square_image(path, 4) == 5).all()
