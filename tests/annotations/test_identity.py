"""An image is the same where only rounding differs, and no other image is."""

import numpy as np
import pytest
import torch

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.annotations import AnnotatedImage, Annotations, matches_digest, pixels_digest


@pytest.fixture
def image():
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (3, 16, 16), generator=generator).double()
    levels += 0.3 * torch.rand(levels.shape, generator=generator).double()
    # Four values next to the middle between two bytes.
    for k, off in enumerate((1e-5, -1e-5, 0.0, 2e-4)):
        levels[k % 3, k, k] = 100.5 + k + off
    return (levels / 127.5 - 1).float()


def digest(image):
    return pixels_digest(to_images(image[None])[0])


@pytest.mark.parametrize("moved", [1e-6, -1e-6, 2.5e-6, -2.5e-6])
def test_rounding_is_no_difference(image, moved):
    other = image + moved
    assert matches_digest(other, digest(image))
    assert matches_digest(image, digest(image))
    if digest(other) != digest(image):
        assert not matches_digest(to_images(other[None])[0], digest(image))


def test_some_of_these_move_bytes(image):
    assert len({digest(image + moved) for moved in (0, 1e-6, -1e-6, 2.5e-6)}) > 1


@pytest.mark.parametrize("change", ["a byte", "a level everywhere", "shifted", "another"])
def test_what_is_more_than_rounding_is_a_difference(image, change):
    other = image.clone()
    if change == "a byte":
        other[0, 9, 9] += 1 / 127.5
    elif change == "a level everywhere":
        other += 1 / 127.5
    elif change == "shifted":
        other = other.roll(1, 2)
    else:
        other = -other
    assert not matches_digest(other, digest(image))


def test_annotations_compare_samples_within_rounding(image):
    samples = torch.stack([image, image + 2.5e-6, -image])
    annotations = Annotations(
        "window",
        tuple(AnnotatedImage(16, 16, seed=0, index=k, sha256=digest(image)) for k in range(3)),
    )
    assert annotations.differing(samples) == (2,)
    assert 2 in annotations.differing(to_images(samples))
    with pytest.raises(DissectError, match="1 of 3 images are not the ones annotated"):
        annotations.check_images(samples)


def test_a_large_image_takes_a_bounded_time():
    levels = np.full((3, 512, 512), 0.5 / 127.5, np.float32)
    assert not matches_digest(torch.from_numpy(levels), "0" * 64)
