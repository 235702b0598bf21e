"""What the site adds to the Markdown files of this folder: pages that are made, and links.

- README, CHANGELOG, CONTRIBUTING and others that lie outside this folder become pages, unchanged.
- Every command gets a page from its own help, and every room of the library one from its names.
- Notebooks become pages, and the scripts of `examples/` one.
- Relative links between all of these work as they do in the repository.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import pages  # noqa: E402 - beside this file, which mkdocs loads by its path

# Where a file or folder of the repository stands on the site.
PLACES = {
    "README.md": "start.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "LICENSE": "license.md",
    "CITATION.cff": "cite.md",
    "annotations/README.md": "annotations/index.md",
    "annotations/bedrooms64/by_eye.txt": "annotations/bedrooms64/by_eye.txt",
    "dissect/models/weights/bedrooms64/MODEL_CARD.md": "models/bedrooms64/index.md",
    "dissect/models/weights/faces64/MODEL_CARD.md": "models/faces64/index.md",
    "dissect/models/weights/bedrooms64/samples.png": "models/bedrooms64/samples.png",
    "dissect/models/weights/faces64/samples.png": "models/faces64/samples.png",
    "examples": "examples.md",
    **{
        f"annotations/{picture.relative_to(ROOT / 'annotations').as_posix()}": (
            f"annotations/{picture.relative_to(ROOT / 'annotations').as_posix()}"
        )
        for picture in sorted((ROOT / "annotations").glob("*/*.png"))
    },
}
_ORIGINS = {place: origin for origin, place in PLACES.items()}
# A link whose text and target are on one line, outside of code.
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def on_config(config: Any) -> Any:
    """Replace a folder in the navigation, such as `commands/`, by the pages made for it."""
    made = [place for place, _ in _made()]

    def expanded(entry: Any) -> Any:
        if isinstance(entry, list):
            return [expanded(one) for one in entry]
        if isinstance(entry, dict):
            return {title: expanded(one) for title, one in entry.items()}
        if not str(entry).endswith("/"):
            return entry
        inside = [place for place in made if place.startswith(entry)]
        index = f"{entry}index.md"
        return [index, *(place for place in inside if place != index)]

    config.nav = expanded(config.nav)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, and those that are made."""
    for place, content in _made():
        files.append(File.generated(config, place, content=content))
    for origin, place in PLACES.items():
        path = ROOT / origin
        if path.is_file() and files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, abs_src_path=str(path)))
    worker = str(Path(__file__).with_name("iframe-worker.js"))
    files.append(File.generated(config, "javascripts/iframe-worker.js", abs_src_path=worker))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page with its links to files of the repository leading to their pages."""
    here = page.file.src_uri
    origin = _ORIGINS.get(here, f"docs/{here}")
    if here == "limits.md":
        origin = "README.md"
    if here.startswith("tutorials/"):
        origin = f"examples/notebooks/{posixpath.basename(here)}"
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda link: _led(link, origin, here), part)
        for part in parts
    )


def _led(link: re.Match[str], origin: str, here: str) -> str:
    """The link of a page of `origin` in the repository, for the page `here` on the site."""
    before, target, after = link.groups()
    if re.match(r"[a-z]+:", target):
        return link[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if path in PLACES:
        place = PLACES[path]
    elif path.startswith("examples/notebooks/"):
        place = f"tutorials/{posixpath.basename(path).replace('.ipynb', '.md')}"
    elif path.startswith("examples"):
        place = "examples.md"
    elif path.startswith("docs/"):
        place = path.removeprefix("docs/")
    else:
        return link[0]  # the build finds that it leads nowhere
    return f"{before}{posixpath.relpath(place, posixpath.dirname(here) or '.')}{after}"


@cache
def _made() -> tuple[tuple[str, str], ...]:
    """The pages that are made, each with its place on the site."""
    return tuple(_make())


def _make() -> Iterator[tuple[str, str]]:
    yield from pages.command_pages()
    yield from pages.reference_pages()
    yield from pages.notebook_pages(ROOT / "examples" / "notebooks")
    yield "examples.md", pages.scripts_page(ROOT / "examples")
    yield "license.md", f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text()}```\n"
    citation = (ROOT / "CITATION.cff").read_text()
    readme = (ROOT / "README.md").read_text()
    yield "limits.md", "# Limits\n" + readme.partition("## Limits\n")[2].partition("\n## ")[0]
    yield "cite.md", pages.citation_page(citation)
