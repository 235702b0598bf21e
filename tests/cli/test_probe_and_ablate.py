import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.command_line import common, run
from PIL import Image

from dissect.cli import main
from dissect.models import Generator, fingerprint, load, save_checkpoint
from dissect.surgery import Intervention
from dissect.units import Units

ROOT = Path(__file__).resolve().parents[2]


def test_probe_writes_units_that_load_and_fit_the_model(capsys, study, tmp_path):
    status, out, _ = run(capsys, "probe", *common(study, tmp_path))
    assert status == 0
    result = json.loads(out)
    assert result["concept"] == "spot"
    assert result["layer"] == "layer8x8"
    assert (result["n_images"], result["n_boxes"], result["n_units"]) == (30, 10, 8)
    assert result["auc_ci"][0] <= result["auc"] <= result["auc_ci"][1]
    assert [Path(path).name for path in result["files"]] == [
        "units.json",
        "probe.json",
        "probe.png",
    ]
    units = Units.load(tmp_path / "units.json")
    assert list(units.indices) == result["units"]
    assert 0 in units.indices
    units.check(fingerprint(load(study / "g.safetensors")), "layer8x8", 8)
    assert Image.open(tmp_path / "probe.png").width > 500


def test_probe_scores_every_layer(capsys, study, tmp_path):
    status, out, err = run(capsys, "probe", "--layer", "all", *common(study, tmp_path))
    assert status == 0
    # No cell of the 4x4 grid is covered by half by a box of 4 x 4 pixels: that layer is left out.
    assert list(json.loads(out)["layers"]) == ["layer8x8", "layer16x16"]
    assert "layer4x4 is left out" in err
    assert (tmp_path / "layers.png").is_file()


def test_ablate_shows_before_edit_gate_and_control(capsys, study, tmp_path):
    words = [*common(study, tmp_path), "--n", "4"]
    status, out, _ = run(capsys, "ablate", "--rule", "top:2", *words)
    assert status == 0
    result = json.loads(out)
    assert result["n_selected"] == 2
    assert result["n_samples"] == 4
    assert set(result["edits"]) == {"everywhere", "probe"}
    sheet = Image.open(tmp_path / "ablate.png")
    # Before, two edits, the cells filled, two controls: images of 32 pixels, enlarged three times.
    assert sheet.height > 6 * 32 * 3
    gated = Intervention.load(tmp_path / "edit.json")
    assert list(gated.units.indices) == result["units"]
    assert gated.gate is not None
    assert Intervention.load(tmp_path / "edit-everywhere.json").gate is None


def test_the_same_seed_gives_the_same_picture(capsys, study, tmp_path):
    for name in ("a", "b"):
        run(capsys, "ablate", *common(study, tmp_path / name), "--n", "3")
    first, second = ((tmp_path / name / "ablate.png").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_saved_edit_is_the_ablated_generator(capsys, study, tmp_path):
    import dissect

    words = [*common(study, tmp_path), "--where", "everywhere", "--rule", "top:3"]
    status, out, _ = run(capsys, "ablate", *words)
    assert status == 0
    units = json.loads(out)["units"]
    saved, model = tmp_path / "edited.safetensors", study / "g.safetensors"
    words = ["export", tmp_path / "edit.json", "--model", model, "--file", saved]
    assert run(capsys, *words)[0] == 0
    generator = load(model)
    z = dissect.latents(5, seed=9, size=8)
    with dissect.ablated(generator, Units("layer8x8", tuple(units), 8)):
        wanted = generator(z)
    assert torch.equal(load(saved)(z), wanted)
    again, _, err = run(capsys, *words)
    assert again == 2
    assert "--force" in err


def test_samples_can_be_annotated_in_another_tool(capsys, study, tmp_path):
    model = str(study / "g.safetensors")
    words = ["sample", "--model", model, "--n", "12", "--seed", "5", "--start", "3", "--each"]
    assert run(capsys, *words, "--out", str(tmp_path))[0] == 0
    files = sorted((tmp_path / "samples").iterdir())
    assert files[0].name == "seed5-000003.png"
    # What a tool exports: names of files, and no word of latents.
    images = [
        {"id": k, "file_name": f"upload/{file.name}", "width": 32, "height": 32}
        for k, file in enumerate(files)
    ]
    drawn = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": [8, 8, 8, 8], "area": 64}
        for k in range(0, 12, 2)
    ]
    coco = {"images": images, "annotations": drawn, "categories": [{"id": 1, "name": "spot"}]}
    (tmp_path / "export.json").write_text(json.dumps(coco))
    words = ["probe", "--model", model, "--concept", "spot", "--json", "--out", str(tmp_path)]
    status, out, err = run(capsys, *words, "--boxes", str(tmp_path / "export.json"))
    assert status == 0, err
    assert json.loads(out)["n_boxes"] == 6


