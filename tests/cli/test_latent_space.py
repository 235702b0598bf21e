import json
from pathlib import Path

import pytest
import torch
from helpers.command_line import run
from PIL import Image

from dissect.data.synthetic.faces import ATTRIBUTES
from dissect.latent_space import Direction, Exemplars
from dissect.models import Generator, fingerprint, load, save_checkpoint
from dissect.segmentation import AttributeNetwork, save_attribute_network

CARD = {"training": {"source": "faces"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny generator of 64x64 images whose card says that it learnt faces."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(2)
    generator = Generator(latent_size=8, width=4, image_size=64, kernel=4).eval()
    with torch.no_grad():
        for layer in generator.children():
            layer.conv.weight.normal_(0, 0.4)
    return str(save_checkpoint(folder / "g.safetensors", generator, card=CARD))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "cache"))


def said(capsys, *words):
    """The JSON object of a command that went well."""
    status, out, err = run(capsys, *words, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert all(Path(path).is_file() for path in result["files"])
    return result


def refused(capsys, *words):
    """The one line of a command that was refused."""
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    return err


def test_walk_draws_rows_and_measures_them(capsys, model, tmp_path):
    words = ("walk", "--model", model, "--n", "2", "--columns", "3", "--substeps", "2", "--gif")
    result = said(capsys, *words, "--pool", "40", "--out", str(tmp_path))
    assert (result["n"], result["steps_measured"]) == (2, 4)
    measured = result["largest_over_mean"]
    assert len(measured) == 3
    for spaces in measured.values():
        assert set(spaces) == {"pixels", "features"}
        assert all(value["ratio"] >= 1 for value in spaces.values())
    fade = measured["fade between the ends' nearest training images"]
    assert fade["pixels"]["ratio"] == pytest.approx(1, abs=0.01)
    details = json.loads((tmp_path / "walk.json").read_text())
    assert len(details["curves"]["smile"]) == 2
    assert len(details["curves"]["smile"][0]) == 5
    assert Image.open(tmp_path / "walk.gif").n_frames == 9
    bare = said(
        capsys, *words[:-1], "--reader", "none", "--no-control", "--out", str(tmp_path / "bare")
    )
    assert list(bare["largest_over_mean"]) == ["walk"]
    assert Image.open(tmp_path / "bare" / "walk.png").size == ((3 * 65 - 1) * 2, (2 * 65 - 1) * 2)


def test_more_curves_than_can_be_told_apart_are_refused(capsys, model, tmp_path):
    many = [word for name in ("smile",) * 7 for word in ("--concept", name)]
    words = ("walk", "--model", model, "--n", "1", "--columns", "2", "--no-control", *many)
    assert "at most 6 curves" in refused(capsys, *words, "--out", str(tmp_path))


def test_walk_is_the_same_from_the_same_seed(capsys, model, tmp_path):
    words = ("walk", "--model", model, "--n", "1", "--columns", "3", "--no-control")
    for place, seed in (("a", "4"), ("b", "4"), ("c", "5")):
        said(capsys, *words, "--seed", seed, "--out", str(tmp_path / place))
    pictures = {place: (tmp_path / place / "walk.png").read_bytes() for place in "abc"}
    assert pictures["a"] == pictures["b"] != pictures["c"]


def exemplars(model, path, **changes):
    values = {
        "concepts": {"one": (0, 1, 2), "two": (3, 4, 5), "three": (6, 7, 8)},
        "n": 20,
        "fingerprint": fingerprint(load(model)),
        **changes,
    }
    return str(Exemplars(**values).save(path))


def test_arithmetic_from_exemplars(capsys, model, tmp_path):
    listed = exemplars(model, tmp_path / "e.json")
    result = said(
        capsys,
        *("arithmetic", "one - two + 2 * three", "--model", model, "--exemplars", listed),
        *("--out", str(tmp_path)),
    )
    assert result["expression"] == {"one": 1, "two": -1, "three": 2}
    assert result["exemplars"]["three"] == [6, 7, 8]
    assert set(result["attributes"]) == {"result", "pixel_sum"}
    assert Image.open(tmp_path / "arithmetic.png").width > 600


def test_arithmetic_by_attributes_with_trials(capsys, model, tmp_path):
    result = said(
        capsys,
        *("arithmetic", "up - down", "--model", model, "--pool", "60"),
        *("--find", "up=skin_light>-9", "--find", "down=skin_light<9"),
        *("--expect", "yaw>-900", "--n", "5", "--out", str(tmp_path)),
    )
    assert [trial["exemplars"] for trial in result["trials"]] == [1, 3, 5, 10]
    for trial in result["trials"]:
        assert trial["latent"]["wanted"] == trial["random"]["wanted"] == 1
        assert trial["pixels"]["both"] == trial["pixels"]["ordinary"]
    assert result["shown"]["latent"]["wanted"] == 1


def test_a_sum_says_what_it_and_its_neighbours_show(capsys, model, tmp_path):
    listed = exemplars(model, tmp_path / "e.json")
    words = ("arithmetic", "one - two + three", "--model", model, "--exemplars", listed)
    status, out, err = run(capsys, *words, "--expect", "yaw<-900", "--out", tmp_path)
    assert status == 0
    assert "random latents as far from 'three'" in out + err
    shown = json.loads((tmp_path / "arithmetic.json").read_text())["shown"]
    for name in ("latent", "pixels", "random"):
        assert shown[name]["wanted"] == shown[name]["both"] == 0
        assert 0 <= shown[name]["ordinary"] <= 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("one - - two",), "'one - [here]- two'"),
        (("one + four",), "unknown concept 'four'"),
        (("one", "--n-exemplars", "4"), "3 exemplars, fewer than --n-exemplars 4"),
        (("one", "--find", "up"), "write NAME=CONDITIONS"),
        (("up", "--find", "up=smyle>1"), "unknown attribute 'smyle'"),
        (("up", "--find", "up=yaw>9999", "--pool", "30"), "none of 30 samples"),
        (("one", "--n", "5"), "--n needs --find"),
        (("one", "--reader", "no"), "unknown reader 'no'"),
        (("one", "--reader", "none", "--expect", "yaw>1"), "need a reader"),
    ],
)
def test_a_mistake_in_arithmetic_is_one_line(capsys, model, tmp_path, words, line):
    listed = exemplars(model, tmp_path / "e.json")
    common = ("--model", model, "--exemplars", listed, "--out", str(tmp_path))
    assert line in refused(capsys, "arithmetic", *words, *common)


