import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissect.annotations import (
    AnnotatedImage,
    Annotations,
    Box,
    annotation_file,
    pair_iou,
    pixels_digest,
)
from dissect.errors import DissectError

SIZE = 16

# A busy machine is no mistake of the code.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def whole_boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.integers(0, SIZE - 1)), draw(st.integers(0, SIZE - 1))
    return Box(x, y, draw(st.integers(1, SIZE - x)), draw(st.integers(1, SIZE - y)))


@st.composite
def any_boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.floats(0, SIZE - 1)), draw(st.floats(0, SIZE - 1))
    return Box(x, y, draw(st.floats(0.01, SIZE - x)), draw(st.floats(0.01, SIZE - y)))


@st.composite
def any_annotations(draw: st.DrawFn) -> Annotations:
    images = []
    for place in range(draw(st.integers(1, 5))):
        with_latent = draw(st.booleans())
        named = draw(st.text(min_size=1) | st.none()) if with_latent else f"{place}.png"
        images.append(
            AnnotatedImage(
                SIZE,
                SIZE,
                tuple(draw(st.lists(any_boxes(), max_size=3))),
                named,
                draw(st.integers(0, 2**40)) if with_latent else None,
                place if with_latent else None,
                draw(st.none() | st.from_regex(r"\A[0-9a-f]{64}\Z")),
            )
        )
    text = st.text(min_size=1)
    info = st.dictionaries(
        text.filter(lambda key: key != "model"), text | st.integers(), max_size=3
    )
    return Annotations(draw(text), tuple(images), draw(st.none() | text), draw(info))


def of(*boxes: Box, size: int = SIZE) -> Annotations:
    return Annotations("window", (AnnotatedImage(size, size, boxes, "a.png"),))


def plain_coco() -> dict[str, Any]:
    """Two images, two categories, three boxes, as an annotation tool would export them."""
    return {
        "info": {"contributor": "", "year": 2024},
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "categories": [
            {"id": 1, "name": "window", "supercategory": ""},
            {"id": 2, "name": "bed", "supercategory": ""},
        ],
        "images": [
            {"id": 7, "width": 64, "height": 48, "file_name": "a.png", "flickr_url": ""},
            {"id": 9, "width": 64, "height": 48, "file_name": "b.png", "flickr_url": ""},
        ],
        "annotations": [
            annotation(id=1, image_id=7, category_id=1, bbox=[8, 8, 16, 8]),
            annotation(id=2, image_id=7, category_id=2, bbox=[0, 24, 64, 24]),
            annotation(id=3, image_id=9, category_id=1, bbox=[0.5, 0.25, 2.5, 4.75]),
        ],
    }


def annotation(**fields: Any) -> dict[str, Any]:
    return {"segmentation": [], "area": 1.0, "iscrowd": 0, **fields}


def written(folder: Path, coco: object) -> Path:
    path = folder / "boxes.json"
    path.write_text(json.dumps(coco))
    return path


# coverage


def test_a_box_around_a_cell_covers_that_cell_alone() -> None:
    covered = of(Box(4, 8, 4, 4)).coverage(4)
    expected = torch.zeros(1, 4, 4)
    expected[0, 2, 1] = 1
    assert torch.equal(covered, expected)


def test_coverage_is_the_share_of_the_cells_area() -> None:
    # Cells of 4 x 4 pixels; the box takes the right half of one and a quarter of the next.
    covered = of(Box(2, 0, 4, 2)).coverage(4)
    assert covered[0, 0].tolist() == [0.25, 0.25, 0, 0]
    assert covered.sum() == 0.5


def test_overlapping_boxes_count_once() -> None:
    twice = of(Box(0, 0, 8, 8), Box(0, 0, 8, 8), Box(4, 4, 8, 8))
    assert twice.coverage(2).tolist() == [[[1, 0.25], [0.25, 0.25]]]


