"""Reads a latency grid (one row a point: batch size, length, seconds) and judges whether it can be a measurement."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError, nearest

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SMALLEST, LARGEST = 1e-12, 1e9  # sizes, tokens and seconds beyond are slips, and their products no numbers
MEAN_COLUMNS = ("mean_latency_sec", "mean_latency_s")
PACKAGED_GRIDS = Path(__file__).parent / "grids"
# A decoded token takes 1 to 100 ms; half a second a token, over a whole grid, is a grid in milliseconds.
MILLISECONDS_FROM_S_PER_TOKEN = 0.4


@dataclass(frozen=True)
class LatencyGrid:
    """Times of static batches, sorted by batch size, then length.

    Attributes
    ----------
    batch_size, length_tokens : int64 arrays, shape (n,)
    mean_s : float64 array, shape (n,)
        Seconds that a whole batch took.
    std_s : float64 array, shape (n,), or None
        Standard deviation over the trials of a point.
    num_trials : int64 array, shape (n,), or None
    source : str
        Name of the file.
    notes : tuple of str
        Sentences a reader of the results must see.
    """

    batch_size: IntArray
    length_tokens: IntArray
    mean_s: FloatArray
    std_s: FloatArray | None
    num_trials: IntArray | None
    source: str
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.mean_s)

    @property
    def batch_size_range(self) -> tuple[int, int]:
        """Smallest and largest batch size."""
        return int(self.batch_size.min()), int(self.batch_size.max())

    @property
    def length_range_tokens(self) -> tuple[int, int]:
        """Shortest and longest length."""
        return int(self.length_tokens.min()), int(self.length_tokens.max())


def find_grid(path: str) -> Path:
    """Return the file `path`: from here, from ``data/``, or one that the package carries.

    Raises
    ------
    UserError
        If there is none.
    """
    for folder in (Path(), Path("data"), PACKAGED_GRIDS):
        if (folder / path).is_file():
            return folder / path
    carried = sorted(file.name for file in PACKAGED_GRIDS.glob("*.csv"))
    raise UserError(
        f"{path}: no such grid file here, under data/ or among the package's own ({', '.join(carried)})"
        f"{nearest(path, carried)}"
    )


def read_grid(path: str) -> LatencyGrid:
    """Read ``batch_size,max_seq_len,mean_latency_sec[,std_latency_sec,num_trials,...]``, in any order of columns.

    A grid whose rows are out of order is sorted, and missing combinations are listed, both in `notes`.

    Raises
    ------
    UserError
        Naming the file, the line and the value: a missing column, text, a negative, zero or infinite time, a point
        given twice, one batch size or one length only, or times that look like milliseconds (a column named
        ``mean_latency_s`` is taken at its word).
    """
    file = find_grid(path)
    names, rows = read_rows(file)
    mean_column = next((name for name in MEAN_COLUMNS if name in names), None)
    for column in ("batch_size", "max_seq_len", mean_column or MEAN_COLUMNS[0]):
        if column not in names:
            raise UserError(f"{file}: no column {column}{nearest(column, names)}; it has {', '.join(names) or 'none'}")
    if not rows:
        raise UserError(f"{file}: no rows below the header")
    assert mean_column is not None
    batch_size = np.array([read_whole(file, line, row, "batch_size") for line, row in enumerate(rows, 2)])
    length = np.array([read_whole(file, line, row, "max_seq_len") for line, row in enumerate(rows, 2)])
    mean_s = np.array([read_number(file, line, row, mean_column, positive=True) for line, row in enumerate(rows, 2)])
    std_s = num_trials = None
    std_column = mean_column.replace("mean", "std")
    if std_column in names:
        std_s = np.array([read_number(file, line, row, std_column, positive=False) for line, row in enumerate(rows, 2)])
    if "num_trials" in names:
        num_trials = np.array([read_whole(file, line, row, "num_trials") for line, row in enumerate(rows, 2)])
    order = np.lexsort((length, batch_size))
    notes = []
    if np.any(np.diff(order) < 0):
        notes.append(f"{file.name}: rows were not in order of batch_size, max_seq_len; sorted")
    grid = LatencyGrid(
        batch_size=batch_size[order],
        length_tokens=length[order],
        mean_s=mean_s[order],
        std_s=None if std_s is None else std_s[order],
        num_trials=None if num_trials is None else num_trials[order],
        source=file.name,
        notes=(*notes, *_missing(file, batch_size, length)),
    )
    _check_points(file, grid, mean_column)
    return grid


def read_rows(file: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns of a CSV file, and its rows by these names.

    Raises
    ------
    UserError
        If the file is no UTF-8 text (compressed, UTF-16, Latin-1, Parquet), or no CSV with commas and distinct names.
    """
    from mbexp.workload.sources import refuse_all_but_text

    refuse_all_but_text(file)
    try:
        text = file.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        names = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = names
        rows = list(reader)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{file}, line {line}: is not UTF-8 text (Latin-1?): save it as UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{file}: cannot be read as CSV ({error})") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None
    for separator, what in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and separator in names[0]:
            raise UserError(f"{file}: its columns are separated by {what}, not by commas")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{file}: has {len(names)} columns, and more than one is called {twice[0] or 'nothing'}")
    return names, rows


