import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dissect.segmentation
from dissect._utils.errors import DissectError
from dissect.cli import main
from dissect.data import source
from dissect.data.synthetic.faces import ATTRIBUTES
from dissect.segmentation import (
    AttributeNetwork,
    AttributeReader,
    load_attribute_network,
    save_attribute_network,
)
from dissect.segmentation.evaluate_attributes import evaluate_attributes, r_squared
from dissect.training.attributes import AttributeConfig, train_attributes

TINY = {"image_size": 16, "widths": (4, 6), "hidden": 5}


def test_every_image_has_every_attribute():
    network = AttributeNetwork(("a", "b", "c"), **TINY).eval()
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
    assert network.features(torch.zeros(2, 3, 16, 16)).shape == (2, 5 + 2 * (4 + 6))
    with pytest.raises(DissectError, match=r"16, 16\); got \(2, 3, 32, 32\)"):
        network(torch.zeros(2, 3, 32, 32))
    with pytest.raises(DissectError, match="halve 32 pixels"):
        AttributeNetwork(("a",), 32, (4, 6), 5)


def test_attributes_come_in_their_own_units():
    network = AttributeNetwork(("a", "b"), **TINY).eval()
    images = torch.randn(3, 3, 16, 16)
    plain = network(images)
    network.mean.copy_(torch.tensor([10.0, -1]))
    network.spread.copy_(torch.tensor([5.0, 2]))
    assert torch.allclose(
        network(images), plain * torch.tensor([5.0, 2]) + torch.tensor([10.0, -1])
    )


def test_a_saved_network_reads_alike(tmp_path):
    network = AttributeNetwork(("a", "b"), **TINY).eval().half().float()
    path = save_attribute_network(tmp_path / "a.safetensors", network, card={"steps": 3})
    again, card = load_attribute_network(path)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(again(images), network(images))
    assert (again.names, card) == (("a", "b"), {"steps": 3})
    reader = AttributeReader.from_network(again)
    assert torch.equal(reader.read(images), again(images))
    with pytest.raises(DissectError, match="unknown attribute 'd'; known ones: 'a', 'b'"):
        reader.column("d")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_network_is_one_line(tmp_path, share):
    path = save_attribute_network(
        tmp_path / "a.safetensors", AttributeNetwork(("a",), **TINY), card={}
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DissectError, match="is damaged"):
        load_attribute_network(path)
    with pytest.raises(DissectError, match="no such file"):
        load_attribute_network(tmp_path / "none")


def test_r_squared_by_hand():
    true = np.array([[0.0, 1], [2, 1], [4, 7]])
    found = np.array([[0.0, 3], [2, 3], [4, 3]])
    # Squares from the mean of the second column: 4 + 4 + 16; of the errors: the same.
    assert r_squared(true, found).tolist() == [1, 0]


@pytest.fixture
def faces(monkeypatch, tmp_path):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "cache"))
    return source("faces", size=32, count=96, show_progress=False)


def test_a_network_learns_the_same_from_the_same_seed(faces):
    config = AttributeConfig(steps=60, batch_size=16, widths=(8, 12, 16), hidden=24)
    seen = []
    first = train_attributes(faces, config, progress=lambda *row: seen.append(row))
    second = train_attributes(faces, config)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert len(seen) == 6
    assert all(n == 10 for n, _ in seen)
    losses = [float(note.rpartition(" ")[2]) for _, note in seen]
    assert losses[-1] < 0.8 * losses[0]
    assert not first.training


def test_attributes_are_learnt_of_faces_only(monkeypatch, tmp_path):
    monkeypatch.setenv("DISSECT_CACHE", str(tmp_path / "cache"))
    rooms = source("bedrooms", size=32, count=4, show_progress=False)
    with pytest.raises(DissectError, match="rendered faces only"):
        train_attributes(rooms)


BUNDLED = (
    Path(dissect.__file__).parent / "segmentation" / "weights" / "faces-attributes.safetensors"
)


def test_the_bundled_network_reads_faces_that_it_has_not_seen():
    assert BUNDLED.stat().st_size < 2_000_000
    network, card = load_attribute_network()
    assert network.names == ATTRIBUTES
    found = evaluate_attributes(AttributeReader.from_network(network), n=150, seed=3)
    shares = dict(zip(found.names, found.r_squared, strict=True))
    assert shares["yaw"] > 0.95
    assert shares["glasses"] > 0.9
    assert shares["hair_length"] > 0.85
    assert min(shares.values()) > 0.6
    errors = dict(zip(found.names, found.mean_error, strict=True))
    assert errors["yaw"] < 5
    assert card["source"] == "faces"


def test_the_held_out_error_is_printed(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "evaluate",
                "attributes",
                "--n",
                "20",
                "--samples",
                "2",
                "--out",
                str(tmp_path),
                "--json",
            ]
        )
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n"] == 20
    assert set(said["r_squared"]) == set(ATTRIBUTES)
    assert said["mean_error"]["yaw"] < 10
