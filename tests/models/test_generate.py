"""The one loop from latents to images."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.models import generate, generate_batches, latents_for, load


class Flat(nn.Module):
    """An image of one colour, the latent, of any size; it notes the batches that it was given."""

    def __init__(self, side=8):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.side, self.batches = side, []

    def forward(self, z):
        self.batches.append(len(z))
        return (self.scale * z)[:, :, None, None].expand(-1, 3, self.side, self.side)


class Doubled:
    """An edit that notes whether it is on."""

    on = False

    @contextmanager
    def applied(self, model):
        self.on = True
        with torch.no_grad():
            model.scale.mul_(2)
            yield
            model.scale.div_(2)
        self.on = False


def column(n):
    return torch.arange(n, dtype=torch.float32)[:, None]


def test_images_are_the_same_bytes_whatever_the_batch_size():
    generator = load("bedrooms64")
    z = latents_for(generator, 24)
    whole = to_images(generate(generator, z))
    for batch_size in (1, 7):
        assert np.array_equal(to_images(generate(generator, z, batch_size=batch_size)), whole)


def test_a_batch_is_as_large_as_was_asked():
    model = Flat()
    assert generate(model, column(7), batch_size=3)[:, 0, 0, 0].tolist() == list(range(7))
    assert model.batches == [3, 3, 1]


@pytest.mark.parametrize(("side", "largest"), [(8, 100), (64, 100), (256, 16), (1024, 1)])
def test_memory_sizes_the_batches(side, largest):
    model = Flat(side)
    batches = [len(images) for images in generate_batches(model, column(120))]
    assert max(batches) == largest
    assert sum(batches) == 120
    assert model.batches[0] == 1, "one image is made to learn its size"
    model.batches.clear()
    generate(model, column(2))
    assert sum(model.batches) == 2, "the size of a model's images is known by then"


def test_an_edit_is_applied_while_the_model_runs_and_not_between():
    model, edit = Flat(), Doubled()
    images = []
    for batch in generate_batches(model, column(3), batch_size=2, edit=edit):
        assert not edit.on
        images += batch[:, 0, 0, 0].tolist()
    assert images == [0.0, 2.0, 4.0]
    assert model.scale.item() == 1


def test_no_graph_is_kept():
    assert not generate(Flat(), column(2)).requires_grad


@pytest.mark.parametrize(
    ("model", "z", "batch_size", "named"),
    [
        (nn.Identity(), column(2), None, "Identity makes no image"),
        (nn.Flatten(), column(2), 2, r"\(N, C, H, W\)"),
        (Flat(), column(0), None, "at least 1 latent"),
        (Flat(), column(2), 0, "not 0"),
    ],
)
def test_what_is_no_image_is_refused(model, z, batch_size, named):
    with pytest.raises(DissectError, match=named):
        generate(model, z, batch_size=batch_size)
