from typing import Any

import numpy as np
import pytest
import torch
from helpers.annotations import SIZE, UNHURRIED, any_boxes
from hypothesis import given
from hypothesis import strategies as st

from dissect._utils.errors import DissectError
from dissect.annotations import AnnotatedImage, Annotations, Box, pair_iou, pixels_digest


@st.composite
def whole_boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.integers(0, SIZE - 1)), draw(st.integers(0, SIZE - 1))
    return Box(x, y, draw(st.integers(1, SIZE - x)), draw(st.integers(1, SIZE - y)))


def of(*boxes: Box, size: int = SIZE) -> Annotations:
    return Annotations("window", (AnnotatedImage(size, size, boxes, "a.png"),))


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