def test_a_grid_may_have_other_rows_than_columns() -> None:
    covered = of(Box(0, 0, 16, 4)).coverage((4, 1))
    assert covered.shape == (1, 4, 1)
    assert covered[0, :, 0].tolist() == [1, 0, 0, 0]


def test_coverage_goes_by_each_images_own_size() -> None:
    images = (
        AnnotatedImage(10, 20, (Box(5, 0, 5, 10),), "tall.png"),
        AnnotatedImage(300, 100, (Box(150, 0, 150, 50),), "wide.png"),
    )
    covered = Annotations("window", images).coverage(2)
    assert covered[0].tolist() == covered[1].tolist() == [[0, 1], [0, 0]]


def test_an_image_without_boxes_is_covered_nowhere() -> None:
    assert of().coverage(8).tolist() == torch.zeros(1, 8, 8).tolist()


@UNHURRIED
@given(st.lists(whole_boxes(), max_size=6), st.integers(1, 19), st.integers(1, 19))
def test_coverage_times_the_cells_area_is_the_area_of_the_union(
    boxes: list[Box], rows: int, columns: int
) -> None:
    pixels = np.zeros((SIZE, SIZE), bool)
    for box in boxes:
        pixels[int(box.y) : int(box.bottom), int(box.x) : int(box.right)] = True
    covered = of(*boxes).coverage((rows, columns)).double()
    assert ((covered >= 0) & (covered <= 1)).all()
    cell = SIZE * SIZE / (rows * columns)
    assert float(covered.sum()) * cell == pytest.approx(pixels.sum(), rel=1e-5, abs=1e-5)


@UNHURRIED
@given(st.lists(whole_boxes(), max_size=6), st.sampled_from([1, 2, 4, 8, 16]))
def test_whole_pixels_on_whole_cells_are_counted_exactly(boxes: list[Box], grid: int) -> None:
    pixels = torch.zeros(1, SIZE, SIZE)
    for box in boxes:
        pixels[0, int(box.y) : int(box.bottom), int(box.x) : int(box.right)] = 1
    mean = torch.nn.functional.avg_pool2d(pixels, SIZE // grid)
    assert torch.equal(of(*boxes).coverage(grid), mean)


@UNHURRIED
@given(st.lists(any_boxes(), max_size=5), any_boxes(), st.integers(1, 12))
def test_a_further_box_never_takes_coverage_away(boxes: list[Box], further: Box, grid: int) -> None:
    before, after = of(*boxes).coverage(grid), of(*boxes, further).coverage(grid)
    assert (after >= before - 1e-6).all()
    assert ((after >= 0) & (after <= 1)).all()


def test_a_grid_without_cells_is_refused() -> None:
    with pytest.raises(DissectError, match="at least 1 x 1"):
        of().coverage(0)


# boxes and images


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((0, 0, 0, 4), "positive width and height, not 0 x 4"),
        ((0, 0, 4, -1), "positive width and height, not 4 x -1"),
        ((float("nan"), 0, 4, 4), "the x of a box must be a finite number"),
        ((0, 0, 4, float("inf")), "the height of a box must be a finite number"),
    ],
)
def test_a_box_that_cannot_be_is_refused(edges: tuple[float, ...], message: str) -> None:
    with pytest.raises(DissectError, match=message):
        Box(*edges)


@pytest.mark.parametrize("box", [Box(-1, 0, 4, 4), Box(13, 0, 4, 4), Box(0, 20, 4, 4)])
def test_a_box_outside_the_image_is_refused(box: Box) -> None:
    with pytest.raises(DissectError, match="does not lie inside the image of 16 x 16"):
        of(box)


def test_what_a_drawing_tool_rounded_over_the_edge_is_cut_off() -> None:
    [[box]] = of(Box(-0.25, 12, 4, 4.0000001)).boxes
    assert box == Box(0, 12, 3.75, 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 0}, "0 x 16 pixels cannot be"),
        ({"seed": 3}, "both its seed and its index"),
        ({"seed": -3, "index": 0}, "at least 0"),
        ({"sha256": "ABC"}, "64 hexadecimal digits"),
    ],
)
def test_an_image_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DissectError, match=message):
        AnnotatedImage(**{"width": SIZE, "height": SIZE, **fields})


