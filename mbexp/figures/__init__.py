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


def draw(name: str, of: pd.DataFrame | Result | list[Result] | str | Path) -> Figure:
    """Draw one figure.

    Parameters
    ----------
    name
        Of `figure_names`, or of ``python -m mbexp.figures --list``.
    of
        A folder (``outputs/gpu_scaling``), a result of `mbexp.simulate` or a list of them, or a frame with the columns
        that the figure needs.

    Returns
    -------
    matplotlib.figure.Figure
        Shown by a notebook as it is; `mbexp.figures.style.save` writes it.

    Raises
    ------
    UserError
        If there is no such figure, or `of` has not what it needs.

    Examples
    --------
    >>> from mbexp import simulate
    >>> from mbexp.figures import draw
    >>> figure = draw("latency_cdf", simulate(num_requests=200))
    """
    import pandas as pd

    from mbexp.figures.registry import find_figure

    spec = find_figure(name)
    if isinstance(of, pd.DataFrame):
        return spec(of)
    if isinstance(of, str | Path):
        from mbexp.figures.drawing import find_study

        return spec(find_study(Path(of)).frame(spec, any_study=True))
    from mbexp.figures.memory import frame_of

    results = [*of] if isinstance(of, list | tuple) else [of]
    return spec(frame_of(spec, results))


def figure_names() -> list[str]:
    """Return the names of all figures."""
    from mbexp.figures.registry import figures

    return list(figures())
