"""The pages: every link has a target, and every file and test that a page names exists."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE_HERE = {"build", "dist", "runs"}
"""Folders that commands make. A checkout need not have them."""
FOLDERS = [each for each in ROOT.iterdir() if each.is_dir() and each.name[0] != "." and each.name not in MADE_HERE]
PAGES = sorted(ROOT.glob("*.md")) + sorted(page for folder in FOLDERS for page in folder.rglob("*.md"))
NAMES = re.compile(r"\b(?:NAME|RECIPE)\b")
"""Placeholders for a name in a path."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def text_of(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    for heading in re.findall(r"^#+ +(.+?) *$", text_of(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        found[re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")] += 1
    return {f"{slug}-{i}" if i else slug for slug, count in found.items() for i in range(count)}


def links(page: Path) -> list[str]:
    text = text_of(page)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'<img [^>]*src="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def problem(page: Path, link: str) -> str | None:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and anchor not in anchors(target):
        return f"{link}: {named(target)} has no such heading"
    return None


def code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text_of(page))


def paths(page: Path) -> Iterator[str]:
    """The paths of the repository that the page names in backticks."""
    folders = {folder.name for folder in FOLDERS}
    for each in code(page):
        path = each.partition("::")[0]
        if re.fullmatch(r"[\w.*-]+(/[\w.*-]+)*/?", path) and "/" in path and path.split("/")[0] in folders:
            yield path


@cache
def defined_in(file: Path) -> frozenset[str]:
    return frozenset(re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8")))


@cache
def known_tests() -> frozenset[str]:
    """The names of all tests, and of their files."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    return frozenset(file.stem for file in files).union(*map(defined_in, files))


def is_known(test: str) -> bool:
    """`test` is a name, or FILE::NAME."""
    file, _, name = test.rpartition("::")
    return name in (defined_in(ROOT / file) if file else known_tests())


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert [found for link in links(page) if (found := problem(page, link))] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_files_exist(page: Path) -> None:
    assert [path for path in paths(page) if not any(ROOT.glob(NAMES.sub("*", path)))] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_named_tests_exist(page: Path) -> None:
    named_here = [test for each in code(page) for test in re.findall(r"(?:tests/[\w./]+::)?\btest_\w+", each)]
    assert [test for test in named_here if not is_known(test)] == []


def test_pages_are_found() -> None:
    assert {"README.md", "docs/api.md", "benchmarks/results/serving.md"} <= {named(page) for page in PAGES}
    assert "tokens" in anchors(ROOT / "docs" / "operations.md")
    assert sum(len(links(page)) for page in PAGES) > 100
    assert sum(len(list(paths(page))) for page in PAGES) > 20
