"""Every example in a docstring and every Python block of README runs, and gives what it shows."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

import dissect

PACKAGE = Path(dissect.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
SOURCES = {file: file.read_text() for file in sorted(PACKAGE.rglob("*.py"))}
WITH_EXAMPLES = [file for file, source in SOURCES.items() if ">>> " in source]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def module_of(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def examples(file):
    """The examples of every docstring in a file, whatever decorates what has it."""
    module = importlib.import_module(module_of(file))
    for node in ast.walk(ast.parse(SOURCES[file])):
        if isinstance(node, DOCUMENTED) and ">>> " in (text := ast.get_docstring(node) or ""):
            name = getattr(node, "name", "the module")
            line = getattr(node, "lineno", 1)
            names = dict(vars(module))
            yield doctest.DocTestParser().get_doctest(text, names, name, str(file), line)


def python_blocks(page):
    """What is fenced as `python`; a block that needs more than the package is fenced as `py`."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=lambda file: module_of(file))
def test_examples_in_docstrings(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for example in examples(file):
        report = []
        runner = doctest.DocTestRunner(optionflags=flags)
        runner.run(example, out=report.append)
        assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch, capsys):
    """In one namespace, as in a notebook; a comment beside a `print` is what it prints."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    blocks = python_blocks(page)
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    printed = re.findall(r"^ *print\(.*\)  # (.+)$", "\n".join(blocks), re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == printed
