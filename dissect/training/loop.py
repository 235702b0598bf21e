"""The training loop: steps, progress, sample grids, checkpoints, and a clean end."""

import json
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
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
from dissect._utils.io import check_writable, own_folder, write_bytes, write_image
from dissect.data import ImageSource, batches
from dissect.data.protocol import source_digest
from dissect.models.batch_norm import recalibrate, recalibrate_generator
from dissect.models.latents import latents
from dissect.training.signals import AgreedStop, Stopped, StopRequest, graceful_shutdown
from dissect.training.state import TrainState, checkpoint_path, remove_temporary_files, save_state
from dissect.training.step import TrainingModules, train_step

__all__ = ["Report", "calibrate_discriminator", "lines_until", "sample_average", "train"]

# Latents of the sample grids: a series of their own, so that no training latent is looked at.
_GRID_SEED = 2**31
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

    Asked to stop by a signal (see `graceful_shutdown`), it ends the step, saves a checkpoint and
    raises `Stopped`, a KeyboardInterrupt. The images, the latents and so every weight of step t
    depend on the seed and t alone: a resumed run is the unbroken run, bit for bit.

    Args:
        state: a new or a resumed run; changed in place.
        source: where the images come from.
        folder: where checkpoints (`step-*.safetensors`), grids (`samples-*.png`) and the losses
            (`losses.jsonl`) go. It is locked meanwhile: no other run can write to it.
        on_report: called every `report_every` steps.
        report_every: steps between two readings of the losses.
        sample_every: steps between two grids of samples.
        save_every: steps between two checkpoints.
        keep: how many checkpoints stay.
        group: the processes that train together, all of which call this; the main process writes.
        on_samples: called with each grid, when `state.average` is ready to be sampled.

    Raises:
        DissectError: the batch cannot be shared, another run has the folder, a checkpoint does not
            fit into it, the images are not those that the run was begun with, a loss or a weight
            is not a number any more, a file cannot be written (the disk is full), an image cannot
            be read or another process is lost; the checkpoints before it are kept.
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
    _check_source(state, source)
    agreed = (state.step, state.config.source_digest)
    if any(other != agreed for other in group.all_gather_object(agreed)):
        raise DissectError(
            "the processes do not see the same images and checkpoints: let --out and the images "
            "lie on a disk that all of them share"
        )
    device = next(state.generator.parameters()).device
    with ExitStack() as stack:
        files = None
        if group.is_main_process:
            confirm = stack.enter_context(own_folder(folder))
            files = _RunFiles(folder, state, keep, on_samples, confirm)
        order = batches(source, config.batch_size, config.seed, start_step=state.step)
        modules = TrainingModules.create(state, group)
        try:
            if files is not None:
                check_writable(folder, state.checkpoint_bytes())
            request = stack.enter_context(graceful_shutdown())
            stop_requested = AgreedStop(request, group, device, state.step)
            pictures = stack.enter_context(
                _read_ahead(source, order, rows, request if group.size == 1 else None)
            )
            if files is not None and files.sampling_interrupted(sample_every):
                files.write_samples()
            clock, clock_step = time.perf_counter(), state.step
            stopping = False
            while state.step < config.steps and not stopping:
                pixels = next(pictures)
                if pixels is None:
                    break
                real = _to_network(pixels, device)
                z = latents(
                    len(real),
                    config.seed,
                    start=state.step * config.batch_size + rows.start,
                    size=config.latent_size,
                    device=device,
                )
                losses = train_step(state, real, z, modules)
                done = state.step == config.steps
                stopping = stop_requested(state.step) and not done
                if state.step % report_every == 0 or done:
                    d_loss, g_loss = group.mean(torch.stack(losses)).tolist()
                    _check_finite("the loss", math.isfinite(d_loss + g_loss), state)
                    now = time.perf_counter()
                    state.seconds += now - clock
                    rate = (state.step - clock_step) * config.batch_size / (now - clock)
                    clock, clock_step = now, state.step
                    report = Report(state.step, d_loss, g_loss, rate)
                    if files is not None:
                        files.lines.append(json.dumps(asdict(report)) + "\n")
                    if on_report is not None:
                        on_report(report)
                if files is not None:
                    # Before the samples, which take long where their distance is measured.
                    if state.step % save_every == 0 or done:
                        files.save()
                    if (state.step % sample_every == 0 or done) and not stopping:
                        files.write_samples()
                # Grids and checkpoints are not training: they count neither in the rate nor the
                # time.
                if state.step == clock_step:
                    clock = time.perf_counter()
            if state.step < config.steps:
                if files is not None:
                    files.save()
                raise Stopped(request.signal or signal.SIGTERM)
        except DissectError as error:
            last = checkpoint_path(folder, state.step) if files is None else files.last_good
            left = (
                f"the last good checkpoint is {last}: go on from it with --resume"
                if last.is_file()
                else "no checkpoint had been written"
            )
            raise DissectError(f"{error}; {left}") from error
    return state


