"""Options that would do nothing, and numbers that mean nothing, are refused in a line."""

import pytest
from helpers.command_line import run

IDLE = {
    "walk --no-control --pool 9": "--pool does nothing with --no-control",
    "arithmetic a-b --pool 9": "--pool does nothing without --find",
    "turn smile --direction x.json --exemplars y.json": "--exemplars does nothing with",
    "turn smile --direction x.json --method held": "--method does nothing where",
    "turn smile --direction x.json --pool 99": "--pool does nothing where",
    "turn smile --method held --n-exemplars 3": "--n-exemplars does nothing with --method held",
    "units --no-effect --effect-n 4": "--effect-n does nothing with --no-effect",
    "segment --size 32": "--size does nothing without a SOURCE",
    "segment bedrooms --model faces64": "--model does nothing with a SOURCE",
    "segment folder:x --seed 3": "--seed does nothing with folder:x",
    "dedup folder:x --source-seed 3": "--source-seed does nothing with folder:x",
    "classify cifar10:x --test-draws 3": "--test-draws does nothing without svhn",
    "classify cifar10:x --rows pixels --kmeans 9": "--kmeans does nothing without the row kmeans",
    "classify cifar10:x --trials 9": "--trials does nothing without the row supervised",
    "classify cifar10:x --device cpu": "--device does nothing without --model",
    "annotate --images folder:x --model faces64": "--model does nothing with --images",
    "annotate --images folder:x --n 9": "--n does nothing with --images",
    "annotate --size 64": "--size does nothing without --images",
    "data --json info bedrooms": "--json does nothing before info",
}
OUT_OF_BOUNDS = {
    "arithmetic a-b --scale nan": "nan is not a finite number",
    "turn smile --length inf": "inf is not a finite number",
    "data faces x --margin=-inf": "-inf is not a finite number",
    "data render bedrooms --count 99999999999": "too large",
    "sample --seed 18446744073709551616": "4294967295",
    "sample --model a\0b": "NUL",
    "walk --n 900 --columns 900": "more than 100,000 images",
}


@pytest.mark.parametrize("words", IDLE)
def test_an_option_that_does_nothing_is_refused(capsys, words):
    status, out, err = run(capsys, *words.split())
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert IDLE[words] in err


@pytest.mark.parametrize("words", OUT_OF_BOUNDS)
def test_a_number_that_means_nothing_is_refused(capsys, words):
    status, out, err = run(capsys, *words.split(" "))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert OUT_OF_BOUNDS[words] in err
