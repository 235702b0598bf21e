"""`--rule`, `dissect search` and `dissect rules` on a tiny generator with a tiny segmenter."""

import json
from dataclasses import replace

import pytest
import torch
from helpers.command_line import run
from PIL import Image

from dissect._utils.images import to_images
from dissect.annotations import AnnotatedImage, Annotations, Box, pixels_digest
from dissect.hooks import activations
from dissect.models import Generator, fingerprint, generate, latents_for, load, save_checkpoint
from dissect.segmentation import Segmenter, UNet, load_unet, save_unet
from dissect.selection import auto, scores, search
from dissect.selection.objective import Metrics
from dissect.selection.search import SearchResult
from dissect.selection.stored import load_results, save_results
from dissect.selection.strengths import StrengthObjective
from dissect.surgery.intervention import Intervention
from dissect.units import Units


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A generator, boxes where its unit 0 is strong, and a segmenter that knows a spot."""
    folder = tmp_path_factory.mktemp("rules")
    torch.manual_seed(3)
    generator = Generator(latent_size=8, width=4, image_size=32, kernel=4).eval()
    with torch.no_grad():
        for layer in (generator.layer4x4, generator.layer8x8, generator.layer16x16, generator.rgb):
            layer.conv.weight.normal_(0, 0.3)
    save_checkpoint(folder / "g.safetensors", generator)
    images = to_images(generate(generator, latents_for(generator, 30, 5)))
    strength = activations(generator, "layer8x8", latents_for(generator, 30, 5))[:, 0]
    annotated = []
    for place, image in enumerate(images):
        row, column = divmod(int(strength[place].argmax()), 8)
        boxes = (Box(column * 4, row * 4, 4, 4),) if place % 3 == 0 else ()
        digest = pixels_digest(image)
        annotated.append(AnnotatedImage(32, 32, boxes, seed=5, index=place, sha256=digest))
    Annotations("spot", tuple(annotated), fingerprint(generator)).save(folder / "spot.json")
    network = UNet(("wall", "spot", "bed"), widths=(6, 8)).eval()
    with torch.no_grad():
        network.classify.weight.normal_(0, 1)
        network.classify.bias.zero_()
        wall, spot, bed = network(generate(generator, latents_for(generator, 50, 6))).unbind(1)
        # A spot on a sixth of the pixels, a bed on another.
        network.classify.bias[4:8] = -(spot - torch.maximum(wall, bed)).flatten().quantile(5 / 6)
        network.classify.bias[8:12] = -(bed - wall).flatten().quantile(5 / 6)
    save_unet(folder / "segmenter.safetensors", network, card={})
    return folder


def common(study, out):
    return [
        *("--model", str(study / "g.safetensors"), "--boxes", str(study / "spot.json")),
        *("--concept", "spot", "--segmenter", str(study / "segmenter.safetensors")),
        *("--out", str(out), "--json"),
    ]


@pytest.mark.parametrize("rule", ["iou:2", "ace:2", "causal:2", "gradient:2"])
def test_a_rule_that_asks_the_segmenter_chooses_units(capsys, study, tmp_path, rule):
    words = [*common(study, tmp_path), "--n", "3"]
    status, out, _ = run(capsys, "ablate", "--rule", rule, *words)
    assert status == 0
    result = json.loads(out)
    assert result["rule"] == rule
    assert len(result["units"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ablate", "--rule", "wild:3"], "unknown rule 'wild:3'"),
        (["ablate", "--rule", "iou"], "count of at least 1"),
        (["ablate", "--rule", "causal:9"], "which has 8"),
        (["probe", "--rule", "gradient:99"], "which has 8"),
        (["probe", "--rule", "auto"], "auto chooses units, strength and gate together"),
        (["ablate", "--rule", "auto", "--set", "strength=2"], "leave out --set"),
        (["effect", "--rule", "auto", "--set", "threshold=0.3"], "leave out --set"),
        (["rules", "--concept", "dragon"], "dragon"),
        (["search", "--layer", "layer9x9"], "layer8x8"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, study, tmp_path, words, message):
    command, *rest = words
    status, out, err = run(capsys, command, *common(study, tmp_path), *rest)
    assert status == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert message in err


def test_a_concept_that_the_segmenter_does_not_know_is_one_line(capsys, study, tmp_path):
    words = common(study, tmp_path)
    save_unet(tmp_path / "other.safetensors", UNet(("wall", "bed"), widths=(6, 8)), card={})
    words[words.index("--segmenter") + 1] = str(tmp_path / "other.safetensors")
    for command in (["ablate", "--rule", "ace:2"], ["rules"], ["search"]):
        status, _, err = run(capsys, *command, *words)
        assert status == 2
        assert "does not know 'spot'" in err


def searched(study, where):
    """A result for the generator, by hand."""
    generator = load(study / "g.safetensors")
    units = Units("layer8x8", (3, 0), 8, (), "spot", "auto", fingerprint(generator))
    metrics = Metrics(0.99, 0.0, 0.9, 0.98, 0.01, 100)
    edit = Intervention(units, strength=0.8, unit_strengths=(1.5, 0.5))
    return SearchResult(where, edit, (), metrics, metrics, meets_objective=True)


def test_ablate_takes_what_auto_chose_before(capsys, study, tmp_path):
    choices = {"probe": searched(study, "segmenter"), "everywhere": searched(study, "everywhere")}
    save_results(tmp_path / "search.json", choices)
    words = [*common(study, tmp_path), "--n", "3"]
    status, out, _ = run(capsys, "ablate", *words)
    assert status == 0
    result = json.loads(out)
    assert result["rule"] == "auto"
    assert result["units"] == [3, 0]
    assert (result["strength"], result["unit_strengths"]) == (0.8, [1.5, 0.5])
    assert set(result["edits"]) == {"probe", "everywhere"}
    # Five rows: before, two edits, and their controls.
    assert Image.open(tmp_path / "ablate.png").height > 5 * 32 * 3
    # The paper's rule is one word away, and an option of the edit's own means it, too.
    for more in (["--rule", "positive"], ["--set", "strength=1.2"]):
        _, out, _ = run(capsys, "ablate", *words, *more)
        assert json.loads(out)["rule"] == "positive"


def test_a_choice_of_another_model_is_passed_over(capsys, study, tmp_path):
    other = Generator(latent_size=8, width=4, image_size=32, kernel=4)
    save_checkpoint(tmp_path / "other.safetensors", other)
    choice = searched(study, "everywhere")
    foreign = Units("layer8x8", (3, 0), 8, (), "spot", "auto", fingerprint(other.eval()))
    edit = Intervention(foreign, strength=1.5)
    metrics = choice.holdout
    save_results(
        tmp_path / "search.json",
        {"everywhere": SearchResult("everywhere", edit, (), metrics, metrics, True)},
    )
    status, out, _ = run(capsys, "ablate", *common(study, tmp_path), "--n", "2")
    assert status == 0
    assert json.loads(out)["rule"] == "positive"


def test_a_chosen_edit_can_be_saved(capsys, study, tmp_path):
    choice = searched(study, "everywhere")
    save_results(tmp_path / "search.json", {"everywhere": choice, "probe": choice})
    words = [*common(study, tmp_path), "--n", "2", "--where", "everywhere"]
    assert run(capsys, "ablate", *words)[0] == 0
    file = tmp_path / "edited.safetensors"
    model = ("--model", study / "g.safetensors")
    words = ["export", tmp_path / "edit.json", *model, "--file", file, "--plain", "--json"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    saved = json.loads(out)
    assert saved["how"] == "weights"
    assert saved["difference"] < 1e-5
    generator, written = load(study / "g.safetensors"), load(file)
    z = latents_for(generator, 4, 9)
    with choice.intervention.applied(generator), torch.inference_mode():
        wanted = generator(z)
    torch.testing.assert_close(written(z), wanted, atol=1e-5, rtol=0)


def test_search_then_rules_from_end_to_end(capsys, study, tmp_path, monkeypatch):
    # Few steps and few labels: what is learned is of no matter here.
    monkeypatch.setattr(search, "_STRENGTHS", replace(search._STRENGTHS, steps=3))
    monkeypatch.setattr(search, "_STEPS_AFTER_CUT", 2)
    monkeypatch.setattr(scores, "StrengthObjective", lambda: StrengthObjective(steps=3))
    monkeypatch.setattr(auto, "_GATE_SAMPLES", 60)
    segmenter = Segmenter.from_unet(load_unet(study / "segmenter.safetensors")[0])
    generator = load(study / "g.safetensors")
    seen = segmenter.labels(generate(generator, latents_for(generator, 20, 5)))
    assert 0 < (seen == 1).float().mean() < 1
    words = common(study, tmp_path)
    status, out, err = run(capsys, "search", "--n", "20", *words)
    assert (status, err) == (0, "")
    result = json.loads(out)
    names = ["search.json", "edit.json", "edit-everywhere.json"]
    assert result["files"] == [str(tmp_path / name) for name in names]
    assert set(result["edits"]) == {"probe", "everywhere"}
    assert set(load_results(tmp_path / "search.json")) == {"probe", "everywhere"}
    status, out, err = run(capsys, "rules", "--n", "20", "--search-n", "20", *words)
    assert (status, err) == (0, "")
    result = json.loads(out)
    names = {"auto", "positive", "iou", "ace", "causal", "gradient", "random"}
    assert set(result["rules"]["probe"]) == set(result["rules"]["everywhere"]) == names
    point = result["rules"]["probe"]["auto"][0]
    assert point["removed_ci"][0] <= point["removed"] <= point["removed_ci"][1]
    assert {one["rule"] for one in result["advantages"]} == names - {"auto", "random"}
    assert Image.open(tmp_path / "rules.png").width > 1000
