"""What a benchmark found, as a table in Markdown."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Table:
    """Rows under a heading, with remarks below; `numbers` keeps what was measured, for the file and the figure."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        remarks = (remark if remark.startswith("|") else filled(remark) for remark in self.remarks)
        return "\n".join([f"## {self.title}", grid(self.columns, self.rows), *(f"\n{remark}" for remark in remarks)])


def grid(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown, with its columns aligned."""
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return prose in lines as wide as those of the pages (`tests/test_docs.py`)."""
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def machine() -> str:
    """Return the machine in sentences: processor, cores, memory, versions."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    import numba
    import numpy as np

    return (
        f"{os.cpu_count()} cores, {model}, {memory:.0f} GB. Software: {platform.system()}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}."
    )


def load() -> str:
    """Return how busy the machine is, in a sentence."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return f"On average over the last minute, {busy:.1f} processes were running or waiting on {os.cpu_count()} cores."
