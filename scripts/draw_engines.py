"""Draws docs/figures/engines.png, and prints the tables of docs/engines.md: simulated beside recorded engines.

    python scripts/draw_engines.py FOLDER [--out docs/figures]

FOLDER holds what was measured by others, each under its licence: ``llmservingsim`` (LLMServingSim 2, 5daddb2) and
``aiconfigurator`` (silicon_sample.csv of the wheel of aiconfigurator-core 0.12.0; step_laws.csv, laws of steps fitted
to its kernel tables). Every closed loop is simulated with the engine's own defaults on the card, since the limits of
the published runs are not recorded; ten requests a user, of which the first and the last do not count. Host terms come
from two loads of each group, and are judged on the others.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbexp.cli.composed import composed
from mbexp.compare_engine.__main__ import ASSUMED
from mbexp.compare_engine.closed import closed_loop_tpot_ms
from mbexp.compare_engine.compare import Comparison, compare
from mbexp.compare_engine.readers import Options, read_run
from mbexp.figures.lines import log_axis
from mbexp.figures.style import GREY, categorical, panels, save, with_style
from mbexp.fit.host import fit_host
from mbexp.fit.loads import Loads
from mbexp.hardware import build_law

RUNS = {
    "RTX 4090, vLLM": ("RTX4090", "rtx4090_llama31_8b"),
    "RTX PRO 6000, vLLM": ("RTXPRO6000", "rtxpro6000_llama31_8b"),
}


class Group(NamedTuple):
    """Published points of one engine, and the law of its kernels: rows of silicon_sample.csv and of step_laws.csv."""

    title: str
    engine: str
    backend: str
    system: str
    version: str
    model: str
    precision: str
    tensor_parallel: int
    dtype: str
    card: str


# Before these were compared: each pair of card, model, quantisation and number of cards that has a law and points.
GROUPS = (
    Group("H100, Llama-3.1-8B", "tensorrt_llm", "trtllm", "h100_sxm", "1.0.0rc3", "Llama-3.1-8B-Instruct", "", 1,
          "bf16", "h100_llama31_8b"),
    Group("2 x H100, Qwen3-32B", "vllm", "vllm", "h100_sxm", "0.12.0", "Qwen3-32B", "", 2, "bf16",
          "h100_qwen3_32b_tp2"),
    Group("4 x H100, Llama-3.1-70B FP8", "vllm", "vllm", "h100_sxm", "", "Llama-3.1-70B", "fp8", 4, "fp8/kv8",
          "h100_llama31_70b_tp4"),
    Group("2 x H200, Llama-3.1-70B FP8", "tensorrt_llm", "trtllm", "h200_sxm", "", "Llama-3.1-70B", "fp8", 2, "fp8/kv8",
          "h200_llama31_70b_tp2"),
    Group("B200, Llama-3.1-70B FP8", "tensorrt_llm", "trtllm", "b200_sxm", "", "Llama-3.1-70B", "fp8", 1, "fp8/kv8",
          "b200_llama31_70b_tp2"),
)  # fmt: skip
# Of step_laws.csv, by key of gpu.law.
COLUMNS = {
    "fixed_ms": "fixed_ms", "floor_ms": "floor_ms", "sequence_ms": "c1_ms", "compute_ms": "compute_ms_per_seq",
    "context_us": "c2_us", "prefill_token_ms": "p1_ms_per_token", "prefill_square_ns": "p2_ns",
    "prefill_extra_ms": "prefill_extra_ms",
}  # fmt: skip


def rows_of(file: Path) -> Iterator[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)


def law_of(group: Group, folder: Path) -> list[str]:
    """Return what makes the engine: its card's facts, its rules, and the law of its kernels."""
    model = group.model.removesuffix("-Instruct")
    found = [
        row
        for row in rows_of(folder / "step_laws.csv")
        if (row["system"], row["backend"], int(row["tp"]), row["dtype"])
        == (group.system, group.backend, group.tensor_parallel, group.dtype)
        and row["model"].split("/")[-1].removeprefix("Meta-") == model
    ]
    (row,) = found
    keys = [f"gpu.law.{key}={row[column]}" for key, column in COLUMNS.items()]
    capacity = int(float(row["kv_tokens_without_safety"]))
    return [
        f"gpu={group.card}", f"execution={group.engine}", f"scheduler={group.engine}", "gpu.law.mixed_context_us=0",
        f"gpu.kv_capacity_tokens={capacity}", f"gpu.law.tensor_parallel={group.tensor_parallel}", *keys,
    ]  # fmt: skip


def loads_of(group: Group, folder: Path) -> Loads:
    """Return the published closed loops of a group."""
    found = [
        tuple(float(row[name]) for name in ("batch_size", "isl", "osl", "silicon_tpot_ms"))
        for row in rows_of(folder / "silicon_sample.csv")
        if row["mode"] == "agg"
        and (row["backend"], row["backend_version"], row["system"], row["precision"], int(row["tp_size"]))
        == (group.backend, group.version, group.system, group.precision, group.tensor_parallel)
        and row["model_path"].split("/")[-1] == group.model
    ]
    return Loads(*np.array(sorted(found)).T, group.title)


