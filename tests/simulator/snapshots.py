"""The shapes that users and stored results rest on; `python -m tests.simulator.snapshots` stores them anew.

Keys of the summary, columns of the two tables, keys and defaults of the configuration, and the keys that name runs: a
resumed sweep finds its earlier runs by the last.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

import mbexp
from mbexp.config.keys import Config, all_defaults
from mbexp.config.schema import known_keys
from mbexp.results.store import run_key
from mbexp.results.tables import requests_table
from tests import ROOT

FILE = ROOT / "tests" / "golden" / "shapes" / "shapes.json"
MODES = ("run_to_completion", "continuous")

# A trace's hash stands for a file or for NumPy's version; here it is one of ours, so that keys depend on neither.
TRACE_HASH = "a trace"
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "static_fifo on 8 GPUs": {"scheduler": "static_fifo", "num_gpus": 8},
    "continuous": {"execution": "continuous", "gpu": "rtx4080_qwen3_1_7b"},
    "continuous, chunked and paged": {
        "execution": "continuous",
        "execution.prefill": "chunked",
        "execution.kv": "paged",
        "gpu": "roofline_h100",
    },
    "roofline_a100_40gb": {"gpu": "roofline_a100_40gb"},
    "roofline_a100_80gb": {"gpu": "roofline_a100_80gb"},
    "roofline_h100": {"gpu": "roofline_h100"},
    "roofline_h200": {"gpu": "roofline_h200"},
    "roofline_rtx4080_16gb": {"gpu": "roofline_rtx4080_16gb"},
    "roofline_rtx4080_laptop_12gb": {"gpu": "roofline_rtx4080_laptop_12gb"},
    "linear_p2": {"gpu": "linear_p2"},
    "time_of_longest": {"gpu": "time_of_longest"},
    "synthetic": {"workload": "synthetic", "scheduler": "multi_bin_static", "k_bins": 8, "seed": 3},
}


def shapes() -> dict[str, Any]:
    """Return all of them, made anew."""
    found: dict[str, Any] = {"summary": {}, "batches": {}, "requests": {}}
    for mode in MODES:
        result = mbexp.simulate(workload="synthetic", num_requests=50, execution=mode)
        found["summary"][mode] = sorted(result.summary)
        found["batches"][mode] = _columns(result.mode.table(result.outcome))
        found["requests"][mode] = _columns(requests_table(result.outcome, result.trace))
    found["config"] = {key: _default(key) for key in known_keys(Config)}
    found["run_keys"] = {name: run_key(mbexp.configure(**keys), TRACE_HASH) for name, keys in CONFIGURATIONS.items()}
    return found


def stored() -> dict[str, Any]:
    """Read what is stored."""
    values: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return values


def _columns(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def _default(dotted: str) -> Any:
    value: Any = all_defaults()
    for name in dotted.split("."):
        value = value[name]
    return "group" if isinstance(value, dict) and value else value


def main() -> None:
    """Store the shapes."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(shapes(), indent=1) + "\n", encoding="utf-8")
    print(f"stored in {FILE}")


if __name__ == "__main__":
    main()
