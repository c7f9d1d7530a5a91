"""``python -m mbexp.compare_engine loops``: published closed loops of real engines beside their simulation."""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mbexp.compare_engine.published import COLUMNS, TABLE, Setup, read_published_loops, shipped_table
from mbexp.errors import UserError, nearest
from mbexp.fit.loads import Loads

if TYPE_CHECKING:
    from mbexp.compare_engine.loops import Compared

SETUP_COLUMNS = ("engine", "system", "checkpoint", "tensor_parallel", "version")
POINT_COLUMNS = (
    *SETUP_COLUMNS, "concurrency", "prompt_tokens", "output_tokens", "measured_tpot_ms", "mbexp_tpot_ms", "error_pct",
    "with_host_tpot_ms", "with_host_error_pct",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the command line's arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.compare_engine loops",
        description="Simulate published closed loops of real engines with laws from kernel tables (the extra "
        "[aiconfigurator]) and compare the mean time per output token: untuned, then with the host's time of two "
        "loads.",
        epilog="example: python -m mbexp.compare_engine loops --where engine=vllm --where system=h100_sxm",
    )
    arguments.add_argument("table", nargs="?", help=f"default: {TABLE} of the package; has {', '.join(COLUMNS)}")
    arguments.add_argument(
        "--where", action="append", default=[], metavar="NAME=VALUE", help=f"only those: {', '.join(SETUP_COLUMNS)}"
    )
    arguments.add_argument("--out", help="folder to write (default: a new one in outputs/engines)")
    return arguments


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = parser().parse_args(argv)
    from mbexp.cli.composed import told

    with told("mbexp.compare_engine"):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    if options.out and Path(options.out).exists():
        raise UserError(f"--out={options.out}: exists; choose another")
    table = Path(options.table) if options.table else shipped_table()
    every, left_out = read_published_loops(table)
    found = chosen(every, options.where)
    from mbexp.compare_engine.loops import compare_loops, loops_figure, tables
    from mbexp.figures.style import save
    from mbexp.results.store import complete_folder

    compared = compare_loops(found, left_out, lambda line: print(line, flush=True))
    if not compared:
        raise UserError(f"{table}: none of its loops has a law in the tables; see the lines above")
    text = f"{tables(compared)}\n\n{left_out_table(left_out)}"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = Path(options.out) if options.out else Path("outputs", "engines", stamp)
    with complete_folder(folder) as aside:
        (aside / "errors.md").write_text(text + "\n", encoding="utf-8")
        write_points(aside / "points.csv", compared)
        save(loops_figure(compared), aside, "loops")
    print(f"\n{text}\n\nwritten: {folder}/ (errors.md, points.csv, loops.png)")


def chosen(found: dict[Setup, Loads], where: Sequence[str]) -> dict[Setup, Loads]:
    """Return the engines that every NAME=VALUE names.

    Raises
    ------
    UserError
        If one is no such pair, names no column, or a value that no engine has.
    """
    for pair in where:
        name, equals, value = pair.partition("=")
        if not equals or name not in SETUP_COLUMNS:
            one = f"{', '.join(SETUP_COLUMNS)}{nearest(name, SETUP_COLUMNS)}"
            raise UserError(f"--where {pair}: must be NAME=VALUE with one of {one}")
        has = sorted({str(getattr(setup, name)) for setup in found})
        found = {setup: loads for setup, loads in found.items() if str(getattr(setup, name)) == value}
        if not found:
            raise UserError(f"--where {pair}: no loop is such; {name} may be {', '.join(has)}")
    return found


def left_out_table(left_out: Counter[str]) -> str:
    """Return how many points are left out, by reason, in Markdown."""
    lines = ["| left out | points |", "|---|---|"]
    lines += [f"| {reason} | {count:,} |" for reason, count in left_out.most_common()]
    return "\n".join(lines)


def write_points(path: Path, compared: Sequence[Compared]) -> None:
    """Write a row a point; what has no value stays empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(POINT_COLUMNS)
        for each in compared:
            of = [getattr(each.setup, name) for name in SETUP_COLUMNS]
            loads = each.loads
            numbers = np.stack([
                loads.concurrency, loads.prompt_tokens, loads.output_tokens, loads.tpot_ms, each.untuned_ms,
                each.error_pct(each.untuned_ms), each.hosted_ms, each.error_pct(each.hosted_ms),
            ], axis=1)  # fmt: skip
            for row in numbers.tolist():
                whole = [int(value) for value in row[:3]]
                writer.writerow([*of, *whole, *("" if np.isnan(value) else f"{value:.4f}" for value in row[3:])])
