"""`dissect export`: files that hold an edited generator."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dissect
from dissect.annotations import Annotations
from dissect.cli import main
from dissect.models import load, load_checkpoint
from dissect.probe import fit_probe_from_boxes
from dissect.surgery import Intervention

ROOT = Path(__file__).resolve().parents[2]


def command(capsys, *words):
    """Exit status, the result or None, and stderr of one command."""
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words), "--json"])
    stdout, stderr = capsys.readouterr()
    return ended.value.code, json.loads(stdout) if stdout else None, stderr


def ablate(capsys, study, out, *words):
    """The file of an edit of three units."""
    given = ["--model", study / "g.safetensors", "--boxes", study / "spot.json"]
    given += ["--concept", "spot", "--out", out, "--n", 4, "--rule", "top:3"]
    status, _, err = command(capsys, "ablate", *given, *words)
    assert status == 0, err
    return out / "edit.json"


def export(capsys, study, edit, *words):
    """Exit status, the result or None, and stderr of one `dissect export`."""
    return command(capsys, "export", edit, "--model", study / "g.safetensors", *words)


CASES = {
    "weights": ([], "everywhere"),
    "module": (["--set", "strength=1.5"], "everywhere"),
    "probe": (["--set", "threshold=0.4", "--set", "strength=1.5"], "probe"),
    "mean": (["--set", "replacement=mean"], "everywhere"),
    "region": (["--set", "region=0,0,32,24", "--set", "threshold=0.2"], "probe"),
    "excised": ([], "everywhere"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_file_draws_what_the_edit_draws(capsys, study, tmp_path, name):
    words, where = CASES[name]
    file = tmp_path / "edited.safetensors"
    edit = ablate(capsys, study, tmp_path, "--where", where, *words)
    cut = ["--excise"] if name == "excised" else []
    status, saved, err = export(capsys, study, edit, "--file", file, *cut)
    assert status == 0, err
    how = {"weights": "weights", "mean": "weights", "excised": "excised"}.get(name, "module")
    assert saved["how"] == how
    assert saved["difference"] == 0 if how != "excised" else saved["difference"] < 1e-5
    assert saved["files"] == [str(file)]
    before, after = saved["parameters"]
    # A gate has a weight for each of the 8 units, and a bias.
    gate = 9 if name in ("probe", "region") else 0
    if name == "excised":
        # Three units: each was made by 16 x 16 weights, scaled by 2 and read by 4 x 16.
        assert before - after == 3 * (16 * 16 + 2 + 4 * 16)
    else:
        assert after - before == gate
    _, card = load_checkpoint(file)
    assert Intervention.from_dict(card["edit"]).units == Intervention.load(edit).units
    z = dissect.latents(30, seed=77, size=8)
    assert not torch.allclose(load(file)(z), load(study / "g.safetensors")(z), atol=1e-4)


def test_the_gate_in_the_file_is_the_probe(capsys, study, tmp_path):
    edit = ablate(capsys, study, tmp_path, "--where", "probe")
    export(capsys, study, edit, "--file", tmp_path / "edited.safetensors")
    generator = load(study / "g.safetensors")
    probe = fit_probe_from_boxes(
        generator, Annotations.load(study / "spot.json", "spot"), layer="layer8x8"
    )
    z = dissect.latents(20, seed=78, size=8)
    with (
        torch.no_grad(),
        dissect.ablated(generator, Intervention.load(edit).units, where=probe),
    ):
        wanted = generator(z)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "edited.safetensors")(z), wanted)


def test_the_saved_generator_is_a_model_like_any_other(capsys, study, tmp_path):
    file = tmp_path / "edited.safetensors"
    export(capsys, study, ablate(capsys, study, tmp_path, "--where", "probe"), "--file", file)
    with pytest.raises(SystemExit) as ended:
        main(["sample", "--model", str(file), "--n", "4", "--out", str(tmp_path / "again")])
    assert ended.value.code == 0
    assert (tmp_path / "again" / "samples.png").is_file()


def test_plain_pytorch_loads_an_edited_file(capsys, study, tmp_path):
    file = tmp_path / "edited.safetensors"
    edit = ablate(capsys, study, tmp_path, "--where", "everywhere")
    export(capsys, study, edit, "--excise", "--file", file)
    code = (
        "import json, torch\n"
        "from safetensors import safe_open\n"
        "from safetensors.torch import load_file\n"
        "from dissect.models.dcgan import Generator\n"
        f"about = safe_open({str(file)!r}, 'pt').metadata()\n"
        "G = Generator(**json.loads(about['config'])).eval()\n"
        f"G.load_state_dict(load_file({str(file)!r}))\n"
        "print(tuple(G(torch.zeros(1, 8)).shape))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.strip() == "(1, 3, 32, 32)", ended.stderr


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        (["--where", "probe"], ["--excise"], "without a gate"),
        (["--where", "everywhere", "--set", "strength=0.5"], ["--excise"], "at strength 1"),
        (["--where", "probe"], ["--file", "EXISTS"], "--force"),
    ],
)
def test_what_cannot_be_saved_is_refused(capsys, study, tmp_path, changes, words, message):
    exists = tmp_path / "there.safetensors"
    exists.write_bytes(b"mine")
    words = [str(exists) if word == "EXISTS" else word for word in words]
    edit = ablate(capsys, study, tmp_path / "edit", *changes)
    status, result, err = export(capsys, study, edit, "--out", tmp_path / "out", *words)
    assert (status, result) == (2, None)
    assert message in err
    assert err.count("\n") == 1
    assert exists.read_bytes() == b"mine"
    assert not (tmp_path / "out").exists()


def test_force_replaces_a_file(capsys, study, tmp_path):
    file = tmp_path / "there.safetensors"
    file.write_bytes(b"old")
    edit = ablate(capsys, study, tmp_path, "--where", "probe")
    status, _, err = export(capsys, study, edit, "--file", file, "--force")
    assert status == 0, err
    assert "edits" in load(file).config
