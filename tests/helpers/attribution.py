"""A small discriminator, and every method."""

import torch
from torch import nn

import dissect


class ThreeUnits(nn.Module):
    """At (2, 1): three units at 2, 1 and -1 with slope 0.5, and gradients 3, -1 and 4 from above.

    The plain gradient is (3 * 1 + 4 * 0.5 * -1, -1 * 1 + 4 * 0.5 * 1) = (1, 1).
    """

    def __init__(self, activation=None):
        super().__init__()
        self.below = nn.Linear(2, 3, bias=False)
        self.activation = activation or nn.LeakyReLU(0.5)
        self.above = nn.Linear(3, 1, bias=False)
        with torch.no_grad():
            self.below.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 1.0]]))
            self.above.weight.copy_(torch.tensor([[3.0, -1.0, 4.0]]))

    def forward(self, x):
        return self.above(self.activation(self.below(x)))


AT = torch.tensor([[2.0, 1.0]])


def small():
    """A discriminator for images of 16 pixels, of one layer with two, batch norm and all."""
    torch.manual_seed(0)
    return dissect.Discriminator(width=2, image_size=16, kernel=4).eval()


IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
