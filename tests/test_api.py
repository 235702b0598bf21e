"""The public names and their signatures, beside what tests/public_api.txt holds.

    python tests/test_api.py > tests/public_api.txt

renews the file after a change that is meant. Types are not in it: they are mypy's concern.
"""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import dissect

SNAPSHOT = Path(__file__).with_name("public_api.txt")
ROOT = Path(__file__).resolve().parents[1]


def described(name, value):
    """A line for a name; for a class its public methods and properties below it."""
    if inspect.isclass(value):
        yield f"class {name}{signature(value)}"
        for member in sorted(set(public_members(value))):
            yield f"    {describe_member(value, member)}"
    elif callable(value):
        yield f"{name}{signature(value)}"
    else:
        yield name


def public_members(cls):
    """The names that this project's own classes give it; those of torch and others are theirs."""
    for base in cls.__mro__:
        if base.__module__.startswith("dissect"):
            yield from (name for name in vars(base) if not name.startswith("_"))


def describe_member(cls, name):
    value = inspect.getattr_static(cls, name)
    if isinstance(value, classmethod | staticmethod):
        return f"{name}{signature(getattr(cls, name))}"
    return f"{name}{signature(value)}" if inspect.isfunction(value) else name


def signature(function):
    """Names, kinds and defaults of the parameters, without types."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return "(...)"
    bare = [
        parameter.replace(annotation=parameter.empty)
        for parameter in found.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    # What has no other form than its address in memory.
    text = str(found.replace(parameters=bare, return_annotation=found.empty))
    return re.sub(r"<(\w+) .*? at 0x\w+>", r"<\1>", text)


def snapshot():
    names = sorted(dissect.__all__, key=str.casefold)
    return "\n".join(line for name in names for line in described(name, getattr(dissect, name)))


def test_the_public_names_and_signatures_are_those_of_the_snapshot():
    hint = f"renew it with: python tests/{Path(__file__).name} > tests/{SNAPSHOT.name}"
    assert snapshot().splitlines() == SNAPSHOT.read_text().splitlines(), hint


def test_every_public_name_says_what_it_is():
    undocumented = [
        name
        for name in dissect.__all__
        if callable(getattr(dissect, name)) and not inspect.getdoc(getattr(dissect, name))
    ]
    assert undocumented == []


def test_a_type_checker_sees_the_names_that_are_loaded_when_first_used():
    """The names for the type checker, for `from dissect import *` and for use are the same."""
    tree = ast.parse(Path(dissect.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    checked = {
        alias.asname or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert checked | {"__version__"} == set(dissect.__all__) == set(dir(dissect))
    assert len(dissect.__all__) == len(set(dissect.__all__))


def test_the_import_loads_nothing_heavy():
    code = "import dissect, sys; print(*{n.split('.')[0] for n in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "dissect" in loaded
    assert not loaded & {"torch", "numpy", "sklearn", "scipy", "matplotlib", "captum", "pydantic"}


if __name__ == "__main__":
    print(snapshot())
