"""Annotations in files: what is written, what is read, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.annotations import SIZE, UNHURRIED, annotation, any_annotations, plain_coco, written
from hypothesis import given, settings
from hypothesis import strategies as st

from dissect._utils.errors import DissectError
from dissect.annotations import AnnotatedImage, Annotations, Box, annotation_file


@settings(UNHURRIED, max_examples=50)
@given(annotations=any_annotations())
def test_annotations_come_back_from_a_file_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, annotations: Annotations
) -> None:
    path = tmp_path_factory.getbasetemp() / "boxes.json"
    annotations.save(path)
    assert Annotations.load(path, allow_empty=True) == annotations


def test_what_is_saved_is_plain_coco(tmp_path: Path) -> None:
    image = AnnotatedImage(SIZE, SIZE, (Box(1, 2, 3, 4),), "a.png", seed=0, index=5)
    path = tmp_path / "boxes.json"
    Annotations("window", (image,), "f" * 16, {"pass": 2}).save(path)
    assert json.loads(path.read_text()) == {
        "info": {"model": "f" * 16, "pass": 2},
        "images": [
            {
                "id": 1,
                "width": SIZE,
                "height": SIZE,
                "file_name": "a.png",
                "latent": {"seed": 0, "index": 5},
            }
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [1, 2, 3, 4],
                "area": 12,
                "iscrowd": 0,
            }
        ],
        "categories": [{"id": 1, "name": "window"}],
    }


def test_annotations_show_what_they_hold_in_one_line_and_box_by_box(tmp_path: Path) -> None:
    annotations = Annotations.load(written(tmp_path, plain_coco()), "window")
    assert repr(annotations) == "Annotations(concept=window, images=2, boxes=2)"
    assert annotations.rows() == [
        {"image": "a.png", "x": 8.0, "y": 8.0, "width": 16.0, "height": 8.0},
        {"image": "b.png", "x": 0.5, "y": 0.25, "width": 2.5, "height": 4.75},
    ]
    assert "<td>b.png</td>" in annotations._repr_html_()
    path = annotations.save(tmp_path / "again.json")
    assert json.loads(path.read_text()) == annotations.to_dict()


def test_one_category_of_a_tools_export_is_read(tmp_path: Path) -> None:
    annotations = Annotations.load(written(tmp_path, plain_coco()), "window")
    assert annotations.concept == "window"
    assert annotations.boxes == ((Box(8, 8, 16, 8),), (Box(0.5, 0.25, 2.5, 4.75),))
    assert [image.file_name for image in annotations.images] == ["a.png", "b.png"]
    assert annotations.size == (48, 64)
    assert annotations.model is None


def test_an_image_without_a_box_counts_as_looked_at(tmp_path: Path) -> None:
    annotations = Annotations.load(written(tmp_path, plain_coco()), "bed")
    assert annotations.boxes == ((Box(0, 24, 64, 24),), ())


def test_ids_may_be_strings_or_any_numbers(tmp_path: Path) -> None:
    coco = plain_coco()
    coco["images"][0]["id"] = "0f3c-aa"
    coco["categories"][0]["id"] = 0
    coco["annotations"] = [
        annotation(id="x", image_id="0f3c-aa", category_id=0, bbox=[1, 1, 2, 2]),
    ]
    assert Annotations.load(written(tmp_path, coco), "window").n_boxes == 1


def test_polygons_without_a_box_give_their_bounds(tmp_path: Path) -> None:
    coco = plain_coco()
    first, second = [10, 4, 20, 8, 12, 16], [30, 5, 32, 5, 31, 40.5]
    coco["annotations"] = [
        annotation(id=1, image_id=7, category_id=1, segmentation=[first, second]),
        annotation(id=2, image_id=9, category_id=1, segmentation=[first], bbox=[]),
    ]
    annotations = Annotations.load(written(tmp_path, coco), "window")
    assert annotations.boxes == ((Box(10, 4, 22, 36.5),), (Box(10, 4, 10, 12),))


def test_crowd_regions_are_skipped(tmp_path: Path) -> None:
    coco = plain_coco()
    mask = {"counts": [0, 5], "size": [48, 64]}
    crowd = annotation(id=4, image_id=7, category_id=1, segmentation=mask) | {"iscrowd": 1}
    coco["annotations"].append(crowd)
    assert Annotations.load(written(tmp_path, coco), "window").n_boxes == 2
    coco["annotations"] = [crowd]
    with pytest.raises(DissectError, match=r"not one box of 'window' \(only 1 crowd regions"):
        Annotations.load(written(tmp_path, coco), "window")


def test_the_only_concept_needs_no_name(tmp_path: Path) -> None:
    coco = plain_coco()
    del coco["annotations"][1]
    assert Annotations.load(written(tmp_path, coco)).concept == "window"


def test_work_in_progress_may_be_empty(tmp_path: Path) -> None:
    coco = plain_coco() | {"annotations": []}
    path = written(tmp_path, coco)
    assert Annotations.load(path, "bed", allow_empty=True).n_boxes == 0
    with pytest.raises(DissectError, match="not one box of 'bed': draw at least one"):
        Annotations.load(path, "bed")


def edited(*keys: Any, to: Any) -> dict[str, Any]:
    coco = plain_coco()
    place: Any = coco
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return coco


@pytest.mark.parametrize(
    ("coco", "message"),
    [
        ([], r"must be an object \{...\}, not \[\]"),
        ({"shapes": [], "imagePath": "a.png"}, "has no 'images', so it is not COCO"),
        (edited("images", to={}), r"'images' must be a list \[...\], not \{\}"),
        (edited("images", 1, to="b.png"), "entry 2 of 'images' must be an object"),
        (edited("images", 1, "id", to=7), r"entry 2 of 'images' \(id 7\) has the id of an entry"),
        (edited("images", 1, "id", to=True), "'id' must be a whole number or a string, not True"),
        (edited("images", 0, "width", to="64"), r"\(id 7\): 'width' must be .*, not '64'"),
        (edited("images", 1, "height", to=0), r"\(id 9\): 'height' must be .* 1, not 0"),
        (edited("images", 1, "file_name", to=None), "neither a 'file_name' nor a 'latent'"),
        (edited("images", 1, "latent", to=3), "'latent' must be an object"),
        (edited("images", 1, "latent", to={"seed": 1}), "has no 'index'"),
        (edited("images", 1, "sha256", to="f00"), r"\(id 9\): 'sha256' must be 64"),
        (edited("categories", 0, "name", to=1), r"\(id 1\): 'name' must be .* string, not 1"),
        (edited("categories", 1, "id", to=1), r"entry 2 of 'categories' \(id 1\) has the id"),
        (edited("annotations", 2, "image_id", to=8), r"\(id 3\) is of image 8, which is not"),
        (edited("annotations", 1, "category_id", to=5), r"\(id 2\) is of category 5, which"),
        (edited("annotations", 0, "bbox", to=[1, 2, 3]), r"\(id 1\): 'bbox' must be a list of 4"),
        (edited("annotations", 0, "bbox", to=[1, 2, 3, float("nan")]), "list of 4 finite"),
        (edited("annotations", 0, "bbox", to=[1, 2, 3, 10**400]), "list of 4 finite"),
        (edited("annotations", 0, "bbox", to=[1, 2, 0, 4]), r"\(id 1\): a box needs a positive"),
        (edited("annotations", 0, "bbox", to=[60, 2, 8, 4]), r"\(id 1\): the box x=60 .* 64 x 48"),
        (edited("annotations", 0, "bbox", to=None), "neither a 'bbox' nor a polygon"),
        (edited("annotations", 0, "iscrowd", to="no"), "'iscrowd' must be 0 or 1, not 'no'"),
        (edited("annotations", 0, "attributes", to={"rotation": 30.0}), "turned by 30 degrees"),
        (edited("info", to=[]), "'info' must be an object"),
        (edited("info", "note", to=float("inf")), "'info' holds what JSON cannot"),
    ],
)
def test_a_mistake_in_a_file_is_told_in_one_line_with_its_place(
    tmp_path: Path, coco: object, message: str
) -> None:
    path = written(tmp_path, coco)
    with pytest.raises(DissectError, match=message) as caught:
        Annotations.load(path, "window")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"counts": "abc", "size": [48, 64]}, "run-length mask .* export boxes or polygons"),
        ([[1, 2, 3, 4]], "3 corners or more, not 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "3 corners or more, not 7 numbers"),
        ([1, 2, 3, 4, 5, 6], "must be a list of finite numbers"),
        ([[1, 1, 1, 5, 1, 9]], "positive width"),
    ],
)
def test_a_shape_that_bounds_no_box_is_refused(tmp_path: Path, shape: object, message: str) -> None:
    coco = plain_coco()
    coco["annotations"] = [annotation(id=1, image_id=7, category_id=1, segmentation=shape)]
    with pytest.raises(DissectError, match=message):
        Annotations.load(written(tmp_path, coco), "window")


def test_a_concept_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    path = written(tmp_path, plain_coco())
    with pytest.raises(DissectError, match="no category 'windows'; near names are 'bed', 'window'"):
        Annotations.load(path, "windows")
    with pytest.raises(DissectError, match="2 categories; name the concept: 'bed', 'window'"):
        Annotations.load(path)


def test_of_many_concepts_only_the_near_ones_are_named(tmp_path: Path) -> None:
    coco = plain_coco()
    coco["categories"] += [{"id": 10 + n, "name": f"thing {n}"} for n in range(40)]
    with pytest.raises(DissectError, match=r"near names are 'window'$"):
        Annotations.load(written(tmp_path, coco), "WINDOWS")


@pytest.mark.parametrize("content", [b"", b"{", b'{"images": [}', b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_not_json_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "boxes.json"
    path.write_bytes(content)
    with pytest.raises(DissectError, match=r"boxes\.json is not") as caught:
        Annotations.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DissectError, match="no such file"):
        Annotations.load(tmp_path / "none.json")


numbers = st.integers(-(10**20), 10**20) | st.floats()
any_json = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=4) | st.just("window"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "bbox", "name", "counts"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@settings(UNHURRIED, max_examples=300)
@given(data=st.data())
def test_any_json_gives_annotations_or_an_error_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    coco: Any = plain_coco()
    coco["images"][0]["latent"] = {"seed": 0, "index": 3}
    coco["images"][0]["sha256"] = "0" * 64
    coco["annotations"][2]["attributes"] = {"rotation": 0.0}
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places(coco)))
        if not place:
            coco = data.draw(any_json)
            continue
        holder = coco
        for key in place[:-1]:
            holder = holder[key]
        what = data.draw(st.sampled_from(["replace", "delete", "copy"]))
        if what == "delete":
            del holder[place[-1]]
        elif what == "copy" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[place[-1]]))
        else:
            holder[place[-1]] = data.draw(any_json)
    path = written(tmp_path_factory.getbasetemp(), coco)
    try:
        annotations = Annotations.load(path, data.draw(st.sampled_from(["window", "bed", None])))
    except DissectError as error:
        message = str(error)
    else:
        message = f"{path} is fine"
        assert annotations.n_boxes > 0
        covered = annotations.coverage(8)
        assert ((covered >= 0) & (covered <= 1)).all()
        annotations.save(path)
        assert Annotations.load(path) == annotations
    assert message.startswith(str(path))
    assert "\n" not in message


def test_boxes_that_do_not_come_along_are_answered_with_those_that_do() -> None:
    with pytest.raises(DissectError, match="no boxes of 'unicorn' come with 'bedrooms64'"):
        annotation_file("bedrooms64", "unicorn")
