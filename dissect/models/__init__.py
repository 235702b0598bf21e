"""The paper's networks, their files, and models from elsewhere."""

from dissect.models.checkpoint import Network, fingerprint, load_checkpoint, save_checkpoint
from dissect.models.dcgan import Discriminator, Generator
from dissect.models.gated import GatedEdit
from dissect.models.loading import (
    bundled,
    bundled_file,
    generate,
    latents_for,
    load,
    resolve_device,
)

__all__ = [
    "Discriminator",
    "GatedEdit",
    "Generator",
    "Network",
    "bundled",
    "bundled_file",
    "fingerprint",
    "generate",
    "latents_for",
    "load",
    "load_checkpoint",
    "resolve_device",
    "save_checkpoint",
]
