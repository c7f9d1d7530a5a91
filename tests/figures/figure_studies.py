"""Small studies, stored as a sweep stores them, for the tests of figures and reports."""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mbexp import configure
from mbexp.results.store import run_key, save
from mbexp.run import run
from mbexp.sweep.best import best_configurations
from mbexp.sweep.points import Point
from mbexp.sweep.table import rows_of, to_table, write_csv, write_table
from mbexp.sweep.verdicts import verdicts

GROUPS = ("scheduler", "workload", "gpu", "bins", "sla", "predictor")
UNIFORM = {
    # U[1, 20] in units of a million tokens, so that lengths are as good as continuous; one unit is one second
    "workload": "synthetic",
    "workload.arrivals.kind": "at_once",
    "workload.prompt.kind": "constant",
    "workload.prompt.value_tokens": 1,
    "workload.output.kind": "uniform",
    "workload.output.value_tokens": None,
    "workload.output.low_tokens": 1_000_000,
    "workload.output.high_tokens": 20_000_000,
    "gpu": "linear_p2",
    "gpu.law.c0_ms": 0.001,
    "gpu.law.c1_ms": 0.0,
    "gpu.kv_capacity_tokens": 2_000_000_000,
    "scheduler": "multi_bin_static",
    "scheduler.fixed_batch_size": 8,
    "num_gpus": 1,
}


def grid(**swept: Sequence[Any]) -> list[dict[str, Any]]:
    """Return every combination; a double underscore stands for a dot."""
    names = [name.replace("__", ".") for name in swept]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*swept.values())]


def store_study(
    root: Path,
    name: str,
    points: Sequence[dict[str, Any]],
    seeds: Sequence[int] = (0,),
    question: str = "",
    **fixed: Any,
) -> Path:
    """Run every point with every seed and store the study; return its folder."""
    folder = root / name
    made, keys = [], []
    for values, seed in itertools.product(points, seeds):
        given = {"seed": seed, **fixed, **values}
        config = configure(**given)
        result = run(config)
        key = run_key(config, result.trace.sha256)
        if not (folder / key).is_dir():
            save(result, folder / key, ["python", "-m", "mbexp"])
        chosen = {group: str(given[group]) for group in GROUPS if isinstance(given.get(group), str)}
        defaults = {"scheduler": config.scheduler.name, "workload": config.workload.kind, "gpu": config.gpu.name}
        swept = {**values, **({"seed": seed} if len(seeds) > 1 else {})}
        made.append(Point((), swept, defaults | chosen, config))
        keys.append(key)
    rows, by_seed = rows_of(folder, made, keys)
    names = list(dict.fromkeys(key for point in made for key in point.swept))
    write_table(to_table(rows), folder, "results")
    if any(point.config.study.best for point in made):
        best = best_configurations(rows, names, made[0].config.study.target_pct)
        write_csv(to_table(best).drop_columns(["warnings"]), folder / "best.csv")
    told = verdicts(by_seed, names)
    if told:
        write_csv(to_table(told).drop_columns(["warnings"]), folder / "verdicts.csv")
    info = {
        "name": name,
        "config_name": name,
        "question": question,
        "command": ["python", "-m", "mbexp", "-cn", name],
        "swept": names,
        "points": len(made),
        "runs": keys,
        "failures": [],
        "missing": 0,
        "wall_time_s": 1.0,
        "finished": "2026-01-02T03:04:05+00:00",
    }
    (folder / "study.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


_KEPT = tempfile.TemporaryDirectory(prefix="mbexp-figure-tests-")  # removed when the tests end
ROOT = Path(_KEPT.name)


@functools.cache
def scaling() -> Path:
    """GPUs by K, three seeds, with best configurations: some settings meet the target and some are overloaded."""
    swept = grid(num_gpus=[1, 4, 16], k_bins=[1, 4])
    fixed = {"study.best": True, "workload.rate_scaling": 20, "num_requests": 300}
    return store_study(ROOT, "gpu_scaling", swept, seeds=range(3), question="How many GPUs?", **fixed)


@functools.cache
def compared() -> Path:
    """Four schedulers at two numbers of GPUs, two seeds."""
    schedulers = ["static_fifo", "dynamic_no_bins", "multi_bin_dynamic", "multi_bin_static"]
    swept = grid(scheduler=schedulers, num_gpus=[4, 8])
    return store_study(ROOT, "compare", swept, seeds=range(2), num_requests=400, **{"workload.rate_scaling": 20})


@functools.cache
def loads() -> Path:
    """Two loads by GPUs by K, one seed."""
    swept = grid(num_requests=[200, 400], num_gpus=[2, 64], k_bins=[1, 2])
    return store_study(ROOT, "grid_search", swept, **{"study.best": True, "workload.rate_scaling": 20})


@functools.cache
def methods() -> Path:
    """Named methods at two loads: the points differ in scheduler, GPUs and K at once."""
    named = [
        {"study.label": "static, 1 GPU", "scheduler": "static_fifo", "num_gpus": 1, "k_bins": 1},
        {"study.label": "binned, 8 GPUs", "scheduler": "multi_bin_dynamic", "num_gpus": 8, "k_bins": 4},
        {"study.label": "static, 8 GPUs", "scheduler": "static_fifo", "num_gpus": 8, "k_bins": 1},
    ]
    swept = [{"num_requests": count, **point} for count in (150, 300) for point in named]
    return store_study(ROOT, "method_comparison", swept, **{"workload.rate_scaling": 20})


@functools.cache
def saturated() -> Path:
    """P1's saturated server: U[1, 20], B = 8, always busy."""
    return store_study(ROOT, "multi_bin_throughput", grid(k_bins=[1, 2, 4]), range(2), num_requests=8_000, **UNIFORM)
