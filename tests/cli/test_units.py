import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from helpers.command_line import run
from PIL import Image

from dissect.dissection import Dissection
from dissect.figures.units_page import _sheet
from dissect.models import fingerprint, load
from dissect.segmentation import UNet, save_unet


def common(tiny, out):
    return [
        *("units", "--model", str(tiny / "g.safetensors"), "--n", "20", "--effect-n", "3"),
        *("--segmenter", str(tiny / "s.safetensors"), "--out", str(out), "--json"),
    ]


class Page(HTMLParser):
    """The rows of the table of units, and whatever the page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.sorts, self.fetched, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ("meta", "input"):
            self.open.append(tag)
        if tag == "tr" and "data-row" in attrs:
            self.rows.append(attrs["id"])
        if "aria-sort" in attrs:
            self.sorts.append(attrs["aria-sort"])
        self.fetched += [attrs[key] for key in ("src", "href") if key in attrs]

    def handle_startendtag(self, tag, attrs):
        assert tag == "path"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_units_writes_a_page_and_the_numbers(capsys, tiny, tmp_path):
    status, out, err = run(capsys, *common(tiny, tmp_path))
    assert status == 0, err
    result = json.loads(out)
    assert result["layer"] == "layer8x8"
    assert (result["n"], result["n_units"], len(result["units"])) == (20, 8, 8)
    assert result["files"] == [str(tmp_path / name) for name in ("dissection.json", "units.html")]
    ious = [row["iou"] for row in result["units"]]
    assert ious == sorted(ious, reverse=True)
    found = Dissection.load(tmp_path / "dissection.json")
    assert found.model == fingerprint(load(tiny / "g.safetensors"))
    assert found.concepts == ("wall", "window", "bed")
    assert result["detectors"] == found.detectors()
    row = result["units"][0]
    units, k = found["layer8x8"], found.number(row["concept"])
    assert units.iou[row["unit"], k] == pytest.approx(row["iou"], abs=1e-5) == units.iou.max()
    assert units.removed[row["unit"], k] == pytest.approx(row["removed"], abs=1e-5)
    assert row["top"] == units.top[row["unit"]].tolist()


def test_the_page_stands_alone_and_holds_every_unit_once(capsys, tiny, tmp_path):
    run(capsys, *common(tiny, tmp_path), "--layer", "all")
    text = (tmp_path / "units.html").read_text("utf-8")
    page = Page(text)
    assert not page.open
    layers = {"layer4x4": 16, "layer8x8": 8, "layer16x16": 4}
    assert sorted(page.rows) == sorted(
        f"{a}-{unit}" for a, n in layers.items() for unit in range(n)
    )
    # One column is sorted, and nothing comes from elsewhere.
    assert page.sorts.count("descending") == 1
    assert set(page.sorts) == {"descending", "none"}
    assert all(link.startswith("#") for link in page.fetched)
    assert {link[1:] for link in page.fetched} <= set(page.rows)
    assert not re.search(r"https?://", text)
    numbers = json.loads(re.search(r'id="numbers">(.*?)</script>', text)[1])
    found = Dissection.load(tmp_path / "dissection.json")
    assert numbers["unit"] == [unit for n in layers.values() for unit in range(n)]
    for key in ("iou", "auc", "removed"):
        joined = np.concatenate([getattr(one, key) for one in found.layers])
        shown = np.array(numbers[key], dtype=float)
        np.testing.assert_allclose(shown, joined, atol=1e-3, err_msg=key)


def test_names_cannot_break_the_page(capsys, tiny, tmp_path):
    network = UNet(("</script><b>", "a&b"), widths=(4, 6))
    path = save_unet(tmp_path / "s.safetensors", network, card={})
    words = [*common(tiny, tmp_path), "--segmenter", str(path)]
    status, _, err = run(capsys, *words)
    assert status == 0, err
    text = (tmp_path / "units.html").read_text("utf-8")
    assert not Page(text).open
    assert "<b>" not in text
    assert text.count("</script>") == 2


def test_the_same_seed_gives_the_same_bytes(capsys, tiny, tmp_path):
    for name in ("a", "b"):
        run(capsys, *common(tiny, tmp_path / name))
    run(capsys, *common(tiny, tmp_path / "c"), "--seed", "1")
    for file in ("dissection.json", "units.html"):
        first, second, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == second
        assert first != other


def test_some_concepts_without_effect(capsys, tiny, tmp_path):
    words = [word for word in common(tiny, tmp_path) if word not in ("--effect-n", "3")]
    words += ["--no-effect", "-c", "bed", "-c", "window", "--top", "2"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    result = json.loads(out)
    assert list(result["detectors"]) == ["bed", "window"]
    assert result["effect_n"] == 0
    assert {row["removed"] for row in result["units"]} == {None}
    assert all(len(row["top"]) == 2 for row in result["units"])
    assert "removed" not in (tmp_path / "units.html").read_text("utf-8").split("<script")[0]


def test_people_get_a_table(capsys, tiny, tmp_path):
    words = [word for word in common(tiny, tmp_path) if word != "--json"]
    status, out, _ = run(capsys, *words)
    assert status == 0
    assert "of 8 units are detectors" in out
    assert out.count("layer8x8 ") == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "layer8x9"], "did you mean 'layer8x8'"),
        (["--concept", "dragon"], "does not know 'dragon'"),
        (["--quantile", "1"], "between 0 and 1"),
        (["--n", "0"], "--n"),
        (["--top", "0"], "--top"),
        (["--segmenter", "nothing.safetensors"], "nothing.safetensors"),
        (["--model", "nothing"], "no model 'nothing'"),
        (["--effect-n", "many"], "valid integer"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(capsys, tiny, tmp_path, words, message):
    status, out, err = run(capsys, *common(tiny, tmp_path), *words)
    assert status == 2, err
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


def test_a_sheet_of_noise_can_be_written():
    noise = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), dtype=np.uint8)
    _, _, encoded = _sheet(noise).partition(",")
    with Image.open(BytesIO(base64.b64decode(encoded))) as sheet:
        assert sheet.width * sheet.height >= 400 * 32 * 32
