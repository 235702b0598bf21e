"""Whatever ends a training, nothing is lost: kill -9, Ctrl-C, a full disk, a cut file, NaN."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.command_line import run
from helpers.training import CPU, TINY, Stripes, same, weights
from PIL import Image

from dissect._utils.errors import DissectError
from dissect._utils.io import read_tensors
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


posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_stop_waits_for_the_end_of_the_step(tmp_path, name):
    number = getattr(signal, name)
    unbroken = train(TrainState.start(TINY, CPU), Stripes(), tmp_path / "unbroken")
    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(TrainState.start(TINY, CPU), Interrupting(3, number), tmp_path / "broken")
    assert stopped.value.signal == number
    assert signal.getsignal(number) is handler
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    # Batches are read ahead, at most until they are needed.
    assert 0 <= state.step <= 3
    resumed = train(state, Stripes(), tmp_path / "broken")
    assert same(weights(unbroken), weights(resumed))


@posix
def test_a_stop_before_the_first_images_saves_the_untrained_run(tmp_path):
    class Slow(Stripes):
        def images(self, indices):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(2)
            return super().images(indices)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train(TrainState.start(TINY, CPU), Slow(), tmp_path)
    assert time.monotonic() - began < 1.9
    assert load_state(checkpoints(tmp_path)[0], CPU).step == 0


@posix
def test_a_second_signal_and_an_ignored_one_change_nothing(tmp_path):
    def send(_report):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(TrainState.start(TINY, CPU), Stripes(), tmp_path, on_report=send, report_every=2)
    # The report comes after the question whether to stop.
    assert load_state(checkpoints(tmp_path)[0], CPU).step == 3
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        state = train(
            TrainState.start(TINY, CPU), Interrupting(3, signal.SIGHUP), tmp_path / "other"
        )
        assert state.step == TINY.steps
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_a_checkpoint_comes_before_samples_that_take_long(tmp_path):
    def killed(state, _grid):
        if state.step == 4:
            raise DissectError("killed")

    unbroken = train(TrainState.start(TINY, CPU), Stripes(), tmp_path / "unbroken", sample_every=4)
    with pytest.raises(DissectError, match="killed.*step-0000004"):
        train(
            TrainState.start(TINY, CPU),
            Stripes(),
            tmp_path / "broken",
            sample_every=4,
            save_every=4,
            on_samples=killed,
        )
    assert not (tmp_path / "broken" / "samples-0000004.png").exists()
    state = load_state(checkpoints(tmp_path / "broken")[0], CPU)
    resumed = train(state, Stripes(), tmp_path / "broken", sample_every=4)
    assert same(weights(unbroken), weights(resumed))
    for name in ("samples-0000004.png", "samples-0000006.png"):
        one, other = tmp_path / "unbroken" / name, tmp_path / "broken" / name
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_full_disk_ends_the_run_with_a_word_and_keeps_the_last_checkpoint(tmp_path, when):
    resource = pytest.importorskip("resource")
    state = train(TrainState.start(replace(TINY, steps=2), CPU), Stripes(), tmp_path)
    state.config = TINY
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_report=None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))

    try:
        if when == "before":
            fill()
        with pytest.raises(DissectError, match="cannot write.*last good.*step-0000002.*--resume"):
            train(state, Stripes(), tmp_path, on_report=fill, report_every=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert state.step == (2 if when == "before" else 6)
    assert load_state(checkpoints(tmp_path)[0], CPU).step == 2
    assert [path.name for path in tmp_path.glob(".*")] == [".lock"]


def test_a_folder_has_one_run_at_a_time(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n"
        "from helpers.training import CPU, TINY, Stripes\n"
        "from dissect.training import TrainState, train\n"
        "class Waiting(Stripes):\n"
        "    def images(self, indices):\n"
        "        print('owned', flush=True); sys.stdin.read()\n"
        "        return super().images(indices)\n"
        "train(TrainState.start(TINY, CPU), Waiting(), __import__('pathlib').Path(sys.argv[1]))\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"owned\n"
    litter = tmp_path / ".step-0000003.safetensors.x1y2"
    litter.write_text("what the other is writing")
    with pytest.raises(DissectError, match="another process is writing.*--out"):
        train(TrainState.start(TINY, CPU), Stripes(), tmp_path)
    assert litter.exists()
    other.kill()
    other.communicate()
    assert train(TrainState.start(TINY, CPU), Stripes(), tmp_path).step == TINY.steps
    assert not litter.exists()


def test_a_folder_that_is_removed_meanwhile_is_made_anew_unless_another_run_has_it(tmp_path):
    run, taken = tmp_path / "run", ExitStack()

    def remove(_report, *, take=False):
        shutil.rmtree(run)
        if take:
            run.mkdir()
            other = open(run / ".lock", "w")  # noqa: SIM115
            fcntl.flock(other, fcntl.LOCK_EX)
            taken.enter_context(other)

    fcntl = pytest.importorskip("fcntl")
    train(TrainState.start(TINY, CPU), Stripes(), run, on_report=remove)
    assert checkpoints(run)
    with taken, pytest.raises(DissectError, match="another process is writing"):
        train(TrainState.start(TINY, CPU), Stripes(), run, on_report=partial(remove, take=True))


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


def test_a_newer_checkpoint_that_was_passed_over_neither_counts_nor_is_deleted(tmp_path):
    state = TrainState.start(TINY, CPU)
    state.step = 9
    damaged = save_state(tmp_path, state)
    damaged.write_bytes(damaged.read_bytes()[:1000])
    state.step = 5
    good = save_state(tmp_path, state, keep=1)
    assert checkpoints(tmp_path) == [damaged, good]


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


def test_a_checkpoint_that_cannot_be_opened_is_not_passed_over(tmp_path, capsys):
    words = _train_words(tmp_path)
    assert run(capsys, *words, "4")[0] == 0
    newest, gone = checkpoints(tmp_path / "run")[0], tmp_path / "unmounted"
    newest.rename(gone)
    newest.symlink_to(gone.with_name("disk"))
    status, _, errors = run(capsys, *words, "3", "--resume")
    assert status == 2
    assert "step-0000004.safetensors" in errors
    assert newest.is_symlink()
    newest.unlink()
    # Nor is one of a newer version, whose settings are not known here.
    text = gone.read_bytes().replace(b"dissect-training-1", b"dissect-training-9")
    newest.write_bytes(text)
    status, _, errors = run(capsys, *words, "3", "--resume")
    assert status == 2
    assert "this version of dissect" in errors
    assert newest.read_bytes() == text


def test_the_options_of_a_run_are_kept_and_changes_are_told(tmp_path, capsys):
    words = _train_words(tmp_path)
    assert run(capsys, *words, "4", "--half", "--sample-every", "3")[0] == 0
    out = ["train", "--resume", "--out", str(tmp_path / "run")]
    status, _, errors = run(capsys, *out, "--steps", "6", "--save-every", "5")
    assert status == 0
    assert "save_every was 2 and is 5" in errors
    assert "steps was 4 and is 6" in errors
    assert "half" not in errors
    state = load_state(checkpoints(tmp_path / "run")[0], CPU)
    assert (state.options["half"], state.options["sample_every"]) == (True, 3)
    half = read_tensors(tmp_path / "run" / "generator.safetensors")[0]
    assert half["layer4x4.conv.weight"].dtype == torch.float16


@pytest.mark.parametrize("change", ["fewer", "renamed", "resized", "moved"])
def test_a_resumed_run_needs_the_images_it_was_begun_with(tmp_path, capsys, monkeypatch, change):
    words = _train_words(tmp_path)
    monkeypatch.chdir(tmp_path)
    words[1] = "folder:images"
    assert run(capsys, *words, "2")[0] == 0
    images, first = tmp_path / "images", tmp_path / "images" / "00.png"
    monkeypatch.chdir("/")
    resume = ["train", "--resume", "--out", str(tmp_path / "run"), "--steps", "4"]
    if change == "moved":
        images.rename(tmp_path / "elsewhere")
        assert run(capsys, *resume)[0] == 2
        assert run(capsys, *resume[:1], f"folder:{tmp_path / 'elsewhere'}", *resume[1:])[0] == 0
        return
    if change == "fewer":
        first.unlink()
    elif change == "renamed":
        first.rename(images / "99.png")
    else:
        Image.new("RGB", (40, 40)).save(first)
    status, _, errors = run(capsys, *resume)
    assert status == 2
    assert "has changed since this run was begun" in errors
    assert load_state(checkpoints(tmp_path / "run")[0], CPU).step == 2


def test_what_cannot_be_trained_or_saved_is_refused_before_the_first_step(tmp_path, capsys):
    words = _train_words(tmp_path)
    for more, part in (
        (["--set", "generator_width=9000"], "width 9000 cannot be saved"),
        (["--set", "seed=18446744073709551616"], "seed must be from 0"),
        (["--frechet", "1"], "at least 2 images"),
        (["--out", str(tmp_path / "images" / "00.png")], "cannot make the folder"),
    ):
        status, _, errors = run(capsys, *words, "4", *more)
        assert status == 2, more
        assert part in errors
        assert "step " not in errors


def test_steps_of_eight_digits_are_found_and_sorted(tmp_path):
    state = TrainState.start(TINY, CPU)
    for step in (9_999_999, 10_000_000, 10_000_500):
        state.step = step
        save_state(tmp_path, state)
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-10000500.safetensors",
        "step-10000000.safetensors",
    ]
