"""Reads a recorded run: its requests, in whatever format they are, and the limits that stand beside them."""

from __future__ import annotations

from pathlib import Path

from mbexp.compare_engine.columns import read_table
from mbexp.compare_engine.limits import limits_beside
from mbexp.compare_engine.records import EngineRun, checked_run
from mbexp.errors import UserError, unknown_choice
from mbexp.workload.recorded import FORMATS, Options, read_records


def read_run(path: str, options: Options, name: str | None = None) -> EngineRun:
    """Read a recorded run.

    Parameters
    ----------
    path
        The file; a leading ``~`` is the home folder.
    options
        What the file leaves open.
    name
        Format; None tells it from the names in the file.

    Raises
    ------
    UserError
        In one line: no such file, no known format, a missing field, or requests that `checked_run` refuses.
    """
    if name is not None and name not in (*FORMATS, "csv"):
        raise unknown_choice("--format", name, (*FORMATS, "csv"))
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{path}: no such file")
    found = read_records(path, file, options, None if name == "csv" else name)
    if found is None:
        if name not in (None, "csv"):
            raise UserError(f"{path}: is no JSON, which a record of {name} is")
        return checked_run(path, "CSV", read_table(file))
    form, read = found
    overrides, limits = limits_beside(file)
    return checked_run(path, form, read.records, (*read.notes, *limits), overrides)
