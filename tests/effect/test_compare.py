import pytest
import torch

from dissect.annotations import AnnotatedImage, Annotations, Box
from dissect.effect.compare import compare
from dissect.hooks import activations, record
from dissect.models import Generator, fingerprint, latents_for
from dissect.probe import fit_probe_from_boxes
from dissect.probe.fit import background_mean
from dissect.surgery import Intervention

LAYER = "layer8x8"


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(3)
    model = Generator(latent_size=8, width=4, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in (model.layer4x4, model.layer8x8, model.layer16x16):
            layer.conv.weight.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def annotations(generator):
    """A box of 2 x 2 cells in the upper left corner of every third image."""
    images = tuple(
        AnnotatedImage(32, 32, (Box(0, 0, 8, 8),) if k % 3 == 0 else (), seed=5, index=k)
        for k in range(30)
    )
    return Annotations("spot", images, fingerprint(generator))


def test_what_units_are_elsewhere_is_their_mean_over_the_cells_outside_every_box(
    generator, annotations
):
    acts = activations(generator, LAYER, latents_for(generator, 30, 5))
    total, cells = acts.new_zeros(8), 0
    for k in range(30):
        for row in range(8):
            for column in range(8):
                if not (k % 3 == 0 and row < 2 and column < 2):
                    total += acts[k, :, row, column]
                    cells += 1
    found = background_mean(generator, annotations, LAYER)
    assert torch.allclose(found, total / cells, atol=1e-5)


def test_filling_sets_the_cells_of_the_concept_and_touches_no_other(generator, annotations):
    probe = fit_probe_from_boxes(generator, annotations, layer=LAYER, scored=False)
    elsewhere = torch.arange(8.0)
    z = latents_for(generator, 6, 1)
    before = activations(generator, LAYER, z)
    is_open = probe.probability(before) > 0.3
    assert 0 < is_open.sum() < is_open.numel()
    with (
        Intervention.fill(probe, elsewhere, layer=LAYER, threshold=0.3).applied(generator),
        record(generator, LAYER) as acts,
        torch.inference_mode(),
    ):
        generator(z)
    after = acts[LAYER].movedim(1, -1)
    assert (after[is_open] == elsewhere).all()
    assert (after[~is_open] == before.movedim(1, -1)[~is_open]).all()


def test_the_filled_images_stand_between_the_gated_edit_and_the_control(generator, annotations):
    probe = fit_probe_from_boxes(generator, annotations, layer=LAYER, scored=False)
    z = latents_for(generator, 2, 1)
    edit = Intervention(probe.units("top:2"))
    states = compare(generator, z, edit, gate=probe, background=torch.ones(8))
    assert list(states) == ["before", "everywhere", "probe", "filled", "random"]
    assert list(compare(generator, z, edit)) == ["before", "everywhere", "random"]
