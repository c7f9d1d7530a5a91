"""The law of a step: ``python -m mbexp.fit step TABLE``, and its host terms: ``... host TABLE gpu=...``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from mbexp.config.cards import MODEL_CARDS
from mbexp.errors import UserError, unknown_choice
from mbexp.fit.host import HostFit, fit_host
from mbexp.fit.loads import Loads, read_loads
from mbexp.fit.step_tables import ORIGINS, Asked, read_skew, read_steps
from mbexp.fit.steps import StepFit, StepPoints, fit_steps


def step(argv: list[str]) -> None:
    """Fit the law of a step to a table, print it, and write a `gpu` configuration where a name is given.

    Raises
    ------
    UserError
        As `read_steps` and `fit_steps`; and where a configuration is asked for without naming the model.
    """
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.fit step",
        description="Fit the law of a step to decode steps, prefills and mixed steps. Columns: sequences, "
        "context_tokens (of each) or total_context_tokens, prompt_tokens, prefix_tokens, and time_ms (or _s, _us).",
    )
    arguments.add_argument("table", help="CSV file of steps; or what --from names")
    arguments.add_argument("--from", dest="origin", help=f"a published table: {', '.join(ORIGINS)}")
    arguments.add_argument("--layers", type=int, help="of the model, for a profile of one layer")
    arguments.add_argument(
        "--experts-active-share", type=float, help="of a mixture of experts: active experts of a token, of all: 0.0625"
    )
    arguments.add_argument(
        "--skew-sequences", type=int, help="of a profile: count attention to unequal contexts, as of so many sequences"
    )
    arguments.add_argument("--model", help="model of a splitwise-sim table; model card of the configuration")
    arguments.add_argument("--hardware", help="hardware of a splitwise-sim table")
    arguments.add_argument("--tensor-parallel", type=int, help="cards of an engine, in a splitwise-sim table")
    arguments.add_argument("--kv-tokens", type=int, help="KV capacity of the engine, for the configuration")
    arguments.add_argument("--name", help="write outputs/fits/NAME/gpu/NAME.yaml; needs --model and --kv-tokens")
    options = arguments.parse_args(argv)
    if options.layers is not None and options.layers < 1:
        raise UserError(f"--layers={options.layers}: must be 1 or more")
    share = options.experts_active_share
    if share is not None and not 0 < share < 1:
        raise UserError(f"--experts-active-share={share:g}: must lie between 0 and 1, such as 0.0625 for 8 of 128")
    if options.skew_sequences is not None and options.origin != "llmservingsim":
        raise UserError(f"--skew-sequences={options.skew_sequences}: is of a profile; use it with --from llmservingsim")
    asked = Asked(options.layers, options.model, options.hardware, options.tensor_parallel)
    if options.name:
        _check_configuration(options)
    points = read_steps(options.table, options.origin, asked)
    fit = fit_steps(points, share or 0.0)
    if options.skew_sequences is not None:
        fit = _skewed(fit, read_skew(options.table, options.skew_sequences), options.skew_sequences)
    print(step_text(points, fit))
    if options.name:
        path = _write(options, points, fit)
        print(f"\nwritten: {path}\n  python -m mbexp --config-dir {path.parent.parent} gpu={options.name}")


def _skewed(fit: StepFit, factor: float, sequences: int) -> StepFit:
    """Return the law with attention of the decoding sequences that many times longer."""
    keys = {key: float(f"{factor * v:.6g}") if key.endswith("context_us") else v for key, v in fit.keys.items()}
    note = (
        f"context_us and mixed_context_us are {factor:.3f} times those of equal contexts, as in skew.csv at "
        f"{sequences} sequences; the errors below are without that"
    )
    return dataclasses.replace(fit, keys=keys, not_fitted=(*fit.not_fitted, note))


def host(argv: list[str]) -> None:
    """Fit the host's terms to measured loads, and print them.

    Raises
    ------
    UserError
        As `read_loads`, and as on the command line of mbexp.
    """
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.fit host",
        description="Fit the host's time in a step to the time per token measured in closed loops. Columns: "
        "concurrency, prompt_tokens, output_tokens, tpot_ms, and ttft_ms of one user for the time of a request.",
    )
    arguments.add_argument(
        "words",
        nargs="+",
        metavar="FILE | KEY=VALUE",
        help="CSV files of measured loads, results of vllm bench serve, genai-perf or AIPerf, two concurrencies or "
        "more in all; and overrides as of mbexp: gpu=...",
    )
    arguments.add_argument("--config-dir", help="folder with config groups of your own")
    options = arguments.parse_intermixed_args(argv)
    overrides = [word for word in options.words if "=" in word and not Path(word).exists()]
    files = [word for word in options.words if word not in overrides]
    if not any(override.startswith("gpu=") for override in overrides):
        raise UserError("gpu=...: is needed: the card and model of the loads; mbexp assumes none")
    if not files:
        raise UserError("no file of measured loads is named; give a CSV file, or results of a benchmark")
    loads = read_loads(files)
    from mbexp.cli.composed import composed
    from mbexp.hardware import build_law

    config = composed(overrides, options.config_dir)
    law = config.gpu.law
    if law.kind != "step":
        raise UserError(f"gpu.law.kind={law.kind}: host terms belong to the law of a step, such as gpu=h100_llama31_8b")
    if law.host_ms or law.host_us_per_sequence or law.request_overhead_ms:
        raise UserError(
            "gpu.law.host_ms, host_us_per_sequence, request_overhead_ms: one is set; host terms are fitted to a law "
            "without"
        )
    print(host_text(loads, fit_host(build_law(config.gpu), loads), config.gpu.name))


def step_text(points: StepPoints, fit: StepFit) -> str:
    """Return what was fitted, with errors by phase."""
    lines = [f"{points.source}: {len(points):,} steps"]
    lines += [f"  note: {note}" for note in (*points.notes, *fit.not_fitted)]
    lines += ["", f"{'phase':<10}{'steps':>8}{'median error':>15}{'worst':>10}"]
    lines += [f"{name:<10}{n:>8,}{median:>13.1f} %{worst:>8.1f} %" for name, (n, median, worst) in fit.phases.items()]
    lines += ["", "gpu.law.kind: step"]
    return "\n".join([*lines, *(f"  {key}: {value:g}" for key, value in fit.keys.items())])


def host_text(loads: Loads, fit: HostFit, name: str) -> str:
    """Return the terms, and the errors of every load: without them, with them, and left out of the fit."""
    lines = [
        f"{loads.source}: {len(loads.tpot_ms)} loads on {name}; error of the time per token",
        f"{'concurrency':>12}{'prompt':>8}{'output':>8}{'TPOT':>11}{'kernels':>11}{'with host':>11}{'left out':>11}",
    ]
    columns = (loads.concurrency, loads.prompt_tokens, loads.output_tokens, loads.tpot_ms, fit.before_pct,
               fit.after_pct, fit.left_out_pct)  # fmt: skip
    for b, prompt, output, tpot_ms, *errors in zip(*columns, strict=True):
        shown = "".join(f"{error:>+9.1f} %" for error in errors)
        lines.append(f"{b:>12g}{prompt:>8g}{output:>8g}{tpot_ms:>8.2f} ms{shown}")
    medians = [float(np.median(np.abs(errors))) for errors in columns[4:]]
    lines.append(f"{'median of the sizes':<39}" + "".join(f"{median:>9.1f} %" for median in medians))
    if len(loads.tpot_ms) < 3:
        lines.append("note: with two loads, one left out is predicted from a single other")
    keys = f"gpu.law.host_ms={fit.host_ms:.4g} gpu.law.host_us_per_sequence={fit.host_us_per_sequence:.4g}"
    if fit.request_overhead_ms is not None:
        keys += f" gpu.law.request_overhead_ms={fit.request_overhead_ms:.4g}"
    else:
        lines.append("request_overhead_ms: not fitted, since no load of concurrency 1 has a time to the first token")
    return "\n".join([*lines, keys])


def _check_configuration(options: argparse.Namespace) -> None:
    if options.model not in MODEL_CARDS:
        if options.model is None:
            raise UserError(f"--name={options.name}: a configuration needs --model; one of {', '.join(MODEL_CARDS)}")
        raise unknown_choice("--model", options.model, MODEL_CARDS)
    if options.kv_tokens is None or options.kv_tokens < 1:
        raise UserError(
            f"--name={options.name}: a configuration needs --kv-tokens, the engine's KV capacity, 1 or more"
        )


def _write(options: argparse.Namespace, points: StepPoints, fit: StepFit) -> Path:
    folder = Path("outputs", "fits", options.name, "gpu")
    path = folder / f"{options.name}.yaml"
    if path.exists():
        raise UserError(f"{path}: exists; choose another --name")
    law: dict[str, Any] = {
        "kind": "step",
        "model": options.model,
        **fit.keys,
        "provenance": f"law of a step fitted to {points.source}",
        "batch_size_range": [1, max(1, int(points.sequences.max()))],
        "length_range_tokens": [1, int(max((points.context_tokens / np.maximum(points.sequences, 1)).max(),
                                           points.prompt_tokens.max()))],
    }  # fmt: skip
    lines = [
        f"# Written by mbexp.fit step from {points.source}.",
        *(
            f"# {name}: median error {median:.1f} %, worst {worst:.1f} %"
            for name, (_, median, worst) in fit.phases.items()
        ),
        f"name: {options.name}",
        "count: ${num_gpus}",
        "memory_gb: 80.0  # not used: kv_capacity_tokens is given",
        "weights_gb: null",
        "kv_bytes_per_token: null",
        f"kv_capacity_tokens: {options.kv_tokens}",
        "law:",
        *(f"  {key}: {json.dumps(value)}" for key, value in law.items()),
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path
