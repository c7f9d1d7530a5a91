"""The one look of every figure: sizes, fonts, colours, dashes, markers, and files that are the same byte for byte."""

from __future__ import annotations

import functools
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mbexp.errors import UserError
from mbexp.figures._page import LEAST_PANEL_INCHES, current_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("pdf", "png")
PNG_DPI = 150
PANEL_WIDTH_INCHES = 3.4
PANEL_HEIGHT_INCHES = 2.6

# Okabe and Ito's palette (2008), told apart with any colour vision. Its yellow is too pale for lines on white, and its
# order is changed so that the first ones differ most, also to the colour-blind and in grey.
BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#E69F00",
    "#000000",
)
CATEGORIES = (BLUE, VERMILLION, GREEN, BLACK, ORANGE, PURPLE, SKY)
GREY = "#767676"
PALE = "#E8E8E8"
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")

# A scheduler looks the same in every figure.
SCHEDULERS = ("static_fifo", "dynamic_no_bins", "multi_bin_dynamic", "multi_bin_static")

RC = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib, so it is the same everywhere
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100.0,
    "text.usetex": False,
    "text.parse_math": False,  # names are a user's: 'a$b_$c' is no formula
    "axes.formatter.use_locale": False,
    "axes.unicode_minus": True,
    "path.simplify": True,
    "pdf.fonttype": 42,  # text stays text
    "pdf.compression": 6,
    "svg.fonttype": "path",  # an SVG that looks the same without the font
    "svg.hashsalt": "mbexp",  # its ids are otherwise drawn at random
    "agg.path.chunksize": 0,
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn: keyword arguments of ``Axes.plot``."""

    color: str
    dash: Any
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """Of a line with markers."""
        return {**self.plain, "marker": self.marker, "markeredgecolor": "white", "markeredgewidth": 0.6}

    @property
    def plain(self) -> dict[str, Any]:
        """Of a line without markers."""
        return {"color": self.color, "linestyle": self.dash}

    @property
    def points(self) -> dict[str, Any]:
        """Of markers without a line."""
        return {**self.line, "linestyle": "none"}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style to what is drawn or saved inside, and to nothing else."""
    matplotlib = _import_matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a figure
        matplotlib.rcParams.update(RC)
        style = current_page().style
        if style is not None:
            matplotlib.rcParams.update(_own_style(style))
        yield


def _own_style(path: Path) -> Any:
    """Return the settings of a user's style file; one that Matplotlib cannot read is a user's mistake."""
    import warnings

    import matplotlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = matplotlib.rc_params_from_file(path, use_default_template=False)
    if not settings:
        raise UserError(f"--style={path}: holds no setting of Matplotlib, such as font.size: 8")
    return settings


def _import_matplotlib() -> Any:
    """Import Matplotlib whatever ``MPLBACKEND`` says: figures need no backend, and a notebook's may be unknown here.

    In the notebook itself it is known, and stays what the notebook set.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib

        if backend:
            with suppress(ValueError):
                matplotlib.rcParams["backend"] = backend
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return matplotlib


def with_style(function: F) -> F:
    """Draw in the style; a decorator."""

    @functools.wraps(function)
    def draw(*args: Any, **kwargs: Any) -> Any:
        with styled():
            return function(*args, **kwargs)

    return cast(F, draw)


def panels(
    count: int = 1,
    columns: int = 3,
    width: float = PANEL_WIDTH_INCHES,
    height: float = PANEL_HEIGHT_INCHES,
    extra_width: float = 0.0,
    **subplots: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a new figure with `count` axes, row by row, at most `columns` beside each other.

    Parameters
    ----------
    width, height
        Of one panel, inches; a single panel is a third wider.
    extra_width
        Room on the right for what stands outside the axes, inches.
    **subplots
        As for ``Figure.subplots`` (``sharex``, ``sharey``).
    """
    from mbexp.figures._canvas import ShownFigure

    page = current_page()
    columns = 2 if (count, columns) == (4, 3) else min(count, columns)
    if page.width_inches is not None:  # as many beside each other as can be read
        columns = max(1, min(columns, int(page.width_inches / LEAST_PANEL_INCHES)))
        if columns == 1 and count > 1:  # each has an axis of its own where none stands beside it
            subplots.pop("sharey", None)
    rows = -(-count // columns)
    size = (
        (width * 4 / 3 if count == 1 else width * columns) + extra_width,
        height * 1.2 if count == 1 else height * rows,
    )
    if page.width_inches is not None:
        shrunk = min(1.0, max(0.8, page.width_inches / columns / width))
        size = (page.width_inches, height * shrunk * rows)
    if page.height_inches is not None:
        size = (size[0], page.height_inches)
    figure = ShownFigure(functools.partial(to_bytes, suffix="png"), figsize=size, layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(h_pad=0.06, w_pad=0.06, hspace=0.03, wspace=0.03)
    axes = list(figure.subplots(rows, columns, squeeze=False, **subplots).flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def categorical(names: Sequence[Any]) -> dict[Any, Look]:
    """Return a look for each of several things without order; schedulers of this project always have theirs."""
    places = {name: SCHEDULERS.index(name) for name in names if name in SCHEDULERS}
    free = [place for place in range(len(CATEGORIES)) if place not in places.values()]
    looks: dict[Any, Look] = {}
    for name in names:
        place = places[name] if name in places else (free.pop(0) if free else len(looks))
        looks[name] = Look(
            CATEGORIES[place % len(CATEGORIES)], DASHES[place % len(DASHES)], MARKERS[place % len(MARKERS)]
        )
    return looks


def ordered(values: Sequence[Any]) -> dict[Any, Look]:
    """Return a look for each of several values in order (numbers of bins, loads): from pale to dark, in grey too."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    ramp = colormaps["viridis"]
    shades = [0.66 * (1 - index / max(len(values) - 1, 1)) for index in range(len(values))]
    return {
        value: Look(to_hex(ramp(shade)), DASHES[(len(values) - 1 - index) % len(DASHES)], MARKERS[index % len(MARKERS)])
        for index, (value, shade) in enumerate(zip(values, shades, strict=True))
    }


def to_bytes(figure: Figure, suffix: str) -> bytes:
    """Return the file of a figure (``pdf``, ``png`` or ``svg``); the same figure gives the same bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
    }
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=suffix, dpi=PNG_DPI, metadata=metadata[suffix])
    return buffer.getvalue()


def save(figure: Figure, folder: Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure as ``<folder>/<name>.<format>`` for each format; a file is whole or not there.

    Returns
    -------
    list of Path
        The files, in the order of `formats`.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    from mbexp.results.store import replace_file

    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    contents = [to_bytes(figure, suffix) for suffix in formats]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(paths, contents, strict=True):
            replace_file(path, functools.partial(Path.write_bytes, data=content))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return paths
