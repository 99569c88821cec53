"""Links between pages, to headings and to files lead somewhere; so do the paths that are named."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
PATH = re.compile(r"`((?:compress|baselines|benchmarks|docs|tests|reports)/[\w./-]*)`")
CHANGING = "log.md"  # an entry names files as they were on its day


def prose(document: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors of all headings, as forges and the site make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", prose(document), flags=re.MULTILINE)
    }


def links(document: Path) -> Iterator[tuple[str, str]]:
    """The target and the anchor of every link that is no web address."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in links(document):
        target = (document.parent / path) if path else document
        assert target.exists(), f"{document.name}: {path}"
        assert not anchor or anchor in anchors(target), f"{document.name}: {path}#{anchor}"
        if document in PAGES:  # the site holds no other files
            assert target.resolve().is_relative_to(ROOT / "docs"), f"{document.name}: {path} is not on the site"


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if page.name != CHANGING], ids=lambda path: path.name)
def test_paths_that_are_named_exist(document: Path) -> None:
    for path in PATH.findall(prose(document)):
        assert (ROOT / path).exists(), f"{document.name}: {path}"


def test_every_page_is_in_the_sites_navigation() -> None:
    named = re.findall(r"- (\S+\.md)", (ROOT / "mkdocs.yml").read_text())
    assert sorted(named) == [page.name for page in PAGES]


def test_every_term_of_the_glossary_has_one_heading() -> None:
    terms = re.findall(r"^### (.+)$", (ROOT / "docs" / "concepts.md").read_text(), flags=re.MULTILINE)
    assert len(terms) == len(set(terms)) > 40
