"""The folder of a measurement: one row a point, whole after every point, so that an interrupted run goes on."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbexp.errors import UserError
from mbexp.measure.plan import Point

POINTS_FILE, GRID_FILE, MACHINE_FILE = "points.csv", "grid.csv", "machine.json"
COLUMNS = (
    "phase", "batch_size", "prompt_tokens", "output_tokens", "context_tokens", "cuda_graphs", "status", "repeats",
    "median_s", "mean_s", "std_s", "min_s", "max_s", "peak_memory_bytes",
)  # fmt: skip
# A measurement may only go on under the same of these.
IDENTITY = ("gpu", "model", "dtype", "cuda_graphs", "context_block_tokens", "torch", "transformers")


@dataclass(frozen=True)
class Row:
    """What came of a point: ``ok`` with its times, ``out_of_memory``, or ``skipped`` as larger than one that was."""

    point: Point
    status: str
    seconds: tuple[float, ...] = ()
    peak_memory_bytes: int = 0


class Store:
    """Rows of a measurement in a folder, rewritten whole after each.

    Parameters
    ----------
    folder
        Made if it is not there; what it holds is kept and added to.
    machine
        What the measurement runs on; must agree with what the folder was begun with.

    Raises
    ------
    UserError
        If the folder holds a measurement of something else, or cannot be written or read.
    """

    def __init__(self, folder: Path, machine: dict[str, Any]) -> None:
        self.folder = folder
        self._lines: list[dict[str, str]] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / MACHINE_FILE).is_file():
                machine = self._same(json.loads((folder / MACHINE_FILE).read_text(encoding="utf-8")), machine)
            if (folder / POINTS_FILE).is_file():
                with (folder / POINTS_FILE).open(encoding="utf-8", newline="") as file:
                    self._lines = list(csv.DictReader(file))
            self.machine = machine
            self._write_machine()
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: cannot be used: {error}") from error
        if any(set(line) != set(COLUMNS) for line in self._lines):
            raise UserError(f"{folder / POINTS_FILE}: not written by this version; choose another --out")
        self.mode = "on" if machine.get("cuda_graphs") else "off"
        self.done = {_point(line) for line in self._lines}
        self.out_of_memory = [_point(line) for line in self._lines if line["status"] != "ok"]

    def add(self, row: Row) -> None:
        """Keep a row, and bring the grid and the largest overhead up to date."""
        self._lines.append(_line(row, self.mode))
        self.done.add(row.point)
        if row.status != "ok":
            self.out_of_memory.append(row.point)
        _write(self.folder / POINTS_FILE, COLUMNS, self._lines)
        static = [line for line in self._lines if line["phase"] == "static" and line["status"] == "ok"]
        if static:
            _write(self.folder / GRID_FILE, tuple(_grid_line(static[0])), [_grid_line(line) for line in static])
        known = int(self.machine["weight_bytes"]), int(self.machine["kv_bytes_per_token"])
        cached = row.point.batch_size * row.point.longest_tokens * known[1]
        overhead = row.peak_memory_bytes - known[0] - cached
        if row.peak_memory_bytes and overhead > int(self.machine.get("overhead_bytes", 0)):
            self.machine["overhead_bytes"] = overhead
            self._write_machine()

    def _same(self, begun: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        for key in IDENTITY:
            if begun.get(key) != now.get(key):
                raise UserError(
                    f"{self.folder}: holds a measurement with {key} {begun.get(key)}, this one has {now.get(key)}; "
                    "choose another --out"
                )
        return begun

    def _write_machine(self) -> None:
        text = json.dumps(self.machine, indent=1) + "\n"
        _replace(self.folder / MACHINE_FILE, text)


def _line(row: Row, mode: str) -> dict[str, str]:
    import statistics

    point, seconds = row.point, row.seconds
    times = {}
    if seconds:
        times = {
            "repeats": str(len(seconds)),
            "median_s": f"{statistics.median(seconds):.9f}",
            "mean_s": f"{statistics.fmean(seconds):.9f}",
            "std_s": f"{statistics.stdev(seconds) if len(seconds) > 1 else 0.0:.9f}",
            "min_s": f"{min(seconds):.9f}",
            "max_s": f"{max(seconds):.9f}",
            "peak_memory_bytes": str(row.peak_memory_bytes),
        }
    lengths = {name: str(getattr(point, name)) for name in COLUMNS[1:5]}
    whole = {"phase": point.phase, **lengths, "cuda_graphs": mode, "status": row.status, **times}
    return {name: whole.get(name, "") for name in COLUMNS}


def _grid_line(line: dict[str, str]) -> dict[str, str]:
    return {
        "batch_size": line["batch_size"],
        "max_seq_len": str(int(line["prompt_tokens"]) + int(line["output_tokens"])),
        "mean_latency_sec": line["mean_s"],
        "std_latency_sec": line["std_s"],
        "num_trials": line["repeats"],
        "median_latency_sec": line["median_s"],
    }


def _point(line: dict[str, str]) -> Point:
    return Point(line["phase"], *(int(line[name]) for name in COLUMNS[1:5]))


def _write(path: Path, columns: Sequence[str], lines: list[dict[str, str]]) -> None:
    rows = [",".join(columns), *(",".join(line[name] for name in columns) for line in lines)]
    _replace(path, "\n".join(rows) + "\n")


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
