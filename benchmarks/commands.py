"""Whole-process time and memory of the two commands of the README, beside `import torch` alone.

    python benchmarks/commands.py

Prints one table. Times are medians over fresh processes, the commands in turn.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (GB) of one run of `command` as a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, after a warm-up")
    repeats = parser.parse_args().repeats
    python = [sys.executable, "-c"]
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        commands = {
            "import torch": [*python, "import torch"],
            "dissect --help": [sys.executable, "-m", "dissect", "--help"],
            "dissect probe --concept window": [
                *(sys.executable, "-m", "dissect", "probe", "--concept", "window", "--out", out)
            ],
            "dissect ablate": [sys.executable, "-m", "dissect", "ablate", "--out", out],
        }
        runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(repeats + 1):
            for name, command in commands.items():
                measured = timed(command)
                if turn:
                    runs[name].append(measured)
    torch_seconds = statistics.median(seconds for seconds, _ in runs["import torch"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, {repeats} runs of each in turn")
    print(f"{'command':<34}{'median s':>9}{'of torch':>10}{'peak GB':>9}")
    for name, measured_runs in runs.items():
        seconds = statistics.median(seconds for seconds, _ in measured_runs)
        memory = max(memory for _, memory in measured_runs)
        print(f"{name:<34}{seconds:>9.2f}{seconds / torch_seconds:>10.2f}{memory:>9.2f}")


if __name__ == "__main__":
    main()
