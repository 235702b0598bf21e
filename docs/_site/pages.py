"""The pages that are made: of commands, of the library's names, of notebooks and scripts."""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import dissect
from dissect.cli import app

__all__ = [
    "citation_page",
    "command_pages",
    "notebook_pages",
    "reference_pages",
    "scripts_page",
]

# The rooms whose names are for everyone, with what each is for.
ROOMS = {
    "hooks": "Record and edit the activations of any module",
    "units": "Units of a layer: channels or directions",
    "annotations": "Boxes on images",
    "models": "Generators, latents and images",
    "data": "Sources of images",
    "surgery": "Edits: applied, baked, excised",
    "segmentation": "Classes of pixels, and attributes of images",
    "attribution": "Guided backpropagation and its kin",
    "probe": "Probes of a concept",
    "effect": "What an edit does",
    "dissection": "Every unit against every concept",
    "latent_space": "Walks, sums and directions",
    "representation": "Features under a linear classifier",
    "training": "Training",
    "selection": "The choice of units",
    "figures": "Every picture",
    "sharing": "Models, probes and edits on a hub",
}
# Top names by the parts of `dissect.__all__`, in its order.
PARTS = (
    ("A model and its images", "load"),
    ("Hooks on any module", "record"),
    ("Find", "Annotations"),
    ("Act", "Intervention"),
    ("Measure", "measure_effect"),
    ("Explain, choose", "guided_backprop"),
    ("What all of them share", "DissectError"),
)


