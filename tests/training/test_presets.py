"""Settings by name and by file, and what is written down of a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.training import CPU, TINY, Stripes
from hypothesis import given
from hypothesis import strategies as st

from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.models import bundled_file, load_checkpoint
from dissect.segmentation import Segmenter
from dissect.training import (
    PRESETS,
    FrechetMeter,
    TrainConfig,
    TrainingMonitor,
    TrainState,
    preset_config,
    read_config,
    to_toml,
    train,
)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_prints_as_a_file_that_gives_it_back(name, tmp_path):
    comment, config = PRESETS[name]
    path = tmp_path / "run.toml"
    path.write_text(to_toml(config, comment))
    assert read_config(path) == config
    TrainState.start(replace(config, generator_width=2, discriminator_width=2), CPU)


@given(
    source=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1),
    rate=st.floats(1e-12, 1.0),
    images=st.none() | st.integers(128, 10**9),
)
def test_any_settings_survive_the_file(source, rate, images, tmp_path_factory):
    config = TrainConfig(source=source, learning_rate=rate, images=images)
    path = tmp_path_factory.mktemp("config") / "run.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert read_config(path) == config


def test_bedrooms64_is_what_the_bundled_model_was_trained_with():
    _, card = load_checkpoint(bundled_file("bedrooms64", "generator.safetensors"))
    assert TrainConfig.from_dict(card["training"]) == preset_config("bedrooms64")


def test_imagenet32_has_the_features_of_the_paper():
    config = preset_config("imagenet32")
    state = TrainState.start(replace(config, generator_width=2), CPU)
    convs = [m for m in state.discriminator.modules() if isinstance(m, torch.nn.Conv2d)]
    # Max-pooled to 4x4 (section 5.1).
    assert sum(conv.out_channels for conv in convs) * 16 == 28_672


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 0", "steps must be at least 1"),
        ("stepz = 1", "does not know 'stepz'; it knows .*'steps'"),
        ("steps = ", "not valid TOML"),
        ('steps = "many"', "steps"),
        ("[training]\nsteps = 1", "does not know 'training'"),
    ],
)
def test_a_wrong_file_is_one_line(text, message, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(DissectError, match=message):
        read_config(path)
    with pytest.raises(DissectError, match="No such file"):
        read_config(tmp_path / "absent.toml")


def printed(capfd, *words):
    with pytest.raises(SystemExit) as end:
        main(["train", *words])
    return end.value.code, capfd.readouterr()


def test_the_command_prints_a_preset_with_what_was_written_beside_it(capfd, tmp_path):
    words = ["lsun:beds", "--preset", "lsun64", "--set", "generator_width=32", "--print-config"]
    status, said = printed(capfd, *words)
    assert status == 0
    path = tmp_path / "run.toml"
    path.write_text(said.out)
    wanted = replace(preset_config("lsun64"), source="lsun:beds", generator_width=32)
    assert read_config(path) == wanted
    status, said = printed(capfd, "--config", str(path), "--steps", "7", "--print-config")
    path.write_text(said.out)
    assert read_config(path) == replace(wanted, steps=7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "lsun46"], "unknown preset 'lsun46'; known ones: 'bedrooms64'"),
        (["--preset", "lsun64"], "name the images' folder: dissect train lsun:FOLDER"),
        (["--preset", "lsun64", "--config", "x.toml"], "--preset or --config, not both"),
        (["--keep", "absent.txt"], "cannot read"),
        (["--set", "stepz=3"], "--set 'stepz' is no setting; known: "),
        (["--set", "steps"], "--set takes KEY=VALUE, not 'steps'"),
        (["--set", "kernel=wide"], "'kernel'"),
        (["--set", "kernel=4.5"], "'kernel'"),
    ],
)
def test_mistakes_are_one_line(words, message, capfd, tmp_path):
    status, said = printed(capfd, *words, "--out", str(tmp_path / "run"))
    assert status == 2
    assert message in said.err
    # The first line says what is begun, before anything is known of it.
    assert len(said.err.splitlines()) == 2


def colours(images):
    return images.mean((2, 3))


def eyes():
    return Segmenter(
        classes=("nothing",), label=lambda images: images[:, 0].long() * 0, features=colours
    )


def test_the_distance_is_that_of_the_features(tmp_path):
    state = train(TrainState.start(TINY, CPU), Stripes(), tmp_path)
    meter = FrechetMeter.from_source(Stripes(), eyes(), 16)
    # Stripes are grey: mean of 45/127.5 - 1 + 10 i/127.5 over i = 0..15, in every colour.
    means = (np.arange(16) * 10 + 45) / 127.5 - 1
    assert np.allclose(np.sort(meter.real[:, 1]), means, atol=1e-5)
    assert meter.measure(state) == meter.measure(state) > 0
    with pytest.raises(DissectError, match="16 images, fewer than --frechet 17"):
        FrechetMeter.from_source(Stripes(), eyes(), 17)


def test_a_watched_run_has_curves_and_a_summary_and_resumes_without_doubles(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    meter = FrechetMeter.from_source(Stripes(), eyes(), 16)

    def run(state):
        monitor = TrainingMonitor(tmp_path, state, tensorboard=True, frechet=meter)
        train(
            state,
            Stripes(),
            tmp_path,
            on_report=monitor.report,
            on_samples=monitor.samples,
            report_every=1,
            sample_every=2,
        )
        monitor.close()
        return monitor.summary(state, 16)

    state = TrainState.start(replace(TINY, steps=4), CPU)
    run(state)
    state.config = TINY
    summary = run(state)
    assert summary["epochs"] == 3.0
    assert summary["images_seen"] == 48
    rows = [json.loads(line) for line in (tmp_path / "frechet.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert summary["frechet"] == round(rows[-1]["frechet"], 3)
    assert summary["frechet_best"]["frechet"] == min(round(row["frechet"], 3) for row in rows)
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    losses = [json.loads(line) for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    curve = read.Scalars("loss/generator")
    assert [event.step for event in curve] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in curve] == pytest.approx(
        [row["generator_loss"] for row in losses]
    )
    assert [event.step for event in read.Images("samples")] == [2, 4, 6]