class _RunFiles:
    """What the main process writes into the folder of a run."""

    def __init__(
        self,
        folder: Path,
        state: TrainState,
        keep: int,
        on_samples: Callable[[TrainState, Image.Image], None] | None,
        confirm: Callable[[], None],
    ) -> None:
        """Take up the run at the step of `state`; `confirm` raises if the folder is lost."""
        remove_temporary_files(folder)
        self._folder, self._state, self._keep = folder, state, keep
        self._on_samples, self._confirm = on_samples, confirm
        self._losses = folder / "losses.jsonl"
        self.lines = lines_until(self._losses, state.step)
        self.last_good = checkpoint_path(folder, state.step)
        self._saved = state.step if self.last_good.is_file() else None

    def save(self) -> None:
        """Write a checkpoint, if there is none of this step yet."""
        if self._saved == self._state.step:
            return
        # The loss may be finite still where the weights are not any more.
        _check_finite("a weight", self._state.is_finite(), self._state)
        self._confirm()
        write_bytes(self._losses, "".join(self.lines).encode())
        self.last_good = save_state(self._folder, self._state, keep=self._keep)
        self._saved = self._state.step

    def write_samples(self) -> None:
        """Draw and write a grid of samples."""
        grid = image_grid(to_images(sample_average(self._state, 64)), columns=8)
        if self._on_samples is not None:
            self._on_samples(self._state, grid)
        # Last: where the file is, all that goes with it is complete.
        write_image(self._samples_path(), grid)

    def sampling_interrupted(self, sample_every: int) -> bool:
        """Whether a grid of this step was due, which an earlier session may not have completed.

        Before further steps it is drawn in any case: the statistics of the averaged generator,
        which are in the checkpoints, are measured with it.
        """
        step, steps = self._state.step, self._state.config.steps
        if step == 0 or (step % sample_every and step < steps):
            return False
        return step < steps or not self._samples_path().is_file()

    def _samples_path(self) -> Path:
        return self._folder / f"samples-{self._state.step:07d}.png"


def sample_average(state: TrainState, n: int, *, start: int = 0) -> Tensor:
    """Samples (n, channels, size, size) of the averaged generator, its statistics measured."""
    config = state.config
    device = next(state.average.parameters()).device
    recalibrate_generator(state.average, config.latent_size, config.batch_size)
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
    source: ImageSource,
    order: Iterator[NDArray[np.int64]],
    rows: slice,
    request: StopRequest | None,
) -> Iterator[Iterator[NDArray[np.uint8] | None]]:
    """The pictures of this process's share of each batch, read while the step before computes.

    None instead of them where they are still to come when `request` is made.
    """
    reader = ThreadPoolExecutor(1)

    def read() -> "Future[NDArray[np.uint8]]":
        return reader.submit(source.images, next(order)[rows])

    def pictures() -> Iterator[NDArray[np.uint8] | None]:
        coming = deque(read() for _ in range(_READ_AHEAD))
        while True:
            coming.append(read())
            pixels = coming.popleft()
            while request is not None and not wait((pixels,), timeout=0.2).done:
                if request:
                    yield None
            yield pixels.result()

    try:
        yield pictures()
    finally:
        reader.shutdown(wait=False, cancel_futures=True)


def _check_source(state: TrainState, source: ImageSource) -> None:
    """Note which images a new run is begun with, and hold a resumed one to them."""
    now, known = source_digest(source), state.config.source_digest
    if known is None:
        state.config = replace(state.config, source_digest=now)
    elif known != now:
        before = known.partition(":")[0]
        differing = (
            "other names, sizes or another order"
            if before == str(len(source))
            else f"{len(source)} images, and there were {before}"
        )
        raise DissectError(
            f"{source.name} has changed since this run was begun with it ({differing}): a resumed "
            "run needs the same images; restore them, or begin a new run in another --out"
        )


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
