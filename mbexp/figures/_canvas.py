"""A Matplotlib figure that a notebook shows by itself, without pyplot."""

from __future__ import annotations

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure whose cell in a notebook shows the same picture as its PNG file."""

    def _repr_png_(self) -> bytes:
        from mbexp.figures.style import to_bytes

        return to_bytes(self, "png")
