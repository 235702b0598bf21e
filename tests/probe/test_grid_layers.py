"""Which layers of a network hold units on a grid."""

import torch
from torch import nn

from dissect.probe.fit import grid_layers


class Blocks(nn.Module):
    """A mapping of latents, and blocks in a list of modules."""

    latent_size = 8

    def __init__(self):
        super().__init__()
        self.mapping = nn.Linear(8, 8)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(i, o, 4, 2, 1), nn.ReLU()) for i, o in ((8, 6), (6, 4))
        )
        self.rgb = nn.Conv2d(4, 3, 1)

    def forward(self, z):
        x = self.mapping(z)[:, :, None, None]
        for block in self.blocks:
            x = block(x)
        return self.rgb(x).tanh()


class Around(nn.Module):
    latent_size = 8

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, z):
        return self.module(z)


def test_blocks_are_found_in_lists_of_modules_and_within_wrappers():
    model = Blocks().eval()
    assert grid_layers(model) == ["blocks.0", "blocks.1"]
    assert grid_layers(torch.compile(model, backend="eager")) == ["blocks.0", "blocks.1"]
    for wrapped in (Around(model), nn.DataParallel(model)):
        wrapped.latent_size = 8
        assert grid_layers(wrapped.eval()) == ["module.blocks.0", "module.blocks.1"]
    twice = Around(Around(model)).eval()
    assert grid_layers(twice) == ["module.module.blocks.0", "module.module.blocks.1"]
