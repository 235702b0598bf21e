import json
from typing import ClassVar

import pytest

from dissect._utils.errors import DissectError
from dissect._utils.schema import FileModel, NonEmpty, parse, read_file, write_file


class Box(FileModel):
    x: float
    label: NonEmpty = "window"


class Sheet(FileModel):
    KIND: ClassVar[str] = "sheet"
    VERSION: ClassVar[int] = 2
    boxes: tuple[Box, ...]
    threshold: float = 0.5


def test_what_is_written_is_read_back(tmp_path):
    sheet = Sheet(boxes=(Box(x=0.1), Box(x=1, label="bed")), threshold=1 / 3)
    assert read_file(write_file(tmp_path / "sheet.json", sheet), Sheet) == sheet


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"kind": "probe"}, ["sheet", "probe"]),
        ({"version": 3}, ["version 3", "2"]),
        ({"version": "2"}, ["version"]),
        ({"boxes": 3}, ["boxes", "3"]),
        ({"boxes": [{"x": "1"}]}, ["boxes[0].x", "number", "'1'"]),
        ({"boxes": [{"x": 1}, {}]}, ["boxes[1]", "'x'"]),
        ({"boxes": [{"x": True}]}, ["boxes[0].x", "True"]),
        ({"boxes": [{"x": 1, "lable": "bed"}]}, ["'lable'", "'label'"]),
        ({"boxes": [{"x": 1, "label": ""}]}, ["boxes[0].label"]),
        ({"treshold": 0.4}, ["'treshold'", "'threshold'"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file_the_field_and_the_value(tmp_path, change, names):
    path = tmp_path / "sheet.json"
    path.write_text(json.dumps({"kind": "sheet", "version": 2, "boxes": [{"x": 1}], **change}))
    with pytest.raises(DissectError) as caught:
        read_file(path, Sheet)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for name in names:
        assert name in message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_numbers_are_finite(tmp_path, number):
    path = tmp_path / "sheet.json"
    path.write_text(f'{{"kind": "sheet", "version": 1, "boxes": [], "threshold": {number}}}')
    with pytest.raises(DissectError, match="threshold"):
        read_file(path, Sheet)


def test_a_list_is_no_object():
    with pytest.raises(DissectError, match=r"the sheet must be an object"):
        parse(Sheet, [], "the sheet")
