"""Fills the page's template: one HTML file with its style, tables and pictures inside."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from mbexp.errors import UserError
from mbexp.report.content import Report
from mbexp.results.store import replace_file

TEMPLATE = Path(__file__).with_name("page.html.j2")
STYLE = Path(__file__).with_name("page.css")


def to_html(report: Report) -> str:
    """Return the page. Every value is escaped; what is stored may come from anyone's files."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(**asdict(report), style=STYLE.read_text(encoding="utf-8"))


def write_page(report: Report, path: Path) -> Path:
    """Write the page, whole or not at all, and return `path`."""
    html = to_html(report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda aside: aside.write_text(html, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path
