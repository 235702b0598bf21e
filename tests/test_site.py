"""The site is whole: it builds without a warning, its links lead somewhere, nothing is fetched."""

import ast
import json
import os
import re
import subprocess
import sys
from collections import deque
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
import typer

import dissect
from dissect.cli import app

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: its folder."""
    for module in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(module, reason="the site needs the extra `docs`")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        build,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Page(HTMLParser):
    """The anchors of a page, its links, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get("src"):
            self.loaded.append(values["src"])
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def target_of(page, link):
    """The file and the anchor that a link leads to; None for what is not on the site."""
    if re.match(r"[a-z]+:|//", link):
        return None
    place, anchor = urldefrag(link)
    return (page.parent / unquote(place)).resolve() if place else page, unquote(anchor)


def test_every_link_leads_to_a_page_and_an_anchor(site, pages):
    broken = []
    for page, content in pages.items():
        if page.name == "404.html":
            continue  # its links are those of a server's root
        for link in content.links:
            target = target_of(page, link)
            if target is None:
                continue
            path, anchor = target
            known = path.is_file() and (
                path not in pages or not anchor or anchor in pages[path].ids
            )
            if not known:
                broken.append(f"{page.relative_to(site)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for page, content in pages.items():
        if page.name == "404.html":
            continue
        for source in content.loaded:
            assert not re.match(r"[a-z]+:|//", source) or source.startswith("data:"), source
            assert target_of(page, source)[0].is_file(), f"{page.relative_to(site)}: {source}"
    styles = "".join(path.read_text("utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"url\(['\"]?(?:https?:)?//", styles)


@pytest.mark.parametrize(
    ("question", "page", "anchor"),
    [
        ("how to ablate a layer of a StyleGAN", "howto/stylegan.html", ""),
        ("what a gate is", "glossary.html", ""),
        ("why batch norm is in eval mode", "gotchas.html", "batch-norm-in-training-mode"),
        ("how to cite", "cite.html", ""),
    ],
)
def test_an_answer_is_two_clicks_away(site, pages, question, page, anchor):
    wanted = (site / page).resolve()
    assert not anchor or anchor in pages[wanted].ids
    clicks = {site / "index.html": 0}
    ahead = deque(clicks)
    while ahead:
        here = ahead.popleft()
        for link in pages[here].links:
            target = target_of(here, link)
            if target and target[0] in pages and target[0] not in clicks:
                clicks[target[0]] = clicks[here] + 1
                ahead.append(target[0])
    assert clicks[wanted] <= 2, question
    # No page is left that nothing leads to.
    assert {path for path in pages if path.name != "404.html"} <= set(clicks)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("StyleGAN", "howto/stylegan.html"),
        ("Gate.", "glossary.html"),
        ("Batch norm in training mode", "gotchas.html#batch-norm-in-training-mode"),
        ("How to cite", "cite.html"),
        ("fit_probe_from_boxes", "reference/index.html"),
    ],
)
def test_the_search_finds_it_from_a_disk(site, words, page):
    # What pages opened from a disk read.
    text = (site / "search" / "search_index.js").read_text("utf-8")
    entries = json.loads(text.removeprefix("var __index = "))["docs"]
    found = [one for one in entries if words in one["title"] + re.sub("<.*?>", "", one["text"])]
    assert any(one["location"].startswith(page) for one in found)


def test_every_public_name_has_its_entry(site):
    text = (site / "reference" / "index.html").read_text("utf-8")
    assert set(dissect.__all__) - set(re.findall(r"dissect\.(\w+)", text)) == {"__version__"}


def test_every_command_has_its_page(site):
    commands = set(typer.main.get_command(app).commands)
    assert {path.stem for path in (site / "commands").glob("*.html")} == commands | {"index"}


def messages_of_the_package():
    """Every text of the source, with a space where a value is put in."""
    for file in Path(dissect.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    one.value if isinstance(one, ast.Constant) else "\0" for one in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_page_of_errors_quotes_messages_that_exist():
    messages = "\n".join(messages_of_the_package())
    headings = re.findall(r"^## (.*)$", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    assert len(headings) > 10
    for heading in headings:
        for part in re.split(r"\.\.\.", heading):
            words = part.strip(" ():;,.")
            assert words in messages, f"{heading}: {words!r}"
