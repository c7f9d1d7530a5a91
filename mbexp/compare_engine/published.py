"""Published closed loops of real engines: the table of aiconfigurator-core, and which of its points can be priced."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mbexp.config.kernel_tables import ENGINES, INSTALL, PACKAGE
from mbexp.errors import UserError
from mbexp.fit.loads import Loads
from mbexp.hardware.grid import read_number, read_rows, read_whole

TABLE = "silicon_sample.csv"
COLUMNS = (
    "mode", "backend", "backend_version", "system", "model_path", "precision", "tp_size", "pp_size",
    "attention_dp_size", "moe_tp_size", "moe_ep_size", "isl", "osl", "batch_size", "silicon_tpot_ms",
)  # fmt: skip
# The checkpoint whose kernels the package has measured, by the model as it is published and its precision ("" is 16
# bits). Of a model in 8 bits it is the one that its maker, or NVIDIA, ships.
CHECKPOINTS = {
    ("meta-llama/Llama-3.1-8B-Instruct", ""): "meta-llama/Meta-Llama-3.1-8B",
    ("meta-llama/Llama-3.1-70B", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("Qwen/Qwen3-32B", ""): "Qwen/Qwen3-32B",
    ("Qwen/Qwen3-32B", "fp8"): "Qwen/Qwen3-32B-FP8-Static-PerTensor",
}
# The same of mixtures of experts.
EXPERTS = {
    ("openai/gpt-oss-120b", "fp4"): "openai/gpt-oss-120b",
    ("Qwen/Qwen3-235B-A22B-FP8", "fp8"): "Qwen/Qwen3-235B-A22B-FP8",
    ("deepseek-ai/DeepSeek-R1", "fp8"): "deepseek-ai/DeepSeek-R1",
    ("deepseek-ai/DeepSeek-V3", "fp8"): "deepseek-ai/DeepSeek-V3",
    ("moonshotai/Kimi-K2.5", "int4"): "moonshotai/Kimi-K2.5",
    ("moonshotai/Kimi-K2.5", "fp4"): "nvidia/Kimi-K2.5-NVFP4",
    ("Qwen/Qwen3.5-397B-A17B", "bf16"): "Qwen/Qwen3.5-397B-A17B",
    ("Qwen/Qwen3.5-397B-A17B", "fp4"): "nvidia/Qwen3.5-397B-A17B-NVFP4",
}
# Points that contradict themselves: below what their prompts alone take, or twice measured and up to 126 % apart.
FAULTY = (
    ("nvidia/Llama-3.1-8B-Instruct-FP8", "h200_sxm", "vllm", "0.12.0", "fp8"),
    ("Qwen/Qwen3-32B", "h100_sxm", "vllm", "0.12.0", "fp8"),
)
WORDS = {"vllm": "vLLM", "sglang": "SGLang", "tensorrt_llm": "TensorRT-LLM"}


@dataclass(frozen=True, order=True)
class Setup:
    """One engine on its cards: what published points have in common that one law prices.

    Attributes
    ----------
    engine, system, checkpoint, tensor_parallel
        As in ``gpu.law``: engine, system, model, tensor_parallel.
    version : str
        Of the engine that was measured, empty where nobody says; the law's is the one of the tables.
    experts : bool
        Whether the model is a mixture of experts.
    """

    engine: str
    system: str
    checkpoint: str
    tensor_parallel: int
    version: str
    experts: bool

    @property
    def title(self) -> str:
        """Card, model and engine, as in a table."""
        model = self.checkpoint.rpartition("/")[2].removeprefix("Meta-")
        return f"{self.card}, {model}, {WORDS[self.engine]}"

    @property
    def card(self) -> str:
        """The card's plain name."""
        return self.system.removesuffix("_sxm").upper()


def shipped_table() -> Path:
    """Return the table that comes with the package.

    Raises
    ------
    UserError
        Where the package is missing.
    """
    found = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise UserError(f"{TABLE}: comes with {PACKAGE}, which is not installed; {INSTALL}; or name the file")
    return Path(found.submodule_search_locations[0], "systems", TABLE)


def read_published_loops(path: Path) -> tuple[dict[Setup, Loads], Counter[str]]:
    """Return the loads of every engine that a law may price, and how many points are left out, by reason.

    Raises
    ------
    UserError
        In one line, naming the file, the line and the column at fault.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    names, rows = read_rows(path)
    if missing := [name for name in COLUMNS if name not in names]:
        raise UserError(f"{path}: no column {missing[0]}; published loops have {', '.join(COLUMNS)}")
    left_out: Counter[str] = Counter()
    found: dict[Setup, list[tuple[float, ...]]] = {}
    for line, row in enumerate(rows, 2):
        if reason := _why_not(row):
            left_out[reason] += 1
            continue
        key = (row["model_path"], row["precision"])
        setup = Setup(
            next(ours for ours, theirs in ENGINES.items() if theirs == row["backend"]),
            row["system"],
            {**CHECKPOINTS, **EXPERTS}[key],
            read_whole(path, line, row, "tp_size"),
            row["backend_version"],
            key in EXPERTS,
        )
        sizes = [read_whole(path, line, row, name) for name in ("batch_size", "isl", "osl")]
        point = (*map(float, sizes), read_number(path, line, row, "silicon_tpot_ms", positive=True))
        found.setdefault(setup, []).append(point)
    loads = {}
    for setup in sorted(found):
        concurrency, prompt, output, tpot_ms = np.array(sorted(found[setup])).T
        loads[setup] = Loads(concurrency, prompt, output, tpot_ms, setup.title)
    return loads, left_out


def _why_not(row: dict[str, str]) -> str | None:
    """Return why a point has no law, in words; None where it may have one."""
    key = (row["model_path"], row["precision"])
    if row["mode"] != "agg":
        return "prefill and decode on engines of their own"
    if (row["model_path"], row["system"], row["backend"], row["backend_version"], row["precision"]) in FAULTY:
        return "measurements that contradict themselves"
    if key not in CHECKPOINTS and key not in EXPERTS:
        return "no tables of the model in that precision"
    if row["pp_size"] not in ("", "0", "1"):
        return "layers over several cards"
    even = key in CHECKPOINTS or (row["moe_ep_size"] in ("", "0", "1") and row["moe_tp_size"] == row["tp_size"])
    if row["attention_dp_size"] not in ("", "0", "1") or not even:
        return "experts or attention not spread by tensor parallelism"
    if row["backend"] not in ENGINES.values():
        return "an engine without tables"
    return None
