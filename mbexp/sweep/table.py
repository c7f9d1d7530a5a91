"""The tidy table of a sweep: one row a run, swept keys first, then what identifies a run, then every metric."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError
from mbexp.results.arrow import list_column, text_column
from mbexp.results.catalogue import as_columns
from mbexp.results.index import Stored, stored_runs
from mbexp.results.store import replace_file
from mbexp.results.stored import Damaged, read_run, read_table
from mbexp.sweep.points import Point
from mbexp.sweep.text import plain_text

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = dict[str, Any]

ORIGIN = ("trace_source", "trace_sha256", "law")  # of a run's provenance
GROUPS = ("scheduler", "workload", "gpu", "predictor", "bins", "sla", "execution")


def rows_of(
    folder: Path,
    points: Sequence[Point],
    key_of: Sequence[str],
    origins: dict[str, Row] | None = None,
    runs: Stored | None = None,
) -> tuple[list[Row], list[Row]]:
    """Return a row for each stored run, in the order of the points, and one for each run and seed.

    A run that was asked for under two names (`study.label`) has a row for each. Into `origins` goes the provenance of
    each run; `runs` are those of the folder, where they have been read.
    """
    if runs is None:
        runs = stored_runs(folder, [key for key in dict.fromkeys(key_of) if (folder / key).is_dir()])
    rows: list[Row] = []
    by_seed: list[Row] = []
    seen = set()
    for point, key in zip(points, key_of, strict=True):
        identity = (key, json.dumps(point.swept, sort_keys=True, default=str))
        if identity in seen or key not in runs:  # what is damaged the sweep counts as missing
            continue
        summary, known, seeds = runs.run(key)
        seen.add(identity)
        if origins is not None:
            origins[key] = known
        head = point.swept | {name: value for name, value in _identity(point, key).items() if name not in point.swept}
        head |= {name: known.get(name) for name in ORIGIN if name not in point.swept}
        rows.append(head | as_columns(summary))
        if seeds is not None:
            for one in seeds:
                seed = one.pop("seed")
                by_seed.append(head | {"seed": seed} | as_columns(one | {"warnings": summary.get("warnings")}))
        else:
            by_seed.append(rows[-1])
    return rows, by_seed


def to_table(rows: Sequence[Row]) -> pa.Table:
    """Return rows as an Arrow table; what a row does not have is null."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row if name != "warnings"))
    columns = {name: list_column([row.get(name) for row in rows]) for name in names}
    columns["warnings"] = text_column([row.get("warnings") for row in rows])
    return pa.table(columns)


def write_table(table: pa.Table, folder: Path, name: str) -> None:
    """Write ``<name>.parquet`` and ``<name>.csv``, each complete or not at all."""
    import pyarrow.parquet as parquet

    _replace(folder / f"{name}.parquet", lambda path: parquet.write_table(table, path))
    write_csv(table, folder / f"{name}.csv")


def write_csv(table: pa.Table, path: Path) -> None:
    """Write a table as CSV, complete or not at all."""
    from pyarrow import csv, types

    for place, column in enumerate(table.columns):
        if types.is_string(column.type):
            plain = text_column([plain_text(text) for text in column.to_pylist()])
            table = table.set_column(place, table.column_names[place], plain)
    options = csv.WriteOptions(quoting_style="needed")
    _replace(path, lambda aside: csv.write_csv(table, aside, options))


def read_results(folder: str | Path, by_seed: bool = False) -> pd.DataFrame:
    """Return the table of a stored sweep as a data frame.

    Parameters
    ----------
    folder
        ``outputs/<study>``.
    by_seed
        A row for each run and seed, in place of means over replications.

    Raises
    ------
    UserError
        If there is no such table.
    """
    folder = Path(folder)
    path = folder / "results.parquet"
    if by_seed and (folder / "replications.parquet").is_file():
        path = folder / "replications.parquet"
    if not path.is_file():
        raise UserError(f"{folder}: no sweep is stored there (results.parquet is missing)")
    frame: pd.DataFrame = read_table(path).to_pandas()
    for run in frame["run"][:1]:
        with contextlib.suppress(Damaged):  # which the sweep tells of; the table can be read all the same
            read_run(folder / run)
    return frame


def _identity(point: Point, key: str) -> Row:
    config = point.config
    return {
        "run": key,
        **{group: point.choices[group] for group in GROUPS if group in point.choices},
        **({"study.label": config.study.label} if config.study.label else {}),
        "num_gpus": config.num_gpus,
        "k_bins": config.k_bins,
        "num_requests": config.num_requests,
        "seed": config.seed,
        "replications": config.replications,
        "workload.timestamps": config.workload.timestamps,
        "workload.rate_scaling": config.workload.rate_scaling,
        "sla.token_ms": config.sla.token_ms,
        "sla.request_s": config.sla.request_s,
    }


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    try:
        replace_file(path, write)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); the runs are stored") from error