def simulated_ms(words: list[str], loads: Loads) -> np.ndarray:
    columns = zip(loads.concurrency, loads.prompt_tokens, loads.output_tokens, strict=True)
    return np.array([closed_loop_tpot_ms(words, *(int(value) for value in row)) for row in columns])


def with_host(words: list[str], loads: Loads) -> tuple[list[str], np.ndarray]:
    """Return the words with host terms of the shortest requests' least and most users, and the others."""
    order = np.lexsort((loads.concurrency, loads.output_tokens, loads.prompt_tokens))
    sizes = np.stack([loads.prompt_tokens, loads.output_tokens])
    same = np.all(sizes == sizes[:, order[:1]], axis=0)
    two = order[same[order]][[0, -1]]
    few = Loads(
        *(getattr(loads, name)[two] for name in ("concurrency", "prompt_tokens", "output_tokens", "tpot_ms")), ""
    )
    fit = fit_host(build_law(composed([*words, "num_gpus=1"]).gpu), few)
    left = np.ones(len(loads.tpot_ms), bool)
    left[two] = False
    keys = [f"gpu.law.host_ms={fit.host_ms}", f"gpu.law.host_us_per_sequence={fit.host_us_per_sequence}"]
    return [*words, *keys], left


def line(title: str, error_pct: np.ndarray) -> str:
    absolute = np.abs(error_pct)
    return (
        f"| {title} | {len(absolute)} | {np.median(absolute):.1f} | {np.percentile(absolute, 90):.1f} | "
        f"{error_pct[absolute.argmax()]:+.1f} | {np.mean(absolute <= 10):.0%} | {np.mean(absolute <= 20):.0%} |"
    )


@with_style
def figure(runs: dict[str, Comparison], loops: dict[str, tuple[np.ndarray, np.ndarray]]):  # type: ignore[no-untyped-def]
    drawn, axes = panels(3, columns=3)
    looks = categorical([*runs, *loops])
    for place, (metric, words) in enumerate({"ttft_s": "TTFT (s)", "tpot_ms": "TPOT (ms)"}.items()):
        most = 0.0
        for title, run in runs.items():
            one, other = run.engine.per_request()[metric], run.mbexp.per_request()[metric]
            most = max(most, one.max(), other.max())
            axes[place].scatter(one, other, s=9, alpha=0.5, color=looks[title].color, linewidth=0, label=title)
        axes[place].plot([0, most], [0, most], color=GREY, linewidth=0.8)
        axes[place].set(xlabel=f"{words}, measured", ylabel=f"{words}, simulated", title="a point a request")
    axes[0].legend()
    every = np.concatenate([part for pair in loops.values() for part in pair])
    span = (0.9 * every.min(), 1.1 * every.max())
    for title, (one, other) in loops.items():
        axes[2].scatter(one, other, s=9, color=looks[title].color, linewidth=0, label=title)
    axes[2].plot(span, span, color=GREY, linewidth=0.8)
    log_axis(axes[2], "x")
    log_axis(axes[2], "y")
    title = f"{len(every) // 2} closed loops"
    axes[2].set(
        xlim=span, ylim=span, xlabel="mean TPOT (ms), measured", ylabel="mean TPOT (ms), simulated", title=title
    )
    axes[2].legend(fontsize="x-small")
    return drawn


def main() -> None:
    """Simulate, print, draw."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--out", type=Path, default=Path("docs", "figures"))
    options = arguments.parse_args()
    runs = {}
    for title, (folder, gpu) in RUNS.items():
        record = options.folder / "llmservingsim" / "runs" / folder / "Llama-3.1-8B" / "requests.jsonl"
        recorded = read_run(str(record), Options())
        runs[title] = compare(recorded, composed([*ASSUMED, *recorded.overrides, f"gpu={gpu}"]))
        errors = ", ".join(
            f"{metric} {runs[title].error_pct(metric, 'mean'):+.1f} and {runs[title].error_pct(metric, 'p99'):+.1f} %"
            for metric in ("ttft_s", "tpot_ms", "latency_s")
        )
        print(f"{title}, mean and p99: {errors}")
    print("| engine | points | median | p90 | worst | within 10 % | within 20 % |\n|---|---|---|---|---|---|---|")
    loops = {}
    folder = options.folder / "aiconfigurator"
    for group in GROUPS:
        words, loads = law_of(group, folder), loads_of(group, folder)
        if group.engine == "tensorrt_llm" and loads.prompt_tokens.max() >= 8192:
            words += ["execution.admission=budget"]  # whole, prompts that fill a step would wait for an empty engine
        untuned_ms = simulated_ms(words, loads)
        loops[group.title] = (loads.tpot_ms, untuned_ms)
        name = {"vllm": "vLLM", "tensorrt_llm": "TensorRT-LLM"}[group.engine]
        print(line(f"{group.title}, {name}", 100 * (untuned_ms / loads.tpot_ms - 1)))
        tuned, left = with_host(words, loads)
        tuned_ms = simulated_ms(tuned, loads)
        print(
            line("... with host time of two loads, the others", 100 * (tuned_ms / loads.tpot_ms - 1)[left]), flush=True
        )
    save(figure(runs, loops), options.out, "engines", formats=("png",))


if __name__ == "__main__":
    main()
