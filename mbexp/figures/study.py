"""Reads what a study or a single run has stored, and gives each figure the tidy frame it asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mbexp.errors import UserError
from mbexp.figures.aggregate import configuration_keys, swept
from mbexp.figures.labels import setting_label
from mbexp.figures.registry import FigureSpec, figures
from mbexp.results.catalogue import as_columns
from mbexp.results.index import DAMAGE, OF_LISTS, refresh
from mbexp.results.stored import Damaged, read_config, read_csv, read_json, read_run, read_table, table_columns
from mbexp.sweep.sides import LABEL, is_load, sides_key

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Read = TypeVar("Read")
TARGET_PCT = 5.0
LOADS = ("num_requests", "workload.rate_scaling", "workload.arrivals.rate_per_s")
# What study.json and the tables must hold to be read as such.
INFO: dict[str, Any] = {"name": str, "config_name": str, "question": str, "swept": list, "compared": list,
                        "failures": list, "missing": int, "git": dict, "wall_time_s": (int, float), "versions": str,
                        "targets": list}  # fmt: skip
NEEDED = {
    "best": ("num_gpus", "k_bins", "meets_target"),
    "verdicts": ("metric", "verdict", "seeds"),
}
MOST_RUNS = 8  # that one figure shows from inside


@dataclass(frozen=True)
class StoredStudy:
    """A folder of stored results: a study or sweep (docs/sweeps.md), or one run.

    Attributes
    ----------
    folder : Path
    damage : list of str
        What was found that cannot be read and can be done without, a line each.
    """

    folder: Path
    damage: list[str] = field(default_factory=list, compare=False)
    _values: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the study."""
        name = str(self.info.get("name") or "")
        plain = name and Path(name).name == name and not name.startswith(".")  # it names folders
        return name if plain else self.folder.resolve().name

    @property
    def names(self) -> set[str]:
        """Names by which a figure can know the study: its own, its configuration's and its folder's."""
        return {self.name, str(self.info.get("config_name")), self.folder.resolve().name}

    @cached_property
    def info(self) -> dict[str, Any]:
        """Return ``study.json``; empty for a single run, or where it cannot be read."""
        return self.unless_damaged(self._info) or {}

    def unless_damaged(self, read: Callable[[], Read]) -> Read | None:
        """Return what `read` returns; None, with a line in `damage`, where it cannot be read."""
        try:
            return read()
        except Damaged as error:
            if str(error) not in self.damage:
                self.damage.append(str(error))
            return None

    def _info(self) -> dict[str, Any]:
        path = self.folder / "study.json"
        values = read_json(path) if path.is_file() else {}
        for key, kind in INFO.items():
            if values.get(key) is not None and not isinstance(values[key], kind):
                raise Damaged(f"{path}: cannot be read ({key} is {values[key]!r:.60})")
        if not all(isinstance(each, dict) and each.get("run") for each in values.get("failures") or []):
            raise Damaged(f"{path}: cannot be read (failures are not of runs)")
        return values

    @property
    def shown_folder(self) -> str:
        """Folder as a reader would type it: as given where that was relative, else as a study's usually is."""
        if not self.folder.is_absolute():
            return self.folder.as_posix()
        return f"outputs/{self.folder.name}"

    @property
    def is_single_run(self) -> bool:
        """Whether the folder is that of one run."""
        return not (self.folder / "results.parquet").is_file()

    @cached_property
    def results(self) -> pd.DataFrame:
        """Return one row a run and seed, with ``run``, every swept key, ``scheduler`` and every metric."""
        from mbexp.sweep.table import read_results

        if self.is_single_run:
            return self._single_run()
        table = read_results(self.folder, by_seed=True)
        if table.empty:
            raise UserError(f"{self.folder}: its table has no run")
        lacking = [name for name in ("run", "seed", "scheduler") if name not in table.columns]
        if lacking:
            raise Damaged(f"{self.folder}: its table cannot be read (it has no column {', '.join(lacking)})")
        return table

    def table(self, name: str) -> pd.DataFrame | None:
        """Return ``best.csv`` or ``verdicts.csv``, None where the study has none that can be read."""
        return self.unless_damaged(lambda: self._table(name))

    def _table(self, name: str) -> pd.DataFrame | None:
        path = self.folder / f"{name}.csv"
        if not path.is_file() or path.stat().st_size <= 1:
            return None
        table = read_csv(path)
        lacking = [column for column in NEEDED[name] if column not in table.columns]
        if lacking:
            raise Damaged(f"{path}: cannot be read (it has no column {', '.join(lacking)})")
        return table

    def run_folder(self, run: str) -> Path:
        """Return the folder of a run."""
        return self.folder if self.is_single_run else self.folder / Path(str(run)).name.lstrip(".")

    def config(self, run: str) -> dict[str, Any]:
        """Return the resolved configuration of a run, by dotted names."""
        return _flat_config(self.run_folder(run) / "config.yaml")

    def with_keys(self, frame: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
        """Return the frame with those of `names` it lacks that are keys of the runs' configurations."""
        lacking = [name for name in names if name not in frame.columns and name in configuration_keys()]
        if not lacking:
            return frame
        with_keys = frame.copy()
        for name in lacking:
            with_keys[name] = [self._value(name, run) for run in frame["run"]]
        return with_keys

    def _value(self, key: str, run: str) -> Any:
        """Return what a run has as a key of its configuration; None where it has no such key."""
        if key not in self._values:
            self._values[key] = {} if self.is_single_run else self._values_of_whole_runs(key)
        values = self._values[key]
        # reading the file of a damaged run tells what is wrong with it
        return values[run] if run in values else self.config(run).get(key)

    def _values_of_whole_runs(self, key: str) -> dict[str, Any]:
        table = self._index
        whole = table[DAMAGE].is_null().to_pylist()
        known = key in table.column_names and key not in OF_LISTS
        stored = table[key].to_pylist() if known else [None] * len(table)
        values: dict[str, Any] = {}
        of_text: dict[str, Any] = {}
        for run, is_whole, value in zip(self._runs, whole, stored, strict=True):
            if not is_whole:
                continue
            if isinstance(value, str):  # of a list the index has the text alone: one run of each text is read
                if value not in of_text:
                    of_text[value] = self.config(run).get(key)
                value = of_text[value]
            values[run] = value
        return values

    @cached_property
    def _runs(self) -> list[str]:
        return list(dict.fromkeys(self.results["run"]))

    @cached_property
    def _index(self) -> pa.Table:
        """Return a row for each run of the study, in order, from the index that stands in for their files."""
        return refresh(self.folder, [self.run_folder(run).name for run in self._runs])

    def why_not(self, spec: FigureSpec, any_study: bool = False) -> str:
        """Return why a figure cannot be drawn of this study, or an empty string.

        `any_study` draws a figure that is of another study all the same, where its columns are there.
        """
        frame = self.results
        if spec.studies and not self.names & {*spec.studies} and not any_study:
            return f"it is of the study {' or '.join(spec.studies)}"
        labelled = "study.label" in frame.columns and frame["study.label"].nunique() > 1
        if labelled and spec.table == "results" and not (spec.named_points or spec.studies):
            return "its points are named and differ in several keys at once"
        too_many = [name for name in spec.alike if name in frame.columns and frame[name].nunique() > 1]
        if too_many and not labelled:
            return f"{', '.join(too_many)} varies"
        constant = [
            names
            for names in spec.varies
            if not any(name in frame.columns and frame[name].nunique() > 1 for name in names.split(" or "))
        ]
        if constant:
            return f"{', '.join(constant)} does not vary"
        if spec.table == "results":
            lacking = [name for name in spec.needs if name not in frame.columns and name not in configuration_keys()]
            return f"the table lacks {', '.join(lacking)}" if lacking else ""
        stored = [run for run in frame["run"] if _stored_columns(self.run_folder(run) / f"{spec.table}.parquet")]
        if not stored:
            return f"no run stored {spec.table}.parquet (output.{spec.table}=true stores it)"
        lacks = {run: self._lacking_inside(spec, run) for run in stored}
        if all(lacks.values()):
            return f"{spec.table}.parquet has no {', '.join(lacks[stored[0]])}"
        inside = [run for run in stored if not lacks[run]]
        if spec.where and not any(self._is_where(spec, run) for run in inside):
            return f"no run has {spec.where[0]}={spec.where[1]}"
        return ""

    def _has_inside(self, frame: pd.DataFrame, spec: FigureSpec) -> list[bool]:
        """Return which runs stored the table with what the figure needs; batches are not those of continuous runs."""
        paths = [self.run_folder(run) / f"{spec.table}.parquet" for run in frame["run"]]
        return [
            bool(_stored_columns(path)) and not self._lacking_inside(spec, run)
            for run, path in zip(frame["run"], paths, strict=True)
        ]

    def _lacking_inside(self, spec: FigureSpec, run: str) -> list[str]:
        """Return the columns that a figure needs and that neither the stored table nor the study has."""
        stored = _stored_columns(self.run_folder(run) / f"{spec.table}.parquet")
        known = {*stored, *self.results.columns, *configuration_keys(), "label"}
        return [name for name in spec.needs if name not in known]

    def _is_where(self, spec: FigureSpec, run: str) -> bool:
        return not spec.where or self._value(spec.where[0], run) == spec.where[1]

    def frame(self, spec: FigureSpec, any_study: bool = False) -> pd.DataFrame:
        """Return the frame of a figure; `any_study` as for `why_not`.

        Raises
        ------
        UserError
            Saying why it cannot be drawn.
        """
        reason = self.why_not(spec, any_study)
        if reason:
            raise UserError(f"figure {spec.name}: not of {self.folder}: {reason}")
        frame = self._inside(spec) if spec.table != "results" else self.with_keys(self.results, spec.needs)
        frame.attrs["target_pct"] = self.target_pct
        frame.attrs["targets"] = self.targets
        return frame

    @property
    def targets(self) -> list[str]:
        """What the study was judged by, as ``sla.targets`` has it; empty where it set none."""
        config = self.unless_damaged(lambda: self.config(str(self.results["run"].iloc[0]))) or {}
        found = self.info.get("targets") or config.get("sla.targets") or []
        return [str(text) for text in found] if isinstance(found, list) else []

    @property
    def target_pct(self) -> float:
        """Violation that a best configuration may have."""
        best = self.table("best")
        if best is not None and len(best) and "target_pct" in best:
            return float(best["target_pct"].iloc[0])
        config = self.unless_damaged(lambda: self.config(str(self.results["run"].iloc[0]))) or {}
        return float(config.get("study.target_pct", TARGET_PCT))

    def drawable(self) -> list[FigureSpec]:
        """Return the figures that say something about this study.

        A study with figures of its own has these, and the ones that look inside a run; the general ones would show
        the same numbers again.
        """
        found = [spec for spec in figures().values() if self._may_be_drawn(spec)]
        found.sort(key=lambda spec: spec.table != "results")  # what a study is about before what is inside a run
        if any(spec.studies for spec in found):
            return [spec for spec in found if spec.studies or spec.table != "results"]
        return found

    def _may_be_drawn(self, spec: FigureSpec) -> bool:
        try:
            return not self.why_not(spec)
        except UserError:  # a run folder is not whole: drawing it will say so
            return True

    def _single_run(self) -> pd.DataFrame:
        import pandas as pd

        path = self.folder / "summary.json"
        if not path.is_file():
            raise UserError(
                f"{self.folder}: neither results.parquet of a study nor summary.json of a run; "
                f"`python -m mbexp -cn {self.folder.name}` makes a study's"
            )
        values = as_columns(read_run(self.folder)[0])
        config = _flat_config(self.folder / "config.yaml")
        head = {"run": self.folder.resolve().name, "scheduler": config.get("scheduler.name")}
        head |= {"workload": config.get("workload.kind"), "gpu": config.get("gpu.name")}
        same = ("num_gpus", "k_bins", "num_requests", "seed", "sla.request_s", "sla.token_ms")
        return pd.DataFrame([head | {name: config.get(name) for name in same} | values])

    def _inside(self, spec: FigureSpec) -> pd.DataFrame:
        """Return the batches or requests of one run for each setting of the first column that varies."""
        import pandas as pd

        runs, by, note = self.typical_runs(spec)
        parts = []
        for _, row in runs.iterrows():
            path = self.run_folder(str(row["run"])) / f"{spec.table}.parquet"
            stored = _stored_columns(path)
            part = read_table(path, [name for name in spec.needs if name in stored]).to_pandas()
            label = setting_label(by, [row[name] for name in by]) or str(row["scheduler"])
            columns = {"run": row["run"], "label": label, "scheduler": row["scheduler"]}
            columns |= {name: row[name] for name in spec.needs if name in row.index and name not in part.columns}
            columns |= {
                name: self.config(str(row["run"])).get(name)
                for name in spec.needs
                if name not in columns and name not in part.columns
            }
            parts.append(part.assign(**columns))
        frame = pd.concat(parts, ignore_index=True)
        frame.attrs["note"] = note
        return frame

    def typical_runs(self, spec: FigureSpec) -> tuple[pd.DataFrame, list[str], str]:
        """Return the runs to look into, the column that tells them apart, and a note on what they share.

        Other swept keys are held at the middle of their values, loads at the heaviest, seeds at the first.
        """
        frame = self.results
        frame = frame[self._has_inside(frame, spec)]
        frame = frame[[self._is_where(spec, run) for run in frame["run"]]]
        by = [name for name in spec.one_run_for_each if name in frame.columns and frame[name].nunique() > 1]
        others = [name for name in swept(frame) if name not in by or name in (LABEL, "scheduler")]
        side = sides_key(others) or next((name for name in others if not is_load(name) and name != "k_bins"), None)
        # a rule of the user's own is what the study is about, more than its numbers of bins and GPUs
        by = [side] if spec.one_run_for_each and side else by[:1]
        held = {}
        for name in swept(frame, leave_out=by):
            values = sorted(frame[name].dropna().unique(), key=lambda value: (isinstance(value, str), value))
            counts = [int((frame[name] == value).sum()) for value in values]
            place = len(values) - 1 if name in LOADS else (len(values) - 1) // 2
            # a value that only some settings have (K of a scheduler without bins) is passed over
            value = values[place] if counts[place] == max(counts) else values[counts.index(max(counts))]
            kept = frame[frame[name] == value]
            if not by or kept[by[0]].nunique() == frame[by[0]].nunique():
                held[name] = value
                frame = kept
        keep = frame.sort_values("seed", kind="stable") if "seed" in frame.columns else frame
        keep = keep.drop_duplicates(by) if by else keep.head(1)
        keep = keep.sort_values(by, kind="stable").head(MOST_RUNS) if by else keep
        note = setting_label(list(held), list(held.values()))
        return keep, by, f"at {note}" if note else ""


def _stored_columns(path: Path) -> tuple[str, ...]:
    """Return the columns of a stored table; none where there is no table."""
    return table_columns(path) if path.is_file() else ()


@functools.lru_cache(maxsize=4096)
def _flat_config(path: Path) -> dict[str, Any]:
    return read_config(path)
