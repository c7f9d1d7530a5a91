"""The pages of docs/: links lead somewhere, and pages that are written by the rules of prose keep to them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Pages and folders of docs/ whose sentences are short and whose lines are wrapped; add yours here.
PLAIN = ("docs/semantics",)
WORDS_MAX, COLUMNS_MAX = 30, 100


def without_code(text: str) -> str:
    """Leave out fenced blocks, which are not prose and hold no links."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> list[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", without_code(page.read_text()), flags=re.MULTILINE)
    slugs: list[str] = []
    for heading in headings:
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        again = sum(known == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", known) is not None for known in slugs)
        slugs.append(f"{slug}-{again}" if again else slug)
    return slugs


def dead_links(page: Path) -> list[str]:
    """The relative links of a page, and of its pictures, that lead nowhere."""
    prose = re.sub(r"`[^`\n]*`", "", without_code(page.read_text()))
    targets = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r"(?:src|href)=\"([^\"]+)\"", prose)
    dead = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(target)
    return dead


def sentences(text: str) -> list[str]:
    """The sentences of a page: of its paragraphs, of the items of its lists and of the cells of its tables."""
    lines = [line for line in without_code(text).splitlines() if not line.startswith("    ")]  # formulas
    blocks = [""]
    for line in lines:
        if not line.strip() or line.startswith(("#", "|")) or re.match(r"\s*(-|\d+\.) ", line):
            blocks.append("")
        blocks[-1] += " " + line
        if line.startswith("#"):
            blocks.append("")
    found = []
    for block in blocks:
        pieces = block.strip(" |").split(" | ") if block.strip().startswith("|") else [block]
        for piece in pieces:
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", piece))
            found += [part.strip() for part in re.split(r"(?<=[.?!])\s+", plain) if part.strip()]
    return found


def long_sentences(text: str) -> list[str]:
    return [s for s in sentences(text) if len(re.findall(r"[\w'%±]+", s)) > WORDS_MAX]


def wide_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > COLUMNS_MAX]


def plain_pages() -> list[Path]:
    return [page for page in PAGES if page.relative_to(ROOT).as_posix().startswith(PLAIN)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_is_dead(page):
    assert dead_links(page) == []


@pytest.mark.parametrize("page", plain_pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_sentences_are_short_and_lines_wrapped(page):
    assert long_sentences(page.read_text()) == []
    assert wide_lines(page.read_text()) == []


def test_pages_that_code_names_are_there():
    named = set()
    for folder in ("mbexp", "tests", "conf", "benchmarks", "scripts"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".yaml", ".c"):
                named |= set(re.findall(r"docs/[\w/]+\.md", file.read_text()))
    assert "docs/semantics/limit.md" in named
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_every_chapter_is_in_the_contents():
    book = ROOT / "docs" / "semantics"
    linked = re.findall(r"\]\((\w+\.md)\)", (book / "README.md").read_text())
    assert sorted(linked) == sorted(page.name for page in book.glob("*.md") if page.name != "README.md")


def test_what_the_checks_find(tmp_path):
    """They see a dead file, a dead anchor, a long sentence and a wide line, and nothing in code."""
    (tmp_path / "other.md").write_text("# Two words\n\n## Two words\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#two-words) [c](other.md#two-words-1) [d](https://x.org/y)\n"
        "[e](gone.md) [f](other.md#three) `[g](code.md)`\n\n```\n[h](code.md)\n```\n"
    )
    assert dead_links(page) == ["gone.md", "other.md#three"]
    thirty = " ".join(["word"] * WORDS_MAX)
    table_and_formula = f"| {thirty} | {thirty} |\n\n    {thirty} {thirty}"
    assert long_sentences(f"# Head\n{thirty}.\n\n- {thirty}\n- {thirty}\n\n{table_and_formula}") == []
    assert len(long_sentences(f"{thirty} one. {thirty}\nand more.")) == 2
    assert wide_lines("x" * COLUMNS_MAX + "\n" + "y" * (COLUMNS_MAX + 1)) == ["y" * (COLUMNS_MAX + 1)]