def test_a_latent_is_annotated_once() -> None:
    image = AnnotatedImage(SIZE, SIZE, seed=3, index=5)
    with pytest.raises(DissectError, match="seed 3 and index 5 has two images"):
        Annotations("window", (image, image))


def test_the_latents_that_drew_the_images_are_known() -> None:
    images = [AnnotatedImage(SIZE, SIZE, seed=4, index=index) for index in range(3)]
    consecutive = Annotations("window", tuple(images[1:]))
    assert (consecutive.seed, consecutive.start) == (4, 1)
    scattered = Annotations("window", (images[0], images[2]))
    assert scattered.latent_rows == ((4, 0), (4, 2))
    with pytest.raises(DissectError, match="not consecutive latents of one seed"):
        _ = scattered.seed
    with pytest.raises(DissectError, match=r"'a\.png' records no latent"):
        _ = of().seed


def test_the_size_is_that_of_all_images() -> None:
    images = (AnnotatedImage(64, 48, file_name="a"), AnnotatedImage(64, 48, file_name="b"))
    assert Annotations("window", images).size == (48, 64)
    with pytest.raises(DissectError, match="2 sizes"):
        _ = Annotations("window", (*images, AnnotatedImage(1, 1))).size


# the images and the model that were annotated


def digested(pixels: np.ndarray[Any, Any]) -> Annotations:
    images = [
        AnnotatedImage(4, 4, file_name=f"{place}.png", sha256=pixels_digest(image))
        for place, image in enumerate(pixels)
    ]
    return Annotations("window", tuple(images))


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    import hashlib

    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert pixels_digest(pixels) == hashlib.sha256(bytes(range(48))).hexdigest()
    assert pixels_digest(torch.from_numpy(pixels)) == pixels_digest(pixels)
    turned = pixels.transpose(1, 0, 2)
    assert pixels_digest(turned) == pixels_digest(np.ascontiguousarray(turned))


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((3, 4, 4), np.uint8)])
def test_only_uint8_pixels_have_a_digest(wrong: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DissectError, match=r"\(H, W, 3\) of uint8"):
        pixels_digest(wrong)


def test_one_changed_pixel_is_noticed_and_named() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
    annotations = digested(pixels)
    annotations.check_images(pixels)
    annotations.check_images(torch.from_numpy(pixels))
    pixels[1, 2, 2, 0] ^= 1
    assert annotations.differing(pixels) == (1,)
    with pytest.raises(DissectError, match=r"1 of 3 images .*'1\.png'.*draw each"):
        annotations.check_images(pixels)


def test_another_number_of_images_is_refused() -> None:
    with pytest.raises(DissectError, match=r"annotations are of 1 images.*not \(2, 16, 16, 3\)"):
        of().check_images(np.zeros((2, SIZE, SIZE, 3), np.uint8))


def test_images_without_a_digest_pass() -> None:
    of().check_images(np.zeros((1, SIZE, SIZE, 3), np.uint8))


def test_boxes_belong_to_the_model_that_drew_the_images() -> None:
    annotations = Annotations("window", (), model="a" * 16)
    annotations.check_model("a" * 16)
    Annotations("window", ()).check_model("b" * 16)
    with pytest.raises(DissectError, match=r"images of model a+, and this is b+"):
        annotations.check_model("b" * 16)


# files


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
        (edited("images", 0, "width", to="64"), r"\(id 7\): 'width' must be a whole number"),
        (edited("images", 1, "height", to=0), r"'height' must be a whole number, at least 1"),
        (edited("images", 1, "file_name", to=None), "neither a 'file_name' nor a 'latent'"),
        (edited("images", 1, "latent", to=3), "'latent' must be an object"),
        (edited("images", 1, "latent", to={"seed": 1}), "has no 'index'"),
        (edited("images", 1, "sha256", to="f00"), r"\(id 9\): 'sha256' must be 64"),
        (edited("categories", 0, "name", to=1), "'name' must be a string"),
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


