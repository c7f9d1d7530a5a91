"""``python -m mbexp.runs``: lists stored runs, single ones and those of sweeps, and filters them."""

from __future__ import annotations

import argparse
import csv
import fnmatch
import operator
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mbexp.errors import UserError, as_program, nearest
from mbexp.results.catalogue import catalogue
from mbexp.results.catalogue.metric import SECTION_OF_OWN as SECTION
from mbexp.results.index import stored_table
from mbexp.sweep.text import plain_text, text_table

Row = dict[str, Any]

SHOWN = (
    "finished",
    "study",
    "scheduler.name",
    "workload.kind",
    "num_gpus",
    "k_bins",
    "num_requests",
    "seed",
    "request_sla_violation_pct",
    "latency_p95_s",
    "throughput_requests_per_s",
    "folder",
)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
SHORT = {"scheduler": "scheduler.name", "workload": "workload.kind", "gpu": "gpu.name", "predictor": "predictor.kind"}

EPILOG = """examples:
  python -m mbexp.runs                                         every run below outputs/
  python -m mbexp.runs scheduler='multi_bin*' num_gpus'>=8'    only some of them
  python -m mbexp.runs outputs/gpu_scaling --sort latency_p95_s
  python -m mbexp.runs --columns run,sla.request_s,goodput_requests_per_s --csv > runs.csv

A filter is KEY=VALUE (with * and ?), or KEY with <, <=, >, >= or != and a value. A key is any key of the
configuration or any metric."""


def main(words: Sequence[str] | None = None) -> int:
    """List stored runs; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mbexp.runs", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="FOLDER or FILTER", help="where to look (outputs), and which runs")
    parser.add_argument("--sort", metavar="KEY", default="finished", help="order; by default when a run was made")
    parser.add_argument("--reverse", action="store_true", help="highest, or latest, first")
    parser.add_argument("--columns", metavar="KEYS", help="keys to show, separated by commas")
    parser.add_argument("--csv", action="store_true", help="as CSV")
    parser.add_argument("--limit", type=int, metavar="N", help="no more than the last N")
    options = parser.parse_args(words)
    try:
        _list(options)
    except UserError as error:
        print(f"mbexp: {error}", file=sys.stderr)
        return 1
    return 0


def stored_runs(folder: Path) -> Iterator[Row]:
    """Give one row for each run below `folder` that is whole: ``run``, ``folder``, configuration and metrics.

    Folders that are being written, those that were set aside, and those of earlier tables are left out.
    """
    yield from stored_table(folder)[0].to_pylist()


def matches(row: Row, condition: tuple[str, str, str]) -> bool:
    """Whether a row meets a filter (key, comparison, value)."""
    key, sign, wanted = condition
    value = row.get(key)
    if value is None:
        return wanted in ("null", "none") if sign == "=" else sign == "!=" and wanted not in ("null", "none")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return COMPARE[sign](float(value), float(wanted.replace("_", "")))
        except ValueError:
            return sign == "!="
    text = str(value).lower() if isinstance(value, bool) else str(value)
    if sign in ("=", "!="):
        return fnmatch.fnmatchcase(text, wanted) == (sign == "=")
    return COMPARE[sign](text, wanted)


def _list(options: argparse.Namespace) -> None:
    folders, conditions = [], []
    for word in options.what:
        condition = re.fullmatch(r"([\w.]+)(<=|>=|!=|<|>|=)(.*)", word)
        if condition and not Path(word).exists():
            key, sign, value = condition.groups()
            conditions.append((SHORT.get(key, key), sign, value))
        else:
            folders.append(Path(word))
    for folder in folders or [Path("outputs")]:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    tables = []
    for folder in folders or [Path("outputs")]:
        table, damage = stored_table(folder)
        tables.append(table)
        for line in damage:
            print(f"mbexp: not listed: {line}", file=sys.stderr)
    count = sum(len(table) for table in tables)
    if not count:
        print("no stored runs")
        return
    known = list(dict.fromkeys(name for table in tables for name in table.column_names))
    sort = SHORT.get(options.sort, options.sort)
    own = [key for key, row in catalogue().items() if row.section == SECTION and key in known]
    columns = [*SHOWN[:-1], *own, SHOWN[-1]]
    if options.columns:
        columns = [SHORT.get(key, key) for key in options.columns.split(",")]
    asked = (sort, *columns, *(condition[0] for condition in conditions))
    for key in asked:
        if key not in known and key not in SHOWN:
            raise UserError(f"{key}: no stored run has such a key{nearest(key, known)}")
    if options.csv and not options.columns:
        columns = known
    needed = {*asked, *columns}
    rows = [
        row
        for table in tables
        for row in table.select([name for name in table.column_names if name in needed]).to_pylist()
        if all(matches(row, condition) for condition in conditions)
    ]
    rows.sort(key=lambda row: (row.get(sort) is not None, _sortable(row.get(sort))), reverse=options.reverse)
    shown = rows[-options.limit :] if options.limit else rows
    if options.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([plain_text(row.get(key)) for key in columns] for row in shown)
    elif shown:
        print("\n".join(text_table(shown, columns)))
        print(f"\n{len(shown)} of {len(rows)} runs" if len(shown) < len(rows) else f"\n{len(rows)} runs")
    else:
        print("no stored run meets that")


def _sortable(value: Any) -> tuple[int, Any]:
    if isinstance(value, (int, float)):
        return 0, value
    return 1, "" if value is None else str(value)


if __name__ == "__main__":
    as_program(main)
