"""A fitted probe: its probability, its file, and data that cannot be fitted."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.probe import QUICK, boxes_on_grid, small_probe, telling_units
from torch import Tensor

from dissect._utils.errors import DissectError
from dissect.probe import Probe, ProbeSettings, fit_probe


@pytest.fixture(scope="module")
def probe() -> Probe:
    return small_probe()


def test_the_probability_is_the_logistic_function_of_the_weighted_units(probe: Probe) -> None:
    weight = torch.tensor([1.0, -2.0, 0.0, 0.5], dtype=torch.float64)
    made = replace(probe, weight=weight, bias=0.25)
    activations = torch.zeros(2, 4, 1, 3)
    activations[1, :, 0, 2] = torch.tensor([2.0, 0.5, 9.0, 1.0])
    probability = made.probability(activations)
    assert probability.shape == (2, 1, 3)
    assert probability[0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-0.25)))
    assert probability[1, 0, 2].item() == pytest.approx(1 / (1 + math.exp(-1.75)))


def test_the_probability_stays_on_the_device_and_at_least_in_single_precision(
    probe: Probe,
) -> None:
    activations = torch.randn(1, 4, 2, 2)
    assert probe.probability(activations.to("meta")).device.type == "meta"
    assert probe.probability(activations.half()).dtype == torch.float32
    assert probe.probability(activations.double()).dtype == torch.float64


def test_the_probability_is_high_in_boxes_and_low_outside() -> None:
    coverage = boxes_on_grid(images=40)
    units = telling_units(coverage, noise=0.1)
    probability = fit_probe(units, coverage, **QUICK).probability(units)
    assert (probability[coverage > 0] > 0.5).all()
    assert (probability[coverage == 0] < 0.5).all()


@pytest.mark.parametrize("shape", [(1, 5, 2, 2), (4, 2, 2), (4,)])
def test_the_probability_of_another_layer_is_refused(probe: Probe, shape: tuple[int, ...]) -> None:
    with pytest.raises(DissectError, match=r"the probe reads \(N, 4, H, W\) of 'conv', not"):
        probe.probability(torch.zeros(shape))


def test_a_probe_comes_back_from_a_file_to_the_last_digit(probe: Probe, tmp_path: Path) -> None:
    path = probe.save(tmp_path / "probe.json")
    loaded = Probe.load(path)
    for name in ("weight", "scale", "sign_stability"):
        assert torch.equal(getattr(loaded, name), getattr(probe, name))
    for name in ("layer", "concept", "bias", "score", "model", "settings"):
        assert getattr(loaded, name) == getattr(probe, name)
    assert loaded.settings == ProbeSettings(**{key: QUICK[key] for key in QUICK if key != "layer"})
    assert Probe.from_dict(probe.to_dict()).to_dict() == probe.to_dict() == loaded.to_dict()


def test_a_probe_prints_in_one_line_and_has_a_row_for_each_unit(probe: Probe) -> None:
    auc = f"{probe.score.auc:.4g}"
    assert repr(probe) == f"Probe(layer=conv, concept=window, units=4, auc={auc})"
    rows = probe.rows()
    assert [row["unit"] for row in rows] == [0, 1, 2, 3]
    assert [row["weight"] for row in rows] == probe.weight.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "units"}, "not a probe file"),
        ({"layer": None}, "'layer' must be a valid string"),
        ({"weight": []}, "'weight' .* at least 1 item"),
        ({"weight": [1, 2, "x", 4]}, r"'weight\[2\]' must be a valid number, not 'x'"),
        ({"scale": [1.0]}, "'scale' must hold 4 numbers"),
        ({"bias": float("nan")}, "'bias' must be a finite number, not nan"),
        ({"score": 0.98}, "'score' must be an object"),
        ({"score": {}}, "'score' has no 'auc'"),
        ({"settings": {"folds": 1}}, "folds must be at least 2"),
        ({"settings": {"fold": 5}}, "'settings' does not know 'fold'; it knows .*'folds'"),
    ],
)
def test_a_broken_file_is_an_error_of_one_line(
    probe: Probe, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = probe.save(tmp_path / "probe.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DissectError, match=message) as caught:
        Probe.load(path)
    assert str(caught.value).startswith(str(path))


def with_nan(units: Tensor) -> Tensor:
    units = units.clone()
    units[0, 0, 0, 0] = float("nan")
    return units


GOOD = boxes_on_grid()
UNITS = telling_units(GOOD)
ONE_IMAGE = torch.where(torch.arange(12).view(-1, 1, 1) < 1, GOOD, 0.0)


@pytest.mark.parametrize(
    ("activations", "coverage", "message"),
    [
        (UNITS[0], GOOD, r"activations are \(N, C, H, W\), not \(4, 4, 4\)"),
        (UNITS[:, :0], GOOD, r"activations are \(N, C, H, W\), not \(12, 0, 4, 4\)"),
        (UNITS, GOOD[:5], r"need a coverage of \(12, 4, 4\), not \(5, 4, 4\)"),
        (UNITS, torch.zeros(12, 8, 8), r"need a coverage of \(12, 4, 4\), not \(12, 8, 8\)"),
        (with_nan(UNITS), GOOD, "not finite"),
        (torch.ones(12, 4, 4, 4), GOOD, "every unit is constant"),
        (UNITS, GOOD * 1.5, "from 0 to 1"),
        (UNITS, GOOD * float("nan"), "from 0 to 1"),
        (UNITS, torch.zeros(12, 4, 4), "no cell is covered by 0.5 or more"),
        (UNITS, GOOD * 0.25, r"the most is 0\.25\): lower 'inside'"),
        (UNITS, torch.ones(12, 4, 4), "no cell is outside every box"),
        (UNITS, ONE_IMAGE, "on 1 image only"),
    ],
)
def test_data_that_cannot_be_fitted_is_told(
    activations: Tensor, coverage: Tensor, message: str
) -> None:
    with pytest.raises(DissectError, match=message):
        fit_probe(activations, coverage, **QUICK)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"inside": 0.0}, "inside must be above 0"),
        ({"inside": 1.5}, "at most 1, not 1.5"),
        ({"folds": 1}, "folds must be at least 2, not 1"),
        ({"C": 0.0}, "C must be above 0"),
        ({"negatives_per_positive": float("inf")}, "above 0 and finite"),
        ({"negatives_from": "some"}, "'all' or 'boxed', not 'some'"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_a_setting_out_of_range_is_told(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(DissectError, match=message):
        fit_probe(UNITS, GOOD, layer="conv", **setting)
