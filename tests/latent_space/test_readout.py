import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from dissect._utils.errors import DissectError
from dissect.latent_space import (
    AttributedSamples,
    attribute_reader_for,
    parse_conditions,
)
from dissect.models import latents_for
from dissect.segmentation import AttributeReader, Segmenter, evaluate_attributes


def labels():
    """A window along the right edge, and a smaller one in a corner on the left."""
    found = torch.zeros(2, 4, 4, dtype=torch.long)
    found[0, :, 3] = 1
    found[1, :2, 0] = 1
    return found


def test_shares_and_sides_of_segmented_images():
    reader = AttributeReader.from_segmenter(Segmenter(("wall", "window"), lambda images: labels()))
    values = reader.read(torch.zeros(2, 3, 4, 4))
    assert reader.names == ("wall", "window", "wall_side", "window_side")
    assert values[:, 1].tolist() == [0.25, 0.125]
    # Columns lie at -1, -1/3, 1/3 and 1; a hundredth of the image draws sides to the middle.
    assert values[0].tolist() == pytest.approx([0.75, 0.25, -0.25 / 0.76, 0.25 / 0.26])
    assert values[1, 3] == pytest.approx(-0.125 / 0.135)
    assert reader.differentiable is None


def test_a_side_changes_its_sign_in_the_mirror_and_is_0_where_nothing_is():
    def seen(images):
        return (images[:, 0] > 0).long()

    reader = AttributeReader.from_segmenter(Segmenter(("wall", "window"), seen))
    images = torch.rand(5, 3, 6, 10) * 2 - 1
    images[4] = -1
    values, mirrored = reader.read(images), reader.read(images.flip(3))
    assert torch.allclose(mirrored[:, 3], -values[:, 3], atol=1e-6)
    assert torch.allclose(mirrored[:, :2], values[:, :2])
    assert values[4].tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)


def test_slopes_are_those_of_the_same_sums_over_probabilities():
    def probability(images):
        return torch.softmax(torch.cat([images[:, :1], images[:, 1:2]], 1), 1)

    sure = Segmenter(
        ("wall", "window"),
        lambda images: labels(),
        lambda images: one_hot(labels(), 2).permute(0, 3, 1, 2).float(),
    )
    reader = AttributeReader.from_segmenter(sure)
    images = torch.zeros(2, 3, 4, 4)
    assert torch.equal(reader.differentiable(images), reader.read(images))
    through = AttributeReader.from_segmenter(
        Segmenter(sure.classes, sure.label, probability)
    ).differentiable
    images = torch.zeros(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    through(images)[0, 1].backward()
    # Each pixel's share of the window grows by a quarter of its logit, over sixteen pixels.
    assert images.grad[0, 1].flatten().tolist() == pytest.approx([0.25 / 16] * 16)


def test_the_bundled_reader_agrees_with_masks_that_it_has_not_seen():
    found = evaluate_attributes(
        attribute_reader_for("auto", "bedrooms64"), "bedrooms", n=100, seed=3
    )
    assert (found.n, found.seed) == (100, 3)
    shares = dict(zip(found.names, found.r_squared, strict=True))
    for name in ("window", "window_side", "bed", "bed_side"):
        assert shares[name] > 0.8, name
    with pytest.raises(DissectError, match="other attributes"):
        evaluate_attributes(READER, "bedrooms", n=2)


class Plain(nn.Module):
    latent_size = 5

    def forward(self, z):
        return z[:, :3, None, None]


READER = AttributeReader(("turn", "smile", "hat"), lambda images: images[:, :3, 0, 0])


def test_samples_are_those_that_meet_the_conditions_in_their_order():
    samples = AttributedSamples(
        Plain(), 4, READER, parse_conditions("turn>0.2,hat<0.5", READER.names)
    )
    z = latents_for(Plain(), 400, 4, start=7)
    meant = z[(z[:, 0] > 0.2) & (z[:, 2] < 0.5)]
    assert torch.equal(samples.latents(30, start=7), meant[:30])
    assert torch.equal(samples.latents(50, start=7), meant[:50])
    assert torch.equal(AttributedSamples(Plain(), 4).latents(9, start=7), z[:9])


def test_what_no_sample_shows_is_not_looked_for_for_ever():
    samples = AttributedSamples(Plain(), 0, READER, parse_conditions("turn>1.5", READER.names))
    with pytest.raises(DissectError, match=r"fewer than one sample in 100 shows turn>1\.5"):
        samples.latents(3)
