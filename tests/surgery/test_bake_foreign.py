"""Edits written into generators from elsewhere: styles, noise, tuples, attributes, norms."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dissect._utils.errors import DissectError
from dissect.models import GatedEdit
from dissect.surgery import Intervention, LinearGate, ablated, bake, excise
from dissect.units import Units


class Modulated(nn.Module):
    """As StyleGAN2 has it: x and a style, and noise by keyword."""

    scale = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8, 3, 3))
        self.affine = nn.Linear(8, 8)

    def forward(self, x, style, noise=None):
        weight = self.weight * self.affine(style)[:, None, :, None, None]
        weight = weight / (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
        n, _, side, _ = x.shape
        y = F.conv2d(x.reshape(1, n * 8, side, side), weight.flatten(0, 1), padding=1, groups=n)
        y = y.reshape(n, 8, side, side)
        return F.leaky_relu(y if noise is None else y + noise, 0.2)


class Tuple(Modulated):
    """The features, and an image beside them."""

    def forward(self, x, style, noise=None):
        y = super().forward(x, style, noise)
        return y, y[:, :3].mean(1)


class Conditional(nn.BatchNorm2d):
    def __init__(self):
        super().__init__(8)
        self.embed = nn.Embedding(3, 16)

    def forward(self, x, style, noise=None):
        gain, bias = self.embed(torch.zeros(len(x), dtype=torch.long)).chunk(2, 1)
        return super().forward(x) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, padding=1)

    def forward(self, x, style, noise=None):
        return F.glu(self.conv(x), 1)


class Normed(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), norm

    def forward(self, x, style, noise=None):
        return F.relu(self.norm(self.conv(x)))


class PixelNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x, style, noise=None):
        y = F.leaky_relu(self.conv(x), 0.2)
        return y / (y.square().mean(1, keepdim=True) + 1e-8).sqrt()


class Foreign(nn.Module):
    """Branches on the class of a block, reads an attribute of it, and knows no tuple's order."""

    latent_size = 8

    def __init__(self, block):
        super().__init__()
        kind = type(block)
        self.blocks, self.kinds = nn.ModuleList([block, nn.Conv2d(8, 8, 1)]), [kind]
        self.rgb = nn.Conv2d(8, 3, 1)

    def forward(self, z):
        x = z[:, :, None, None] * torch.linspace(-1, 1, 16).reshape(4, 4)
        for block in self.blocks:
            if isinstance(block, self.kinds[0]):
                given = block(x, style=z, noise=0.1)
                x = given if isinstance(given, torch.Tensor) else given[0] + given[1][:, None]
                x = F.interpolate(x, scale_factor=2 * getattr(block, "scale", 1))
            else:
                x = block(x)
        return self.rgb(x).tanh()


BLOCKS = {
    "modulated": Modulated,
    "tuple": Tuple,
    "conditional norm": Conditional,
    "glu": Gated,
    "group norm": lambda: Normed(nn.GroupNorm(2, 8)),
    "instance norm": lambda: Normed(nn.InstanceNorm2d(8, affine=True)),
    "instance norm without weights": lambda: Normed(nn.InstanceNorm2d(8)),
    "batch norm": lambda: Normed(nn.BatchNorm2d(8)),
    "pixel norm": PixelNorm,
}
EDITS = {
    "removed": {},
    "strength": {"strength": 0.5},
    "values": {"replacement": torch.linspace(0, 1, 8)},
    "values below 0": {"replacement": torch.linspace(-1, 0, 8)},
    "region": {"region": (torch.arange(16) > 5).float().reshape(4, 4)},
    "gate": {"gate": LinearGate("blocks.0", torch.linspace(-1, 1, 8), 1.0)},
    "twice": {"strength": 0.5, "also": (Intervention(Units("blocks.0", (2, 4), 8), strength=1.5),)},
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", BLOCKS)
def test_any_block_is_baked_bit_for_bit(name, edit):
    torch.manual_seed(0)
    model = Foreign(BLOCKS[name]()).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.bias)
    edit = Intervention(Units("blocks.0", (1, 4), 8), **EDITS[edit])
    z = torch.randn(4, 8)
    with torch.no_grad():
        with edit.applied(model):
            wanted = model(z)
        baked = edit.bake(model)
        assert torch.equal(baked(z), wanted)
        assert not torch.equal(model(z), wanted)
        assert torch.equal(copy.deepcopy(baked)(z), wanted)
    assert isinstance(baked.blocks[0], type(model.blocks[0]))
    assert not any(module._forward_hooks for module in baked.modules())
    assert set(model.state_dict()) <= set(baked.state_dict())


def test_a_baked_block_is_saved_with_its_model():
    torch.manual_seed(0)
    baked = bake(Foreign(Modulated()).eval(), Units("blocks.0", (1, 4), 8), strength=0.5)
    stream, z = io.BytesIO(), torch.randn(4, 8)
    torch.save(baked, stream)
    again = torch.load(io.BytesIO(stream.getvalue()), weights_only=False)
    with torch.no_grad():
        assert torch.equal(again(z), baked(z))


def test_a_norm_takes_a_removal_into_its_weights():
    for norm in (nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.BatchNorm2d(8)):
        model = Foreign(Normed(norm)).eval()
        baked = bake(model, Units("blocks.0", (1, 4), 8))
        assert baked.state_dict().keys() == model.state_dict().keys()


class Iterates(nn.Module):
    """Runs whatever modules it has."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(8, 8, 1), nn.Sigmoid()

    def forward(self, x, style, noise=None):
        for module in self.children():
            x = module(x)
        return x


class Counts(Foreign):
    def forward(self, z):
        (_affine,) = self.blocks[0].children()
        return super().forward(z)


def test_what_comes_out_otherwise_is_refused():
    torch.manual_seed(0)
    units = Units("blocks.0", (1, 4), 8)
    with pytest.raises(DissectError, match=r"an edit of 'blocks.0' .* images of the copy differ"):
        bake(Foreign(Iterates()).eval(), units, strength=0.5)
    with pytest.raises(DissectError, match=r"whose code then fails \(ValueError: too many"):
        bake(Counts(Modulated()).eval(), units, strength=0.5)
    model = Foreign(Modulated()).eval()
    model.blocks[0].register_forward_hook(lambda module, args, output: output + 1)
    with pytest.raises(DissectError, match="has forward hooks"):
        bake(model, units)


def test_a_bake_within_an_ablation_is_of_the_model_without_it():
    torch.manual_seed(0)
    model, z = Foreign(Modulated()).eval(), torch.randn(4, 8)
    units = Units("blocks.0", (1, 4), 8)
    with torch.no_grad():
        with ablated(model, units):
            wanted = model(z)
        with ablated(model, Units("blocks.1", (0, 3), 8)):
            baked = bake(model, units)
            model(z)
        assert torch.equal(baked(z), wanted)
    assert any(isinstance(module, GatedEdit) for module in baked.modules())


@pytest.mark.parametrize("call", [bake, excise])
def test_torchscript_is_refused(call):
    plain = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    script = torch.jit.trace(plain, torch.zeros(1, 8))
    for model, layer in ((script, "1"), (nn.Sequential(script, nn.ReLU()), "1")):
        with pytest.raises(DissectError, match="TorchScript"):
            call(model, Units(layer, (0,), 16))
