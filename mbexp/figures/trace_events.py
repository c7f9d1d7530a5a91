"""A run as a timeline for ui.perfetto.dev and chrome://tracing, in Chrome's trace event format.

One track a GPU, one slice a batch, a counter of the requests that wait. The format: "Trace Event Format", a document of
the Chromium project; times are in microseconds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Names of Chrome's own palette, one a bin, again from the start beyond that.
COLORS = (
    "thread_state_running",
    "thread_state_runnable",
    "rail_response",
    "rail_animation",
    "rail_idle",
    "rail_load",
    "cq_build_running",
    "cq_build_passed",
)


def trace_events(batches: pd.DataFrame, requests: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return the events of a run.

    Parameters
    ----------
    batches
        ``batches.parquet``: ``gpu bin start_s finish_s size`` at least; every other column becomes an argument that
        the viewer shows beside a slice.
    requests
        ``requests.parquet``: ``arrival_s start_s``; without it there is no counter of those that wait.
    """
    import numpy as np

    events: list[dict[str, Any]] = [{"ph": "M", "pid": 0, "name": "process_name", "args": {"name": "mbexp run"}}]
    for gpu in sorted(int(gpu) for gpu in batches["gpu"].unique()):
        events.append({"ph": "M", "pid": 0, "tid": gpu, "name": "thread_name", "args": {"name": f"GPU {gpu}"}})
        events.append({"ph": "M", "pid": 0, "tid": gpu, "name": "thread_sort_index", "args": {"sort_index": gpu}})
    others = [name for name in batches.columns if name not in ("gpu", "bin", "start_s", "finish_s", "size")]
    for row in batches.to_dict("records"):
        events.append(
            {
                "ph": "X",
                "pid": 0,
                "tid": int(row["gpu"]),
                "name": f"bin {int(row['bin']) + 1}, {int(row['size'])} requests",
                "cat": "batch",
                "cname": COLORS[int(row["bin"]) % len(COLORS)],
                "ts": row["start_s"] * 1e6,
                "dur": (row["finish_s"] - row["start_s"]) * 1e6,
                "args": {name: _plain(row[name]) for name in others},
            }
        )
    if requests is not None:
        served = requests[requests["start_s"].notna()]
        arrivals, starts = np.sort(served["arrival_s"].to_numpy()), np.sort(served["start_s"].to_numpy())
        moments = np.unique(batches["start_s"].to_numpy())
        waiting = np.searchsorted(arrivals, moments, "right") - np.searchsorted(starts, moments, "right")
        events += [
            {"ph": "C", "pid": 0, "name": "requests waiting", "ts": moment * 1e6, "args": {"requests": int(count)}}
            for moment, count in zip(moments.tolist(), waiting, strict=True)
        ]
    return {"displayTimeUnit": "ms", "traceEvents": events}


def write_trace(run_folder: Path, path: Path) -> Path:
    """Write the stored run of `run_folder` as a trace; return `path`.

    Raises
    ------
    UserError
        If the run did not store its batches.
    """
    import pandas as pd

    from mbexp.errors import UserError

    if not (run_folder / "batches.parquet").is_file():
        raise UserError(f"{run_folder}: no batches.parquet; run it with output.batches=true")
    requests = run_folder / "requests.parquet"
    waiting = pd.read_parquet(requests, columns=["arrival_s", "start_s"]) if requests.is_file() else None
    events = trace_events(pd.read_parquet(run_folder / "batches.parquet"), waiting)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}")
    aside.write_text(json.dumps(events, separators=(",", ":")) + "\n", encoding="utf-8")
    aside.replace(path)
    return path


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value != value else value
