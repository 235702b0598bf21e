"""A face DCGAN of another project as a factory: `--model examples/foreign/face_dcgan.py:generator`.

The weights are a PyTorch state dict, read with `weights_only=True`, so that nothing in it is
executed. The folder that holds `generator.pt` is given by the environment variable
FACE_DCGAN, and is `../shared/data/face-dcgan-32` beside the checkout otherwise.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from dissect import DissectError

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "face-dcgan-32"


class FaceGenerator(nn.Module):
    """Latents (N, 100), uniform in [-1, 1], to faces (N, 3, 32, 32) in [-1, 1].

    Blocks are numbered as in the state dict. The first has no activation; the second keeps the
    4x4 grid.
    """

    latent_size = 100

    def __init__(self) -> None:
        super().__init__()
        self.generator_deconv = nn.Sequential(
            nn.Sequential(nn.ConvTranspose2d(100, 256, 4, bias=False), nn.BatchNorm2d(256)),
            _block(nn.Conv2d(256, 128, 3, padding=1, bias=False)),
            _block(nn.ConvTranspose2d(128, 64, 4, 2, 1, bias=False)),
            _block(nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False)),
            nn.Sequential(nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh()),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Faces for latents (N, 100)."""
        faces: Tensor = self.generator_deconv(z[:, :, None, None])
        return faces


def generator() -> FaceGenerator:
    """The generator with its weights.

    Raises:
        DissectError: the file is absent or does not fit.
    """
    path = Path(os.environ.get("FACE_DCGAN", FOLDER)) / "generator.pt"
    if not path.is_file():
        raise DissectError(f"no {path}: set FACE_DCGAN to the folder that holds generator.pt")
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = FaceGenerator()
    model.load_state_dict(state)
    return model


def _block(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.LeakyReLU(0.2))
