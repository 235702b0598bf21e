"""Monitoring: curves in TensorBoard, the Fréchet distance during training, and a summary."""

import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dissect._utils.display import ShortRepr
from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.io import check_writable, write_bytes
from dissect._utils.stats import frechet_distance
from dissect.data import ImageSource
from dissect.models import generate_batches, latents
from dissect.segmentation import Segmenter
from dissect.segmentation.segmenter import image_features
from dissect.training.loop import Report, lines_until
from dissect.training.state import TrainState

__all__ = ["FrechetMeter", "TrainingMonitor"]

_BATCH = 100
# More than TensorBoard keeps back before it writes.
_CURVES_BYTES = 2**20
# A discriminator that is so sure of so many reports in a row teaches the generator nothing.
_BEATEN, _BEATEN_REPORTS = 0.05, 50
# Latents of their own, as those of the grids are.
_FRECHET_SEED = 2**31 + 2


@dataclass(frozen=True, repr=False)
class FrechetMeter(ShortRepr):
    """How far samples are from the source's images, in a segmenter's features.

    Its numbers compare with one another, of the same number of images, and with no other FID.
    """

    segmenter: Segmenter
    real: NDArray[np.float64]

    @classmethod
    def from_source(cls, source: ImageSource, segmenter: Segmenter, n: int) -> "FrechetMeter":
        """A meter that compares `n` samples with `n` images of `source`, drawn by chance.

        Raises:
            DissectError: too few images, or a segmenter without features.
        """
        if n < 2:
            raise DissectError(f"--frechet {n}: a distance needs at least 2 images; 0 is never")
        if segmenter.features is None:
            raise DissectError("this segmenter has no features to compare images in")
        if len(source) < n:
            raise DissectError(f"{source.name} has {len(source)} images, fewer than --frechet {n}")
        drawn = np.sort(np.random.default_rng(0).choice(len(source), n, replace=False))
        parts = [
            image_features(segmenter, to_tensor(source.images(drawn[start : start + _BATCH])))
            for start in range(0, n, _BATCH)
        ]
        return cls(segmenter, np.concatenate(parts))

    def measure(self, state: TrainState) -> float:
        """The distance of samples of `state.average`, in eval mode."""
        z = latents(len(self.real), _FRECHET_SEED, size=state.config.latent_size)
        parts = [
            image_features(self.segmenter, images) for images in generate_batches(state.average, z)
        ]
        return frechet_distance(self.real, np.concatenate(parts))


class TrainingMonitor:
    """Curves, Fréchet distances and a summary of a run.

    `report` and `samples` are the callbacks of `train`.
    """

    def __init__(
        self,
        folder: Path,
        state: TrainState,
        *,
        tensorboard: bool = False,
        frechet: FrechetMeter | None = None,
        show: Callable[[Report], None] = lambda _: None,
    ) -> None:
        """Open the files in `folder`, without what was written after the step of `state`.

        Args:
            folder: the run's; curves for TensorBoard go to `tensorboard/` in it, distances to
                `frechet.jsonl`.
            state: the run.
            tensorboard: whether TensorBoard's files are wanted.
            frechet: what measures the distance, with each grid of samples.
            show: called with each report.

        Raises:
            DissectError: tensorboard is not installed.
        """
        self._path = folder / "frechet.jsonl"
        self._lines = lines_until(self._path, state.step)
        self._frechet = frechet
        self._show = show
        self._curves = folder / "tensorboard"
        self._writer = _writer(self._curves, state.step) if tensorboard else None
        self._resumed_at = state.step
        self._last: Report | None = None
        self._beaten = 0

    def report(self, report: Report) -> None:
        """Record losses and speed."""
        self._last = report
        self._show(report)
        self._beaten = self._beaten + 1 if report.discriminator_loss < _BEATEN else 0
        if self._beaten == _BEATEN_REPORTS:
            warnings.warn(
                f"at step {report.step} the discriminator's loss has stayed below {_BEATEN} for "
                f"{_BEATEN_REPORTS} reports: it tells every image, and the generator learns next "
                "to nothing; a narrower discriminator, augmentation or more images may help",
                stacklevel=2,
            )
        for name, value in (
            ("loss/discriminator", report.discriminator_loss),
            ("loss/generator", report.generator_loss),
            ("images_per_s", report.images_per_s),
        ):
            self._curve("add_scalar", name, value, report.step)

    def samples(self, state: TrainState, grid: Image.Image) -> None:
        """Record a grid of samples, and measure the distance where that is wanted."""
        # A resumed run draws the samples of its step once more: they may have been interrupted.
        if state.step != self._resumed_at:
            self._curve("add_image", "samples", np.asarray(grid), state.step, dataformats="HWC")
        if self._frechet is not None and state.step not in map(_step, self._lines[-1:]):
            distance = self._frechet.measure(state)
            self._lines.append(json.dumps({"step": state.step, "frechet": distance}) + "\n")
            write_bytes(self._path, "".join(self._lines).encode())
            self._curve("add_scalar", "frechet", distance, state.step)

    def summary(self, state: TrainState, n_images: int) -> dict[str, Any]:
        """Epochs, images, seconds, last losses and Fréchet distances of the run."""
        seen = state.step * state.config.batch_size
        summary: dict[str, Any] = {
            "epochs": round(seen / n_images, 2),
            "images_seen": seen,
            "seconds": round(state.seconds),
        }
        if self._last is not None:
            summary["discriminator_loss"] = round(self._last.discriminator_loss, 3)
            summary["generator_loss"] = round(self._last.generator_loss, 3)
        distances = [json.loads(line) for line in self._lines]
        if distances:
            best = min(distances, key=lambda row: float(row["frechet"]))
            summary["frechet"] = round(distances[-1]["frechet"], 3)
            summary["frechet_step"] = distances[-1]["step"]
            summary["frechet_first"] = round(distances[0]["frechet"], 3)
            summary["frechet_best"] = {"step": best["step"], "frechet": round(best["frechet"], 3)}
        return summary

    def close(self) -> None:
        """Complete the files of TensorBoard."""
        self._curve("close")

    def _curve(self, method: str, *values: Any, **options: Any) -> None:
        """Call TensorBoard, if it is wanted: a disk too full for curves ends no training."""
        writer = self._writer
        if writer is None:
            return
        try:
            # A thread of TensorBoard writes them, which would print a traceback of its own.
            written = sum(path.stat().st_size for path in self._curves.glob("*"))
            check_writable(self._curves, written + _CURVES_BYTES)
            getattr(writer, method)(*values, **options)
        except (DissectError, OSError) as error:
            self._writer = None
            with suppress(OSError):
                writer.close()
            warnings.warn(
                f"TensorBoard's curves end here ({error}): the training goes on without them",
                stacklevel=3,
            )


def _step(line: str) -> int:
    return int(json.loads(line)["step"])


def _writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DissectError(
            'curves need the package tensorboard: pip install "dissect-gan[tensorboard]"'
        ) from error
    # Steps after the checkpoint that is resumed from are made again, and shown once.
    return SummaryWriter(str(folder), purge_step=step + 1, flush_secs=30)
