import sys
from types import ModuleType, SimpleNamespace

import pytest

import dissect
from dissect._utils.progress import no_progress


class Cell:
    """What a notebook's `display` gives: a place whose content is replaced."""

    def __init__(self):
        self.bundles = []

    def update(self, bundle, raw):
        assert raw
        self.bundles.append(bundle)


@pytest.fixture
def cell(monkeypatch):
    """A stand-in for IPython in a notebook."""
    made = Cell()

    def display(bundle, raw, display_id):
        assert raw
        assert display_id
        made.bundles.append(bundle)
        return made

    ipython, shown = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return made


def test_a_bar_stands_below_the_cell_and_goes_away(cell):
    with dissect.progress_bar("<measuring>", total=3) as progress:
        progress(1)
        progress(2, "last")
    first, *_, last = cell.bundles
    assert first["text/plain"] == "<measuring> 0/3"
    assert '&lt;measuring&gt; <progress value="0" max="3">' in first["text/html"]
    assert last == {"text/plain": "", "text/html": ""}


def test_a_bar_of_unknown_length_counts(cell):
    with dissect.progress_bar("steps") as progress:
        progress(7)
    assert "steps 7" in [bundle["text/plain"] for bundle in cell.bundles]


def test_a_bar_goes_away_after_an_error(cell):
    with pytest.raises(ValueError, match="stop"), dissect.progress_bar("steps"):
        raise ValueError("stop")
    assert cell.bundles[-1]["text/html"] == ""


def test_the_work_reports_itself_in_a_cell(cell):
    G = dissect.load("bedrooms64")
    with dissect.progress_bar("measuring") as progress:
        segmenter = dissect.load_segmenter()
        edit = dissect.Intervention(dissect.Units("layer8x8", (0,), 256))
        dissect.measure_effect(G, segmenter, dissect.latents(4), "window", edit, progress=progress)
    assert len(cell.bundles) > 2


def test_a_shell_in_a_terminal_has_no_cell(cell, monkeypatch):
    sys.modules["IPython"].get_ipython = SimpleNamespace
    with dissect.progress_bar("steps", show=None) as progress:
        assert progress is no_progress
    assert cell.bundles == []


def test_without_a_terminal_nothing_is_shown(capsys):
    with dissect.progress_bar("steps", 2) as progress:
        progress(1)
    assert capsys.readouterr().err == ""
