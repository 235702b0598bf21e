"""The training loop: steps, progress, sample grids, checkpoints, and a clean end."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dissect.data import ImageSource, batches, to_images, to_tensor
from dissect.errors import DissectError
from dissect.figures.grid import image_grid
from dissect.files import save_image, write_bytes
from dissect.latents import latents
from dissect.training.average import recalibrate
from dissect.training.device import keep_freed_memory
from dissect.training.state import TrainState, checkpoint_path, clear_litter, save_state
from dissect.training.step import train_step
from dissect.training.stopping import stop_requests

__all__ = ["Report", "calibrate_discriminator", "sample_average", "train"]

# Latents of the sample grids and of the batch-norm statistics: series of their own, so that no
# training latent is ever looked at.
_GRID_SEED, _STATISTICS_SEED = 2**31, 2**31 + 1


@dataclass(frozen=True)
class Report:
    """Where a run stands: one row of its losses."""

    step: int
    discriminator_loss: float
    generator_loss: float
    images_per_s: float


def train(
    state: TrainState,
    source: ImageSource,
    folder: Path,
    *,
    watch: Callable[[Report], None] | None = None,
    report_every: int = 10,
    sample_every: int = 500,
    save_every: int = 500,
    keep: int = 2,
) -> TrainState:
    """The run after `state.config.steps` steps, with its checkpoints and grids in `folder`.

    Asked to stop (Ctrl-C, SIGTERM), it ends the step, saves a checkpoint and raises
    KeyboardInterrupt. The images, the latents and so every weight of step t depend on the seed and
    t alone: a resumed run is the unbroken run, bit for bit.

    Args:
        state: a new or a resumed run; changed in place.
        source: where the images come from.
        folder: where checkpoints (`step-*.safetensors`), grids (`samples-*.png`) and the losses
            (`losses.jsonl`) go.
        watch: called every `report_every` steps.
        report_every: steps between two readings of the losses.
        sample_every: steps between two grids of samples.
        save_every: steps between two checkpoints.
        keep: how many checkpoints stay.

    Raises:
        DissectError: a loss or a weight is not a number any more, a file cannot be written (the
            disk is full) or an image cannot be read; the checkpoints before it are kept.
    """
    config = state.config
    if len(source) < config.batch_size:
        raise DissectError(
            f"{source.name} has {len(source)} images, fewer than one batch of {config.batch_size}"
        )
    device = next(state.generator.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    clear_litter(folder)
    last_good = checkpoint_path(folder, state.step)
    losses_path = folder / "losses.jsonl"
    lines = _lines_until(losses_path, state.step)
    order = batches(source, config.batch_size, config.seed, start_step=state.step)
    clock, clock_step = time.perf_counter(), state.step
    try:
        with stop_requests() as asked_to_stop:
            while state.step < config.steps:
                real = _batch(source, next(order), device)
                z = latents(
                    config.batch_size,
                    config.seed,
                    start=state.step * config.batch_size,
                    size=config.latent_size,
                    device=device,
                )
                losses = train_step(state, real, z)
                done, stopping = state.step == config.steps, asked_to_stop()
                if state.step % report_every == 0 or done:
                    values = (float(losses.discriminator), float(losses.generator))
                    _check_finite("the loss", all(map(math.isfinite, values)), state)
                    now = time.perf_counter()
                    state.seconds += now - clock
                    rate = (state.step - clock_step) * config.batch_size / (now - clock)
                    clock, clock_step = now, state.step
                    report = Report(state.step, *values, images_per_s=rate)
                    lines.append(json.dumps(asdict(report)) + "\n")
                    if watch is not None:
                        watch(report)
                if state.step % sample_every == 0 or done:
                    grid = image_grid(to_images(sample_average(state, 64)), columns=8)
                    save_image(folder / f"samples-{state.step:07d}.png", grid)
                if state.step % save_every == 0 or done or stopping:
                    # The loss may be finite still where the weights are not any more.
                    _check_finite("a weight", state.is_finite(), state)
                    write_bytes(losses_path, "".join(lines).encode())
                    last_good = save_state(folder, state, keep=keep)
                if stopping and not done:
                    raise KeyboardInterrupt
                # Grids and checkpoints are not training: they count neither in the rate nor the
                # time.
                if state.step == clock_step:
                    clock = time.perf_counter()
    except DissectError as error:
        left = (
            f"the last good checkpoint is {last_good}: go on from it with --resume"
            if last_good.is_file()
            else "no checkpoint had been written"
        )
        raise DissectError(f"{error}; {left}") from error
    return state


def sample_average(state: TrainState, n: int, *, start: int = 0) -> Tensor:
    """Samples (n, channels, size, size) of the averaged generator, its statistics measured."""
    config = state.config
    device = next(state.average.parameters()).device

    def inputs() -> Iterator[Tensor]:
        for index in range(16):
            at = index * config.batch_size
            yield latents(
                config.batch_size,
                _STATISTICS_SEED,
                start=at,
                size=config.latent_size,
                device=device,
            )

    recalibrate(state.average, inputs())
    z = latents(n, _GRID_SEED, start=start, size=config.latent_size, device=device)
    with torch.inference_mode():
        images: Tensor = state.average(z)
    return images


def calibrate_discriminator(state: TrainState, source: ImageSource, count: int = 32) -> None:
    """Set the discriminator's batch-norm statistics to those of `source`'s images.

    In training they are a mixture of the real and the generated batches; who studies its features
    wants those of real images.
    """
    config = state.config
    device = next(state.discriminator.parameters()).device
    order = islice(batches(source, min(config.batch_size, len(source)), config.seed), count)
    recalibrate(state.discriminator, (_batch(source, indices, device) for indices in order))


def _batch(source: ImageSource, indices: np.ndarray, device: torch.device) -> Tensor:
    images = to_tensor(source.images(indices))
    return images.to(device, memory_format=torch.channels_last, non_blocking=True)


def _check_finite(what: str, finite: bool, state: TrainState) -> None:
    if not finite:
        raise DissectError(
            f"training broke down at step {state.step}: {what} is not a number; a lower learning "
            "rate may help"
        )


def _lines_until(path: Path, step: int) -> list[str]:
    """The rows of an earlier part of the run, without those after the checkpoint resumed from."""
    if step == 0 or not path.is_file():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return kept
