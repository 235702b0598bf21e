"""Walks, sums and turns of latents that are no vectors, and in the spaces behind a mapping."""

import json
from pathlib import Path

import pytest
from helpers import foreign
from helpers.command_line import run

from dissect import DissectError
from dissect.models import latent_vectors, load

FILE = Path(foreign.__file__)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("two_axes", ()),
        ("styled", ()),
        ("styled", ("space=w",)),
        ("styled", ("space=w+", "psi=0.7")),
    ],
)
def test_every_command_of_latents_takes_them(capsys, tmp_path, name, inputs):
    for kind, concepts in {
        "sum": {"a": [0, 1, 2], "b": [3, 4, 5], "c": [6, 7, 8]},
        "turn": {"left": [0, 1, 2, 3], "right": [4, 5, 6, 7]},
    }.items():
        content = {"kind": "exemplars", "version": 1, "seed": 0, "n": 16, "concepts": concepts}
        (tmp_path / f"{kind}.json").write_text(json.dumps(content))
    base = ["--model", f"{FILE}:{name}", "--out", tmp_path]
    base += [word for one in inputs for word in ("--input", one)]
    for words in (
        ["sample", "--n", 4],
        ["walk", "--n", 2, "--columns", 3],
        ["arithmetic", "a - b + c", "--exemplars", tmp_path / "sum.json"],
        ["turn", "looks", "--exemplars", tmp_path / "turn.json", "--rows", 2, "--n", 4],
    ):
        status, _, error = run(capsys, *words, *base)
        assert status == 0, error
    (direction,) = tmp_path.glob("*.safetensors")
    status, _, error = run(capsys, "turn", "looks", "--direction", direction, *base)
    assert status == 0, error


def test_there_is_no_line_between_labels():
    with pytest.raises(DissectError, match="whole numbers"):
        latent_vectors(load(f"{FILE}:mixed"), 2)
