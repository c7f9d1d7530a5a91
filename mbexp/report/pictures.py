"""A figure of the report: an SVG inside the page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 96


@dataclass(frozen=True)
class Picture:
    """A figure of the report: an SVG inside the page."""

    name: str
    title: str
    caption: str
    source: str
    width: int
    height: int


def picture_of(figure: Figure, name: str, title: str, caption: str) -> Picture:
    """Return a figure as a picture; a caption is plain text."""
    from mbexp.figures.style import to_bytes

    source = base64.b64encode(to_bytes(figure, "svg")).decode("ascii")
    width, height = (round(PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    return Picture(name, title, caption.replace("`", ""), f"data:image/svg+xml;base64,{source}", width, height)
