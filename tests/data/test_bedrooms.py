import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from dissect._utils.errors import DissectError
from dissect.data.synthetic.bedrooms import CLASSES, render

Images = npt.NDArray[np.uint8]
CLASS = {name: number for number, name in enumerate(CLASSES)}


@pytest.fixture(scope="module")
def rooms() -> tuple[Images, Images]:
    """1,000 bedrooms: images (N, H, W, 3) and masks (N, H, W)."""
    pairs = [render(index, 5) for index in range(1000)]
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def share(masks: Images, name: str) -> npt.NDArray[np.float64]:
    """Share of each image that is of the class."""
    return np.asarray((masks == CLASS[name]).mean(axis=(1, 2)))


def test_an_image_depends_on_seed_and_index_alone() -> None:
    first = render(3, 11)
    render(4, 11)
    again = render(3, 11)
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tobytes() == again[1].tobytes()


def test_rendered_bytes_never_change() -> None:
    digest = hashlib.sha256()
    for index, seed, size in ((0, 0, 64), (1, 0, 64), (123456, 7, 64), (2, 3, 32)):
        for array in render(index, seed, size):
            digest.update(array.tobytes())
    assert digest.hexdigest() == "3e9a7e44007b6bf82f622d97248867b9767e569c08819c552d7e79ff7ae2943d"


def test_different_numbers_give_different_rooms(rooms: tuple[Images, Images]) -> None:
    assert len({image.tobytes() for image in rooms[0]}) == len(rooms[0])
    assert not np.array_equal(render(0, 0)[0], render(0, 1)[0])


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_image_and_mask_have_the_asked_size(size: int) -> None:
    image, mask = render(9, 2, size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert mask.shape == (size, size)
    assert mask.dtype == np.uint8
    assert mask.max() < len(CLASSES)


def test_the_same_room_is_drawn_at_every_size() -> None:
    small, large = render(5, 0, 32)[0], render(5, 0, 128)[0]
    reduced = large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small).mean() < 6


def test_every_class_appears(rooms: tuple[Images, Images]) -> None:
    assert set(np.unique(rooms[1][:400])) == set(range(len(CLASSES)))


def test_one_room_in_three_has_a_window(rooms: tuple[Images, Images]) -> None:
    pixels = (rooms[1] == CLASS["window"]).sum(axis=(1, 2))
    assert 0.28 <= (pixels >= 20).mean() <= 0.40
    assert not ((pixels > 0) & (pixels < 40)).any(), "a window is never a sliver"


def test_every_room_has_a_whole_bed_in_its_lower_half(rooms: tuple[Images, Images]) -> None:
    bed = (rooms[1] == CLASS["bed"]) | (rooms[1] == CLASS["pillow"])
    shares = bed.mean(axis=(1, 2))
    assert shares.min() > 0.08
    assert shares.max() < 0.45
    rows = np.arange(64)[None, :, None]
    heights = (bed * rows).sum(axis=(1, 2)) / bed.sum(axis=(1, 2))
    assert heights.min() > 30
    assert (share(rooms[1], "pillow") > 0).all()


def test_windows_are_brighter_than_the_walls_around_them(rooms: tuple[Images, Images]) -> None:
    images, masks = rooms
    grey = images.mean(axis=3)
    window, wall = masks == CLASS["window"], masks == CLASS["wall"]
    assert grey[window].mean() > grey[wall].mean() + 5


def test_pictures_and_mirrors_are_darker_than_windows(rooms: tuple[Images, Images]) -> None:
    images, masks = rooms
    grey = images.mean(axis=3)
    window = grey[masks == CLASS["window"]].mean()
    assert grey[masks == CLASS["picture"]].mean() < window - 25
    assert grey[masks == CLASS["mirror"]].mean() < window - 25


@pytest.mark.parametrize(
    ("index", "seed", "size", "wrong"),
    [(-1, 0, 64, "index"), (0, -1, 64, "seed"), (0, 0, 15, "16"), (0, 0, 5000, "1024")],
)
def test_impossible_requests_are_refused(index: int, seed: int, size: int, wrong: str) -> None:
    with pytest.raises(DissectError, match=wrong):
        render(index, seed, size)
