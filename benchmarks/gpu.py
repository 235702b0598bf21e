"""What a CUDA machine gives, in at most nine minutes: `python benchmarks/gpu.py --out out/gpu`.

1. Checks: recording, ablating, baking, excising and probing on CUDA against the CPU, within 1e-4 in
   float32 (without TF32), and that training in bfloat16 is stable.
2. Speed: images/s of the paper's networks (width 128, kernels of 5, batches of 128) in
   `dissect.training.train_step`, beside the plain float32 loop of PyTorch's example.
3. Training: `bedrooms64` at the paper's full width for the minutes that are left.

The folder holds `log.json`, `samples.png`, and both networks as float16, under 64 MB in all. Each
result is written as soon as it is there, so that a machine that goes away leaves what was done.
`--device cpu --toy` runs every path in a minute or two.

(A file cuda.py in this folder would hide the package `cuda` that torch itself imports.)
"""

import argparse
import contextlib
import platform
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from train import Sizes, plain_loop, train_step_loop

import dissect
from dissect._utils.device import autocast_dtype, resolve_device
from dissect._utils.images import image_grid, to_images
from dissect._utils.io import write_image, write_json
from dissect.annotations import Annotations, annotation_file
from dissect.data import ImageSource, source
from dissect.models import latents_for
from dissect.probe import fit_probe_from_boxes
from dissect.training import (
    Report,
    TrainConfig,
    TrainState,
    preset_config,
    sample_average,
    save_networks,
    train,
)
from dissect.units import Units

LAYER = "layer8x8"
TOLERANCE = 1e-4
# Left at the end for saving the networks.
_RESERVE = 25.0
_FOLDER_BYTES = 64e6


@dataclass(frozen=True)
class Plan:
    """How much of each part is done."""

    n_latents: int
    stable_steps: int
    speed_width: int
    speed_batch: int
    speed_seconds: float
    render_seconds: float
    render_images: int
    warm_steps: int
    most_steps: int
    train: TrainConfig


FULL = Plan(
    n_latents=64,
    stable_steps=300,
    speed_width=128,
    speed_batch=128,
    speed_seconds=30,
    render_seconds=75,
    render_images=100_000,
    warm_steps=100,
    most_steps=200_000,
    train=replace(
        preset_config("bedrooms64"), generator_width=128, discriminator_width=128, batch_size=128
    ),
)
TOY = Plan(
    n_latents=4,
    stable_steps=3,
    speed_width=4,
    speed_batch=4,
    speed_seconds=0.5,
    render_seconds=1,
    render_images=64,
    warm_steps=4,
    most_steps=12,
    train=replace(
        preset_config("bedrooms64"),
        images=None,
        generator_width=4,
        discriminator_width=4,
        batch_size=8,
    ),
)


