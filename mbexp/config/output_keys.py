"""The keys of `output` and `study`: what is stored, and what a sweep is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mbexp.config.schema import expand_user, option
from mbexp.errors import UserError

LONGEST_FOLDER_NAME = 200  # bytes; file systems take 255, and files written aside have longer names


@dataclass(frozen=True)
class OutputConfig:
    """What a run stores, and where."""

    dir: str = option("outputs", "folder that run folders are made in")
    batches: bool = option(True, "store batches.parquet")
    requests: bool | None = option(None, "store requests.parquet; null: up to a million requests")
    every_replication: bool = option(False, "store the requests of each further seed too, as requests_SEED.parquet")

    def __post_init__(self) -> None:
        expand_user(self, "dir", "output.dir")


@dataclass(frozen=True)
class StudyConfig:
    """What a sweep is for, and how it ends; none of it changes a run."""

    name: str | None = option(None, "folder of the sweep below output.dir; null: named after the swept keys")
    question: str | None = option(None, "what the study asks")
    label: str | None = option(None, "name of a point in tables and figures, where its keys do not say enough")
    best: bool = option(False, "end with the best configuration of each load")
    target_pct: float = option(5.0, "request-SLA violation that a best configuration may have", low=0, high=100)
    compare: str | None = option(
        None, "swept key whose values are the sides of verdicts; null: the scheduler, else the label, else the one key"
    )
    metrics: list[str] = option([], "metrics of verdicts and of the table; none: throughput, p95 latency, violation")
    timeout_s: float | None = option(None, "end a run that takes longer, and count it as failed; null: never", above=0)
    runs_per_job: int = option(16, "runs in one job of a launcher that sends jobs to other machines", low=1)

    def __post_init__(self) -> None:
        name = self.name
        if name is None:
            return
        if not name.strip() or name.startswith(".") or Path(name).name != name:
            raise UserError(f"study.name={name}: must be the name of a folder, without a path; null names it for you")
        if len(name.encode()) > LONGEST_FOLDER_NAME:
            size = len(name.encode())
            raise UserError(
                f"study.name={name[:20]}...: has {size} bytes, a folder's name {LONGEST_FOLDER_NAME} at most"
            )
