"""What `--help` shows: for every command, at 80 columns."""

import re

import pytest
import typer
from helpers.command_line import run

from dissect.cli import app


def leaves(command, words=()):
    """Every command that does something, by the words that call it."""
    for name, inner in getattr(command, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from leaves(inner, (*words, name))
        else:
            yield " ".join((*words, name)), inner


ROOT = typer.main.get_command(app)
COMMANDS = dict(leaves(ROOT))
OPTIONS = {
    f"{name} {max(option.opts, key=len)}": option
    for name, command in COMMANDS.items()
    for option in command.params
    if not getattr(option, "hidden", False)
}

# A default in words, where the value stands for "not given".
DEFAULT = re.compile(r"[Bb]y default ([\w:.-]+)|[Dd]efaults? to ([\w:.-]+)|\(default ([\w:.-]+)\)")


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_shown_whole(name, capsys):
    words = name.split()
    status, text, _ = run(capsys, *words, "--help")
    assert status == 0
    assert run(capsys, *words, "-h")[:2] == (0, text)
    assert "…" not in text, "an option's name is cut"
    assert "bool" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for option in COMMANDS[name].params:
        for word in (*option.opts, *option.secondary_opts):
            assert word in text or word.upper() in text


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does_in_a_sentence(name):
    assert is_sentence(COMMANDS[name].help)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_says_what_it_is_in_a_sentence(name):
    assert is_sentence(OPTIONS[name].help)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_default_in_words_is_the_default(name):
    option = OPTIONS[name]
    for found in DEFAULT.finditer(option.help or ""):
        word = next(group for group in found.groups() if group).rstrip(".,;:")
        # None stands for a default that is worked out when the command runs.
        if option.default is not None:
            assert word == str(option.default)


def is_sentence(text):
    """It begins with a capital (or a name in quotation marks) and ends with a full stop."""
    text = " ".join((text or "").split("\n\n")[0].split())
    return bool(re.match(r"[A-Z0-9\"'`]", text)) and text.endswith(".")


# Options whose values differ in kind: a series of latents, images of two networks.
SPECIAL = {
    *("annotate --seed", "studio --seed", "guided --seed"),
    *("classify --model", "studio --model", "data render --out"),
}


@pytest.mark.parametrize("flag", ["--out", "--seed", "--device", "--json", "--model", "--layer"])
def test_a_flag_means_the_same_in_every_command(flag):
    meanings = {
        (option.help, option.metavar, option.rich_help_panel)
        for name, option in OPTIONS.items()
        if name.endswith(f" {flag}") and name not in SPECIAL
    }
    assert len(meanings) == 1
