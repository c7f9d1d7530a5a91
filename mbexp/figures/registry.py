"""The list of figures: each is one function from a tidy frame to a Matplotlib figure, found by its name.

A new figure is one function with `@figure` above it, in any module of this package; nothing else needs to be told.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mbexp.config.choices import module_names
from mbexp.errors import UserError, unknown_choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure as MatplotlibFigure

TABLES = ("results", "batches", "requests")
Draw = Callable[["pd.DataFrame"], "MatplotlibFigure"]


@dataclass(frozen=True)
class FigureSpec:
    """A figure of the list.

    Attributes
    ----------
    name : str
        That of its function and its files.
    title : str
    table : str
        What a row of its frame is: a run (``results``), a batch (``batches``) or a request (``requests``).
    needs : tuple of str
        Columns it reads: metrics, and keys of the configuration by their dotted names.
    varies : tuple of str
        Columns of the results that must take at least two values in a study for the figure to say anything;
        ``"num_gpus or k_bins"`` asks it of either.
    alike : tuple of str
        Columns that must not vary, since another figure shows what varies in them.
    named_points : bool
        Whether it can show a study whose points have names (``study.label``) and differ in several keys at once.
    studies : tuple of str
        Names of the studies it is of; empty for a figure of any study that has what it needs.
    one_run_for_each : tuple of str
        For ``batches`` and ``requests``: one run is read for each setting of these columns.
    where : tuple of (str, object)
        Key of the configuration and the value that a run must have to be shown; empty for any run.
    draw : callable
    """

    name: str
    title: str
    table: str
    needs: tuple[str, ...]
    varies: tuple[str, ...]
    alike: tuple[str, ...]
    named_points: bool
    studies: tuple[str, ...]
    one_run_for_each: tuple[str, ...]
    where: tuple[str, object] | tuple[()]
    draw: Draw

    @property
    def caption(self) -> str:
        """What it shows and how to read it: the text of its function's docstring."""
        text = inspect.getdoc(self.draw) or self.title
        return " ".join(text.split("\n\nParameters")[0].split())

    def __call__(self, frame: pd.DataFrame) -> MatplotlibFigure:
        """Draw it, after a check that the frame has the columns."""
        missing = [name for name in self.needs if name not in frame.columns]
        if missing:
            raise UserError(f"figure {self.name}: the frame lacks {', '.join(missing)}")
        if frame.empty:
            raise UserError(f"figure {self.name}: the frame has no row")
        return self.draw(frame)


_FOUND: dict[str, FigureSpec] = {}


def figure(
    title: str,
    *,
    table: str = "results",
    needs: Sequence[str] = (),
    varies: Sequence[str] = (),
    alike: Sequence[str] = (),
    named_points: bool = False,
    studies: Sequence[str] = (),
    one_run_for_each: Sequence[str] = (),
    where: tuple[str, object] | tuple[()] = (),
) -> Callable[[Draw], Draw]:
    """Put a function on the list; a decorator. Arguments: see `FigureSpec`."""
    if table not in TABLES:
        raise unknown_choice("table", table, TABLES)

    def register(function: Draw) -> Draw:
        from mbexp.figures.style import with_style

        name = function.__name__
        if name in _FOUND and inspect.getmodule(_FOUND[name].draw) is not inspect.getmodule(function):
            raise ValueError(f"two figures are called {name}")
        drawn = with_style(function)
        _FOUND[name] = FigureSpec(
            name=name,
            title=title,
            table=table,
            needs=tuple(needs),
            varies=tuple(varies),
            alike=tuple(alike),
            named_points=named_points,
            studies=tuple(studies),
            one_run_for_each=tuple(one_run_for_each),
            where=where,
            draw=drawn,
        )
        return drawn

    return register


@functools.cache
def _load_all() -> None:
    for module in module_names("figures"):
        importlib.import_module(f"mbexp.figures.{module}")


def figures() -> dict[str, FigureSpec]:
    """Return every figure by name, in the order of the modules and of the functions in them."""
    _load_all()
    return dict(_FOUND)


def load_own(path: Path) -> None:
    """Run a Python file of the user's, whose functions with `@figure` join the list.

    Raises
    ------
    UserError
        If it is not there, cannot be run, or holds no figure.
    """
    import importlib.util
    import sys

    if not path.is_file() or path.suffix != ".py":
        raise UserError(f"--from={path}: no such Python file")
    before = len(figures())
    name = f"_figures_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UserError(f"--from={path}: cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that figures of the same file may be loaded again
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--from={path}: running it failed: {type(error).__name__}: {error}") from error
    if len(figures()) == before and not any(inspect.getmodule(each.draw) is module for each in figures().values()):
        raise UserError(f"--from={path}: holds no function with @figure above it")


def find_figure(name: str) -> FigureSpec:
    """Return one figure.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    found = figures()
    if name not in found:
        raise unknown_choice("figure", name, found)
    return found[name]
