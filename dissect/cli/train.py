"""`dissect train`: a DCGAN on a source of images."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect.cli.attributes import train_attributes
from dissect.cli.options import Device, Json, Out, Seed
from dissect.cli.output import Output
from dissect.cli.segmenter import train_segmenter
from dissect.errors import DissectError

if TYPE_CHECKING:
    import torch

    from dissect.training import TrainConfig, TrainState

__all__ = ["train"]

# Options whose names are shorter than the settings they stand for.
_FIELDS = {"width": "generator_width"}
_STEPS_A_LINE = 100
_ATTRIBUTE_IMAGES, _ATTRIBUTE_STEPS, _ATTRIBUTE_BATCH = 40_000, 3_000, 64
_SEGMENTER_IMAGES, _SEGMENTER_STEPS, _SEGMENTER_BATCH = 20_000, 1_500, 32


def train(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="bedrooms, folder:PATH, lsun:PATH, ...; see dissect data.")
    ] = "bedrooms",
    images: Annotated[
        int | None, typer.Option(help="Use the first so many images of the source.", min=2)
    ] = None,
    source_seed: Annotated[int, typer.Option(help="Of a rendered source.", min=0)] = 0,
    image_size: Annotated[int, typer.Option(help="Side of the images.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps in all, resumed ones counted.")] = 20_000,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 128,
    width: Annotated[int, typer.Option(help="Channels of the generator's last layer.")] = 128,
    discriminator_width: Annotated[
        int, typer.Option(help="Channels of the discriminator's first layer.")
    ] = 128,
    kernel: Annotated[int, typer.Option(help="Side of the kernels: 5 (the paper) or 4.")] = 5,
    latent_size: Annotated[int, typer.Option(help="Components of a latent.")] = 100,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, for both networks.")] = 2e-4,
    beta1: Annotated[float, typer.Option(help="Of Adam.")] = 0.5,
    decay_from: Annotated[
        float, typer.Option(help="Share of the run after which the rate falls to 0; 1: never.")
    ] = 1.0,
    average_decay: Annotated[
        float, typer.Option(help="Of the moving average that is sampled and saved.")
    ] = 0.999,
    sample_every: Annotated[int, typer.Option(help="Steps between sample grids.", min=1)] = 500,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 500,
    keep: Annotated[int, typer.Option(help="Checkpoints kept.", min=1)] = 2,
    segmenter: Annotated[
        bool,
        typer.Option(
            "--segmenter", help="Train the segmenter on a rendered source and its masks instead."
        ),
    ] = False,
    attributes: Annotated[
        bool,
        typer.Option("--attributes", help="Train the attribute network on rendered faces instead."),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest good checkpoint in --out.")
    ] = False,
    half: Annotated[
        bool, typer.Option("--half", help="Save the finished networks as float16.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the CPU; all by default.", min=1)
    ] = None,
    out: Out = Path("out/training"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a DCGAN (generator.safetensors, discriminator.safetensors) or a network that reads."""
    import torch

    from dissect.data import source as open_source
    from dissect.models import resolve_device
    from dissect.progress import progress_bar
    from dissect.training import Report, TrainConfig, save_networks
    from dissect.training import train as run

    output = Output(as_json=as_json)
    if threads is not None:
        torch.set_num_threads(threads)
    if segmenter:
        written = _given(context)
        train_segmenter(
            source,
            images or _SEGMENTER_IMAGES,
            steps if "steps" in written else _SEGMENTER_STEPS,
            batch_size if "batch_size" in written else _SEGMENTER_BATCH,
            seed,
            device,
            out,
            output,
        )
        return
    if attributes:
        written = _given(context)
        train_attributes(
            source if "source" in written else "faces",
            images or _ATTRIBUTE_IMAGES,
            steps if "steps" in written else _ATTRIBUTE_STEPS,
            batch_size if "batch_size" in written else _ATTRIBUTE_BATCH,
            seed,
            device,
            out,
            output,
        )
        return
    settings: dict[str, Any] = {
        "source": source,
        "images": images,
        "source_seed": source_seed,
        "image_size": image_size,
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
        "latent_size": latent_size,
        "generator_width": width,
        "discriminator_width": discriminator_width,
        "kernel": kernel,
        "learning_rate": learning_rate,
        "beta1": beta1,
        "decay_from": decay_from,
        "average_decay": average_decay,
    }
    place = resolve_device(device)
    if resume:
        given = {_FIELDS.get(name, name) for name in _given(context)}
        changes = {name: value for name, value in settings.items() if name in given}
        state = _resumed(out, place, changes, output)
    else:
        state = _started(out, place, TrainConfig(**settings))
    config = state.config
    opened = open_source(
        config.source, size=config.image_size, count=config.images, seed=config.source_seed
    )
    for name, reason in dict(getattr(opened, "skipped", {})).items():
        output.note(f"skipped {name}: {reason}")
    started_at, started = state.step, time.perf_counter()
    with progress_bar("training", config.steps, done=state.step) as advance:
        shown = state.step

        def watch(report: Report) -> None:
            nonlocal shown
            text = (
                f"{report.images_per_s:.0f} images/s, loss D {report.discriminator_loss:.2f} "
                f"G {report.generator_loss:.2f}"
            )
            advance(report.step - shown, text)
            shown = report.step
            # Where stderr is a file, a line now and then takes the place of the bar.
            if not sys.stderr.isatty() and report.step % _STEPS_A_LINE == 0:
                output.note(f"step {report.step} of {config.steps}: {text}")

        try:
            run(
                state,
                opened,
                out,
                watch=watch,
                sample_every=sample_every,
                save_every=save_every,
                keep=keep,
            )
        except KeyboardInterrupt:
            output.note(f"saved step {state.step} in {out}; go on with --resume")
            raise
    elapsed = time.perf_counter() - started
    images_seen = (state.step - started_at) * config.batch_size
    for path in save_networks(state, opened, out, half=half):
        output.wrote(path)
    rate = round(images_seen / elapsed, 1) if images_seen else 0.0
    newest = f"{out}/step-{state.step:07d}.safetensors"
    output.wrote(f"{out}/samples-{state.step:07d}.png")
    output.result(
        {"steps": state.step, "images_per_s": rate, "checkpoint": newest},
        f"{state.step} steps of {config.batch_size} images, {rate} images/s",
    )


def _given(context: typer.Context) -> set[str]:
    """The parameters that the user wrote, as against those left at their defaults."""
    return {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _started(out: Path, device: "torch.device", config: "TrainConfig") -> "TrainState":
    from dissect.training import TrainState, checkpoints

    if found := checkpoints(out):
        raise DissectError(
            f"{out} holds a training already ({found[0].name}); go on with --resume, or give "
            "another --out"
        )
    return TrainState.start(config, device)


def _resumed(
    out: Path, device: "torch.device", changes: dict[str, Any], output: Output
) -> "TrainState":
    """The run of the newest checkpoint that can be read, with what may change changed."""
    from dissect.training import checkpoints, load_state

    found = checkpoints(out)
    for path in found:
        try:
            state = load_state(path, device)
        except DissectError as error:
            output.note(f"passing over {path.name}: {error}")
            continue
        state.config = state.config.changed(changes)
        output.note(f"going on from {path}")
        return state
    unreadable = (
        f"none of {len(found)} checkpoints in {out} can be read"
        if found
        else (f"{out} holds no checkpoint")
    )
    raise DissectError(f"nothing to resume: {unreadable}")
