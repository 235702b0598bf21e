"""`dissect insert`, `dissect swap` and `--labels segmenter`."""

import json

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import avg_pool2d

import dissect
from dissect.cli import main
from dissect.models import latents_for, load
from dissect.probe.fit import fit_from_labels
from dissect.segmentation import Segmenter, UNet, load_unet, save_unet
from dissect.segmentation.pseudo_labels import pseudo_label
from dissect.surgery import inserted
from dissect.units import Units

CLASSES = ("wall", "spot", "door")


@pytest.fixture(scope="module", autouse=True)
def segmenter(study):
    """Beside the generator, a segmenter of light and dark."""
    generator = load(study / "g.safetensors")
    with torch.no_grad():
        light = avg_pool2d(generator(latents_for(generator, 30, 5)).mean(1, keepdim=True), 2)
    dark, bright = light.flatten().quantile(torch.tensor([0.3, 0.93])).tolist()
    return save_unet(study / "segmenter.safetensors", unet(dark, bright), card={}, half=False)


def unet(dark, bright):
    """A segmenter that calls squares of 2 x 2 pixels a door below `dark`, a spot above `bright`."""
    network = UNet(CLASSES, (4, 8)).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                if module.bias is not None:
                    module.bias.zero_()
        first, last = network.down[0], network.up[0]
        # The mean of the square's 12 values, plus 1, goes through both blocks as it is.
        first[0].weight[0, :, 1, 1] = 1 / 12
        first[1].bias[0] = 1
        first[3].weight[0, 0, 1, 1] = last[0].weight[0, 0, 1, 1] = 1
        wall, spot, door = network.classify.weight[:, 0].reshape(3, 4, 1, 1)
        spot += 1
        door -= 1
        bias = torch.tensor([0.0, -1 - bright, 1 + dark])
        network.classify.bias.copy_(bias.repeat_interleave(4))
        assert not wall.any()
    return network


def run(capsys, study, out, command, *words):
    """Exit status, the result or None, and stderr of one command."""
    given = ["--model", str(study / "g.safetensors"), "--concept", "spot", "--out", str(out)]
    given += ["--segmenter", str(study / "segmenter.safetensors"), "--json"]
    if not any(word.startswith("segmenter") for word in words):
        given += ["--boxes", str(study / "spot.json")]
    if command in ("insert", "swap"):
        given += ["--k", "3"]
    if command in ("ablate", "insert", "swap"):
        given += ["--n", "4", "--pool", "12"]
    with pytest.raises(SystemExit) as ended:
        main([command, *given, *words])
    stdout, stderr = capsys.readouterr()
    return ended.value.code, json.loads(stdout) if stdout else None, stderr


def exported(capsys, study, folder):
    """The generator with the edit of `edit.json` in it."""
    file = folder / "edited.safetensors"
    words = ["export", folder / "edit.json", "--model", study / "g.safetensors", "--file", file]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, words), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (ended.value.code, result["how"], result["difference"]) == (0, "module", 0)
    return load(file)


def test_a_concept_is_put_in_at_a_region_and_saved(capsys, study, tmp_path):
    status, result, err = run(capsys, study, tmp_path, "insert", "--region", "8,4,8,8")
    assert status == 0, err
    assert result["cells"] == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert result["n_selected"] == 3
    assert result["n_samples"] == 12
    assert result["inserted_ci"][0] <= result["inserted"] <= result["inserted_ci"][1]
    assert [path.rpartition("/")[2] for path in result["files"]] == [
        "insert.png",
        "edit.json",
    ]
    # Three rows of images of 32 pixels, enlarged three times.
    assert Image.open(tmp_path / "insert.png").height > 3 * 32 * 3
    written = exported(capsys, study, tmp_path)
    # Inside the region the units have the values that the file tells.
    acts = dissect.activations(written, "layer8x8", dissect.latents(6, seed=9, size=8))
    edit = written.layer8x8.edit
    for unit in result["units"]:
        inside = acts[:, unit, 1:3, 2:4]
        assert torch.equal(inside, edit.values[unit].expand_as(inside))


