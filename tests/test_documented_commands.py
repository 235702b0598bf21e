"""Every command and option that README, docs/, Makefile and the model cards name exists."""

import re
from pathlib import Path

import pytest
import typer

from dissect.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "Makefile", "annotations/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "dissect/models/weights").rglob("*.md")),
]
COMMANDS = typer.main.get_command(app).commands


def commands_in(text):
    """What follows `dissect` where it is a command, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", text)
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(
        r"^\s*(?:\$\(BIN\)/)?(dissect .*)$", text, re.M
    )
    code += re.findall(r"-m(?: --)? (dissect .*)$", text, re.M)
    for words in code:
        for found in re.finditer(r"(?:^|[ /])dissect ([a-z][a-z-]*)(.*)", words):
            yield found[1], re.split(r"\s(?:#|&&)", found[2])[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_is_typed_can_be_typed(page):
    unknown = []
    for name, rest in commands_in(page.read_text()):
        command = COMMANDS.get(name)
        if command is None:
            unknown.append(name)
            continue
        inner = rest.split()
        if hasattr(command, "commands") and inner and inner[0] in command.commands:
            command = command.commands[inner[0]]
        known = {
            word for option in command.params for word in (*option.opts, *option.secondary_opts)
        }
        known |= {"--help", "--debug", "--version"}
        unknown += [
            f"{name} {word}"
            for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)
            if word not in known
        ]
    assert unknown == []
