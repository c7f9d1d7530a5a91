"""README and guides do what they show: every command and every block of Python is run, and outputs are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import ROOT, guides

# Guides that are not run yet; this list only becomes shorter.
NOT_YET = {
    "docs/bring_your_own.md",  # its files are run by tests/test_bring_your_own.py
    "docs/gpu_laws.md",  # its laws are run by tests/hardware/test_documented_laws.py
}


def guides_of_the_site() -> list[str]:
    """The pages that index.md lists under Start, Guides and Reference, and README.md."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    sections = [part for part in text.split("\n## ") if part.startswith(("Start\n", "Guides\n", "Reference\n"))]
    listed = [
        line.partition("](")[2].partition(")")[0] for part in sections for line in part.splitlines() if "](" in line
    ]
    return ["README.md", *(f"docs/{name}" for name in listed if name.endswith(".md"))]


def test_the_list_of_what_is_not_run_holds_no_more_than_there_is() -> None:
    assert {*guides_of_the_site()} >= NOT_YET


# CI runs these after the fast tests: pytest -m slow tests/test_guides.py
SLOW = {
    "README.md",
    "docs/capacity.md",
    "docs/figures.md",
    "docs/my_gpu.md",
    "docs/my_trace.md",
    "docs/predictors.md",
    "docs/sweeps.md",
}
CASES = [
    pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW), id=page)
    for page in guides_of_the_site()
    if page not in NOT_YET
]


@pytest.mark.parametrize("page", CASES)
def test_a_guide_shows_what_is_printed(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert guides.unexplained(text) == []
    with guides.reader():
        found = guides.run_page(text)
    shown = [f"shown:\n{each.block.text}\nprinted:\n{each.printed}" for each in found]
    assert not shown, "\n".join([f"python -m tests.guides {page} writes what is printed now", *shown])


class TestTheRunner:
    def test_outputs_are_compared_but_for_spaces_and_dots(self) -> None:
        assert guides.same("a  b\nc", "a b c\n")
        assert guides.same("a ...\nd", "a b\nc\nd")
        assert guides.same("...\nd", "x d")
        assert not guides.same("a b", "a b c")
        assert not guides.same("a ... d", "a b c")

    def test_a_page_runs_as_it_is_read(self) -> None:
        page = (
            "<!-- file: there/words.txt -->\n```\nhello\n```\n"
            "```python\nfrom pathlib import Path\nword = Path('there/words.txt').read_text()\n```\n"
            "```python\nprint(word, len(word))\n```\nwhich prints\n```\nhello\n7\n```\n"
            "```bash\nmbexp --version  # a comment\n```\n```\nmbexp ...\n```\n"
            "<!-- not run: it would take an hour -->\n```bash\npython -m mbexp -cn grid_search\n```\n"
        )
        with guides.reader():
            (wrong,) = guides.run_page(page)
        assert (wrong.block.text, wrong.printed) == ("hello\n7\n", "hello\n 6\n")
        assert guides.unexplained(page) == []

    def test_a_command_that_fails_is_seen(self) -> None:
        with guides.reader(), pytest.raises(AssertionError, match="did you mean 'num_gpus'"):
            guides.run_page("```bash\npython -m mbexp num_gpu=3\n```\n")

    def test_commands_that_nobody_runs_are_named(self) -> None:
        page = "```bash\npip install x\n```\n```\npython -m mbexp\n```\n<!-- not run: so -->\n```bash\nls\n```\n"
        assert guides.unexplained(page) == ["pip install x", "python -m mbexp"]

    def test_a_page_is_renewed(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("```python\nprint(1 + 1)\n```\n```\n3\n```\nEnd.\n")
        assert guides.renew(page) == 1
        assert page.read_text() == "```python\nprint(1 + 1)\n```\n```\n2\n```\nEnd.\n"
