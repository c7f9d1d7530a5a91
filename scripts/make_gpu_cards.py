"""Writes the cards of conf/gpu that come from kernel tables: fits a step to what aiconfigurator-core answers.

    pip install 'aiconfigurator-core==0.12.*' scipy pyyaml
    python scripts/make_gpu_cards.py [NAME ...]
    python scripts/make_gpu_cards.py --profiles FOLDER   # profiles of LLMServingSim 2

A card's points: decode steps of 1 to 256 sequences of 128 to 16,384 tokens each, prefills of 16 to 8,192 tokens after 0
to 16,384, and mixed steps of both. The fit minimises relative errors, decode steps weighing most, all numbers >= 0.
Its errors are those of 400 random points a phase off that grid. The KV capacity is that of
`mbexp.hardware.memory.engine_kv_tokens`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mbexp.config.cards import GPU_CARDS, MODEL_CARDS
from mbexp.hardware.kernel_fit import NUMBERS, PHASES, Points, ask, fit, grid, priced, random_points
from mbexp.hardware.memory import ENGINE_SHARE, engine_kv_tokens

ROOT = Path(__file__).parents[1]
# The name of a system in the tables; memory of a card, 1e9 bytes, as CUDA reports it; USD per card and hour, on demand.
SYSTEMS = {
    "a100_80gb": ("a100_sxm", 85.0, 1.95, "Crusoe, A100 80 GB SXM"),
    "h100": ("h100_sxm", 85.0, 3.95, "Modal, H100"),
    "h200": ("h200_sxm", 150.1, 4.54, "Modal, H200"),
    "b200": ("b200_sxm", 191.5, 6.25, "Modal, B200"),
    "l40s": ("l40s", 47.7, 1.95, "Modal, L40S"),
    "rtxpro6000": ("rtx_pro_6000_server", 101.9, 3.03, "Modal, RTX PRO 6000"),
}
MODELS = {
    "llama31_8b": "meta-llama/Meta-Llama-3.1-8B",
    "llama31_70b": "meta-llama/Meta-Llama-3.1-70B",
    "qwen3_8b": "Qwen/Qwen3-8B",
    "qwen3_32b": "Qwen/Qwen3-32B",
    "qwen3_30b_a3b": "Qwen/Qwen3-30B-A3B",
}
PAIRS = [
    *((card, "llama31_8b", 1) for card in ("a100_80gb", "h100", "h200", "b200", "l40s")),
    ("a100_80gb", "llama31_70b", 4),
    ("h100", "llama31_70b", 4),
    ("h100", "llama31_70b", 8),
    ("h200", "llama31_70b", 2),
    ("b200", "llama31_70b", 2),
    *((card, "qwen3_8b", 1) for card in ("a100_80gb", "h100", "h200", "b200", "l40s", "rtxpro6000")),
    ("a100_80gb", "qwen3_32b", 2),
    ("h100", "qwen3_32b", 2),
    ("h200", "qwen3_32b", 1),
    ("b200", "qwen3_32b", 1),
    ("rtxpro6000", "qwen3_32b", 1),
    *((card, "qwen3_30b_a3b", 1) for card in ("a100_80gb", "h100", "h200", "b200", "rtxpro6000")),
]
# Cards of a profile of layers inside vLLM 0.19.0: folder of LLMServingSim 2, memory as CUDA reports it, price, seller.
PROFILES = {
    "rtx4090_llama31_8b": ("RTX4090", 25.250627584, 0.69, "RunPod secure, list of June 2026"),
    "rtxpro6000_llama31_8b": ("RTXPRO6000", 101.9, 3.03, "Modal, list of August 2026"),
}


def profiled(folder: Path, layers: int) -> Points:
    """Return the steps that a profile of LLMServingSim 2 measured attention for, its other layers interpolated."""

    def columns(name: str) -> tuple[list[str], np.ndarray]:
        lines = [line.split(",") for line in (folder / name).read_text(encoding="utf-8").split()[1:]]
        text = [line[0] for line in lines]
        first = 0 if name == "attention.csv" else 1
        return text, np.array([line[first:] for line in lines], float)

    dense, dense_us = columns("dense.csv")
    per_sequence, sequence_us = columns("per_sequence.csv")

    def at(x: float, layer: str, names: list[str], table: np.ndarray) -> float:
        own = table[[name == layer for name in names]]
        own = own[np.argsort(own[:, 0])]
        return float(np.interp(x, own[:, 0], own[:, 1]))

    block = ("layernorm", "qkv_proj", "rotary_emb", "o_proj", "layernorm", "gate_up_proj", "act_fn", "down_proj")
    rows, phase = [], []
    for n, before, b, x, attention_us in columns("attention.csv")[1]:
        tokens, ends = n + b, b + (n > 0)
        one_us = attention_us + sum(at(tokens, layer, dense, dense_us) for layer in block)
        whole_us = layers * one_us + sum(
            at(tokens, layer, dense, dense_us) for layer in ("embedding", "final_layernorm")
        )
        whole_us += sum(at(ends, layer, per_sequence, sequence_us) for layer in ("lm_head", "sampler"))
        rows.append((b, b * x, n, n * (n + 2 * before), whole_us / 1e6))
        phase.append("mixed" if n and b else "prefill" if n else "decode")
    return Points(np.array(rows), np.array(phase))


def profile_text(name: str, folder: Path) -> str:
    """Return the file of a card of `PROFILES`; prompts of less than 128 tokens and contexts beyond memory left out."""
    place, memory_gb, price, seller = PROFILES[name]
    card, facts = name.partition("_")[0], MODEL_CARDS["llama31_8b"]
    capacity = engine_kv_tokens(memory_gb * 1e9, facts.weight_bytes, facts.kv_bytes_per_token, 1, 0.9)
    if name == "rtx4090_llama31_8b":
        capacity = 16 * (2588 - 1)  # recorded
    points = profiled(folder / place / "meta-llama" / "Llama-3.1-8B" / "tp1", facts.layers)
    n, context = points.rows[:, 2], points.rows[:, 1]
    keep = ((n == 0) | (n >= 128)) & (context <= min(capacity, 300_000))
    points = Points(points.rows[keep], points.phase[keep])
    # Mixed steps are many: some 1,200 of them are fitted to, 30 % of the others of each phase are left out.
    share = np.where(points.phase == "mixed", min(0.7, 1200 / np.sum(points.phase == "mixed")), 0.7)
    fitted = np.random.default_rng(1).random(keep.sum()) < share
    numbers = fit(Points(points.rows[fitted], points.phase[fitted]), 0.0, mixed=True)
    error = 100 * np.abs(priced(numbers, points.rows, 1.0) / points.rows[:, 4] - 1)
    spread = {}
    for phase in PHASES:
        out = error[(points.phase == phase) & ~fitted]
        spread[phase] = (np.median(out), out.max())
    print(name, spread, flush=True)
    lines = [
        f"# {facts.name} in 16 bits on {GPU_CARDS[card].name}, one card an engine: vLLM 0.19.0, from a layer profile.",
        f"# made by: python scripts/make_gpu_cards.py --profiles FOLDER {name}",
        "#   from perf/ of LLMServingSim 2, commit 5daddb2, MIT",
        "# error against the profile, median and worst of points left out: "
        + ", ".join(f"{phase} {median:.1f} and {worst:.1f} %" for phase, (median, worst) in spread.items()),
        "# error against an engine: of a law from the engine's own profile, means within some 3 to 7 %",
        f"name: {name}",
        "count: ${num_gpus}             # engines, of one card each",
        f"memory_gb: {memory_gb}  # of an engine, as CUDA reports it",
        "usable_fraction: 0.9",
        "weights_gb: null               # of the model",
        "overhead_gb: 1.2",
        "kv_bytes_per_token: null       # of the model",
        f"kv_capacity_tokens: {capacity}  # "
        + (
            "recorded: 2,588 blocks of 16, one of them null"
            if card == "rtx4090"
            else "by the formula of docs/gpu_laws.md"
        ),
        f"price_per_hour: {price}  # USD a card, on demand, {seller}",
        "law:",
        "  kind: step",
        "  length: prompt_plus_output",
        f"  card: {card}",
        "  model: llama31_8b",
        "  tensor_parallel: 1",
    ]
    for (key, unit), number in zip(NUMBERS.items(), numbers, strict=True):
        if number * unit > 1e-9:
            lines.append(f"  {key}: {number * unit:.5g}")
    lines += [
        '  provenance: "vLLM 0.19.0 layer profile of LLMServingSim 2 (5daddb2), fitted; no host time"',
        "  batch_size_range: [1, 256]",
        "  length_range_tokens: [1, 16384]",
    ]
    return "\n".join(lines) + "\n"


def card_text(card: str, model: str, tp: int) -> str:
    """Return the file of one card."""
    from aiconfigurator_core.sdk.engine import EngineHandle

    system, memory_gb, price, seller = SYSTEMS[card]
    facts, gpu = MODEL_CARDS[model], GPU_CARDS[card]
    version = "0.14.0" if system == "a100_sxm" else "0.24.0"
    usable = 0.9 if system == "a100_sxm" else ENGINE_SHARE  # gpu_memory_utilization of that version
    engine = EngineHandle.compile(MODELS[model], system, "vllm", backend_version=version, tp_size=tp)
    share = facts.active_experts / facts.experts if facts.experts else 0.0
    numbers = fit(ask(engine, grid()), share)
    test = ask(engine, random_points(np.random.default_rng(1)))
    error = 100 * np.abs(priced(numbers, test.rows, 1 - share) / test.rows[:, 4] - 1)
    errors = {phase: (np.median(error[test.phase == phase]), error[test.phase == phase].max()) for phase in PHASES}
    print(card, model, tp, {phase: tuple(np.round(pair, 1)) for phase, pair in errors.items()}, flush=True)
    name = f"{'a100' if card == 'a100_80gb' else card}_{model}" + (f"_tp{tp}" if tp > 1 else "")
    one = f"{tp} of them as one engine" if tp > 1 else "one card an engine"
    capacity = engine_kv_tokens(memory_gb * 1e9, facts.weight_bytes, facts.kv_bytes_per_token, tp, usable)
    lines = [f"# {facts.name} in 16 bits on {gpu.name}, {one}: vLLM {version}, from kernel tables."]
    lines += [
        f"# made by: python scripts/make_gpu_cards.py {name}   (aiconfigurator-core 0.12.0, Apache-2.0)",
        "# error against the tables, median and worst of 400 random points: "
        + ", ".join(f"{phase} {median:.1f} and {worst:.1f} %" for phase, (median, worst) in errors.items()),
        "# error against an engine: time per token within 10 % in half of published runs and within 20 % in three",
        "#   quarters, mostly too fast; host_ms and host_us_per_sequence from two measured loads halve it",
    ]
    if share:
        lines.append("# experts_ms replaces the floor: the experts read grow with the tokens of a step")
    lines += [
        f"name: {name}",
        "count: ${num_gpus}             # engines" + (f", of {tp} cards each" if tp > 1 else ", of one card each"),
        f"memory_gb: {memory_gb * tp:g}  # of an engine, as CUDA reports it, about",
        f"usable_fraction: {usable}",
        "weights_gb: null               # of the model",
        f"overhead_gb: {1.2 * tp:g}",
        "kv_bytes_per_token: null       # of the model",
        f"kv_capacity_tokens: {capacity}  # by the formula of docs/gpu_laws.md, at utilisation {usable}",
        f"price_per_hour: {price}  # USD a card, on demand, {seller}, list of August 2026",
        "law:",
        "  kind: step",
        "  length: prompt_plus_output",
        f"  card: {card}",
        f"  model: {model}",
        f"  tensor_parallel: {tp}",
    ]
    for (key, unit), number in zip(NUMBERS.items(), numbers, strict=True):
        if number * unit > 1e-9:
            lines.append(f"  {key}: {number * unit:.5g}")
    if share:
        lines.append(f"  experts_active_share: {share}  # {facts.active_experts} of {facts.experts}")
    lines += [
        f'  provenance: "vLLM {version} kernel tables of aiconfigurator-core 0.12.0, fitted; no host time"',
        "  batch_size_range: [1, 256]",
        "  length_range_tokens: [1, 16384]",
    ]
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> None:
    """Write the cards named, or all that need no profile; `--profiles FOLDER` those of profiles."""
    write = ROOT / "conf" / "gpu"
    if words[:1] == ["--profiles"]:
        for name in words[2:] or PROFILES:
            (write / f"{name}.yaml").write_text(profile_text(name, Path(words[1])), encoding="utf-8")
        return
    for card, model, tp in PAIRS:
        name = f"{'a100' if card == 'a100_80gb' else card}_{model}" + (f"_tp{tp}" if tp > 1 else "")
        if not words or name in words:
            (write / f"{name}.yaml").write_text(card_text(card, model, tp), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
