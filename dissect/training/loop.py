"""The training loop: steps, progress, sample grids, checkpoints, and a clean end."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dissect._utils.distributed import ProcessGroup
from dissect._utils.errors import DissectError
from dissect._utils.images import image_grid, to_images, to_tensor
from dissect._utils.io import write_bytes, write_image
from dissect.data import ImageSource, batches
from dissect.models.batch_norm import recalibrate
from dissect.models.latents import latents
from dissect.training.signals import graceful_shutdown
from dissect.training.state import TrainState, checkpoint_path, remove_temporary_files, save_state
from dissect.training.step import TrainingModules, train_step

__all__ = ["Report", "calibrate_discriminator", "lines_until", "sample_average", "train"]

# Latents of the sample grids and of the batch-norm statistics: series of their own, so that no
# training latent is ever looked at.
_GRID_SEED, _STATISTICS_SEED = 2**31, 2**31 + 1
# Batches that are read before they are needed.
_READ_AHEAD = 2


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
    on_report: Callable[[Report], None] | None = None,
    report_every: int = 10,
    sample_every: int = 500,
    save_every: int = 500,
    keep: int = 2,
    group: ProcessGroup | None = None,
    on_samples: Callable[[TrainState, Image.Image], None] | None = None,
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
        on_report: called every `report_every` steps.
        report_every: steps between two readings of the losses.
        sample_every: steps between two grids of samples.
        save_every: steps between two checkpoints.
        keep: how many checkpoints stay.
        group: the processes that train together, all of which call this; the main process writes.
        on_samples: called with each grid, when `state.average` is ready to be sampled.

    Raises:
        DissectError: the batch cannot be shared, a loss or a weight is not a number any more, a
            file cannot be written (the disk is full), an image cannot be read or another process
            is lost; the checkpoints before it are kept.
    """
    config = state.config
    if len(source) < config.batch_size:
        raise DissectError(
            f"{source.name} has {len(source)} images, fewer than one batch of {config.batch_size}"
        )
    group = group or ProcessGroup()
    rows = group.batch_rows(config.batch_size)
    if rows.stop - rows.start < 2:
        raise DissectError("batch norm needs two images a process; give a larger --batch-size")
    device = next(state.generator.parameters()).device
    if group.is_main_process:
        remove_temporary_files(folder)
    last_good = checkpoint_path(folder, state.step)
    losses_path = folder / "losses.jsonl"
    lines = lines_until(losses_path, state.step)
    order = batches(source, config.batch_size, config.seed, start_step=state.step)
    modules = TrainingModules.create(state, group)
    clock, clock_step = time.perf_counter(), state.step
    try:
        with (
            graceful_shutdown() as stop_requested,
            _read_ahead(source, order, rows) as pictures,
        ):
            while state.step < config.steps:
                real = _to_network(next(pictures), device)
                z = latents(
                    len(real),
                    config.seed,
                    start=state.step * config.batch_size + rows.start,
                    size=config.latent_size,
                    device=device,
                )
                losses = train_step(state, real, z, modules)
                done = state.step == config.steps
                # Several processes must agree on the step at which they stop, and that costs time.
                stopping = (group.size == 1 or state.step % report_every == 0) and group.any(
                    stop_requested(), device
                )
                if state.step % report_every == 0 or done:
                    d_loss, g_loss = group.mean(torch.stack(losses)).tolist()
                    _check_finite("the loss", math.isfinite(d_loss + g_loss), state)
                    now = time.perf_counter()
                    state.seconds += now - clock
                    rate = (state.step - clock_step) * config.batch_size / (now - clock)
                    clock, clock_step = now, state.step
                    report = Report(state.step, d_loss, g_loss, rate)
                    lines.append(json.dumps(asdict(report)) + "\n")
                    if on_report is not None:
                        on_report(report)
                if group.is_main_process and (state.step % sample_every == 0 or done):
                    grid = image_grid(to_images(sample_average(state, 64)), columns=8)
                    write_image(folder / f"samples-{state.step:07d}.png", grid)
                    if on_samples is not None:
                        on_samples(state, grid)
                if group.is_main_process and (state.step % save_every == 0 or done or stopping):
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
    recalibrate(
        state.discriminator, (_to_network(source.images(indices), device) for indices in order)
    )


@contextmanager
def _read_ahead(
    source: ImageSource, order: Iterator[NDArray[np.int64]], rows: slice
) -> Iterator[Iterator[NDArray[np.uint8]]]:
    """The pictures of this process's share of each batch, read while the step before computes."""
    with ThreadPoolExecutor(1) as reader:

        def read() -> "Future[NDArray[np.uint8]]":
            return reader.submit(source.images, next(order)[rows])

        def pictures() -> Iterator[NDArray[np.uint8]]:
            coming = deque(read() for _ in range(_READ_AHEAD))
            while True:
                coming.append(read())
                yield coming.popleft().result()

        try:
            yield pictures()
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _to_network(pictures: NDArray[np.uint8], device: torch.device) -> Tensor:
    # The bytes travel to the device before they become floats.
    return to_tensor(pictures, device).contiguous(memory_format=torch.channels_last)


def _check_finite(what: str, finite: bool, state: TrainState) -> None:
    if not finite:
        raise DissectError(
            f"training broke down at step {state.step}: {what} is not a number; a lower learning "
            "rate may help"
        )


def lines_until(path: Path, step: int) -> list[str]:
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
