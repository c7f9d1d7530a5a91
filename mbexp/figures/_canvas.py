"""A Matplotlib figure that a notebook shows by itself, without pyplot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure whose cell in a notebook shows the picture that `to_png` makes of it."""

    def __init__(self, to_png: Callable[[Figure], bytes], **settings: Any) -> None:
        super().__init__(**settings)
        self._to_png = to_png

    def _repr_png_(self) -> bytes:
        return self._to_png(self)