def test_without_a_region_there_is_a_map(capsys, study, tmp_path):
    status, result, err = run(capsys, study, tmp_path, "insert")
    assert status == 0, err
    assert [len(row) for row in result["map"]] == [7] * 7
    assert result["patch"] == [2, 2]
    assert len(result["cells"]) == 4
    assert Image.open(tmp_path / "insert_map.png").width > 1000


def test_a_concept_is_swapped_for_another(capsys, study, tmp_path):
    status, result, err = run(capsys, study, tmp_path, "swap", "door", "--rule", "top:2")
    assert status == 0, err
    assert (result["swap"], result["n_removed"], result["n_put"]) == ("door", 2, 3)
    for edit in ("removed", "swapped", "random"):
        total = sum(result[edit]["became"].values())
        assert total == pytest.approx(1) or total == 0
    assert exported(capsys, study, tmp_path).layer8x8.edit is not None
    assert Image.open(tmp_path / "swap_became.png").width > 500
    assert Image.open(tmp_path / "swap.png").height > 4 * 32 * 3


def test_labels_of_the_segmenter_give_the_probe_of_the_library(capsys, study, tmp_path):
    words = ["--labels", "segmenter:25", "--rule", "top:3"]
    status, result, err = run(capsys, study, tmp_path, "probe", *words)
    assert status == 0, err
    assert (result["labels"], result["n_images"]) == ("segmenter:25", 25)
    segmenter = Segmenter.from_unet(load_unet(study / "segmenter.safetensors")[0])
    generator = load(study / "g.safetensors")
    labels = pseudo_label(generator, segmenter, "spot", 25)
    fitted = fit_from_labels(generator, labels, "layer8x8")
    assert result["units"] == list(fitted.units("top:3").indices)
    assert result["auc"] == fitted.score.auc
    # ablate looks at the same samples, whatever its own seed.
    status, again, err = run(capsys, study, tmp_path, "ablate", *words, "--seed", "8")
    assert status == 0, err
    assert again["units"] == result["units"]


def test_the_edit_in_the_file_is_that_of_the_library(capsys, study, tmp_path):
    _, result, _ = run(capsys, study, tmp_path, "insert", "--region", "8,4,8,8")
    generator, written = load(study / "g.safetensors"), exported(capsys, study, tmp_path)
    units = Units("layer8x8", tuple(result["units"]), 8)
    cells = torch.zeros(8, 8)
    cells[1:3, 2:4] = 1
    z = dissect.latents(5, seed=77, size=8)
    values = written.layer8x8.edit.values[list(units.indices)]
    with torch.no_grad(), inserted(generator, units, where=cells, values=values):
        assert torch.equal(generator(z), written(z))


def test_an_effect_is_measured_on_units_that_the_segmenter_labelled(capsys, study, tmp_path):
    words = ["--labels", "segmenter:25", "--rule", "top:3"]
    more = ["--n", "12", "--random-sets", "2", "--control-n", "10"]
    status, result, err = run(capsys, study, tmp_path, "effect", *words, *more)
    assert status == 0, err
    assert result["labels"] == "segmenter:25"
    _, probed, _ = run(capsys, study, tmp_path, "probe", *words)
    assert result["units"] == probed["units"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["swap", "dragon"], "does not know 'dragon'"),
        (["swap", "door", "--rule", "auto"], "name another rule"),
        (["insert", "--region", "1,2,3"], "x,y,width,height"),
        (["insert", "--k", "99"], "cannot take 99 units"),
        (["insert", "--level", "2"], "--level"),
        (["ablate", "--labels", "segmenter:9"], "from 10 to 100000"),
        (["ablate", "--labels", "nobody"], "use boxes, segmenter or segmenter:N"),
        (["ablate", "--labels", "segmenter", "--boxes", "x.json"], "leave one out"),
        (["insert", "--segmenter", "nothing.safetensors"], "no such segmenter"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, study, tmp_path, words, message):
    status, result, err = run(capsys, study, tmp_path / "out", *words)
    assert (status, result) == (2, None), err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_boxes_that_nobody_drew_are_a_hint_at_the_segmenter(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["probe", "--concept", "dragon", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert "add --labels segmenter" in capsys.readouterr().err