def command_pages() -> Iterator[tuple[str, str]]:
    """A page for each command, and one that lists them, from their own help."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = ["# Commands", "", "The text of each page is that of `dissect COMMAND --help`.", ""]
    panels: dict[str, list[str]] = {}
    for name, command in commands.items():
        inner = getattr(command, "commands", {})
        text = [_command(f"dissect {name}", command, level=1)]
        text += [_command(f"dissect {name} {sub}", one, level=2) for sub, one in inner.items()]
        yield f"commands/{name}.md", "\n".join(text)
        panel = str(getattr(command, "rich_help_panel", "") or "Commands")
        about = _sentence(command.help)
        panels.setdefault(panel, []).append(f"| [`{name}`]({name}.md) | {about} |")
    for panel, rows in panels.items():
        lines += [f"## {panel}", "", "| command | what it does |", "|---|---|", *rows, ""]
    yield "commands/index.md", "\n".join(lines)


def _command(name: str, command: Any, *, level: int) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = " ".join([name, *(_argument(one) for one in arguments), "[OPTIONS]"])
    if getattr(command, "commands", None):
        usage = f"{name} COMMAND"
    lines = [f"{'#' * level} {name}", "", command.help or "", "", "```sh", usage, "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{_name(one)}` | {_cell(one.help)} |" for one in arguments]
        lines.append("")
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(str(option.rich_help_panel or "Options"), []).append(option)
    for panel, group in panels.items():
        lines += [f"{'#' * (level + 1)} {panel}", "", "| option | meaning | default |"]
        lines += ["|---|---|---|", *(_option(one) for one in group), ""]
    return "\n".join(lines)


def _name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _argument(argument: Any) -> str:
    name = _name(argument) + ("..." if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = f" `{option.metavar}`" if option.metavar else ""
    hidden = option.default in (None, False, (), []) or callable(option.default)
    default = "" if hidden else f"`{option.default}`"
    return f"| {names}{kind} | {_cell(option.help)} | {default} |"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str | None) -> str:
    return _cell(text).split(". ")[0].rstrip(".") + "."


def reference_pages() -> Iterator[tuple[str, str]]:
    """The names of `dissect` on one page, and those of every room on a page of its own."""
    lines = [
        "# Reference",
        "",
        "The names of `dissect` itself. Those of its rooms: "
        + ", ".join(f"[`{room}`]({room}.md)" for room in _rooms())
        + ".",
        "",
    ]
    starts = {first: title for title, first in PARTS}
    for name in dissect.__all__:
        if name in starts:
            lines += [f"## {starts[name]}", ""]
        if name != "__version__":
            lines += _documented(getattr(dissect, name), f"dissect.{name}", level=3)
    yield "reference/index.md", "\n".join(lines)
    for room in _rooms():
        module = importlib.import_module(f"dissect.{room}")
        lines = [f"# dissect.{room}", "", f"{ROOMS[room]}.", ""]
        on_first_page = []
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if top := _top_name(value):
                home = f"index.md#{_home(value, f'dissect.{top}')}"
                on_first_page.append(f"[`dissect.{top}`]({home})")
            else:
                lines += _documented(value, f"dissect.{room}.{name}", level=2)
        if on_first_page:
            lines[4:4] = [f"On the page of `dissect` itself: {', '.join(on_first_page)}.", ""]
        yield f"reference/{room}.md", "\n".join(lines)


def _rooms() -> list[str]:
    folder = Path(dissect.__file__).parent
    return [room for room in ROOMS if (folder / room).is_dir()]


def _documented(value: Any, name: str, *, level: int) -> list[str]:
    """The entry of one name under its own heading, wherever it is defined."""
    options = {"heading": name, "toc_label": name.rpartition(".")[2], "heading_level": level}
    lines = [f"      {option}: {one}" for option, one in options.items()]
    return [f"::: {_home(value, name)}", "    options:", *lines, ""]


def _home(value: Any, name: str) -> str:
    """Where what `name` stands for is defined: some functions are called as their file is."""
    own = inspect.isclass(value) or inspect.isfunction(value)
    return f"{value.__module__}.{value.__qualname__}" if own else name


def _top_name(value: Any) -> str | None:
    """The name of `dissect` itself that stands for `value`."""
    return next((name for name in dissect.__all__ if getattr(dissect, name) is value), None)


def notebook_pages(folder: Path) -> Iterator[tuple[str, str]]:
    """Each notebook as a page: its text, and its code in blocks."""
    rows = []
    for path in sorted(folder.glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        parts = []
        for cell in cells:
            source = "".join(cell["source"])
            code = cell["cell_type"] == "code"
            parts.append(f"```py\n{source}\n```" if code else source)
        name = path.with_suffix(".md").name
        title = parts[0].splitlines()[0].lstrip("# ")
        rows.append(f"- [{title}]({name})")
        note = f"*As a notebook to run: `examples/notebooks/{path.name}` of the repository.*"
        yield f"tutorials/{name}", "\n\n".join((parts[0], note, *parts[1:])) + "\n"
    text = "# Tutorials\n\nEach is a notebook that runs in less than 90 seconds on two cores.\n\n"
    yield "tutorials/index.md", text + "\n".join(rows) + "\n"


def scripts_page(folder: Path) -> str:
    """The scripts of a folder on one page, each under what its first line says."""
    lines = ["# Examples", ""]
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        source = path.read_text("utf-8")
        found = re.match(r'"""(.*?)(?:\n|""")', source)
        lines += [f"## {name}", "", found[1] if found else "", "", f"```py\n{source}```", ""]
    return "\n".join(lines)


def citation_page(citation: str) -> str:
    """How to cite, as BibTeX and as the file that other tools read."""
    title = _field(citation, "title")
    version = _field(citation, "version")
    return (
        "# How to cite\n\nThe software, and the paper whose experiments it repeats:\n\n"
        "```bibtex\n"
        f"@software{{dissect,\n  title = {{{title}}},\n  author = {{The dissect authors}},\n"
        f"  version = {{{version}}},\n  license = {{MIT}}\n}}\n\n"
        "@article{radford2015unsupervised,\n"
        "  title = {Unsupervised Representation Learning with Deep Convolutional Generative "
        "Adversarial Networks},\n"
        "  author = {Radford, Alec and Metz, Luke and Chintala, Soumith},\n"
        "  journal = {arXiv:1511.06434},\n  year = {2015}\n}\n```\n\n"
        f"`CITATION.cff` of the repository:\n\n```yaml\n{citation}```\n"
    )


def _field(citation: str, name: str) -> str:
    found = re.search(rf'^{name}: "?(.*?)"?$', citation, re.MULTILINE)
    return found[1] if found else ""
