"""`dissect train`: a DCGAN on a source of images."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.attributes import train_attributes
from dissect.cli.options import Device, Json, Out, Seed
from dissect.cli.output import Output
from dissect.cli.segmenter import train_segmenter
from dissect.cli.train_settings import begun, resumed, settings

if TYPE_CHECKING:
    from dissect._utils.distributed import ProcessGroup
    from dissect.data import ImageSource
    from dissect.training import FrechetMeter, Report, TrainState

__all__ = ["train"]

_STEPS_A_LINE = 100
_ATTRIBUTE_IMAGES, _ATTRIBUTE_STEPS, _ATTRIBUTE_BATCH = 40_000, 3_000, 64
_SEGMENTER_IMAGES, _SEGMENTER_STEPS, _SEGMENTER_BATCH = 40_000, 2_100, 32


def train(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="Images: bedrooms, folder:PATH, lsun:PATH and so on; see dissect data."
        ),
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
    keep_checkpoints: Annotated[int, typer.Option(help="Checkpoints kept.", min=1)] = 2,
    keep: Annotated[
        Path | None,
        typer.Option(help="List of dissect dedup: use only the images on it.", metavar="FILE"),
    ] = None,
    pack: Annotated[
        bool, typer.Option("--pack", help="Decode the images once, into the cache folder.")
    ] = False,
    augment: Annotated[
        str,
        typer.Option(
            help="Show D everything changed by chance, for small sources: "
            "colour,translation,cutout or some of them."
        ),
    ] = "",
    preset: Annotated[
        str | None, typer.Option(help="Settings by name: bedrooms64, lsun64, ...")
    ] = None,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="Settings of a file of --print-config.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the settings as TOML, and no more.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves and samples for TensorBoard.")
    ] = False,
    frechet: Annotated[
        int,
        typer.Option(
            help="With each grid, the Fréchet distance of so many samples to real images, in the "
            "bundled segmenter's features; 0: never.",
            min=0,
        ),
    ] = 0,
    segmenter: Annotated[
        bool,
        typer.Option(
            "--segmenter", help="Train the segmenter on a rendered source and its masks instead."
        ),
    ] = False,
    adapt_to: Annotated[
        str | None,
        typer.Option(help="With --segmenter: a generator whose samples it is to get used to."),
    ] = None,
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

    from dissect._utils.device import resolve_device
    from dissect._utils.distributed import ProcessGroup
    from dissect.training import TrainConfig, to_toml

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
            adapt_to,
            device,
            out,
            output,
        )
        return
    if adapt_to is not None:
        raise DissectError("--adapt-to goes with --segmenter")
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
    asked = settings(context.params, _given(context), preset, config_file)
    if print_config:
        config = TrainConfig.from_dict(asked)
        print(to_toml(config, f"dissect train --config FILE\n{_about(preset)}".strip()), end="")
        return
    group = ProcessGroup.from_environment()
    place = resolve_device(group.local_device(device))
    state = resumed(out, place, asked, output) if resume else begun(out, place, asked)
    group.batch_rows(state.config.batch_size)
    with group.connect(place):
        _Run(state, out, group, output).go(
            sample_every=sample_every,
            save_every=save_every,
            keep=keep_checkpoints,
            tensorboard=tensorboard,
            frechet=frechet,
            half=half,
            pack=pack,
        )


def _given(context: typer.Context) -> set[str]:
    """The parameters that the user wrote, as against those left at their defaults."""
    return {
        name
        for name in context.params
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    }


def _about(preset: str | None) -> str:
    from dissect.training import PRESETS

    return "" if preset is None else PRESETS[preset][0]


@dataclass(frozen=True)
class _Run:
    """A training and where its words and files go."""

    state: "TrainState"
    out: Path
    group: "ProcessGroup"
    output: Output

    def go(
        self,
        *,
        sample_every: int,
        save_every: int,
        keep: int,
        tensorboard: bool,
        frechet: int,
        half: bool,
        pack: bool,
    ) -> None:
        """Train to the end, save the networks and say what came of it."""
        from dissect._utils.progress import progress_bar
        from dissect.training import Watcher, open_images, save_networks, train

        state, out, output, writes = self.state, self.out, self.output, self.group.is_main_process
        config = state.config
        opened = open_images(config, pack=pack, progress=None if writes else False)
        for name, reason in dict(getattr(opened, "skipped", {})).items():
            output.note(f"skipped {name}: {reason}")
        meter = _meter(opened, frechet, state) if frechet and writes else None
        started_at, started = state.step, time.perf_counter()
        with progress_bar("training", config.steps, done=state.step) as advance:
            shown = state.step

            def show_report(report: "Report") -> None:
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

            curves = tensorboard and writes
            watcher = Watcher(out, state, tensorboard=curves, frechet=meter, show=show_report)
            try:
                train(
                    state,
                    opened,
                    out,
                    watch=watcher.report,
                    watch_samples=watcher.samples,
                    sample_every=sample_every,
                    save_every=save_every,
                    keep=keep,
                    group=self.group,
                )
            except KeyboardInterrupt:
                output.note(f"saved step {state.step} in {out}; go on with --resume")
                raise
            finally:
                watcher.close()
        if not writes:
            return
        elapsed = time.perf_counter() - started
        images_seen = (state.step - started_at) * config.batch_size
        for path in save_networks(state, opened, out, half=half):
            output.wrote(path)
        rate = round(images_seen / elapsed, 1) if images_seen else 0.0
        newest = f"{out}/step-{state.step:07d}.safetensors"
        # Resumed with no step left, the run has drawn none.
        if state.step > started_at:
            output.wrote(f"{out}/samples-{state.step:07d}.png")
        summary = watcher.summary(state, len(opened))
        output.result(
            {"steps": state.step, "images_per_s": rate, "checkpoint": newest, **summary},
            f"{state.step} steps of {config.batch_size} images, {summary['epochs']} epochs, "
            f"{rate} images/s\n" + _said(summary),
        )


def _meter(opened: "ImageSource", n: int, state: "TrainState") -> "FrechetMeter":
    from dissect.segmentation import Segmenter, load_unet
    from dissect.training import FrechetMeter

    device = next(state.generator.parameters()).device
    return FrechetMeter.of(opened, Segmenter.from_unet(load_unet(None, device=device)[0]), n)


def _said(summary: dict[str, Any]) -> str:
    lines = [f"{summary['seconds']} s in steps, over all sessions"]
    if "generator_loss" in summary:
        lines.append(
            f"losses at the end: D {summary['discriminator_loss']}, G {summary['generator_loss']}"
        )
    if "frechet" in summary:
        best = summary["frechet_best"]
        lines.append(
            f"Fréchet distance: {summary['frechet_first']} at first, {summary['frechet']} at the "
            f"end, {best['frechet']} at best (step {best['step']})"
        )
    return "\n".join(lines)