class Log:
    """What was found so far, written to `log.json` after each part."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.start, self.seconds = folder, time.perf_counter(), seconds
        self.values: dict[str, Any] = {}

    @property
    def left(self) -> float:
        """Seconds until the end, the reserve taken off."""
        return self.seconds - _RESERVE - (time.perf_counter() - self.start)

    def write(self, name: str, value: Any) -> None:
        """Keep a result and write the file."""
        self.values[name] = value
        self.values["seconds"] = round(time.perf_counter() - self.start, 1)
        write_json(self.folder / "log.json", self.values)
        print(f"{self.values['seconds']:7.1f} s  {name}: {value}", file=sys.stderr, flush=True)

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """The result of `work`, or its error: one part that fails does not take the others away."""
        try:
            self.write(name, work())
        except Exception as error:
            traceback.print_exc()
            self.write(name, {"error": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description="What a CUDA machine gives, in nine minutes.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=9, help="the budget, saving included")
    parser.add_argument("--toy", action="store_true", help="every path at a toy size")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    options = parser.parse_args()
    device, plan = resolve_device(options.device), TOY if options.toy else FULL
    log = Log(options.out, 60 * options.minutes)
    log.write("machine", _machine(device))
    log.part("checks", lambda: checks(plan, device))
    log.part("bfloat16", lambda: stable(plan, device))
    log.part("speed", lambda: speed(plan, device))
    log.part("training", lambda: training(plan, device, log))
    files = [path for path in options.out.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    # The discriminator is left out before the generator.
    if size > _FOLDER_BYTES:
        (options.out / "discriminator.safetensors").unlink(missing_ok=True)
        size = sum(path.stat().st_size for path in options.out.iterdir() if path.is_file())
    log.write("bytes", size)
    failed = any("error" in value for value in log.values.values() if isinstance(value, dict))
    sys.exit(1 if failed or not log.values["checks"].get("ok") else 0)


def _machine(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": str(device),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "autocast": str(autocast_dtype(device)),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"gpu": properties.name, "gpu_memory_gb": properties.total_memory / 1e9}
    return found


def checks(plan: Plan, device: torch.device) -> dict[str, Any]:
    """The largest difference from the CPU of everything that studies a model, as a fraction."""
    units = Units(LAYER, tuple(range(24)), 256)
    boxes = Annotations.load(annotation_file("bedrooms64", "window"), "window")
    precision = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        here, there = (
            _studied(dissect.load("bedrooms64", device=place), units, boxes, plan.n_latents)
            for place in (torch.device("cpu"), device)
        )
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = precision
    differences = {
        name: float((there[name] - value).abs().max() / value.abs().max())
        for name, value in here.items()
    }
    ok = all(difference <= TOLERANCE for difference in differences.values())
    return {"ok": ok, "tolerance": TOLERANCE, "differences": differences}


def _studied(model: nn.Module, units: Units, boxes: Annotations, n: int) -> dict[str, Tensor]:
    z = latents_for(model, n, 0)
    with torch.inference_mode():
        with dissect.record(model, LAYER) as acts:
            images = model(z)
        with dissect.ablated(model, units):
            ablated = model(z)
        baked = dissect.bake(model, units)(z)
        excised = dissect.excise(model, units)(z)
    probe = fit_probe_from_boxes(model, boxes, layer=LAYER, scored=False)
    found = {
        "images": images,
        "record": acts[LAYER],
        "ablate": ablated,
        "bake": baked,
        "excise": excised,
        "probe": probe.probability(acts[LAYER]),
        "probe_auc": torch.tensor(probe.score.auc),
    }
    return {name: value.detach().double().cpu() for name, value in found.items()}


def stable(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Whether a training in the device's own precision keeps to numbers and goes on learning."""
    config = replace(plan.train, steps=plan.stable_steps, images=None)
    images = source("bedrooms", size=config.image_size, count=max(64, config.batch_size))
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as name:
        state = TrainState.start(config, device)
        train(state, images, Path(name), on_report=reports.append, save_every=10**9, report_every=1)
    losses = np.array([(row.discriminator_loss, row.generator_loss) for row in reports])
    last = losses[-max(1, len(losses) // 5) :].mean(0)
    return {
        "dtype": str(autocast_dtype(device)),
        "steps": state.step,
        "finite": bool(state.is_finite() and np.isfinite(losses).all()),
        "largest_loss": float(losses.max()),
        "last_discriminator_loss": float(last[0]),
        "last_generator_loss": float(last[1]),
    }


def speed(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Images/s of the paper's networks, in turns so that both meet the machine alike."""
    width, batch = plan.speed_width, plan.speed_batch
    sizes = Sizes(width, width, 5, batch, 64, torch.get_num_threads(), str(device), False)
    steps = {"plain_float32": plain_loop(sizes, "plain"), "train_step": train_step_loop(sizes)}
    for step in steps.values():
        for _ in range(3):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + plan.speed_seconds
    while time.perf_counter() < end or not seconds["train_step"]:
        for name, step in steps.items():
            began = time.perf_counter()
            step()  # waits for the device: it reads a loss
            seconds[name].append(time.perf_counter() - began)
    rates = {name: batch / statistics.median(values) for name, values in seconds.items()}
    return {
        **{f"{name}_images_per_s": rate for name, rate in rates.items()},
        "ratio": rates["train_step"] / rates["plain_float32"],
        "steps": len(seconds["train_step"]),
        "tf32_in_the_plain_loop": torch.backends.cudnn.allow_tf32,
    }


class _TimeIsUpError(Exception):
    """The budget is spent."""


def training(plan: Plan, device: torch.device, log: Log) -> dict[str, Any]:
    """A run that lasts as long as there is time, its weights and samples in the log's folder."""
    images = _rendered(plan, min(plan.render_seconds, log.left / 3))
    state = TrainState.start(
        replace(plan.train, images=len(images), steps=plan.warm_steps, decay_from=1.0), device
    )
    reports: list[dict[str, float]] = []
    saved_at = time.perf_counter()

    def on_report(report: Report) -> None:
        reports.append(
            {
                "step": report.step,
                "discriminator_loss": report.discriminator_loss,
                "generator_loss": report.generator_loss,
                "images_per_s": report.images_per_s,
            }
        )
        if log.left <= 0:
            raise _TimeIsUpError

    def on_samples(current: TrainState, grid: Image.Image) -> None:
        nonlocal saved_at
        write_image(log.folder / "samples.png", grid)
        log.write("training_so_far", {"step": current.step, "reports": reports[-1:]})
        if time.perf_counter() - saved_at > 60:
            save_networks(current, images, log.folder, half=True)
            saved_at = time.perf_counter()

    def go_on(folder: str, every: int) -> None:
        train(
            state,
            images,
            Path(folder),
            on_report=on_report,
            report_every=max(1, min(50, every)),
            sample_every=every,
            save_every=10**9,
            on_samples=on_samples,
        )

    # Checkpoints are large, and stay out of the log's folder.
    with contextlib.suppress(_TimeIsUpError), tempfile.TemporaryDirectory() as name:
        go_on(name, plan.warm_steps)
        # Now the pace is known: the run ends, its learning rate at 0, when the time does.
        rate = reports[-1]["images_per_s"]
        steps = state.step + max(1, int(0.95 * log.left * rate / state.config.batch_size))
        steps = min(steps, plan.most_steps)
        state.config = state.config.changed({"steps": steps, "decay_from": plan.train.decay_from})
        go_on(name, max(1, steps // 20))
    save_networks(state, images, log.folder, half=True)
    grid = image_grid(to_images(sample_average(state, 64)), columns=8)
    write_image(log.folder / "samples.png", grid)
    log.values.pop("training_so_far", None)
    return {
        "config": state.config.to_dict(),
        "steps": state.step,
        "images_seen": state.step * state.config.batch_size,
        "seconds_in_steps": state.seconds,
        "finite": state.is_finite(),
        "reports": reports[:: max(1, len(reports) // 200)],
    }


def _rendered(plan: Plan, seconds: float) -> ImageSource:
    """As many rendered bedrooms as the time allows."""
    began, count = time.perf_counter(), min(plan.render_images, 4_000)
    images = source("bedrooms", size=64, count=count)
    while count < plan.render_images:
        # Doubling takes as long again as all that was rendered so far.
        if 2 * (time.perf_counter() - began) > seconds:
            break
        count = min(2 * count, plan.render_images)
        images = source("bedrooms", size=64, count=count)
    return images


if __name__ == "__main__":
    main()
