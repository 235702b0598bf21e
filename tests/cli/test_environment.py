"""Commands where the environment is poor: no UTF-8, no home folder, full or closed streams."""

import io
import json
import os
import pwd
import shutil
import subprocess
import sys

import pytest
import torch
from helpers.command_line import run
from helpers.processes import environment

from dissect.cli import main
from dissect.models import Generator, save_checkpoint

ENCODINGS = ["cp437", "cp1251", "cp932", "latin-1", "ascii"]
SAMPLE = ["sample", "--n", "2", "--model"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_help_is_printed_in_any_encoding(encoding):
    ended = subprocess.run(
        [sys.executable, "-m", "dissect", "train", "--help"],
        capture_output=True,
        env=environment(PYTHONIOENCODING=encoding, PYTHONUTF8="0", COLUMNS="80"),
    )
    assert ended.returncode == 0, ended.stderr
    assert "Fr" in ended.stdout.decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_result_is_printed_in_any_encoding(study, tmp_path, monkeypatch, encoding):
    model = shutil.copy(study / "g.safetensors", tmp_path / "rün.safetensors")
    bytes_of = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in bytes_of.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding))
    with pytest.raises(SystemExit) as ended:
        main([*SAMPLE, str(model), "--out", str(tmp_path / "出")])
    assert ended.value.code == 0
    sys.stdout.flush()
    assert "2 samples of" in bytes_of["stdout"].getvalue().decode(encoding)


def test_without_a_home_folder_only_the_cache_is_missed(capsys, tmp_path, monkeypatch):
    from PIL import Image

    def nobody(_):
        raise KeyError

    for name in ("DISSECT_CACHE", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    status, text, err = run(capsys, "data", "info", f"folder:{tmp_path / 'images'}")
    assert (status, text[:8]) == (0, "1 images"), err
    assert json.loads(run(capsys, "data", "--json")[1])["cache"] is None
    for spec in ("bedrooms", "folder:~/images"):
        status, _, err = run(capsys, "data", "info", spec)
        assert status == 2
        assert err.count("\n") == 1
        assert "home folder" in err
        assert ("DISSECT_CACHE" in err) == (spec == "bedrooms")


def test_rank_in_the_environment_silences_nothing(capsys, study, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = [*SAMPLE, study / "g.safetensors", "--out", tmp_path]
    status, text, _ = run(capsys, *words, "--json")
    assert (status, json.loads(text)["n"]) == (0, 2)
    status, _, err = run(capsys, *SAMPLE, "nothing")
    assert status == 2
    assert "no model 'nothing'" in err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
@pytest.mark.parametrize("words", [["--help"], ["data", "--json"], ["data", "info", "cifar10:x"]])
def test_a_full_disk_behind_stdout_is_one_line(words):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "dissect", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert ("No space left" in ended.stderr) == (words[-1] != "cifar10:x")


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_end_nothing(closed):
    command = f"{sys.executable} -m dissect data info nothing {closed}"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment()
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ("unknown source" in ended.stderr) == ("2>&-" not in closed)


@pytest.mark.parametrize("name", ["new.pth", "old.pth.tar", "script.pt"])
def test_a_file_of_torch_save_is_refused_with_a_way_on(capsys, tmp_path, name):
    generator, path = Generator(4, 4, 8, kernel=4).eval(), tmp_path / name
    if name == "script.pt":
        torch.jit.save(torch.jit.trace(generator, torch.zeros(1, 4)), path)
    else:
        new = name == "new.pth"
        torch.save(generator.state_dict(), path, _use_new_zipfile_serialization=new)
    status, _, err = run(capsys, *SAMPLE, path)
    assert status == 2
    assert err.count("\n") == 1
    assert "factory" in err
    assert "save_file" in err


def test_a_byte_order_mark_changes_nothing(capsys, tmp_path):
    text = run(capsys, "train", "--preset", "cifar32", "--print-config")[1]
    (tmp_path / "config.toml").write_text(text, encoding="utf-8-sig")
    again = run(capsys, "train", "--config", tmp_path / "config.toml", "--print-config")
    settings = lambda text: [line for line in text.splitlines() if not line.startswith("#")]  # noqa: E731
    assert again[0] == 0, again[2]
    assert settings(again[1]) == settings(text)


def test_settings_are_printed_as_json_too(capsys):
    words = ["train", "--preset", "cifar32", "--print-config"]
    status, text, _ = run(capsys, *words, "--json")
    assert status == 0
    assert json.loads(text)["image_size"] == 32


def test_a_device_that_computes_nothing_is_refused(capsys):
    status, _, err = run(capsys, *SAMPLE, "bedrooms64", "--device", "meta")
    assert status == 2
    assert "'meta' is not available" in err


def test_a_grey_generator_draws_grey_images(capsys, tmp_path):
    model = save_checkpoint(tmp_path / "g.safetensors", Generator(4, 4, 8, channels=1, kernel=4))
    status, _, err = run(capsys, *SAMPLE, model, "--out", tmp_path)
    assert status == 0, err


FACTORY = """
import torch, dissect
def two():
    return dissect.Generator(8, 4, 32, kernel=4), lambda n, seed: dissect.latents(n, seed, size=8)
def frozen():
    model = dissect.Generator(8, 4, 32, kernel=4)
    for module in list(model.modules()):
        for name, value in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, value.data)
    return model
"""


def test_small_mistakes_of_a_factory(capsys, tiny, tmp_path):
    (tmp_path / "g.py").write_text(FACTORY)
    status, _, err = run(capsys, *SAMPLE, f"{tmp_path / 'g.py'}:two")
    assert status == 2
    assert "(n, seed, start)" in err
    words = ["--model", f"{tmp_path / 'g.py'}:frozen", "--segmenter", tiny / "s.safetensors"]
    words += ["--layer", "layer8x8", "--n", "2", "--effect-n", "2", "--out", tmp_path]
    status, _, err = run(capsys, "units", *words)
    assert status == 0, err
