"""Rules that choose units of a generator of the user's."""

import pytest
import torch
from helpers import foreign

from dissect.models import Generator
from dissect.segmentation import Segmenter
from dissect.selection import samples
from dissect.selection.samples import draw_samples


def bright():
    return Segmenter(("dark", "bright"), lambda images: (images.mean(1) > images.mean()).long())


@pytest.mark.parametrize("own", [True, False])
def test_only_dissects_own_networks_run_under_autocast(monkeypatch, own):
    monkeypatch.setattr(samples, "autocast_dtype", lambda device: torch.bfloat16)
    model = Generator(latent_size=16, width=4, image_size=16) if own else foreign.plain()
    layer = "layer4x4" if own else "up"
    types = set()
    last = model.rgb.conv if own else model.rgb
    last.register_forward_hook(lambda module, args, output: types.add(output.dtype))
    drawn = draw_samples(model.eval(), layer, bright(), "bright", 8)
    assert drawn.exact is not own
    assert (torch.bfloat16 in types) is own