# bundled files


def test_boxes_that_do_not_come_along_are_answered_with_those_that_do() -> None:
    with pytest.raises(DissectError, match="no boxes of 'unicorn' come with 'bedrooms64'"):
        annotation_file("bedrooms64", "unicorn")


# two passes over the same images


def over(*boxes_of_images: tuple[Box, ...], names: str = "abcdef") -> Annotations:
    images = [
        AnnotatedImage(SIZE, SIZE, boxes, name)
        for boxes, name in zip(boxes_of_images, names, strict=False)
    ]
    return Annotations("window", tuple(images))


def test_a_pass_agrees_with_itself() -> None:
    annotations = over((Box(0, 0, 4, 4), Box(2, 2, 4, 4)), ())
    agreement = pair_iou(annotations, annotations)
    assert agreement.mean_iou == 1
    assert (agreement.n_paired, agreement.n_only_first, agreement.n_only_second) == (2, 0, 0)


def test_agreement_is_the_iou_of_paired_boxes_and_the_rest_is_counted() -> None:
    # Half of the first box overlaps half of its partner: 8 of 24 pixels.
    first = over((Box(0, 0, 4, 4), Box(8, 8, 2, 2)), ())
    second = over((Box(2, 0, 4, 4),), (Box(0, 0, 1, 1),))
    agreement = pair_iou(first, second)
    assert agreement.mean_iou == pytest.approx(1 / 3)
    assert (agreement.n_paired, agreement.n_only_first, agreement.n_only_second) == (1, 1, 1)


def test_boxes_that_do_not_overlap_are_no_pair() -> None:
    agreement = pair_iou(over((Box(0, 0, 4, 4),)), over((Box(8, 8, 4, 4),)))
    assert agreement.mean_iou == 0
    assert (agreement.n_paired, agreement.n_only_first, agreement.n_only_second) == (0, 1, 1)


def test_pairs_are_chosen_for_the_largest_sum() -> None:
    # Taking the best pair first (IoU 0.6) would leave the others apart (IoU 0).
    first = over((Box(0, 0, 8, 1), Box(6, 0, 8, 1)))
    second = over((Box(2, 0, 8, 1), Box(0, 0, 3, 1)))
    agreement = pair_iou(first, second)
    assert agreement.n_paired == 2
    assert agreement.mean_iou == pytest.approx((3 / 8 + 4 / 12) / 2)


def test_images_are_matched_by_name_whatever_their_order() -> None:
    first = over((Box(0, 0, 4, 4),), (), names="ab")
    second = over((), (Box(0, 0, 4, 4),), names="ba")
    assert pair_iou(first, second).mean_iou == 1


def test_passes_over_other_images_are_not_compared() -> None:
    with pytest.raises(DissectError, match="2 are in one of them only"):
        pair_iou(over((), names="a"), over((), names="b"))
    unnamed = Annotations("window", (AnnotatedImage(SIZE, SIZE), AnnotatedImage(SIZE, SIZE)))
    with pytest.raises(DissectError, match="cannot be told from another"):
        pair_iou(unnamed, unnamed)


@UNHURRIED
@given(st.lists(any_boxes(), max_size=4), st.lists(any_boxes(), max_size=4))
def test_agreement_is_symmetric(first: list[Box], second: list[Box]) -> None:
    there, back = pair_iou(of(*first), of(*second)), pair_iou(of(*second), of(*first))
    assert there.mean_iou * there.n_paired == pytest.approx(back.mean_iou * back.n_paired)
    assert 0 <= there.mean_iou <= 1
    assert there.n_paired + there.n_only_first == len(first)
