"""What the site adds to the pages: contents made of links, tables made of the package, notebooks made of text.

The pages are plain Markdown that reads well on a code host. Three things differ on the site:

- `index.md`, and a `README.md` in a folder, list pages as links. These links, in their order, are the contents.
- From a comment ``<!-- site: NAME -->`` to ``<!-- site: end -->`` stands what `generated.py` makes of the package.
  With ``<!-- site: file PATH -->`` a file of the repository takes the place of the page.
- A link to a file outside this folder leads to the page that stands for the file.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import jupytext

import generated

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^(```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
MADE = re.compile(r"^<!-- site: (\w+) -->\n.*?^<!-- site: end -->$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?\[(?:[^][]|\[[^]]*\])*\])\(([^)\s]+)\)")
# Pages that stand for files outside docs/, as paths from docs/.
PAGES_OF_FILES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def make_notebooks(app: Any) -> None:
    """Write the notebooks, which are text files, as the notebooks that are executed."""
    folder = DOCS / "notebooks"
    folder.mkdir(exist_ok=True)
    for source in sorted((ROOT / "notebooks").glob("*.py")):
        notebook = jupytext.read(source)
        target = folder / f"{source.stem}.ipynb"
        text = jupytext.writes(notebook, "ipynb")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def prepare_page(app: Any, name: str, source: list[str]) -> None:
    """Turn a page as it is written into the page of the site."""
    path = Path(app.env.doc2path(name))
    if path.suffix != ".md":
        return
    text, folder = source[0], path.parent.relative_to(DOCS).as_posix()
    if whole := re.search(r"<!-- site: file (\S+) -->", text):
        file = ROOT / whole[1]
        text, folder = file.read_text(encoding="utf-8"), posixpath.relpath(file.parent, DOCS)
    text = MADE.sub(lambda found: generated.part(found[1]), text)
    text = relinked(text, folder, path.parent.relative_to(DOCS).as_posix())
    if path.name in ("index.md", "README.md"):
        text += contents(text, captions=path.name == "index.md")
    source[0] = text


def relinked(text: str, folder: str, to: str) -> str:
    """Return the page with links to files outside docs/, and to folders, leading to pages of the site.

    `folder` is where the links are written, `to` where the page lies; both are paths from docs/.
    """

    def changed(found: re.Match[str]) -> str:
        label, target = found[1], found[2]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, sign, anchor = target.partition("#")
        from_docs = posixpath.normpath(posixpath.join(folder, path))
        if from_docs.startswith("../"):
            outside = from_docs.removeprefix("../")
            if re.fullmatch(r"notebooks/\w+\.py", outside):
                from_docs = outside.removesuffix(".py") + ".ipynb"
            elif outside.startswith("docs/"):
                from_docs = outside.removeprefix("docs/")
            elif outside in PAGES_OF_FILES:
                from_docs = PAGES_OF_FILES[outside]
            else:  # a file of the repository that is no page
                return label.lstrip("!")[1:-1]
        if (DOCS / from_docs).is_dir():
            from_docs = posixpath.join(from_docs, "README.md")
        return f"{label}({posixpath.relpath(from_docs, to)}{sign}{anchor})"

    parts = FENCE.split(text)
    return "".join(part if place % 2 else LINK.sub(changed, part) for place, part in enumerate(parts))


def contents(text: str, captions: bool) -> str:
    """Return the contents that the links in the lists of a page make, those of a section under its heading."""
    made = []
    for section in re.split(r"^## ", FENCE.sub("", text), flags=re.MULTILINE)[0 if not captions else 1 :]:
        listed = re.findall(r"^- \[[^]]*\]\(([^)#\s]+)\)", section, flags=re.MULTILINE)
        pages = [re.sub(r"\.(md|ipynb)$", "", page) for page in dict.fromkeys(listed) if not re.match("[a-z]+:", page)]
        if pages:
            caption = [f":caption: {section.splitlines()[0]}"] if captions else []
            made += ["", "```{toctree}", ":hidden:", *caption, "", *pages, "```", ""]
    return "\n".join(made)


def setup(app: Any) -> dict[str, bool]:
    """Add all of it to Sphinx."""
    app.connect("builder-inited", make_notebooks)
    app.connect("source-read", prepare_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
