"""Boxes of a session of annotation, and the files that they are in."""

import json

import numpy as np
import pytest
from helpers.studio import Toy, spot_boxes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissect._utils.errors import DissectError
from dissect.annotations import Annotations, Box
from dissect.studio import (
    AnnotationSession,
    BoxFile,
    ConflictError,
    GeneratorSession,
    SamplePictures,
)
from dissect.studio.sessions.annotation import concepts_in, samples_to_annotate


@pytest.fixture(scope="module")
def pictures():
    return SamplePictures(GeneratorSession("toy", Toy().eval()), [(0, index) for index in range(6)])


def test_a_change_is_in_the_file_when_it_is_answered(tmp_path, pictures):
    file = BoxFile(tmp_path / "spot.json", "spot", pictures)
    assert {one.version for one in file.images()} == {"unseen"}
    first = file.change(4, [Box(1, 2, 3, 4)], "unseen")
    file.change(1, [], "unseen")
    read = Annotations.load(tmp_path / "spot.json")
    assert read.latent_rows == ((0, 1), (0, 4))
    assert read.boxes == ((), (Box(1, 2, 3, 4),))
    assert read.check_images(np.stack([pictures.pixels(1), pictures.pixels(4)])) is None
    file.change(4, None, first.version)
    assert Annotations.load(tmp_path / "spot.json", "spot", allow_empty=True).latent_rows == (
        (0, 1),
    )


def test_a_change_to_boxes_that_others_changed_is_refused_and_shows_theirs(tmp_path, pictures):
    one = BoxFile(tmp_path / "spot.json", "spot", pictures)
    other = BoxFile(tmp_path / "spot.json", "spot", pictures)
    one.change(0, [Box(1, 1, 5, 5)], "unseen")
    other.change(2, [Box(2, 2, 5, 5)], "unseen")  # another image: no quarrel
    with pytest.raises(ConflictError) as caught:
        other.change(0, [Box(9, 9, 5, 5)], "unseen")
    assert caught.value.current.boxes == (Box(1, 1, 5, 5),)
    assert one.images()[2].boxes == (Box(2, 2, 5, 5),)
    assert Annotations.load(tmp_path / "spot.json").n_boxes == 2


def test_images_that_are_not_shown_stay_in_the_file(tmp_path, pictures):
    spot_boxes(GeneratorSession("toy", Toy().eval()), 9).save(tmp_path / "spot.json")
    file = BoxFile(tmp_path / "spot.json", "spot", pictures)
    file.change(0, [], file.images()[0].version)
    after = Annotations.load(tmp_path / "spot.json")
    assert len(after) == 9
    assert after.n_boxes == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: coco["categories"].append({"id": 2, "name": "door"}), "would lose the rest"),
        (
            lambda coco: coco["annotations"][0].update(segmentation=[[0, 0, 4, 0, 4, 4]]),
            "polygons or masks",
        ),
        (lambda coco: coco["info"].update(model="0" * 16), "of model"),
        (lambda coco: coco.pop("images"), "not COCO"),
        (
            lambda coco: [one.update(width=64, height=64) for one in coco["images"]],
            "give the --size",
        ),
    ],
)
def test_a_file_that_cannot_be_continued_is_refused_and_left_alone(
    tmp_path, pictures, change, message
):
    path = spot_boxes(GeneratorSession("toy", Toy().eval()), 3).save(tmp_path / "spot.json")
    coco = json.loads(path.read_text())
    change(coco)
    path.write_text(json.dumps(coco))
    before = path.read_bytes()
    with pytest.raises(DissectError, match=message):
        BoxFile(path, "spot", pictures)
    assert path.read_bytes() == before


boxes = st.lists(
    st.tuples(*[st.integers(0, 24), st.integers(0, 24), st.integers(1, 8), st.integers(1, 8)]).map(
        lambda edges: Box(*edges)
    ),
    max_size=4,
)


@given(steps=st.lists(st.tuples(st.integers(0, 5), st.none() | boxes), max_size=8))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_changes_the_file_holds_what_was_answered(tmp_path, pictures, steps):
    path = tmp_path / "spot.json"
    path.unlink(missing_ok=True)
    file = BoxFile(path, "spot", pictures)
    expected = {}
    for place, drawn in steps:
        answered = file.change(place, drawn, file.images()[place].version)
        expected[place] = answered.boxes
    opened = BoxFile(path, "spot", pictures).images()
    for place, drawn in expected.items():
        assert opened[place].boxes == (None if drawn is None else tuple(drawn))


def test_a_folder_is_continued_with_the_concepts_and_the_samples_that_it_is_about(tmp_path):
    generator = GeneratorSession("toy", Toy().eval())
    begun = AnnotationSession(
        tmp_path, SamplePictures(generator, [(7, 3), (7, 4), (2, 0)]), ["spot", "a door"]
    )
    begun.file("a door").change(1, [Box(0, 0, 2, 2)], "unseen")
    (tmp_path / "units.json").write_text('{"kind": "units"}')
    (tmp_path / "broken.json").write_text("{")
    assert concepts_in(tmp_path) == ["a door"]
    assert samples_to_annotate(tmp_path, ["a door"], None, None, None) == [(7, 3), (7, 4), (2, 0)]
    assert samples_to_annotate(tmp_path, ["a door"], 2, 9, None) == [(0, 9), (0, 10)]
    assert samples_to_annotate(tmp_path, ["spot"], None, None, None)[::149] == [(0, 0), (0, 149)]
