"""Whatever ends a training, nothing is lost: kill -9, Ctrl-C, a full disk, a cut file, NaN."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.command_line import run
from helpers.training import CPU, TINY, Stripes, same, weights
from PIL import Image

from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.training import TrainState, load_state, save_state, train
from dissect.training.state import checkpoints

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork, nor kill -9")
def test_killed_at_any_moment_the_run_is_the_unbroken_run():
    kills = os.environ.get("DISSECT_KILLS", "5")
    script = ROOT / "benchmarks" / "kills.py"
    ended = subprocess.run(
        [sys.executable, script, "--kills", kills, "--steps", "60"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert found["kills"] >= int(kills)
    assert found["differences"] == 0


class Interrupting(Stripes):
    """Stripes that send this process a signal while batch number `at` is read."""

    def __init__(self, at, number):
        self.left, self.number = at, number

    def images(self, indices):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)
        return super().images(indices)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_waits_for_the_end_of_the_step(tmp_path, number):
    unbroken = train(TrainState.start(TINY, CPU), Stripes(), tmp_path / "unbroken")
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(TrainState.start(TINY, CPU), Interrupting(3, number), tmp_path / "broken")
    assert signal.getsignal(number) is handler
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    # Batches are read ahead, at most until they are needed.
    assert 1 <= state.step <= 3
    resumed = train(state, Stripes(), tmp_path / "broken")
    assert same(weights(unbroken), weights(resumed))


def test_a_full_disk_ends_the_run_with_a_word_and_keeps_the_last_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    state = train(TrainState.start(replace(TINY, steps=2), CPU), Stripes(), tmp_path)
    state.config = TINY
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(DissectError, match="cannot write.*last good.*step-0000002.*--resume"):
            train(state, Stripes(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_state(checkpoints(tmp_path)[0], CPU).step == 2
    assert not list(tmp_path.glob(".*"))


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    state = train(TrainState.start(replace(TINY, steps=2), CPU), Stripes(), tmp_path)
    state.config = TINY
    # Of no influence on the losses, which stay finite.
    next(state.average.parameters()).fill_(float("nan"))
    with pytest.raises(DissectError, match="step 3: a weight is not a number.*step-0000002"):
        train(state, Stripes(), tmp_path, save_every=1, keep=1)
    assert load_state(checkpoints(tmp_path)[0], CPU).step == 2


def test_a_run_that_ends_before_its_first_checkpoint_says_so(tmp_path):
    state = TrainState.start(TINY, CPU)
    with torch.no_grad():
        state.discriminator.score.linear.weight.fill_(float("nan"))
    with pytest.raises(DissectError, match="no checkpoint had been written"):
        train(state, Stripes(), tmp_path)


def test_a_damaged_newer_checkpoint_never_pushes_out_a_good_one(tmp_path):
    state = TrainState.start(TINY, CPU)
    state.step = 9
    damaged = save_state(tmp_path, state)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    state.step = 5
    good = save_state(tmp_path, state, keep=1)
    assert checkpoints(tmp_path) == [good]


def test_what_a_killed_process_was_writing_is_cleared(tmp_path):
    litter = [".step-0000003.safetensors.x1y2_z", ".losses.jsonl.abc", ".generator.safetensors.abc"]
    mine = [".step-notes", "notes.txt"]
    for name in litter + mine:
        (tmp_path / name).write_text("cut short")
    train(TrainState.start(replace(TINY, steps=1), CPU), Stripes(), tmp_path)
    assert not any((tmp_path / name).exists() for name in litter)
    assert all((tmp_path / name).exists() for name in mine)


def _train_words(folder):
    """The words that train on images in `folder`, but for the number of steps."""
    images = folder / "images"
    images.mkdir()
    for place, image in enumerate(Stripes().images(range(16))):
        Image.fromarray(image).save(images / f"{place:02d}.png")
    return (
        f"train folder:{images} --out {folder / 'run'} --image-size 16 --batch-size 8 "
        "--set generator_width=4 --set discriminator_width=4 --set kernel=4 --save-every 2 --steps"
    ).split()


def test_resumed_with_no_step_left_it_names_only_files_that_are_there(tmp_path, capsys):
    words = _train_words(tmp_path)
    for steps, more in (("4", []), ("2", ["--resume"])):
        # A shorter run ends where a checkpoint of the longer one lies, and no grid was drawn there.
        for later in checkpoints(tmp_path / "run")[:1]:
            later.unlink()
        status, out, _ = run(capsys, *words, steps, *more, "--json")
        assert status == 0
        result = json.loads(out)
        assert result["files"]
        assert all(Path(file).is_file() for file in result["files"])


def test_a_cut_newest_checkpoint_is_passed_over_with_a_warning(tmp_path, capfd):
    words = _train_words(tmp_path)
    for steps, more in (("4", []), ("6", ["--resume"])):
        newest = checkpoints(tmp_path / "run")
        if newest:
            newest[0].write_bytes(newest[0].read_bytes()[:-1])
        with pytest.raises(SystemExit) as end:
            main([*words, steps, *more])
        assert end.value.code == 0
    errors = capfd.readouterr().err
    assert "passing over step-0000004.safetensors" in errors
    assert "going on from" in errors
    assert "step-0000002.safetensors" in errors
    assert load_state(checkpoints(tmp_path / "run")[0], CPU).step == 6
