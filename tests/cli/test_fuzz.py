"""Command lines at random: whatever is typed, the end is a result or one line with status 2.

The commands and their options are those of the application itself, so that a new option is tried
as soon as it is there. 200 command lines a run; 5,000 of them by

    DISSECT_FUZZ=5000 python -m pytest tests/cli/test_fuzz.py
"""

import contextlib
import io
import json
import os
import shlex
import sys
from functools import partial

import pytest
import torch
import typer
from helpers.labelled import pictures, write_batches
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from dissect.cli import app, main
from dissect.data import RenderedSource
from dissect.probe import fit

EXAMPLES = int(os.environ.get("DISSECT_FUZZ", "200"))
MODULE_CALLS = 150  # after so many a command has got past its checks, and is ended


class EnoughError(BaseException):
    """A command has begun its work."""


def leaves(command, words=()):
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from leaves(inner, (*words, name))
        else:
            yield " ".join((*words, name)), inner


ROOT = typer.main.get_command(app)
COMMANDS = dict(leaves(ROOT))

WHOLE = ["", "0", "-1", "1", "2", "3", "10", "99", "1e3", "1.5", "nan", "٣", "x", "2147483648"]
WHOLE += ["4294967296", "18446744073709551616", "9" * 40, "-9223372036854775809"]
REAL = ["", "0", "-1", "1", "0.5", "2", "nan", "inf", "-inf", "1e308", "1e-320", "½", "x"]
TEXTS = ["", " ", "window", "spot", "wall", "all", "none", "auto", "faces", "bedrooms", "boxes"]
TEXTS += ["layer8x8", "rgb", "layer4x4.conv", "segmenter", "segmenter:12", "segmenter:9", "linear"]
TEXTS += ["positive", "top:3", "top:0", "top:-1", "iou:2", "causal:x", "best", "everywhere"]
TEXTS += ["strength=1", "strength=nan", "threshold=1", "region=0,0,16,16", "region=1,nan,3,4", "="]
TEXTS += [
    "smile>0.5",
    "spot>nan",
    "a=spot>0",
    "a=",
    "yaw",
    "smiling - a + b",
    "0-5",
    "9-2",
    ",",
    ":",
]
TEXTS += ["folder:images", "folder:", "folder:~nobody/x", "lsun:images", "cifar10:images", "svhn:x"]
TEXTS += ["cpu", "meta", "cuda:99", "cpu:x", "discriminator", "pixels,kmeans", "1e-3,0", "strict"]
TEXTS += ["steps=2", "steps=1e999", "kernel=[1]", "seed=true", "half=", "augment=x", "keep=1"]
TEXTS += ["ü\u202e", "a\0b", "\ud800", "a" * 5_000, "--", "-", "../x", "%s{0}", "\n"]
FILES = ["g.safetensors", "d.safetensors", "s.safetensors", "spot.json", "edit.json", "units.json"]
FILES += ["missing", "images", "images/0.png", "empty", "text", "list.json", "deep.json", "cut"]
FILES += ["text/below", "new.pth", "bom.toml", "keep.txt", "f.py:good", "f.py:fails", "f.py:other"]
FILES += ["f.py:nothing", "f.py:", "/dev/null", "/dev/null/x", "locked", "locked/x", "n" * 300]
VALUES = {"<int>": WHOLE, "<float>": REAL, "<path>": FILES}
MODEL = "--model g.safetensors --out out"
STUDY = f"{MODEL} --boxes spot.json --concept spot --segmenter s.safetensors"
# What lets each command get as far as its work.
GOOD = {
    "ablate": f"{STUDY} --edit edit.json --n 2 --pool 20",
    "annotate": "--images folder:images --out out",
    "arithmetic 'a - b'": f"{MODEL} --reader bedrooms --find a=bed>0 --find b=wall>0 --pool 20",
    "classify cifar10:images": "--out out --model d.safetensors --rows pixels --c 1e-3",
    "data faces images": "--out out",
    "data info folder:images": "",
    "data pack folder:images": "",
    "data render bedrooms": "--count 2 --out out",
    "dedup bedrooms": "--images 200 --steps 2 --out out",
    "effect": f"{STUDY} --rule top:2 --n 10 --control-n 10 --random-sets 2",
    "evaluate attributes": f"{MODEL} --reader bedrooms --samples 2",
    "evaluate segmenter": f"{STUDY} --n 2",
    "export edit.json": f"{MODEL} --force",
    "guided folder:images": "--model d.safetensors --out out --images 5 --strongest 2",
    "insert": f"{STUDY} --k 2 --n 2 --pool 40 --region 8,8,8,8",
    "layers": "--model g.safetensors",
    "probe": STUDY,
    "rules": f"{STUDY} --n 20 --search-n 20",
    "sample": f"{MODEL} --n 2",
    "search": f"{STUDY} --n 20",
    "segment folder:images": "--segmenter s.safetensors --out out --n 2 --size 32",
    "studio": f"{STUDY} --edit edit.json --n 2",
    "swap wall": f"{STUDY} --k 2 --n 2 --pool 4 --rule top:2",
    "train folder:images": "--out run --image-size 8 --batch-size 4 --set generator_width=4",
    "train-attributes faces": "--out out --images 9 --steps 2 --batch-size 4",
    "train-segmenter bedrooms": "--out out --images 9 --steps 2 --batch-size 4",
    "turn bed": f"{MODEL} --reader bedrooms --n 3 --pool 20 --method regression",
    "units": f"{MODEL} --segmenter s.safetensors --n 4 --effect-n 2 --layer layer8x8",
    "walk": f"{MODEL} --reader bedrooms --n 2 --columns 3 --no-control",
}


