"""Small networks whose activations are worked out in the head."""

from collections import OrderedDict

import torch
from torch import nn


class Times(nn.Module):
    """Multiplies by a number and counts its runs."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return x * self.factor


class AddInPlace(nn.Module):
    def forward(self, x):
        return x.add_(100)


def chain(*modules):
    return nn.Sequential(OrderedDict((f"layer{i}", m) for i, m in enumerate(modules)))


def by_2_3_5():
    """1 goes to 2, 6, 30."""
    return chain(Times(2.0), Times(3.0), Times(5.0))


def ones(*shape):
    return torch.ones(shape or (1, 1))


def hooks_of(model):
    return [dict(m._forward_hooks) for m in model.modules()]
