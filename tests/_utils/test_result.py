import importlib
import inspect
import pkgutil
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import pytest
import torch

import dissect
from dissect._utils.display import LONGEST_REPR, ShortRepr, brief
from dissect._utils.result import Result


@dataclass(frozen=True, repr=False)
class Score(Result):
    auc: float
    name: str
    counts: tuple[int, ...]
    weight: torch.Tensor
    inner: "Score | None" = None


SCORE = Score(0.123456789, "win<dow", (1, 2), torch.tensor([1.0, float("nan")]))


def test_a_repr_is_one_short_line():
    assert repr(SCORE) == "Score(auc=0.1235, name=win<dow)"


def test_a_dictionary_is_of_plain_values_without_nan():
    outer = Score(float("inf"), "x", (), torch.zeros(0), SCORE)
    found = outer.to_dict()
    assert found["auc"] is None
    assert found["inner"]["weight"] == [1.0, None]
    assert found["inner"]["auc"] == 0.123456789
    assert Score(np.float32(0.5), "x", (np.int64(3),), torch.zeros(1)).to_dict()["counts"] == [3]


def test_html_is_a_table_with_its_text_escaped():
    shown = SCORE._repr_html_()
    assert shown.startswith("<div><table>")
    assert "win&lt;dow" in shown
    assert "<td>0.1235</td>" in shown


def test_a_data_frame_has_the_rows():
    pytest.importorskip("pandas")
    assert SCORE.to_frame().to_dict("records") == [{"auc": 0.123456789, "name": "win<dow"}]


@dataclass(repr=False)
class Many(ShortRepr):
    vector: torch.Tensor
    names: tuple[str, ...]
    scale: float = 1 / 3
    absent: None = None


def test_what_a_short_repr_holds_stands_in_it_by_its_size():
    assert repr(Many(torch.zeros(2, 3), ("a",) * 100)) == (
        "Many(vector=tensor 2x3, names=100 items, scale=0.3333)"
    )


@pytest.mark.parametrize("text", ["x" * 5_000, "two\nlines", "<&>"])
def test_no_repr_is_longer_than_a_line(text):
    shown = repr(Score(0.5, text, (), torch.zeros(1)))
    assert len(shown) <= LONGEST_REPR == 200
    assert "\n" not in shown
    assert shown.endswith(")")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "True"),
        (None, "None"),
        (np.int64(12345), "12345"),
        (np.float32(0.25), "0.25"),
        (torch.tensor(2.0), "tensor of one number"),
        ({"a": 1}, "1 items"),
        ((1, 2.5), "(1, 2.5)"),
        (((1, 2),), "1 items"),
        (len, "len"),
    ],
)
def test_a_value_in_a_few_words(value, words):
    assert brief(value) == words


def test_a_long_table_is_cut_and_says_so():
    @dataclass(frozen=True, repr=False)
    class Rows(Result):
        n: int

        def rows(self):
            return [{"row": row} for row in range(self.n)]

    assert Rows(300)._repr_html_().count("<tr>") == 9
    assert "292 rows more: to_frame() has all" in Rows(300)._repr_html_()
    assert "more" not in Rows(8)._repr_html_()


def _dataclasses():
    for found in pkgutil.walk_packages(dissect.__path__, "dissect."):
        room = found.name.split(".")[1]
        # Nobody prints what only the commands and the page pass around.
        if room in ("cli", "studio", "__main__") or ".synthetic" in found.name:
            continue
        module = importlib.import_module(found.name)
        for name, value in vars(module).items():
            own = inspect.isclass(value) and value.__module__ == found.name
            if own and is_dataclass(value) and not name.startswith("_"):
                yield value


def test_what_holds_much_has_a_short_repr():
    """A repr that a dataclass makes prints every number of an array and every item of a tuple."""
    sizeable = ("Tensor", "NDArray", "Sequence", "Mapping", "Iterable", ", ...]")
    printing_all = [
        f"{cls.__module__}.{cls.__name__}"
        for cls in _dataclasses()
        if hasattr(cls.__repr__, "__wrapped__")  # as what a dataclass makes has
        for field in fields(cls)
        if field.repr and any(word in str(field.type) for word in sizeable)
    ]
    assert printing_all == []
