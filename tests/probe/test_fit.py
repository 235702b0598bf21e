"""Probes that come with a bundled model, fitted ahead."""

from dataclasses import replace

import pytest
import torch

from dissect import Annotations, annotation_file, load
from dissect._utils.errors import DissectError
from dissect.probe import fit_probe_from_boxes
from dissect.probe.fit import (
    annotated_samples,
    load_cached_probe,
    note_of_changed_samples,
    save_cached_probe,
)

MODEL, LAYER = "bedrooms64", "layer8x8"


@pytest.fixture(scope="module")
def generator():
    return load(MODEL)


@pytest.mark.parametrize("concept", ["window", "picture"])
def test_what_was_fitted_ahead_is_what_a_fit_gives(generator, concept):
    boxes = Annotations.load(annotation_file(MODEL, concept))
    ahead = load_cached_probe(MODEL, generator, boxes, LAYER)
    fitted = fit_probe_from_boxes(generator, boxes, layer=LAYER, scored=False)
    assert (ahead.layer, ahead.concept, ahead.model) == (LAYER, concept, fitted.model)
    assert ahead.settings == fitted.settings
    assert torch.allclose(ahead.weight, fitted.weight, rtol=1e-3, atol=1e-5)
    assert torch.allclose(ahead.scale, fitted.scale, rtol=1e-4)
    assert ahead.bias == pytest.approx(fitted.bias, rel=1e-3)


def test_samples_are_those_annotated_on_any_processor(generator):
    boxes = Annotations.load(annotation_file(MODEL, "window"))
    samples = annotated_samples(generator, boxes)
    assert note_of_changed_samples(boxes, samples) == ""
    assert note_of_changed_samples(boxes, samples + 1e-7) == ""
    samples[3] = samples[4]
    note = note_of_changed_samples(boxes, samples)
    assert note.startswith("1 of 150 samples differ from those annotated, by more than rounding")


def test_it_counts_for_these_boxes_this_layer_and_this_model_alone(generator):
    boxes = Annotations.load(annotation_file(MODEL, "window"))
    assert (
        load_cached_probe(MODEL, generator, replace(boxes, images=boxes.images[1:]), LAYER) is None
    )
    assert load_cached_probe(MODEL, generator, boxes, "layer16x16") is None
    assert load_cached_probe("faces64", generator, boxes, LAYER) is None
    other = load(MODEL)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    assert load_cached_probe(MODEL, other, boxes, LAYER) is None


def test_a_damaged_file_is_one_line(generator, tmp_path, monkeypatch):
    boxes = Annotations.load(annotation_file(MODEL, "window"))
    path = save_cached_probe(
        tmp_path / "p.json", load_cached_probe(MODEL, generator, boxes, LAYER), boxes
    )
    monkeypatch.setattr("dissect.probe.fit.bundled_file", lambda name, file: path)
    assert load_cached_probe(MODEL, generator, boxes, LAYER) is not None
    path.write_text(path.read_text().replace('"weight"', '"heavy"'))
    with pytest.raises(DissectError, match="weight") as caught:
        load_cached_probe(MODEL, generator, boxes, LAYER)
    assert "\n" not in str(caught.value)