def test_exemplars_of_another_model_are_refused(capsys, model, tmp_path):
    listed = exemplars(model, tmp_path / "e.json", fingerprint="0" * 16)
    for command in (("arithmetic", "one"), ("turn", "yaw")):
        line = refused(capsys, *command, "--model", model, "--exemplars", listed)
        assert "latents of another model" in line


TURN = ("--pool", "300", "--n", "10", "--rows", "2")


def test_turn_by_every_method(capsys, model, tmp_path):
    result = said(capsys, "turn", "skin_light", "--model", model, *TURN, "--out", str(tmp_path))
    found = result["directions"]
    methods = ["exemplars", "regression", "held", "components"]
    assert [row["method"] for row in found] == methods
    for row in found:
        assert 0 <= row["r_squared"] <= 1
        assert 0 <= row["monotone"] <= 1
        assert len(row["drift"]) == len(row["random_drift"]) == 9
    assert found[1]["reach"] > 0
    saved = Direction.load(tmp_path / "turn-skin_light-regression.json")
    saved.check(fingerprint(load(model)))
    assert saved.length == pytest.approx(found[1]["length"], rel=1e-4)
    again = said(
        capsys,
        *("turn", "skin_light", "--model", model, *TURN[2:], "--out", str(tmp_path / "again")),
        *("--direction", str(tmp_path / "turn-skin_light-regression.safetensors")),
    )
    assert again["directions"][0]["r_squared"] == pytest.approx(found[1]["r_squared"])
    assert Image.open(tmp_path / "turn-skin_light-held.png").width > 11 * 128


def test_turn_along_paths_of_their_own(capsys, model, tmp_path):
    words = ("turn", "skin_light", "--model", model, *TURN, "--method", "steered")
    result = said(capsys, *words, "--out", str(tmp_path))
    (row,) = result["directions"]
    assert row["method"] == "steered"
    assert row["reach"] > 0
    assert Image.open(tmp_path / "turn-skin_light-steered.png").width > 11 * 128
    assert not list(tmp_path.glob("*.safetensors"))


