"""What importing the package costs, as a ratio to `import torch`.

    python benchmarks/imports.py

Processor time, which other work on the machine disturbs less than the clock: medians over fresh
processes, the imports in turn, each less the start of Python itself.
"""

import argparse
import os
import statistics
import subprocess
import sys

IMPORTS = {
    "python": "",
    "import torch": "import torch",
    "import dissect": "import dissect",
    "import dissect, every public name loaded": "from dissect import *",
}


def seconds(code: str) -> float:
    """The processor time of a process that runs `code` and ends."""
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{code} failed")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print the median seconds of each import and their ratios to that of torch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9, help="runs of each, after a warm-up")
    repeats = parser.parse_args().repeats
    runs: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for turn in range(repeats + 1):
        for name, code in IMPORTS.items():
            measured = seconds(code)
            if turn:
                runs[name].append(measured)
    medians = {name: statistics.median(times) for name, times in runs.items()}
    start = medians.pop("python")
    torch = medians["import torch"] - start
    print(f"{'import':<44}{'seconds':>9}{'of torch':>10}")
    for name, median in medians.items():
        print(f"{name:<44}{median - start:>9.2f}{(median - start) / torch:>10.3f}")


if __name__ == "__main__":
    main()
