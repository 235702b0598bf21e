"""`dissect train`: a DCGAN on a source of images."""

import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dissect._utils.errors import DissectError
from dissect.cli.options import (
    DeviceOptions,
    Given,
    Threads,
    TrainingOutputOptions,
    with_groups,
)
from dissect.cli.output import Output
from dissect.cli.train_settings import Settings, kept_options, new_run, resumed_run, settings

if TYPE_CHECKING:
    from dissect._utils.distributed import ProcessGroup
    from dissect.data import ImageSource
    from dissect.training import FrechetMeter, Report, TrainState

__all__ = ["train"]

_STEPS_PER_LINE, _SECONDS_PER_LINE = 100, 60.0
_SETTINGS, _IMAGES, _RUN = "Settings", "Images", "Run"


@with_groups
def train(
    device: DeviceOptions,
    output: TrainingOutputOptions,
    given: Given,
    source: Annotated[
        str,
        typer.Argument(
            help="Images: bedrooms, folder:PATH, lsun:PATH and so on; see dissect data."
        ),
    ] = "bedrooms",
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings by name: bedrooms64, faces64, lsun64, imagenet32 or cifar32.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Settings of a TOML file, as --print-config prints it.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting, such as generator_width=64 or augment=colour,translation; "
            "repeatable. --print-config lists them all.",
            metavar="KEY=VALUE",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option(
            "--print-config",
            help="Print the settings as TOML, or with --json as JSON, and stop.",
            rich_help_panel=_SETTINGS,
        ),
    ] = False,
    steps: Annotated[
        int,
        typer.Option(help="Steps in all, resumed ones counted.", rich_help_panel=_SETTINGS),
    ] = 20_000,
    batch_size: Annotated[
        int,
        typer.Option(help="Images per step, over all processes.", rich_help_panel=_SETTINGS),
    ] = 128,
    images: Annotated[
        int | None,
        typer.Option(
            help="Use the first so many images of the source.", min=2, rich_help_panel=_IMAGES
        ),
    ] = None,
    image_size: Annotated[
        int, typer.Option(help="Width and height of the images.", rich_help_panel=_IMAGES)
    ] = 64,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Use only the images on this list, which dissect dedup wrote.",
            metavar="FILE",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    pack: Annotated[
        bool,
        typer.Option(
            "--pack/--no-pack",
            help="Decode the images once, into the cache folder.",
            rich_help_panel=_IMAGES,
        ),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the newest good checkpoint in --out, with the options that the run "
            "was begun with.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    sample_every: Annotated[
        int, typer.Option(help="Steps between sample grids.", min=1, rich_help_panel=_RUN)
    ] = 500,
    save_every: Annotated[
        int, typer.Option(help="Steps between checkpoints.", min=1, rich_help_panel=_RUN)
    ] = 500,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard/--no-tensorboard",
            help="Write curves and samples for TensorBoard.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    frechet: Annotated[
        int,
        typer.Option(
            help="With each grid, measure the Fréchet distance of so many samples to real images, "
            "in the features of the bundled segmenter; 0 is never.",
            min=0,
            rich_help_panel=_RUN,
        ),
    ] = 0,
    half: Annotated[
        bool,
        typer.Option(
            "--half/--no-half",
            help="Save the finished networks as float16.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    threads: Threads = None,
) -> None:
    """Train a DCGAN and write generator.safetensors and discriminator.safetensors.

    Ctrl-C, SIGTERM and SIGHUP end the step and save a checkpoint; --resume goes on, bit for bit.
    With torchrun, several processes train together.
    """
    printed = Output(as_json=output.as_json, shared=True)
    out = output.out
    if not print_config:
        # Before torch is imported: a log says at once what is being done.
        printed.note(f"going on in {out}" if resume else f"a new training in {out}")
    if frechet == 1:
        raise DissectError("--frechet 1: a distance needs at least 2 images; 0 is never")
    import torch

    from dissect._utils.distributed import ProcessGroup
    from dissect._utils.io import check_writable, own_folder
    from dissect.training import PRESETS, TrainConfig, to_toml

    chosen = settings(given.values(), preset, config_file, assignments or [])
    if print_config:
        about = "" if preset is None else PRESETS[preset][0]
        config = TrainConfig.from_dict(chosen)
        if output.as_json:
            printed.result(config.to_dict(), "")
            return
        print(to_toml(config, f"dissect train --config FILE\n{about}".strip()), end="")
        return
    group = ProcessGroup.from_environment()
    run: Settings = {
        "sample_every": sample_every,
        "save_every": save_every,
        "tensorboard": tensorboard,
        "frechet": frechet,
        "half": half,
        "pack": pack,
        "threads": threads,
        "device": device.device,
    }
    if group.is_main_process and resume and not out.is_dir():
        raise DissectError(f"nothing to resume: {out} is no folder")
    with own_folder(out) if group.is_main_process else nullcontext():
        if resume:
            run = kept_options(out, run, given, printed)
        if run["threads"] is not None:
            torch.set_num_threads(run["threads"])
        place = DeviceOptions(run["device"]).resolve()
        state = resumed_run(out, place, chosen, printed) if resume else new_run(out, place, chosen)
        state.options = run
        group.batch_rows(state.config.batch_size)
        # Before images are rendered or packed, which may take long.
        if group.is_main_process:
            check_writable(out, state.checkpoint_bytes())
        with group.connect(place):
            _Run(state, out, group, printed).train()


@dataclass(frozen=True)
class _Run:
    """A training, and where its files and messages go."""

    state: "TrainState"
    out: Path
    group: "ProcessGroup"
    output: Output

    def train(self) -> None:
        """Train to the end, save the networks and print a summary."""
        from dissect._utils.progress import progress_bar
        from dissect.training import TrainingMonitor, open_images, save_networks, train
        from dissect.training.signals import Stopped

        state, out, output, main = self.state, self.out, self.output, self.group.is_main_process
        config, options = state.config, state.options
        opened = open_images(config, pack=options["pack"], show_progress=None if main else False)
        for name, reason in dict(getattr(opened, "skipped", {})).items():
            output.note(f"skipped {name}: {reason}")
        meter = _meter(opened, options["frechet"], state) if options["frechet"] and main else None
        output.note(
            f"{config.steps - state.step} steps of {config.batch_size} of {len(opened)} images"
        )
        started_at, started = state.step, time.perf_counter()
        with progress_bar("training", config.steps, done=state.step) as progress:
            shown, line_at = state.step, 0.0

            def show_report(report: "Report") -> None:
                nonlocal shown, line_at
                text = (
                    f"{report.images_per_s:.0f} images/s, loss D {report.discriminator_loss:.2f} "
                    f"G {report.generator_loss:.2f}"
                )
                progress(report.step - shown, text)
                shown = report.step
                # Where stderr is a file there is no bar, but a line now and then.
                now = time.perf_counter()
                due = report.step % _STEPS_PER_LINE == 0 or now - line_at > _SECONDS_PER_LINE
                if due and not sys.stderr.isatty():
                    line_at = now
                    seconds = (config.steps - report.step) * config.batch_size / report.images_per_s
                    left = timedelta(seconds=round(seconds))
                    output.note(f"step {report.step} of {config.steps}: {text}, {left} left")

            curves = options["tensorboard"] and main
            monitor = TrainingMonitor(
                out, state, tensorboard=curves, frechet=meter, show=show_report
            )
            try:
                train(
                    state,
                    opened,
                    out,
                    on_report=monitor.report,
                    on_samples=monitor.samples,
                    sample_every=options["sample_every"],
                    save_every=options["save_every"],
                    group=self.group,
                )
            except Stopped:
                output.note(f"saved step {state.step} in {out}; go on with --resume")
                raise
            finally:
                monitor.close()
        if not main:
            return
        elapsed = time.perf_counter() - started
        images_seen = (state.step - started_at) * config.batch_size
        for path in save_networks(state, opened, out, half=options["half"]):
            output.wrote(path)
        rate = round(images_seen / elapsed, 1) if images_seen else 0.0
        newest = f"{out}/step-{state.step:07d}.safetensors"
        output.wrote(f"{out}/samples-{state.step:07d}.png")
        summary = monitor.summary(state, len(opened))
        output.result(
            {"steps": state.step, "images_per_s": rate, "checkpoint": newest, **summary},
            f"{state.step} steps of {config.batch_size} images, {summary['epochs']} epochs, "
            f"{rate} images/s\n" + _summary_text(summary, state.step),
        )


def _meter(opened: "ImageSource", n: int, state: "TrainState") -> "FrechetMeter":
    from dissect.segmentation import Segmenter, load_unet
    from dissect.training import FrechetMeter

    device = next(state.generator.parameters()).device
    return FrechetMeter.from_source(
        opened, Segmenter.from_unet(load_unet(None, device=device)[0]), n
    )


def _summary_text(summary: dict[str, Any], steps: int) -> str:
    lines = [f"{summary['seconds']} s in steps, over all sessions"]
    if "generator_loss" in summary:
        lines.append(
            f"losses at the end: D {summary['discriminator_loss']}, G {summary['generator_loss']}"
        )
    if "frechet" in summary:
        best, last = summary["frechet_best"], summary["frechet_step"]
        lines.append(
            f"Fréchet distance: {summary['frechet_first']} at first, {summary['frechet']} "
            f"{'at the end' if last == steps else f'at step {last}, the last measured'}, "
            f"{best['frechet']} at best (step {best['step']})"
        )
    return "\n".join(lines)
