"""The pages: links lead somewhere, all stand in the contents of the site, and prose keeps to its rules.

A sentence has at most 30 words and a line 100 columns, decimals begin with a digit, and ± is one sign.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mbexp import rules
from mbexp.policy.slots import SLOTS
from mbexp.policy.views import Waiting
from tests import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(page for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")] if "_build" not in page.parts)
WORDS_MAX, COLUMNS_MAX = 30, 100


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


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
        row = block.strip().startswith("|")
        pieces = re.split(r" \| ", block.strip(" |")) if row else [block]
        for piece in pieces:
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", piece))
            found += [part.strip() for part in re.split(r"(?<=[.?!])\**\s+", plain) if part.strip()]
    return found


def long_sentences(text: str) -> list[str]:
    return [s for s in sentences(text) if len(re.findall(r"[\w'%±]+", s)) > WORDS_MAX]


def wide_lines(text: str) -> list[str]:
    """The lines that are too wide; of code, of tables and where links lead no width is asked."""
    prose = [line for line in without_code(text).splitlines() if not line.startswith(("|", "    "))]
    return [line for line in prose if len(re.sub(r"\]\([^)]*\)", "]", line)) > COLUMNS_MAX]


def odd_signs(text: str) -> list[str]:
    """Numbers without a leading zero, and `+-` where ± is meant, outside code."""
    prose = re.sub(r"`[^`\n]*`|\]\([^)]*\)", " ", without_code(text))
    return re.findall(r"(?<![\w.)])\.\d+|\+-|\+/-", prose)


def faults_of_prose(text: str) -> list[str]:
    return [*long_sentences(text), *wide_lines(text), *odd_signs(text)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_is_dead(page):
    assert dead_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_is_written_by_the_rules_of_prose(page):
    assert faults_of_prose(page.read_text()) == []


def test_every_page_is_in_the_contents_of_the_site():
    """The lists of links of index.md, and of the README.md of each folder, are the contents (docs/_extension)."""
    listed = {DOCS / "index.md"}
    for contents in [DOCS / "index.md", *DOCS.rglob("README.md")]:
        links = re.findall(r"^- \[[^]]*\]\(([^)#\s]+)\)", contents.read_text(), flags=re.MULTILINE)
        listed |= {(contents.parent / link).resolve() for link in links}
    there = {page for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    assert sorted(name_of(page) for page in there - listed) == []


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
    half = " ".join(["word"] * (WORDS_MAX // 2))
    assert len(long_sentences(f"{half}; {half}; one.\n\n| {half}; {half}; one |")) == 2  # a semicolon ends nothing
    assert wide_lines(f"| {'x' * COLUMNS_MAX} |\n```\n{'x' * 200}\n```\n[a]({'x' * COLUMNS_MAX})") == []
    assert odd_signs("0.5 is 1 ± 0.1, `.5 +- 2`, mbexp.py, 3.4.5") == []
    assert odd_signs("a .5, 1 +- 2, (.25)") == [".5", "+-", ".25"]
    assert wide_lines("x" * COLUMNS_MAX + "\n" + "y" * (COLUMNS_MAX + 1)) == ["y" * (COLUMNS_MAX + 1)]


def test_the_page_of_rules_lists_every_field_that_an_order_sees() -> None:
    page = (DOCS / "write_a_rule.md").read_text(encoding="utf-8")
    table = page[page.index("| field | what it is |") :].split("\n\n")[0]
    listed = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted(Waiting._fields)


def test_the_reference_has_every_name_that_rules_and_laws_are_made_of() -> None:
    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"mbexp\.rules\.(\w+)", page)) == set(rules.__all__)
    table = (DOCS / "write_a_rule.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\S+)` \| `(\w+)` \|", table, re.MULTILINE)) == {
        (slot.key, slot.decorator) for slot in SLOTS
    }


def test_no_page_sends_a_user_to_a_source_of_views() -> None:
    pages = [path for path in DOCS.rglob("*.md") if "contributing" not in path.name]
    assert not [path.name for path in pages if "policy/views.py" in path.read_text(encoding="utf-8")]
