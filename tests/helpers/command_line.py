"""One command of `dissect`, run in this process."""

import pytest

from dissect.cli import main

__all__ = ["common", "run"]


def run(capsys, *words):
    """Exit status, stdout and stderr of one command."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return ended.value.code, out, err


def common(study, out):
    """What commands on the tiny generator of `study` have in common."""
    return [
        *("--model", str(study / "g.safetensors"), "--boxes", str(study / "spot.json")),
        *("--concept", "spot", "--out", str(out), "--json"),
    ]
