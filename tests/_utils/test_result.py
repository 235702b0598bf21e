from dataclasses import dataclass

import numpy as np
import pytest
import torch

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
    assert shown.startswith("<table>")
    assert "win&lt;dow" in shown
    assert "<td>0.1235</td>" in shown


def test_a_data_frame_has_the_rows():
    pytest.importorskip("pandas")
    assert SCORE.to_frame().to_dict("records") == [{"auc": 0.123456789, "name": "win<dow"}]
