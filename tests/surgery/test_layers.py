"""What can be done with each layer, and where the picture lies on its grid."""

import pytest
import torch
from helpers import foreign
from torch import nn

import dissect
from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.models import generate, latents_for, load
from dissect.probe.fit import labelled_cells
from dissect.segmentation import ConceptLabels
from dissect.surgery.frame import Frame, picture_frame
from dissect.surgery.layers import layer_abilities


def cropped(margin, scale):
    return foreign.seeded(lambda: foreign.Cropped(margin, scale)).eval()


@pytest.mark.parametrize(
    ("margin", "scale"), [(10, 1), (10, 2), (8, 1), (3, 4), (2, 1), (1, 2), (1, 4)]
)
def test_a_margin_is_found_by_what_cells_change(margin, scale):
    end = margin + 16
    frame = picture_frame(cropped(margin, scale), "layer")
    assert frame == Frame(margin, end, margin, end)


@pytest.mark.parametrize("scale", [1, 4])
def test_a_grid_that_is_the_picture_has_no_margin(scale):
    assert picture_frame(cropped(0, scale), "layer") is None


class Strided(nn.Module):
    """Kernels of five with a shift of half a pixel at each step, as the paper has them."""

    latent_size = 4

    def __init__(self):
        super().__init__()
        self.first = nn.ConvTranspose2d(4, 8, 4)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(8, 8, 5, stride=2, padding=2, output_padding=1) for _ in range(4)
        )
        self.rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = self.first(z[:, :, None, None])
        for up in self.ups:
            x = up(torch.relu(x))
        return torch.tanh(self.rgb(x) + x.mean())


@pytest.mark.parametrize("layer", ["first", "ups.0", "ups.1", "ups.2", "ups.3"])
def test_the_shift_of_strided_kernels_is_no_margin(layer):
    assert picture_frame(foreign.seeded(Strided).eval(), layer) is None


@pytest.mark.parametrize(("margin", "scale"), [(10, 1), (3, 2)])
def test_boxes_fall_on_the_cells_that_draw_them(margin, scale):
    model = cropped(margin, scale)
    side = 16 * scale
    box = Annotations(
        "thing", (AnnotatedImage(side, side, (Box(0, 0, 6 * scale, 6 * scale),), seed=0, index=0),)
    )
    acts, coverage = labelled_cells(model, ConceptLabels(box), "layer")
    assert acts.shape[2:] == coverage.shape[1:] == (16, 16)
    frame, whole = (
        picture_frame(model, "layer"),
        dissect.activations(model, "layer", latents_for(model, 1)),
    )
    assert torch.equal(frame.inner(whole), acts)
    cells = frame.on_grid((coverage[0] >= 0.5).float(), tuple(whole.shape[2:]))
    z = latents_for(model, 3)
    with torch.no_grad(), dissect.ablated(model, dissect.Units("layer", range(8), 8), where=cells):
        after = model(z)
    changed = (after - generate(model, z)).abs().sum((0, 1)) > 0
    wanted = torch.zeros(side, side, dtype=torch.bool)
    wanted[: 6 * scale, : 6 * scale] = True
    assert torch.equal(changed, wanted)


class Odd(foreign.Plain):
    """A layer that runs twice, one that does not, one of two tensors, one of whole numbers."""

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class Signs(nn.Module):
        def forward(self, x):
            return (x > 0).long()

    def __init__(self):
        super().__init__()
        self.act, self.idle, self.pair, self.signs = (
            nn.ReLU(),
            nn.Linear(2, 2),
            Odd.Pair(),
            Odd.Signs(),
        )

    def forward(self, z):
        x, _ = self.pair(self.act(self.act(self.up(z[:, :, None, None]))))
        return torch.tanh(self.rgb(x * self.signs(x)))


def test_each_layer_says_what_can_be_done_and_why_not():
    model = foreign.seeded(Odd).eval()
    found = {one.output.name: one for one in layer_abilities(model, latents_for(model, 1))}
    assert found["act"].output.runs == 2
    assert found["up"].output.shape == (1, 16, 16, 16)
    assert found["up"].recorded == found["up"].edited == ""
    assert found["idle"].recorded == "it does not run"
    assert "tuple" in found["pair"].recorded
    assert found["signs"].recorded == ""
    assert "int64" in found["signs"].edited
    assert found["up"].output.done <= found["rgb"].output.done <= 1


def test_layers_of_the_bundled_model_can_be_baked_and_excised():
    model = load("bedrooms64")
    found = {one.output.name: one for one in layer_abilities(model, latents_for(model, 1))}
    assert found["layer8x8"].baked == found["layer8x8"].excised == ""
    assert found["layer8x8.conv"].excised
