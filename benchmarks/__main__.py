"""``python -m benchmarks``: mbexp beside other forms of its loop, or beside another version; a table and a figure."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import report

PARTS = (
    "forms", "growth", "memory", "around", "command", "continuous", "laws", "assignment", "floor", "prefix", "routers",
    "orders",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    found.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)}; without one, all")
    found.add_argument(
        "--compare", metavar="OTHER", help="time this version against another checkout or revision instead"
    )
    found.add_argument("--requests", type=int, default=1_400_000, help="length of the trace (%(default)s)")
    found.add_argument("--rounds", type=int, default=15, help="rounds of the fast forms and of versions (%(default)s)")
    found.add_argument("--slow-rounds", type=int, default=3, help="rounds of heapq and SimPy, 0 for none (%(default)s)")
    found.add_argument("--largest", type=int, default=10**7, help="most requests of the growth curve (%(default)s)")
    found.add_argument(
        "--out", type=Path, default=Path("outputs/benchmarks"), help="folder of table and figure (%(default)s)"
    )
    return found


def main(words: list[str] | None = None) -> None:
    """Run what is asked for, print the tables, and write them with the figure."""
    arguments = parser().parse_args(words)
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser().error(f"{unknown[0]}: no such part; choose from {', '.join(PARTS)}")
    tables: dict[str, report.Table] = {}
    heading = f"# Performance\n{report.filled(f'Measured on {report.machine()} {report.load()}')}"
    print(heading, flush=True)
    for part in [] if arguments.compare else arguments.parts or PARTS:
        tables[part] = _table(part, arguments)
        print(f"\n{tables[part]}", flush=True)
    if arguments.compare:
        from benchmarks import compare

        tables["compare"] = compare.table(arguments.compare, arguments.requests, arguments.rounds)
        print(f"\n{tables['compare']}", flush=True)

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "performance.md").write_text("\n\n".join([heading, *map(str, tables.values())]) + "\n")
    numbers: dict[str, Any] = {name: table.numbers for name, table in tables.items()}
    (arguments.out / "performance.json").write_text(json.dumps(numbers, indent=1, default=str) + "\n")
    from benchmarks import figure

    for path in (arguments.out / "performance.md", *figure.draw(tables, arguments.out)):
        print(f"\nwritten: {path}")


def _table(part: str, arguments: argparse.Namespace) -> report.Table:
    if part == "forms":
        from benchmarks import forms

        return forms.table(arguments.requests, arguments.rounds, arguments.slow_rounds)
    if part == "growth":
        from benchmarks import growth

        return growth.table(arguments.largest, min(arguments.requests, 10**6), min(arguments.rounds, 5))
    if part == "memory":
        from benchmarks import memory

        return memory.table([min(arguments.largest, 10**7)], arguments.requests)
    if part == "around":
        from benchmarks import around

        return around.table(min(arguments.requests, 10**6), min(arguments.rounds, 5))
    if part == "continuous":
        from benchmarks import continuous

        return continuous.table(min(arguments.requests, 10**6), min(arguments.rounds, 5))
    if part == "laws":
        from benchmarks import laws

        return laws.table(min(arguments.requests, 300_000), min(arguments.rounds, 15))
    if part == "assignment":
        from benchmarks import assignment

        return assignment.table(100, min(arguments.rounds, 3))
    if part in ("prefix", "routers"):
        from benchmarks import prefix

        if part == "routers":
            return prefix.growth(100, min(arguments.rounds, 2))
        return prefix.table(min(arguments.requests, 300_000), min(arguments.rounds, 5))
    if part == "orders":
        from benchmarks import orders

        return orders.table(min(arguments.requests, 100_000), min(arguments.rounds, 7))
    if part == "floor":
        from benchmarks import continuous_floor

        return continuous_floor.table(min(arguments.requests, 300_000), min(arguments.rounds, 9))
    from benchmarks import command

    return command.table(min(arguments.rounds, 7))


if __name__ == "__main__":
    main()
