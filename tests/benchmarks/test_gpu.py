"""The benchmark of a GPU, every path of it, on the CPU at a toy size."""

import json
import subprocess
import sys

from helpers.processes import ROOT, environment
from PIL import Image

from dissect.models import load


def test_one_command_checks_measures_and_trains_and_leaves_small_files(tmp_path):
    words = ["--device", "cpu", "--toy", "--minutes", "0.8", "--out", tmp_path / "out"]
    ended = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment(DISSECT_CACHE=str(tmp_path / "cache")),
    )
    assert ended.returncode == 0, ended.stderr
    log = json.loads((tmp_path / "out" / "log.json").read_text())
    assert set(log["checks"]["differences"].values()) == {0.0}  # the CPU against itself
    assert len(log["checks"]["differences"]) == 7
    assert log["bfloat16"]["finite"]
    assert log["speed"]["ratio"] > 0
    training = log["training"]
    assert training["finite"]
    assert training["steps"] >= 1
    generator = load(tmp_path / "out" / "generator.safetensors")
    assert generator.config["width"] == 4
    assert Image.open(tmp_path / "out" / "samples.png").size > (64, 64)
    files = list((tmp_path / "out").iterdir())
    assert {path.name for path in files} == {
        "log.json",
        "samples.png",
        "generator.safetensors",
        "discriminator.safetensors",
    }
    assert sum(path.stat().st_size for path in files) < 64e6
