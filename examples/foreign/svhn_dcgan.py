"""The DCGAN authors' own SVHN generator: `--model examples/foreign/svhn_dcgan.py:generator`.

Three things must be put right before it runs in PyTorch. Theano's convolutions flip their
kernels. The arrays come in order, without names. And its batch norm used the statistics of each
batch even when sampling and saved none, so that they are measured here, once, on latents that
are never shown. The folder of the arrays is given by the environment variable SVHN_DCGAN, and is
`../shared/data/svhn-dcgan-authors` beside the checkout otherwise.
"""

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dissect import DissectError
from dissect.models import latents
from dissect.models.batch_norm import recalibrate

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "svhn-dcgan-authors"
STATISTICS_SEED = 2**31


class SvhnGenerator(nn.Module):
    """Latents (N, 100), standard normal, to house numbers (N, 3, 32, 32) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer4x4 = nn.Sequential(
            OrderedDict(
                project=nn.Linear(100, 4096, bias=False),
                norm=nn.BatchNorm1d(4096, eps=1e-8),
                activation=nn.ReLU(),
                grid=nn.Unflatten(1, (256, 4, 4)),
            )
        )
        self.layer8x8 = _block(256, 128)
        self.layer16x16 = _block(128, 64)
        self.rgb = nn.Sequential(OrderedDict(conv=_up(64, 3), activation=nn.Tanh()))

    def forward(self, z: Tensor) -> Tensor:
        """House numbers for latents (N, 100)."""
        x = z
        for layer in self.children():
            x = layer(x)
        return x


def generator() -> tuple[SvhnGenerator, object]:
    """The generator with its weights, and the normal latents that it takes.

    Raises:
        DissectError: an array is absent or does not fit.
    """
    folder = Path(os.environ.get("SVHN_DCGAN", FOLDER))
    arrays = [_array(folder, number) for number in range(1, 11)]
    model = SvhnGenerator()
    names = ["layer4x4.project.weight", "layer4x4.norm.weight", "layer4x4.norm.bias"]
    for layer in ("layer8x8", "layer16x16"):
        names += [f"{layer}.conv.weight", f"{layer}.norm.weight", f"{layer}.norm.bias"]
    names.append("rgb.conv.weight")
    state = {}
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 2:
            array = array.T  # Theano multiplies from the left
        elif array.ndim == 4:
            array = array.flip(2, 3)
        state[name] = array.contiguous()
    model.load_state_dict(state, strict=False)
    recalibrate(model, (_normal(500, STATISTICS_SEED, 500 * k) for k in range(8)))
    return model, _normal


def _normal(n: int, seed: int, start: int) -> Tensor:
    return latents(n, seed, start=start, distribution="normal")


def _array(folder: Path, number: int) -> Tensor:
    path = folder / f"200_gen_params.jl_{number:02d}.npy"
    if not path.is_file():
        raise DissectError(f"no {path}: set SVHN_DCGAN to the folder that holds the arrays")
    return torch.from_numpy(np.load(path, allow_pickle=False))


def _block(before: int, after: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=_up(before, after))
    parts["norm"] = nn.BatchNorm2d(after, eps=1e-8)
    parts["activation"] = nn.ReLU()
    return nn.Sequential(parts)


def _up(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, 5, 2, 2, 1, bias=False)
