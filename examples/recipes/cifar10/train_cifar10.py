"""The discriminator of docs/classify.md's table (75.8% of CIFAR-10), made by one command.

    python examples/recipes/cifar10/train_cifar10.py cifar10:PATH --out out/cifar10

Trains in two parts, both with auxiliary tasks that need no labels: 47,000 steps in which the
discriminator also tells by how many quarters a real image was turned, then 17,500 steps in which it
also recognises two views of one image. Then `dissect classify` makes the row. Stopped at any
moment, the same command goes on from the last checkpoint. On one core it takes about six hours with
bfloat16, and several times as long without.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from net2net import init_from
from safetensors.torch import load_file, save
from tasks import AuxiliaryTasks

from dissect._utils.device import resolve_device
from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect._utils.io import write_bytes
from dissect._utils.progress import progress_bar
from dissect.data import ImageSource, batches, source
from dissect.models.latents import latents
from dissect.training import (
    TrainConfig,
    TrainState,
    checkpoints,
    load_state,
    save_networks,
    save_state,
)
from dissect.training.step import train_step

__all__ = ["train_part"]


def main() -> None:
    """Train both parts and make the row."""
    parser = argparse.ArgumentParser(description="The discriminator of docs/classify.md.")
    parser.add_argument("source", help="cifar10:PATH")
    parser.add_argument("--out", type=Path, default=Path("out/cifar10"))
    parser.add_argument("--first-steps", type=int, default=47_000)
    parser.add_argument("--second-steps", type=int, default=17_500)
    parser.add_argument("--width", type=int, default=64, help="of the generator")
    parser.add_argument("--discriminator-width", type=int, default=128)
    parser.add_argument(
        "--second-discriminator-width", type=int, help="of the second part (Net2Net); as the first"
    )
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--c", default="1e-4,2e-4", help="values of C to choose among")
    parser.add_argument("--threads", type=int, help="of the CPU; all by default")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    first = TrainConfig(
        source=options.source,
        image_size=32,
        batch_size=64,
        generator_width=options.width,
        discriminator_width=options.discriminator_width,
        kernel=4,
        steps=options.first_steps,
        decay_from=0.697,
        augment="colour,translation,cutout",
    )
    second = replace(
        first,
        discriminator_width=options.second_discriminator_width or options.discriminator_width,
        steps=options.second_steps,
        decay_from=0.64,
        augment="translation",
    )
    images = source(options.source, size=32)
    parts = options.out / "first", options.out / "second"
    every = options.save_every
    train_part(first, {"rotations": 1.0}, images, parts[0], device, save_every=every)
    weights = {"rotations": 1.0, "contrast": 1.0}
    train_part(second, weights, images, parts[1], device, start_from=parts[0], save_every=every)
    discriminator = str(parts[1] / "discriminator.safetensors")
    classify = ["-m", "dissect", "classify", options.source, "--model", discriminator]
    classify += ["--rows", "discriminator", "--standardize", "--c", options.c]
    classify += ["--device", str(device), "--out", str(options.out)]
    if options.threads is not None:
        classify += ["--threads", str(options.threads)]
    sys.exit(subprocess.run([sys.executable, *classify], check=False).returncode)


def train_part(
    config: TrainConfig,
    weights: Mapping[str, float],
    images: ImageSource,
    folder: Path,
    device: torch.device,
    *,
    start_from: Path | None = None,
    save_every: int = 500,
) -> None:
    """Train one part, leaving `generator.safetensors` and `discriminator.safetensors` in `folder`.

    A part that was stopped goes on from its newest checkpoint; one that is finished is left as it
    is. The images, latents and tasks of step t depend on the seed and t alone, so that a part that
    was stopped ends with the weights of one that was not, bit for bit.

    Args:
        config: of the part.
        weights: of the auxiliary tasks, by name.
        images: real images.
        folder: where checkpoints and networks go.
        device: where it is computed.
        start_from: a folder with finished networks to begin with; None is fresh weights.
        save_every: steps between checkpoints.

    Raises:
        DissectError: a weight is not a number any more, or a file cannot be written.
    """
    if (folder / "discriminator.safetensors").is_file():
        return
    state, tasks = _start_or_resume(config, weights, folder, device, start_from)
    order = batches(images, config.batch_size, config.seed, start_step=state.step)
    with progress_bar(folder.name, config.steps, done=state.step) as advance:
        while state.step < config.steps:
            real = to_tensor(images.images(next(order)), device)
            z = latents(
                len(real),
                config.seed,
                start=state.step * config.batch_size,
                size=config.latent_size,
                device=device,
            )
            tasks.zero_grad()
            rate = config.rate_at(state.step)
            real = real.contiguous(memory_format=torch.channels_last)
            train_step(state, real, z, auxiliary_loss=tasks.loss)
            tasks.step(rate)
            advance(1)
            if state.step % save_every == 0 or state.step == config.steps:
                _save(folder, state, tasks)
    save_networks(state, images, folder)


def _start_or_resume(
    config: TrainConfig,
    weights: Mapping[str, float],
    folder: Path,
    device: torch.device,
    start_from: Path | None,
) -> tuple[TrainState, AuxiliaryTasks]:
    for path in checkpoints(folder):
        try:
            state = load_state(path, device)
            tasks = AuxiliaryTasks(state, weights)
            tasks.load_tensors(load_file(_heads(folder, state.step)))
        except (DissectError, OSError) as error:
            print(f"passing over {path.name}: {error}", file=sys.stderr)
            continue
        if state.config != config:
            raise DissectError(f"{path} is of another training; use another --out")
        return state, tasks
    state = TrainState.start(config, device)
    if start_from is not None:
        init_from(state, start_from)
    return state, AuxiliaryTasks(state, weights)


def _save(folder: Path, state: TrainState, tasks: AuxiliaryTasks) -> None:
    if not state.is_finite():
        raise DissectError(f"training broke down at step {state.step}: a weight is not a number")
    # The heads first: a checkpoint never lies there without its heads.
    write_bytes(_heads(folder, state.step), save(tasks.tensors()))
    save_state(folder, state)
    kept = {_heads(folder, int(path.stem.removeprefix("step-"))) for path in checkpoints(folder)}
    for path in set(folder.glob("heads-*.safetensors")) - kept:
        path.unlink()


def _heads(folder: Path, step: int) -> Path:
    return folder / f"heads-{step:07d}.safetensors"


if __name__ == "__main__":
    try:
        main()
    except DissectError as error:
        sys.exit(str(error))
