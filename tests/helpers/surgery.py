"""A small generator and some of its units."""

import torch
from torch import nn

from dissect.models import Generator
from dissect.units import Units


def small_generator():
    torch.manual_seed(0)
    made = Generator(latent_size=4, width=3, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.normal_()
                module.running_mean.normal_()
            elif isinstance(module, nn.ConvTranspose2d):
                module.weight.normal_(0, 0.3)
    return made


Z = torch.linspace(-1, 1, 20).reshape(5, 4)
UNITS = Units("layer8x8", (1, 4), 6)
