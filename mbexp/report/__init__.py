"""The report: one self-contained HTML page of a stored study or run, readable without a network or a script."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_report"]


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of what is stored in `folder` and return its path (``<folder>/report.html`` by default).

    Raises
    ------
    UserError
        If nothing is stored there, or the page cannot be written.
    """
    from mbexp.figures.drawing import find_study
    from mbexp.report.content import collect
    from mbexp.report.page import write_page

    study = find_study(Path(folder))
    return write_page(collect(study), Path(path) if path else study.folder / "report.html")
