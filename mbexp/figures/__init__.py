"""Figures: each a function from a tidy frame to a Matplotlib figure, drawn from stored results or from a notebook's.

`draw` is what a notebook uses; ``python -m mbexp.figures`` draws what is stored.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mbexp.results.result import Result

__all__ = ["draw", "figure_names"]


def draw(
    name: str,
    of: pd.DataFrame | Result | list[Result] | str | Path,
    *,
    width: str | None = None,
    height: str | None = None,
    style: str | Path | None = None,
    footnotes: bool = True,
) -> Figure:
    """Draw one figure.

    Parameters
    ----------
    name
        Of `figure_names`, or of ``python -m mbexp.figures --list``.
    of
        A folder (``outputs/gpu_scaling``), a result of `mbexp.simulate` or a list of them, or a frame with the columns
        that the figure needs.
    width, height
        Of the whole figure, such as ``3.35in`` or ``8.5cm``; by default what the figure needs.
    style
        A Matplotlib style file, over the style of mbexp.
    footnotes
        Whether notes stand under the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Shown by a notebook as it is; `mbexp.figures.style.save` writes it.

    Raises
    ------
    UserError
        If there is no such figure, `of` has not what it needs, or a length or the style file cannot be read.

    Examples
    --------
    >>> from mbexp import simulate
    >>> from mbexp.figures import draw
    >>> figure = draw("latency_cdf", simulate(num_requests=200))
    """
    import pandas as pd

    from mbexp.figures._page import Page, inches, on_page
    from mbexp.figures.registry import find_figure

    spec = find_figure(name)
    if isinstance(of, pd.DataFrame):
        frame = of
    elif isinstance(of, str | Path):
        from mbexp.figures.drawing import find_study

        frame = find_study(Path(of)).frame(spec, any_study=True)
    else:
        from mbexp.figures.memory import frame_of

        frame = frame_of(spec, [*of] if isinstance(of, list | tuple) else [of])
    page = Page(
        inches("width", width) if width else None,
        inches("height", height) if height else None,
        footnotes,
        Path(style) if style else None,
    )
    with on_page(page):
        return spec(frame)


def figure_names() -> list[str]:
    """Return the names of all figures."""
    from mbexp.figures.registry import figures

    return list(figures())