def test_sample_draws_a_grid(capsys, study, tmp_path):
    model = str(study / "g.safetensors")
    words = ["sample", "--model", model, "--n", "4", "--out", str(tmp_path), "--json"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert json.loads(out)["files"] == [str(tmp_path / "samples.png")]
    grid = np.asarray(Image.open(tmp_path / "samples.png"))
    assert grid.shape == ((32 * 2 + 1) * 3, (32 * 2 + 1) * 3, 3)


@pytest.fixture
def two_layers(study, tmp_path):
    """The file of an edit of two layers."""
    edits = [Intervention(Units(f"layer{grid}", (1,), 16 // scale)) for grid, scale in LAYERS]
    return str((edits[0] + edits[1]).save(tmp_path / "two.json"))


LAYERS = (("8x8", 2), ("16x16", 4))


def test_set_changes_every_part_of_an_edit(capsys, study, tmp_path, two_layers):
    words = [*common(study, tmp_path), "--n", "2", "--edit", two_layers, "--set", "strength=1.5"]
    status, _, err = run(capsys, "ablate", *words)
    assert status == 0, err
    edit = Intervention.load(tmp_path / "edit.json")
    assert [part.strength for part in edit.parts] == [1.5, 1.5]


def test_edits_of_several_files_act_together(capsys, study, tmp_path):
    first = Units("layer8x8", (0, 1), 8).save(tmp_path / "one.json")
    second = Intervention(Units("layer16x16", (3,), 4), strength=0.5).save(tmp_path / "two.json")
    words = [*common(study, tmp_path), "--n", "2", "--edit", str(first), "--edit", str(second)]
    status, _, err = run(capsys, "ablate", *words)
    assert status == 0, err
    parts = Intervention.load(tmp_path / "edit.json").parts
    assert [(part.units.layer, part.units.indices, part.strength) for part in parts] == [
        ("layer8x8", (0, 1), 1.0),
        ("layer16x16", (3,), 0.5),
    ]


@pytest.mark.parametrize("command", ["probe", "ablate", "units", "guided"])
def test_a_second_layer_is_not_dropped_without_a_word(capsys, command):
    status, out, err = run(capsys, command, "-l", "a", "--layer", "b")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "given twice; give it once" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "replacement=mean"], "also acts on layer16x16"),
        (["--set", "region=0,0,8,8"], "also acts on layer16x16"),
        (["--where", "probe"], "leave out --where probe"),
        (["--layer", "layer4x4"], "give --layer layer8x8"),
    ],
)
def test_what_a_file_of_an_edit_cannot_take_is_one_line(
    capsys, study, tmp_path, two_layers, words, message
):
    out = ["--out", str(tmp_path / "out")]
    status, _, err = run(
        capsys, "ablate", *common(study, tmp_path), *out, "--edit", two_layers, *words
    )
    assert status == 2, err
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probe", "--layer", "layer8x9"], "layer8x8"),
        (["probe", "--rule", "best"], "positive"),
        (["probe", "--rule", "top:99"], "99"),
        (["probe", "--boxes", "nothing.json"], "nothing.json"),
        (["probe", "--model", "nothing"], "no model 'nothing'"),
        (["probe", "--concept", "dragon"], "dragon"),
        (["probe", "--device", "mars"], "mars"),
        (["ablate", "--where", "nowhere"], "everywhere"),
        (["ablate", "--set", "strength=3"], "from 0 to 2"),
        (["ablate", "--set", "region=1,2,3"], "x,y,width,height"),
        (["ablate", "--set", "region=30,30,9,9"], "inside the image"),
        (["ablate", "--set", "colour=3"], "strength=NUMBER"),
        (["ablate", "--rule", "auto", "--set", "strength=2"], "leave out --set"),
        (["ablate", "--rule", "top:2", "--edit", "x.json"], "leave one out"),
        (["ablate", "--set", "replacement=noise"], "zero or mean"),
        (["ablate", "--n", "9", "--pool", "3"], "--pool 3"),
        (["ablate", "--n", "none"], "valid integer"),
        (["ablation"], "ablate"),
        (["probe", "--colour", "red"], "--colour"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, study, tmp_path, words, message):
    command, *rest = words
    given = common(study, tmp_path) if command in ("probe", "ablate") else []
    status, out, err = run(capsys, command, *given, *rest)
    assert status == 2, err
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_boxes_of_another_model_are_refused(capsys, study, tmp_path):
    other = save_checkpoint(
        tmp_path / "other.safetensors", Generator(latent_size=8, width=4, image_size=32, kernel=4)
    )
    words = [*common(study, tmp_path), "--model", str(other)]
    status, _, err = run(capsys, "probe", *words)
    assert status == 2
    assert "load that model, or annotate images of this one" in err


def test_debug_shows_the_traceback(study):
    with pytest.raises(Exception, match="no model 'nothing'"):
        main(["--debug", "sample", "--model", "nothing"])


def test_help_is_quick_and_loads_no_torch():
    code = (
        "import sys; from dissect.cli import main\n"
        "try: main(['--help'])\n"
        "finally: assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert "ablate" in ended.stdout


def test_the_import_loads_nothing_heavy():
    heavy = ["captum", "sklearn", "matplotlib", "typer", "rich", "scipy", "PIL"]
    code = f"import dissect, sys; print([name for name in {heavy} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.strip() == "[]", ended.stdout + ended.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_closed_pipe_is_no_traceback(study):
    command = f"{sys.executable} -m dissect data --json | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in ended.stderr


def test_every_name_can_be_had():
    import dissect

    for name in dissect.__all__:
        assert getattr(dissect, name) is not None
    assert set(dissect.__all__) <= set(dir(dissect))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dissect.nonsense


def test_a_segmenter_is_trained_on_renders(capsys, tmp_path, monkeypatch):
    from dissect.segmentation import load_unet

    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "cache"))
    words = ["train-segmenter", "bedrooms", "--images", "8", "--steps", "2", "--batch-size"]
    status, out, err = run(capsys, *words, "4", "--out", str(tmp_path), "--json")
    assert status == 0, err
    network, card = load_unet(json.loads(out)["files"][0])
    assert "window" in network.classes
    assert card["steps"] == 2