def command_of(words):
    return max((name for name in COMMANDS if f"{words} ".startswith(f"{name} ")), key=len)


def value_of(option):
    """What may be written for an option: mostly of its kind, at times of any other."""
    kind = VALUES.get(option.metavar, TEXTS)
    anything = [*TEXTS, *WHOLE, *REAL, *FILES]
    return st.one_of(*map(st.sampled_from, (kind, [*FILES, *kind], anything)))


@st.composite
def command_lines(draw):
    """A good command line, with up to three of its options changed or added."""
    words, options = draw(st.sampled_from(sorted(GOOD.items())))
    name = command_of(words)
    command, line, added = COMMANDS[name], shlex.split(words), []
    number = st.integers(0, len(command.params) - 1)
    changed = {draw(number) for _ in range(draw(st.integers(1, 3)))}
    for number, option in enumerate(command.params):
        if number not in changed:
            continue
        if option.param_type_name == "argument":
            line = [*name.split(), draw(value_of(option))]
        else:
            # The last of an option that is written twice counts.
            added.append(draw(st.sampled_from([*option.opts, *option.secondary_opts])))
            added += [] if option.is_flag else [draw(value_of(option))]
    more = draw(st.sampled_from([[]] * 9 + [["--nonsense"], ["--json"], ["x"]]))
    return [*line, *shlex.split(options), *added, *more]


# The tiny segmenter sees walls everywhere: there is nothing to swap.
@pytest.mark.parametrize("words", sorted(set(GOOD) - {"swap wall"}))
def test_a_good_command_line_gets_to_its_work(quick, words):
    status, _, err = end_of([*shlex.split(words), *GOOD[words].split()])
    assert status in (0, None), err


def test_every_command_is_tried():
    assert {command_of(words) for words in GOOD} == set(COMMANDS)


@pytest.fixture(scope="module")
def folder(study, eyes, tmp_path_factory):
    """Files of every kind, good and bad, by the names in `FILES`."""
    from dissect.models import Discriminator, load, save_checkpoint
    from dissect.surgery import Intervention
    from dissect.units import Units

    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "images").mkdir()
    for number in range(12):
        Image.new("RGB", (40, 30), (20 * number, 9, 9)).save(folder / "images" / f"{number}.png")
    for name in ("g.safetensors", "spot.json"):
        (folder / name).write_bytes((study / name).read_bytes())
    save_checkpoint(folder / "d.safetensors", Discriminator(width=4, image_size=32, kernel=4))
    (folder / "s.safetensors").write_bytes(eyes.read_bytes())
    units = Units("layer8x8", (0, 3), 8)
    Intervention(units).save(folder / "edit.json")
    units.save(folder / "units.json")
    torch.save(load(folder / "g.safetensors").state_dict(), folder / "new.pth")
    (folder / "empty").touch()
    (folder / "text").write_text("nothing\n")
    (folder / "list.json").write_text("[1, {}]")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "cut").write_bytes((study / "g.safetensors").read_bytes()[:900])
    (folder / "bom.toml").write_text("steps = 2\n", encoding="utf-8-sig")
    (folder / "keep.txt").write_text("# dissect keep: 2 of the 12 images of folder:images\n0\n3\n")
    (folder / "f.py").write_text(
        "import dissect\n"
        "def good():\n    return dissect.load('g.safetensors')\n"
        "def fails():\n    raise ValueError\n"
        "def other():\n    return 3\n"
    )
    write_batches(folder / "images", *pictures(80), *pictures(20, seed=1))
    (folder / "locked").mkdir(mode=0o555)
    return folder


@pytest.fixture
def quick(folder, monkeypatch):
    """Commands run in the folder, and are ended where their work begins."""
    import dissect.studio

    def enough(*_, **__):
        raise EnoughError

    monkeypatch.chdir(folder)
    monkeypatch.setenv("DISSECT_CACHE", str(folder / "cache"))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(typer.main, "get_command", lambda _: ROOT)  # it takes longest
    monkeypatch.setattr(dissect.studio, "serve", enough)
    monkeypatch.setattr(fit, "fit_from_labels", partial(fit.fit_from_labels, scored=False))
    # Pictures with axes take longest to draw, and are drawn of what was checked.
    monkeypatch.setattr(FigureCanvasAgg, "print_png", enough)
    for name in ("images", "masks"):
        monkeypatch.setattr(RenderedSource, name, enough)
    calls = [0]

    def count(*_):
        calls[0] += 1
        if calls[0] > MODULE_CALLS:
            raise EnoughError

    handle = register_module_forward_pre_hook(count)
    yield calls
    handle.remove()


def end_of(line):
    """How a command line ends (a status, or None where its work was cut off), and its output."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(line)
        except SystemExit as ended:
            return ended.code, out.getvalue(), err.getvalue()
        except EnoughError:
            return None, out.getvalue(), err.getvalue()
    raise AssertionError("a command ends with an exit status")


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(command_lines())
def test_every_command_line_ends_in_a_result_or_in_one_line(quick, line):
    quick[0] = 0
    status, out, err = end_of(line)
    event(f"status {status}")
    assert status in (0, 2, None)
    assert "Traceback" not in err
    if status == 2:
        last = err.splitlines()[-1]
        assert last.startswith("dissect: ")
        assert out == ""
    elif status == 0 and "--json" in line and "--help" not in line:
        assert isinstance(json.loads(out), dict)
    sys.stdout.flush()
