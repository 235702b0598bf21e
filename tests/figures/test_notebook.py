"""What a notebook shows of a result: a table, and the picture where there is one."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import dissect
from dissect.effect.summary import summarize
from dissect.figures.notebook import figure_of


@pytest.fixture(scope="module")
def shown():
    """One of each result that a notebook of the main job has."""
    G, segmenter = dissect.load("bedrooms64"), dissect.load_segmenter()
    boxes = dissect.Annotations.load(dissect.annotation_file("bedrooms64", "window"))
    probe = dissect.fit_probe_from_boxes(G, boxes, layer="layer8x8", scored=False)
    edit = dissect.Intervention(probe.units(), gate=probe.gate())
    z = dissect.latents(12, seed=3)
    effect = dissect.measure_effect(G, segmenter, z, "window", edit)
    study = dissect.study_effect(G, {"probe": edit}, z, segmenter, "window", controls=1)
    found = dissect.network_dissection(G, ["layer8x8"], segmenter, n=32)
    return {
        "Units": probe.units(),
        "Probe": probe,
        "Intervention": edit,
        "Effect": effect,
        "EffectStudy": study,
        "Summary": summarize([effect]),
        "Dissection": found,
        "Annotations": boxes,
        "LayerUnits": found["layer8x8"],
    }


def picture_in(html):
    found = re.search(r'<img alt="\w+" src="data:image/png;base64,([^"]+)">', html)
    return found and Image.open(BytesIO(base64.b64decode(found[1])))


WITH_PICTURE = ("Units", "Probe", "Intervention", "Effect", "EffectStudy", "Summary", "Dissection")


@pytest.mark.parametrize("name", WITH_PICTURE)
def test_a_result_shows_a_small_table_and_its_picture(shown, name):
    html = shown[name]._repr_html_()
    assert "<table>" in html
    assert html.count("<tr>") <= 9
    picture = picture_in(html)
    assert 300 < picture.width < 1000
    # More than a white page.
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10
    assert len(html) < 100_000


@pytest.mark.parametrize("name", ["Annotations", "LayerUnits"])
def test_others_show_a_table_alone(shown, name):
    html = shown[name]._repr_html_()
    assert "<table>" in html
    assert picture_in(html) is None


@pytest.mark.parametrize("name", [*WITH_PICTURE, "Annotations", "LayerUnits"])
def test_a_repr_is_one_short_line(shown, name):
    assert len(repr(shown[name])) <= 200
    assert "\n" not in repr(shown[name])


def test_many_edits_joined_still_print_in_one_line(shown):
    edit = shown["Intervention"]
    assert len(repr(edit + edit + edit + edit)) <= 200
    assert len((edit + edit).rows()) == 2


def test_the_table_of_an_edit_says_where_and_how_far(shown):
    (row,) = shown["Intervention"].with_strength(0.5).rows()
    assert row["layer"] == "layer8x8"
    assert row["where"].startswith("LinearGate")
    assert row["strength"] == 0.5
    (row,) = dissect.Intervention(shown["Units"]).rows()
    assert (row["where"], row["threshold"], row["replacement"]) == ("everywhere", "", "zero")


def test_the_same_result_gives_the_same_html(shown):
    assert shown["Probe"]._repr_html_() == shown["Probe"]._repr_html_()


def test_nothing_is_drawn_of_nothing(shown):
    assert figure_of(dissect.Units("layer8x8", (1,), 256)) is None
    assert figure_of("a text") is None
    nothing = shown["Effect"].first(0)
    assert figure_of(nothing) is None
    assert "<table>" in nothing._repr_html_()
