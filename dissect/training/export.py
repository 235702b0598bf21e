"""What a run leaves behind: the two networks as ordinary checkpoints."""

import platform
from pathlib import Path

import torch

from dissect.data import ImageSource
from dissect.models import save_checkpoint
from dissect.training.loop import calibrate_discriminator, sample_average
from dissect.training.state import TrainState

__all__ = ["save_networks"]


def save_networks(
    state: TrainState, source: ImageSource, folder: Path, *, half: bool = False
) -> tuple[Path, Path]:
    """The files `generator.safetensors` and `discriminator.safetensors` in `folder`.

    The generator is the averaged one with its batch-norm statistics measured anew; the
    discriminator's statistics are those of `source`'s images. Both carry a card: every setting,
    steps, seconds, hardware and version of torch.

    Args:
        state: a finished run.
        source: the images it was trained on.
        folder: where the files go.
        half: keep the weights as float16.
    """
    sample_average(state, 1)
    calibrate_discriminator(state, source)
    device = next(state.generator.parameters()).device
    card = {
        "training": state.config.to_dict(),
        "steps": state.step,
        "seconds": round(state.seconds),
        "hardware": _hardware(device),
        "torch": str(torch.__version__),
    }
    generator, discriminator = (
        folder / "generator.safetensors",
        folder / "discriminator.safetensors",
    )
    save_checkpoint(generator, state.average, card=card, half=half)
    save_checkpoint(discriminator, state.discriminator, card=card, half=half)
    return generator, discriminator


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