def test_turn_among_those_that_meet_conditions(capsys, model, tmp_path):
    words = ("turn", "skin_light", "--model", model, *TURN, "--method", "regression")
    everyone = said(capsys, *words, "--out", str(tmp_path / "a"))
    said(capsys, "evaluate", "attributes", "--model", model, "--n", "0", "--out", str(tmp_path))
    smiles = json.loads((tmp_path / "attributes.json").read_text())["attributes"]["smile"]
    half = f"smile>{sorted(smiles)[50]:.4f}"
    some = said(capsys, *words, "--only", half, "--out", str(tmp_path / "b"))
    assert some["only"] == half
    assert some["directions"][0]["reach"] != everyone["directions"][0]["reach"]
    loose = said(capsys, *words, "--only", "smile>-9", "--out", str(tmp_path / "c"))
    assert loose["directions"] == everyone["directions"]


def test_another_network_can_measure(capsys, model, tmp_path):
    network = AttributeNetwork(ATTRIBUTES).eval()
    path = save_attribute_network(tmp_path / "readout.safetensors", network, card={})
    words = ("turn", "yaw", "--model", model, *TURN, "--method", "held", "--length", "1")
    plain = said(capsys, *words, "--out", str(tmp_path / "a"))
    other = said(capsys, *words, "--readout", str(path), "--out", str(tmp_path / "b"))
    assert plain["directions"][0]["reach"] != other["directions"][0]["reach"]
    vectors = [Direction.load(tmp_path / run / "turn-yaw-held.json").vector for run in "ab"]
    assert torch.equal(*vectors)


def test_turn_between_ends_picked_by_eye_needs_no_reader(capsys, model, tmp_path):
    listed = exemplars(model, tmp_path / "e.json", concepts={"left": (1, 2), "right": (3, 4)})
    result = said(
        capsys,
        *("turn", "side", "--model", model, "--exemplars", listed, "--reader", "none"),
        *("--rows", "2", "--out", str(tmp_path)),
    )
    assert result["n"] == 0
    assert [row["method"] for row in result["directions"]] == ["exemplars"]
    line = refused(
        capsys,
        *("turn", "side", "--model", model, "--exemplars", listed, "--reader", "none"),
        *("--only", "yaw>1"),
    )
    assert "need a reader" in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("yaws",), "unknown attribute 'yaws'"),
        (("yaw", "--method", "magic"), "unknown method 'magic'"),
        (("yaw", "--reader", "none"), "choose both ends by eye"),
        (("yaw", "--direction", "none.json"), "no such file"),
        (("yaw", "--method", "steered", "--length", "2"), "of each sample"),
        (("yaw", "--only", "smyle>1"), "unknown attribute 'smyle'"),
        (("yaw", "--only", "smile>99", "--pool", "20"), "fewer than one sample in 100"),
        (("side/way",), "use letters and digits"),
        (("yaw", "--readout", "none"), "no such file"),
        (("bed", "--reader", "bedrooms", "--readout", "none"), "no such segmenter"),
    ],
)
def test_a_mistake_in_turn_is_one_line(capsys, model, words, line):
    assert line in refused(capsys, "turn", *words, "--model", model)


def test_a_direction_of_another_model_is_refused(capsys, model, tmp_path):
    path = Direction(torch.ones(8), "yaw", "held", "0" * 16).save(tmp_path / "d.json")
    assert "another model" in refused(
        capsys, "turn", "yaw", "--model", model, "--direction", str(path)
    )


def test_attributes_of_samples_are_listed(capsys, model, tmp_path):
    words = ("evaluate", "attributes", "--model", model, "--samples", "12", "--n", "0")
    result = said(capsys, *words, "--out", str(tmp_path))
    assert result["fingerprint"] == fingerprint(load(model))
    listed = json.loads((tmp_path / "attributes.json").read_text())["attributes"]
    assert len(listed["yaw"]) == 12
    assert Image.open(tmp_path / "contact.png").height > 2 * 128


def test_what_bedrooms_show_is_listed_and_checked(capsys, model, tmp_path):
    words = ("evaluate", "attributes", "--model", model)
    rooms = (*words, "--reader", "bedrooms", "--n", "10", "--samples", "5")
    result = said(capsys, *rooms, "--out", str(tmp_path))
    assert {"window", "window_side"} <= set(result["names"])
    assert (result["n"], result["samples"]) == (10, 5)
    assert result["mean_error"]["window"] < 0.05
    assert "nothing reads" in refused(capsys, *words, "--reader", "none")
