"""The page that a figure is drawn for: its width, the user's style, and whether notes stand under it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from mbexp.errors import UserError

INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # a point of TeX, as in \columnwidth
NARROW_INCHES = 5.0  # below, what names the lines stands above the panels and not beside them
LEAST_PANEL_INCHES = 2.0


@dataclass(frozen=True)
class Page:
    """Where a figure will stand.

    Attributes
    ----------
    width_inches, height_inches : float or None
        Of the whole figure; None: as the figure chooses.
    footnotes : bool
        Whether notes (what a band is, what is held) stand under it; a paper has a caption for them.
    style : Path or None
        A Matplotlib style file, applied over the style of mbexp.
    """

    width_inches: float | None = None
    height_inches: float | None = None
    footnotes: bool = True
    style: Path | None = None

    @property
    def is_narrow(self) -> bool:
        """Whether there is no room beside the panels."""
        return self.width_inches is not None and self.width_inches < NARROW_INCHES


_PAGE: ContextVar[Page | None] = ContextVar("page", default=None)


def current_page() -> Page:
    """Return the page that figures are drawn for."""
    return _PAGE.get() or Page()


@contextmanager
def on_page(page: Page) -> Iterator[None]:
    """Draw what is drawn inside for a page.

    Raises
    ------
    UserError
        If its style file is not there.
    """
    if page.style is not None and not page.style.is_file():
        raise UserError(f"--style={page.style}: no such file")
    before = _PAGE.set(page)
    try:
        yield
    finally:
        _PAGE.reset(before)


def inches(where: str, text: str) -> float:
    """Return a length such as ``3.35in``, ``8.5cm``, ``85mm`` or ``241pt`` in inches; a bare number is in inches.

    Raises
    ------
    UserError
        If it is no length from 1 to 40 inches.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(in|cm|mm|pt)?\s*", text)
    if not found:
        raise UserError(f"{where}={text}: must be a length, such as 3.35in, 8.5cm or 241pt")
    length = float(found[1]) * INCHES[found[2] or "in"]
    if not 1 <= length <= 40:
        raise UserError(f"{where}={text}: must be from 1in to 40in")
    return length
