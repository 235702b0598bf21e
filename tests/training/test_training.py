import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import CPU, TINY, Stripes, same, weights
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_images
from dissect.models import latents, load, load_checkpoint
from dissect.models.batch_norm import recalibrate
from dissect.training import (
    Report,
    TrainConfig,
    TrainingMonitor,
    TrainState,
    load_state,
    save_networks,
    save_state,
    train,
)
from dissect.training.average import update_average
from dissect.training.state import checkpoints
from dissect.training.step import train_step


def test_the_same_seed_gives_the_same_run(tmp_path):
    runs = [train(TrainState.start(TINY, CPU), Stripes(), tmp_path / str(k)) for k in range(2)]
    assert same(weights(runs[0]), weights(runs[1]))
    other = TrainConfig.from_dict({**TINY.to_dict(), "seed": 1})
    third = train(TrainState.start(other, CPU), Stripes(), tmp_path / "2")
    assert not same(weights(runs[0]), weights(third))


def test_a_resumed_run_is_the_unbroken_run(tmp_path):
    unbroken = train(TrainState.start(TINY, CPU), Stripes(), tmp_path / "unbroken")
    half = TrainConfig.from_dict({**TINY.to_dict(), "steps": 3})
    train(TrainState.start(half, CPU), Stripes(), tmp_path / "broken")
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    assert state.step == 3
    state.config = TINY
    resumed = train(state, Stripes(), tmp_path / "broken")
    assert resumed.step == 6
    assert same(weights(unbroken), weights(resumed))


def test_both_networks_learn():
    state = TrainState.start(TINY, CPU)
    before = weights(state)
    real = torch.zeros(8, 3, 16, 16)
    losses = train_step(state, real, torch.rand(8, 5) * 2 - 1)
    assert losses.discriminator.isfinite()
    assert losses.generator.isfinite()
    for part in ("generator", "discriminator", "average"):
        name = next(name for name in before if name.startswith(f"{part}.layer4x4.conv"))
        assert not torch.equal(before[name], weights(state)[name]), part
    assert all(p.requires_grad for p in state.discriminator.parameters())


def test_training_in_bfloat16_repeats_its_bytes_and_keeps_float32_weights(monkeypatch):
    # Emulated where the processor does not compute in it.
    monkeypatch.setattr("dissect._utils.device.autocast_dtype", lambda device: torch.bfloat16)
    generator = torch.Generator().manual_seed(1)
    real = torch.rand(8, 3, 16, 16, generator=generator) * 2 - 1
    z = torch.rand(8, 5, generator=generator) * 2 - 1
    runs = []
    for _ in range(2):
        state = TrainState.start(TINY, CPU)
        before = weights(state)
        for _ in range(2):
            train_step(state, real, z)
        runs.append(weights(state))
    assert same(*runs)
    for name, value in before.items():
        assert runs[0][name].dtype == value.dtype
        if name.endswith("conv.weight"):
            assert not torch.equal(runs[0][name], value)


def test_an_untrained_discriminator_has_the_losses_of_a_coin():
    state = TrainState.start(TINY, CPU)
    with torch.no_grad():
        for parameter in state.discriminator.score.parameters():
            parameter.zero_()
    losses = train_step(state, torch.zeros(8, 3, 16, 16), torch.zeros(8, 5))
    assert float(losses.discriminator) == pytest.approx(2 * np.log(2), rel=1e-6)


def test_not_a_number_stops_with_a_word_and_keeps_the_checkpoint(tmp_path):
    good = TrainConfig.from_dict({**TINY.to_dict(), "steps": 2})
    state = train(TrainState.start(good, CPU), Stripes(), tmp_path)
    state.config = TINY
    with torch.no_grad():
        state.discriminator.score.linear.weight.fill_(float("nan"))
    with pytest.raises(DissectError, match="broke down at step 6.*not a number"):
        train(state, Stripes(), tmp_path)
    assert load_state(checkpoints(tmp_path)[0], CPU).step == 2


def test_a_source_smaller_than_a_batch_is_refused(tmp_path):
    config = TrainConfig.from_dict({**TINY.to_dict(), "batch_size": 32})
    with pytest.raises(DissectError, match="16 images, fewer than one batch of 32"):
        train(TrainState.start(config, CPU), Stripes(), tmp_path)


def test_the_newest_checkpoints_stay(tmp_path):
    train(TrainState.start(TINY, CPU), Stripes(), tmp_path, save_every=1, keep=3)
    assert [path.name for path in checkpoints(tmp_path)] == [
        f"step-{step:07d}.safetensors" for step in (6, 5, 4)
    ]


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    path = save_state(tmp_path, TrainState.start(TINY, CPU))
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(DissectError, match="damaged"):
            load_state(path, CPU)


def test_the_losses_are_written_down_once_a_step(tmp_path):
    half = TrainConfig.from_dict({**TINY.to_dict(), "steps": 3})
    train(TrainState.start(half, CPU), Stripes(), tmp_path, report_every=1)
    state = load_state(checkpoints(tmp_path)[0], CPU)
    state.config = TINY
    train(state, Stripes(), tmp_path, report_every=1)
    rows = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_the_saved_networks_load_and_carry_their_card(tmp_path):
    state = train(TrainState.start(TINY, CPU), Stripes(), tmp_path)
    generator, discriminator = save_networks(state, Stripes(), tmp_path, half=True)
    assert load(generator)(torch.zeros(1, 5)).shape == (1, 3, 16, 16)
    _, card = load_checkpoint(discriminator)
    assert card["steps"] == 6
    assert card["training"]["batch_size"] == 8


