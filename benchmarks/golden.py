"""A golden run: what the commands of the paper print and draw, kept and compared after a change.

    python benchmarks/golden.py record before.json
    python benchmarks/golden.py compare before.json

Each command runs on the bundled models in a process of its own. Kept are the JSON that it prints
and a digest of the pixels of every picture. A comparison lists each value that differs, numbers
with their relative difference, so that a change is either equal or has a reason for each line.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

COMMANDS: dict[str, list[str]] = {
    "probe": ["probe", "--concept", "window"],
    "ablate": ["ablate", "--seed", "1"],
    "ablate positive": ["ablate", "--rule", "positive", "--n", "8", "--seed", "1"],
    "effect auto": ["effect", "--n", "50", "--rule", "auto", "--seed", "2"],
    "effect positive": ["effect", "--n", "50", "--rule", "positive", "--seed", "2"],
    "rules": ["rules", "--n", "50", "--seed", "2"],
    "units": ["units", "--n", "200"],
    "guided": ["guided"],
    "walk": ["walk", "--n", "3", "--columns", "5"],
    "arithmetic": [
        *("arithmetic", "bedroom with window - bedroom without + red bed"),
        *("--name", "red bed, with window", "--model", "bedrooms64"),
        *("--exemplars", "annotations/bedrooms64/exemplars/concepts.json"),
    ],
    "turn": [
        *("turn", "window_side", "--model", "bedrooms64"),
        *("--exemplars", "annotations/bedrooms64/exemplars/turn.json"),
    ],
}


def main() -> int:
    """Run the commands; keep what they gave, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", action="append", help="a command; repeatable")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative, for numbers")
    options = parser.parse_args()
    names = options.only or list(COMMANDS)
    if options.mode == "record":
        kept = {name: run(COMMANDS[name]) for name in names}
        options.file.write_text(json.dumps(kept, indent=1))
        return 0
    kept = json.loads(options.file.read_text())
    differing = 0
    for name in names:
        lines = list(differences(kept[name], run(COMMANDS[name]), "", options.tolerance))
        print(f"{name}: {'equal' if not lines else f'{len(lines)} differ'}", flush=True)
        for line in lines[:20]:
            print(f"  {line}")
        differing += bool(lines)
    return 1 if differing else 0


def run(arguments: list[str]) -> dict[str, Any]:
    """The JSON that a command prints, and a digest of the pixels of every picture it writes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dissect", *arguments, "--json", "--out", folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1:]}
        values = json.loads(done.stdout)
        values.pop("files", None)
        pictures = {
            path.name: hashlib.sha256(Image.open(path).convert("RGB").tobytes()).hexdigest()
            for path in sorted(Path(folder).rglob("*.png"))
        }
    return {"values": values, "pictures": pictures}


def differences(before: Any, after: Any, where: str, tolerance: float) -> Iterator[str]:
    """A line for each value that is not the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            place = f"{where}/{key}"
            if key not in after:
                yield f"{place}: gone"
            elif key not in before:
                yield f"{place}: new"
            else:
                yield from differences(before[key], after[key], place, tolerance)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{where}/{index}", tolerance)
    elif isinstance(before, int | float) and isinstance(after, int | float):
        if not math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance):
            relative = abs(after - before) / max(abs(before), 1e-12)
            yield f"{where}: {before} became {after} ({relative:.1e})"
    elif before != after:
        yield f"{where}: {str(before)[:60]} became {str(after)[:60]}"


if __name__ == "__main__":
    raise SystemExit(main())
