"""The paper's networks, their files, and models from elsewhere."""

from dissect.models.adapt import adapt, latent_vectors, latents_for
from dissect.models.checkpoint import Network, fingerprint, load_checkpoint, save_checkpoint
from dissect.models.dcgan import Discriminator, Generator
from dissect.models.gated import GatedEdit
from dissect.models.generate import Edit, generate, generate_batches
from dissect.models.latents import latents
from dissect.models.loading import bundled, bundled_file, load

__all__ = [
    "Discriminator",
    "Edit",
    "GatedEdit",
    "Generator",
    "Network",
    "adapt",
    "bundled",
    "bundled_file",
    "fingerprint",
    "generate",
    "generate_batches",
    "latent_vectors",
    "latents",
    "latents_for",
    "load",
    "load_checkpoint",
    "save_checkpoint",
]
