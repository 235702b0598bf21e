"""Exemplars picked by eye: those of the bundled bedrooms, and of a generator of others."""

from pathlib import Path

import pytest
import torch
from helpers.command_line import run
from PIL import Image

from dissect.latent_space import (
    AttributedSamples,
    Exemplars,
    attribute_reader_for,
    direction_from_list,
    parse_conditions,
    parse_expression,
    readout_rows,
    vector_sum,
)
from dissect.models import fingerprint, generate, latents_for, load

ROOT = Path(__file__).resolve().parents[2]
ROOMS, FACES = (
    ROOT / "annotations" / model / "exemplars" for model in ("bedrooms64", "face-dcgan-32")
)
FOREIGN = f"{ROOT / 'examples' / 'foreign' / 'face_dcgan.py'}:generator"


@pytest.mark.parametrize("folder", [ROOMS, FACES])
def test_what_was_picked_has_enough_exemplars_and_says_how(folder):
    concepts, turn = (Exemplars.load(folder / name) for name in ("concepts.json", "turn.json"))
    assert all(len(set(indices)) == 3 for indices in concepts.concepts.values())
    assert [len(set(indices)) for indices in turn.concepts.values()] == [4, 4]
    assert concepts.how == turn.how
    assert "AI agent" in concepts.how


def test_a_sum_of_bedrooms_puts_a_window_where_there_was_none():
    generator, reader = load("bedrooms64"), attribute_reader_for("bedrooms", "bedrooms64")
    picked = Exemplars.load(ROOMS / "concepts.json")
    picked.check(fingerprint(generator))
    z = latents_for(generator, picked.n, picked.seed)
    means = {name: z[list(rows)].mean(0) for name, rows in picked.concepts.items()}
    terms = parse_expression("bedroom with window - bedroom without + red bed")
    images = generate(generator, torch.stack([vector_sum(terms, means), means["red bed"]]))
    window = reader.read(images)[:, reader.column("window")]
    assert float(window[0]) > 0.03
    assert float(window[1]) < 0.01


def test_the_turn_between_picked_bedrooms_moves_windows_to_the_right():
    generator, reader = load("bedrooms64"), attribute_reader_for("bedrooms", "bedrooms64")
    direction = direction_from_list(Exemplars.load(ROOMS / "turn.json"), generator, "window_side")
    conditions = parse_conditions("window>0.03", reader.names)
    z = AttributedSamples(generator, 0, reader, conditions).latents(24, 10_000)
    values = readout_rows(generator, reader, z, direction, torch.tensor([-1.0, 0, 1]))
    sides = values[:, :, reader.column("window_side")].mean(0)
    assert float(sides[2] - sides[0]) > 0.2
    assert float(sides[0]) < float(sides[1]) < float(sides[2])


def test_sums_and_turns_of_a_generator_of_others(shared_data, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("FACE_DCGAN", str(shared_data / "face-dcgan-32"))
    common = ("--model", FOREIGN, "--out", tmp_path)
    words = ("smiling woman - neutral woman + neutral man", "--exemplars", FACES / "concepts.json")
    assert run(capsys, "arithmetic", *words, *common)[0] == 0
    words = ("where it looks", "--exemplars", FACES / "turn.json", "--rows", "2")
    assert run(capsys, "turn", *words, *common)[0] == 0
    for name in ("arithmetic.png", "turn-where it looks-exemplars.png"):
        assert Image.open(tmp_path / name).width > 800
    # Nothing reads these faces, so that nothing is measured.
    status, _, err = run(capsys, "turn", "yaw", *common)
    assert (status, err.count("\n")) == (2, 1)
    assert "nothing reads" in err
    listed = ("--exemplars", ROOMS / "turn.json")
    status, _, err = run(capsys, "turn", "where it looks", *listed, *common)
    assert status == 2
    assert "latents of another model" in err