def test_settings_that_cannot_change_are_named():
    assert TINY.changed({"steps": 9, "batch_size": 8}).steps == 9
    with pytest.raises(DissectError, match="begun with batch_size 8, not 16"):
        TINY.changed({"batch_size": 16})


def test_the_rate_falls_to_zero_from_where_it_is_told():
    config = TrainConfig(steps=100, decay_from=0.5)
    assert config.rate_at(49) == 2e-4
    assert config.rate_at(75) == pytest.approx(1e-4)
    assert config.rate_at(100) == 0
    assert TrainConfig(steps=100).rate_at(99) == 2e-4


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": 1}, {"beta1": 1.0}, {"learning_rate": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(DissectError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_recalibrated_statistics_are_those_of_the_inputs():
    norm = nn.BatchNorm2d(1)
    network = nn.Sequential(norm)
    batches = [torch.full((4, 1, 2, 2), 3.0), torch.full((4, 1, 2, 2), 5.0)]
    recalibrate(network, batches)
    assert float(norm.running_mean) == 4.0
    assert norm.momentum == 0.1
    assert not network.training


def test_the_average_moves_by_its_share():
    average, network = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(average.weight, 1.0)
    nn.init.constant_(network.weight, 2.0)
    update_average(average, network, 0.75)
    assert average.weight.item() == 1.25


COMMAND = """
import sys
from dissect.cli import main
main(sys.argv[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_saves_and_resume_goes_on(tmp_path, sent):
    folder = tmp_path / "images"
    folder.mkdir()
    from PIL import Image

    for place, image in enumerate(Stripes().images(range(16))):
        Image.fromarray(image).save(folder / f"{place:02d}.png")
    base = ["train", f"folder:{folder}", "--out", str(tmp_path / "run")]
    shape = (
        "--image-size 16 --batch-size 8 --set generator_width=4 --set discriminator_width=4 "
        "--set latent_size=5 --set kernel=4 --steps 100000 --threads 1"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *base, *shape.split()],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    deadline = time.monotonic() + 90
    assert process.stderr is not None
    for line in process.stderr:
        # A line of progress says that steps are being made.
        if line.startswith("step 100 ") or time.monotonic() > deadline:
            break
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "go on with --resume" in errors
    newest = checkpoints(tmp_path / "run")[0]
    step = load_state(newest, CPU).step
    assert step >= 100
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, *base, "--resume", "--steps", str(step + 2), "--json"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["steps"] == step + 2
    assert all(Path(path).is_file() for path in result["files"])


class FullDisk:
    """A writer of curves whose disk is full."""

    def __getattr__(self, name):
        def fail(*_values, **_options):
            raise OSError(28, "No space left on device")

        return fail


def test_curves_that_cannot_be_written_end_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr("dissect.training.monitor._writer", lambda *_: FullDisk())
    state = TrainState.start(TINY, CPU)
    monitor = TrainingMonitor(tmp_path, state, tensorboard=True)
    with pytest.warns(UserWarning, match="No space left.*goes on without"):
        train(
            state,
            Stripes(),
            tmp_path,
            on_report=monitor.report,
            on_samples=monitor.samples,
            report_every=2,
        )
    monitor.close()
    assert state.step == TINY.steps


def test_a_discriminator_that_tells_every_image_is_warned_of_once(tmp_path):
    monitor = TrainingMonitor(tmp_path, TrainState.start(TINY, CPU))
    losses = [0.001] * 49 + [1.0] + [0.001] * 49
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step, loss in enumerate(losses):
            monitor.report(Report(step, loss, 5.0, 1.0))
        with pytest.raises(UserWarning, match="stayed below 0.05"):
            monitor.report(Report(99, 0.001, 5.0, 1.0))
        for step in range(100, 200):
            monitor.report(Report(step, 0.001, 5.0, 1.0))


def test_a_distance_of_an_earlier_step_is_given_with_its_step(tmp_path):
    (tmp_path / "frechet.jsonl").write_text('{"step": 3, "frechet": 0.5}\n')
    state = TrainState.start(TINY, CPU)
    state.step = 6
    summary = TrainingMonitor(tmp_path, state).summary(state, 16)
    assert (summary["frechet"], summary["frechet_step"]) == (0.5, 3)


def test_a_checkpoint_and_a_folder_of_a_training_are_its_averaged_generator(tmp_path):
    state = train(TrainState.start(TINY, CPU), Stripes(), tmp_path, save_every=3)
    z = latents(4, seed=1, size=TINY.latent_size)
    at_three = load(checkpoints(tmp_path)[1])(z)
    unfinished = load(tmp_path)(z)
    assert not torch.allclose(at_three, unfinished, atol=1e-5)
    save_networks(state, Stripes(), tmp_path)
    # Training has another memory format, in which sums are rounded otherwise.
    finished = load(tmp_path / "generator.safetensors")(z)
    assert torch.allclose(unfinished, finished, atol=1e-5)
    assert torch.equal(finished, load(tmp_path)(z))
    # A run that went on, and was stopped, is later than the networks that it had saved.
    state.config = TrainConfig.from_dict({**TINY.to_dict(), "steps": 8})
    train(state, Stripes(), tmp_path)
    assert not torch.allclose(finished, load(tmp_path)(z), atol=1e-5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DissectError, match="empty holds no generator"):
        load(tmp_path / "empty")


def test_images_that_are_not_numbers_are_refused():
    images = torch.zeros(3, 3, 4, 4)
    images[1, 0, 2, 2] = float("nan")
    with pytest.raises(DissectError, match="1 of 3 images hold values that are not numbers"):
        to_images(images)