def generated_reasons(grid: LatencyGrid) -> list[str]:
    """Return why `grid` cannot be a measurement, one sentence each; empty where nothing speaks against it.

    Two tests. The ratio of spread to mean: over a handful of trials it scatters by tens of percent from point to point,
    so a constant ratio was computed. And the residuals of a straight line in the length at each batch size: means of n
    trials scatter about any curve by their spread over sqrt(n), so means that lie on a line to the last printed digit
    were computed as well.
    """
    reasons = []
    if grid.std_s is not None and len(grid) >= 6 and np.all(grid.std_s > 0):
        ratio = grid.std_s / grid.mean_s
        resolution = float(np.max(_resolution(grid.std_s) / grid.std_s))
        if np.std(ratio) / np.mean(ratio) < max(0.005, 0.5 * resolution):
            reasons.append(
                f"the standard deviation is {np.mean(ratio):.3g} of the mean at every one of {len(grid)} points; "
                "measured spreads differ from point to point"
            )
    residual, lines = 0.0, 0
    for size in np.unique(grid.batch_size):
        here = grid.batch_size == size
        if here.sum() >= 4:
            fit = np.polynomial.Polynomial.fit(grid.length_tokens[here], grid.mean_s[here], 1)
            off = np.abs(fit(grid.length_tokens[here]) - grid.mean_s[here])
            # Relative to the longest time of the line, where rounding to a printed digit matters least.
            residual = max(residual, float(off.max() / grid.mean_s[here].max()))
            lines += 1
    if lines >= 2 and residual < 5e-4:
        reasons.append(
            f"at every batch size the time is exactly affine in the length (largest residual {100 * residual:.2g} % of "
            "the longest time); measured times scatter"
        )
    return reasons


def _resolution(values: FloatArray) -> float:
    """Return the step of the printed digits: .056, .109 -> .001."""
    for digits in range(10):
        if np.allclose(values, np.round(values, digits), rtol=0, atol=1e-12):
            return float(10.0**-digits)
    return 0.0


def _missing(file: Path, batch_size: IntArray, length: IntArray) -> list[str]:
    present = set(zip(batch_size.tolist(), length.tolist(), strict=True))
    gaps = [(b, n) for b in np.unique(batch_size).tolist() for n in np.unique(length).tolist() if (b, n) not in present]
    if not gaps:
        return []
    shown = ", ".join(f"({b}, {n})" for b, n in gaps[:3]) + (", ..." if len(gaps) > 3 else "")
    return [f"{file.name}: {len(gaps)} combinations of (batch_size, max_seq_len) are missing: {shown}"]


def _check_points(file: Path, grid: LatencyGrid, mean_column: str) -> None:
    points = np.stack([grid.batch_size, grid.length_tokens], axis=1)
    same = np.flatnonzero(np.all(points[1:] == points[:-1], axis=1))
    if len(same):
        b, n = points[same[0]].tolist()
        raise UserError(f"{file}: batch_size {b}, max_seq_len {n} is given twice")
    for name, values in (("batch_size", grid.batch_size), ("max_seq_len", grid.length_tokens)):
        if len(np.unique(values)) < 2:
            raise UserError(f"{file}: one {name} only ({values[0]}); a law needs at least two to tell its effect")
    per_token_s = float(np.median(grid.mean_s / grid.length_tokens))
    if mean_column == MEAN_COLUMNS[0] and per_token_s > MILLISECONDS_FROM_S_PER_TOKEN:
        raise UserError(
            f"{file}: {mean_column} looks like milliseconds: its median is {per_token_s:.3g} s a token; divide by "
            f"1000, or name the column {MEAN_COLUMNS[1]} if these really are seconds"
        )


def read_number(file: Path, line: int, row: dict[str, str], column: str, positive: bool) -> float:
    """Return one value of a CSV row, finite and zero or more, or above zero where `positive`.

    Raises
    ------
    UserError
        Naming file, line, column and value.
    """
    text = row.get(column)
    try:
        value = float(text or "")
    except ValueError:
        raise UserError(f"{file}, line {line}: {column}={text!r} is not a number") from None
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise UserError(
            f"{file}, line {line}: {column}={text} must be {'above zero' if positive else 'zero or more'} and finite"
        )
    if value > LARGEST or 0 < value < SMALLEST:
        raise UserError(f"{file}, line {line}: {column}={text} must be between {SMALLEST:g} and {LARGEST:g}")
    return value


def read_whole(file: Path, line: int, row: dict[str, str], column: str, least: int = 1) -> int:
    """Return one value of a CSV row, a whole number of at least `least` (0 or 1); raises as `read_number`."""
    value = read_number(file, line, row, column, positive=least > 0)
    if value != int(value):
        raise UserError(f"{file}, line {line}: {column}={row[column]} must be a whole number")
    return int(value)
