import json

import pytest
from helpers.command_line import common, run
from PIL import Image

import dissect.cli.effect
from dissect.units import Units

FEW = ("--n", "40", "--control-n", "10", "--random-sets", "2")


@pytest.fixture(autouse=True)
def _renders(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path_factory.getbasetemp() / "renders"))
    monkeypatch.setattr(dissect.cli.effect, "_REAL_IMAGES", 30)


def test_effect_measures_an_edit_beside_its_controls(capsys, study, eyes, tmp_path):
    words = [*common(study, tmp_path), *FEW, "--segmenter", str(eyes), "--rule", "top:3"]
    status, out, err = run(capsys, "effect", *words)
    assert status == 0, err
    result = json.loads(out)
    names = ["effect.png", "edit-everywhere.json", "edit.json"]
    assert result["files"] == [str(tmp_path / name) for name in names]
    # Rows of images: before, both edits, the cells filled, both controls.
    assert Image.open(tmp_path / "effect.png").height > 6 * 32 * 3
    assert (result["n_selected"], result["n_samples"]) == (3, 40)
    assert set(result["edits"]) == {"everywhere", "probe", "filled"}
    edit = result["edits"]["everywhere"]
    assert edit["removed_ci"][0] <= edit["removed"] <= edit["removed_ci"][1]
    assert set(edit["kept"]) == {"wall"}
    assert sum(edit["replaced_by"].values()) == pytest.approx(1)
    assert edit["frechet"]["change"] == pytest.approx(
        edit["frechet"]["after"] - edit["frechet"]["before"]
    )
    assert result["removed"] == result["edits"]["probe"]["removed"]
    random = result["random"]["everywhere"]
    assert (random["n_sets"], random["n_samples"]) == (2, 10)
    assert random["removed"] == pytest.approx(sum(random["by_set"]["removed"]) / 2)
    assert [point["dose"] for point in result["by_units"]["everywhere"]] == [2, 3]
    assert [point["dose"] for point in result["by_strength"]["probe"]][-1] == 2


def test_the_same_seed_gives_the_same_numbers_and_picture(capsys, study, eyes, tmp_path):
    seen = []
    for name in ("a", "b"):
        words = [*common(study, tmp_path / name), *FEW, "--segmenter", str(eyes)]
        status, out, err = run(capsys, "effect", *words, "--where", "everywhere")
        assert status == 0, err
        result = json.loads(out)
        result.pop("files")
        seen.append((result, (tmp_path / name / "effect.png").read_bytes()))
    assert seen[0] == seen[1]
    assert set(seen[0][0]["edits"]) == {"everywhere"}


def test_units_of_a_file_are_measured_and_said_in_words(capsys, study, eyes, tmp_path):
    Units("layer8x8", (5, 2), 8, rule="mine").save(tmp_path / "units.json")
    words = [*common(study, tmp_path), *FEW, "--segmenter", str(eyes), "--where", "probe"]
    words.remove("--json")
    status, out, err = run(capsys, "effect", *words, "--edit", str(tmp_path / "units.json"))
    assert status == 0, err
    assert "rule mine: 2 units of layer8x8, strength 1, on 40 fresh latents" in out
    assert "what was spot is now" in out
    assert "of 2 remove as much as the edit" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--where", "nowhere"], "everywhere"),
        (["--rule", "best"], "unknown rule 'best'"),
        (["--rule", "top:99"], "cannot take 99 units of 'layer8x8', which has 8"),
        (["--set", "strength=3"], "from 0 to 2"),
        (["--set", "threshold=1"], "below 1"),
        (["--concept", "wall"], "wall"),
        (["--segmenter", "nothing"], "no such segmenter"),
        (["--edit", "nothing.json"], "no such file"),
        (["--random-sets", "1"], "--random-sets"),
    ],
)
def test_a_mistake_is_one_line(capsys, study, eyes, tmp_path, words, message):
    given = [*common(study, tmp_path), *FEW, "--segmenter", str(eyes)]
    status, out, err = run(capsys, "effect", *given, *words)
    assert status == 2, err
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_segmenter_without_the_concept_is_one_line(capsys, study, tmp_path):
    status, _, err = run(capsys, "effect", *common(study, tmp_path))
    assert status == 2
    assert "the segmenter does not know 'spot'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("layer", "total", "of_another", "message"),
    [
        ("layer16x16", 4, False, "edits layer16x16, and --layer is layer8x8"),
        ("layer8x8", 16, False, "chosen among 16"),
        ("layer8x8", 8, True, "load that model"),
    ],
)
def test_units_of_another_layer_or_model_are_one_line(
    capsys,
    study,
    eyes,
    tmp_path,
    layer,
    total,
    of_another,
    message,
):
    path = tmp_path / "units.json"
    Units(layer, (0, 1), total, model="another" if of_another else None).save(path)
    words = [*common(study, tmp_path), *FEW, "--segmenter", str(eyes), "--edit", str(path)]
    status, _, err = run(capsys, "effect", *words)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_bar_is_there_before_torch_is_loaded(tmp_path):
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from dissect._utils import progress\n"
        "from dissect.cli import main\n"
        "import dissect.cli.effect as effect\n"
        "def shown(description, total, show=None, *, done=0):\n"
        "    print(description, 'torch' in sys.modules)\n"
        "    raise KeyboardInterrupt\n"
        "effect.progress_bar = shown\n"
        "main(['effect'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 130
    assert ended.stdout == "loading False\n"
