"""Draws docs/figures/engines.png, and prints the first table of docs/engines.md: simulated beside recorded engines.

    python -m mbexp.compare_engine loops --out LOOPS
    python scripts/draw_engines.py RUNS LOOPS/points.csv [--out docs/figures]

RUNS holds the recorded runs of LLMServingSim 2 (5daddb2), under their licence: ``RTX4090/Llama-3.1-8B/requests.jsonl``
with its ``meta.json``. The closed loops are those that the first command has simulated; it prints their tables.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from mbexp.cli.composed import composed
from mbexp.compare_engine.__main__ import ASSUMED
from mbexp.compare_engine.compare import Comparison, compare
from mbexp.compare_engine.loops import Compared, draw_points, draw_shares
from mbexp.compare_engine.published import Setup
from mbexp.compare_engine.readers import Options, read_run
from mbexp.figures.style import GREY, categorical, panels, save, with_style
from mbexp.fit.loads import Loads

RUNS = {
    "RTX 4090, vLLM": ("RTX4090", "rtx4090_llama31_8b"),
    "RTX PRO 6000, vLLM": ("RTXPRO6000", "rtxpro6000_llama31_8b"),
}


def read_points(path: Path) -> list[Compared]:
    """Return the loops of ``points.csv`` by engine and version."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    names = ("concurrency", "prompt_tokens", "output_tokens", "measured_tpot_ms", "mbexp_tpot_ms", "with_host_tpot_ms")
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            numbers = [float(row[name] or "nan") for name in names]
            found.setdefault((row["engine"], row["version"]), []).append(numbers)
    compared = []
    for (engine, version), rows in found.items():
        concurrency, prompt, output, tpot_ms, untuned_ms, hosted_ms = np.array(rows).T
        setup = Setup(engine, "", "", 1, version, False)
        compared.append(Compared(setup, Loads(concurrency, prompt, output, tpot_ms, engine), untuned_ms, hosted_ms))
    return compared


@with_style
def figure(runs: dict[str, Comparison], loops: list[Compared]):  # type: ignore[no-untyped-def]
    drawn, axes = panels(4, columns=2)
    looks = categorical(runs)
    for place, (metric, words) in enumerate({"ttft_s": "TTFT (s)", "tpot_ms": "TPOT (ms)"}.items()):
        most = 0.0
        for title, run in runs.items():
            one, other = run.engine.per_request()[metric], run.mbexp.per_request()[metric]
            most = max(most, one.max(), other.max())
            axes[place].scatter(one, other, s=9, alpha=0.5, color=looks[title].color, linewidth=0, label=title)
        axes[place].plot([0, most], [0, most], color=GREY, linewidth=0.8)
        axes[place].set(xlabel=f"{words}, measured", ylabel=f"{words}, simulated", title="a point a request")
    axes[0].legend()
    draw_points(axes[2], loops)
    draw_shares(axes[3], loops)
    return drawn


def main() -> None:
    """Simulate the runs, print their errors, draw."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", type=Path)
    arguments.add_argument("points", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("docs", "figures"))
    options = arguments.parse_args()
    runs = {}
    for title, (folder, gpu) in RUNS.items():
        recorded = read_run(str(options.runs / folder / "Llama-3.1-8B" / "requests.jsonl"), Options())
        runs[title] = compare(recorded, composed([*ASSUMED, *recorded.overrides, f"gpu={gpu}"]))
        errors = ", ".join(
            f"{metric} {runs[title].error_pct(metric, 'mean'):+.1f} and {runs[title].error_pct(metric, 'p99'):+.1f} %"
            for metric in ("ttft_s", "tpot_ms", "latency_s")
        )
        print(f"{title}, mean and p99: {errors}")
    save(figure(runs, read_points(options.points)), options.out, "engines", formats=("png",))


if __name__ == "__main__":
    main()
