"""What the optional package aiconfigurator-core knows of an engine: choices, memory facts, and its compiled tables.

Only what it documents is used. It is imported when an answer is not in the cache of `mbexp.paths.cache_dir`; answers
are kept by the version of the package and every argument.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mbexp.config.cards import fill, fill_facts
from mbexp.errors import UserError, unknown_choice
from mbexp.paths import cache_dir

KIND = "aiconfigurator"  # of ``gpu.law.kind``
PACKAGE, SERIES = "aiconfigurator-core", "0.12."
FORMAT = 1  # of the answers kept; raise it when what is made of the tables changes
# Memory of one card, 1e9 bytes, as CUDA reports it. Of the Blackwell Ultra and Grace cards and the B60, which nobody
# reported to us, 1 % less than the package says.
CARD_MEMORY_GB = {
    "a100_sxm": 85.0,
    "b200_sxm": 191.5,
    "b300_sxm": 285.5,
    "b60": 25.5,
    "gb200": 196.7,
    "gb300": 295.0,
    "h100_sxm": 85.0,
    "h200_sxm": 150.1,
    "l40s": 47.7,
    "rtx_pro_6000_server": 101.9,
}
OVER_PCIE = ("b60", "l40s", "rtx_pro_6000_server")
ENGINES = {"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm"}  # by our names; values are the package's
OVERHEAD_GB = 1.2  # of each card; see `mbexp.hardware.memory.engine_kv_tokens`
INSTALL = "pip install '.[aiconfigurator]' in a checkout, or pip install 'mbexp[aiconfigurator]'"


def package_version() -> str:
    """Return the installed version.

    Raises
    ------
    UserError
        Where the extra is missing, or its version is not one that this module was written for.
    """
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"gpu.law.kind={KIND}: {PACKAGE} is not installed; {INSTALL}") from None
    if not found.startswith(SERIES):
        raise UserError(f"gpu.law.kind={KIND}: {PACKAGE} {found} is installed, {SERIES}* is needed; {INSTALL}")
    return found


def kept(arguments: list[Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return an answer of the cache, or make it and keep it; `arguments` are all that it depends on."""
    folder = cache_dir()
    if folder is None:
        return make()
    text = json.dumps([FORMAT, *arguments])
    path = folder / KIND / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        entry = json.loads(path.read_text(encoding="utf-8"))
        if entry["of"] == text and isinstance(entry["answer"], dict):
            return dict(entry["answer"])
    answer = make()
    with contextlib.suppress(OSError):  # a cache that cannot be written is done without
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps({"of": text, "answer": answer}), encoding="utf-8")
        aside.replace(path)
    return answer


class Facade:
    """The package itself, silenced; tests put a stand-in in its place."""

    def __init__(self) -> None:
        from aiconfigurator_core.sdk import common, config_builders, engine, models, utils

        logging.getLogger("aiconfigurator_core").setLevel(logging.CRITICAL)  # it warns on standard error
        self._common, self._builders, self._engine, self._models = common, config_builders, engine, models
        self._utils = utils

    def models(self) -> set[str]:
        """Return the models whose configuration the package holds: no other is asked for, lest it asks a hub."""
        return set(self._common.DefaultHFModels)

    def supported(self) -> Iterable[tuple[str, str, str]]:
        """Return the triples of system, model and engine that are known to have measured tables."""
        for row in self._common.get_support_matrix():
            if row["Status"] == "PASS" and row.get("Source") == "silicon":
                yield row["System"], row["HuggingFaceID"], row["Backend"]

    def memory(self, model: str, engine: str, cards: int) -> dict[str, Any]:
        """Return weights and KV bytes of the whole model, how they are quantised, and the share of active experts."""
        config = self._builders.build_model_config(cards, 1, 1, cards, 1)
        built = self._models.get_model(model, config, engine)
        facts = self._utils.get_model_config_from_model_path(model)
        modes = {
            "weights": config.gemm_quant_mode,
            "KV": config.kvcache_quant_mode,
            "attention": config.fmha_quant_mode,
        }
        if facts["num_experts"]:
            modes["experts"] = config.moe_quant_mode
        return {
            "weight_bytes": float(sum(part.get_weights() for part in built.context_ops)) * cards,
            "kv_bytes_per_token": float(built.get_kvcache_bytes_per_sequence(4096)) / 4096 * cards,
            "quantisation": {name: mode.name for name, mode in modes.items()},
            "active_share": facts["topk"] / facts["num_experts"] if facts["num_experts"] else 0.0,
            "context_tokens": int(facts["context"]),
        }

    def engine_version(self, system: str, engine: str) -> str:
        """Return the version of the engine that the tables of a system were measured with."""
        from aiconfigurator_core.sdk import perf_database

        return str(perf_database.resolve_query_version(system, engine, "current"))

    def compile(self, model: str, system: str, engine: str, cards: int) -> Any:
        """Return the handle that answers what a step takes."""
        return self._engine.EngineHandle.compile(model, system, engine, tp_size=cards, moe_tp_size=cards)


def facade() -> Any:
    """Return the package, imported."""
    return Facade()


def described(system: str | None, model: str, engine: str, cards: int) -> dict[str, Any]:
    """Return what an engine is: `Facade.memory`, and ``engine_version`` and ``package_version``.

    Raises
    ------
    UserError
        Where the extra is missing, or it knows no such system, model or engine.
    """
    version = package_version()
    if system not in CARD_MEMORY_GB:
        raise unknown_choice("gpu.law.system", "null" if system is None else system, CARD_MEMORY_GB)
    if engine not in ENGINES:
        raise unknown_choice("gpu.law.engine", engine, ENGINES)

    def ask() -> dict[str, Any]:
        package = facade()
        if model not in package.models():
            raise unknown_choice("gpu.law.model", model, package.models())
        try:
            answer: dict[str, Any] = package.memory(model, ENGINES[engine], cards)
            answer["engine_version"] = package.engine_version(system, ENGINES[engine])
        except Exception as error:
            raise unsupported(package, system, model, engine, cards, error) from None
        return answer

    return kept(["facts", version, system, model, engine, cards], ask) | {"package_version": version}


def unsupported(package: Any, system: str, model: str, engine: str, cards: int, error: Exception) -> UserError:
    """Return the error for what the tables do not hold, with the nearest choice that they do."""
    ours = {theirs: name for name, theirs in ENGINES.items()}
    reason = str(error).partition(" at /")[0].partition(" (")[0].strip()[:120]
    where = (
        f"gpu.law.system={system} model={model} tensor_parallel={cards} engine={engine}: no tables for it ({reason})"
    )
    known = {
        (place, ours[backend])
        for place, name, backend in package.supported()
        if name == model and backend in ours and place in CARD_MEMORY_GB
    }
    power = 1 << (cards.bit_length() - 1)
    if (system, engine) in known and power != cards:
        return UserError(f"{where}; the nearest to try is gpu.law.tensor_parallel={power}")
    known -= {(system, engine)}
    if not known:
        return UserError(f"{where}; another gpu.law.tensor_parallel or model may have them")

    def distance(pair: tuple[str, str]) -> tuple[bool, bool, float, str]:
        size = abs(CARD_MEMORY_GB[pair[0]] - CARD_MEMORY_GB[system])
        return pair[0] != system, pair[1] != engine, size, pair[0]

    place, name = min(known, key=distance)
    return UserError(f"{where}; the nearest with tables is gpu.law.system={place} gpu.law.engine={name}")


def share_of_memory(engine: str, engine_version: str) -> float:
    """Return the share of a card that an engine takes by default: 0.92 of vLLM since 0.21, 0.9 of all others."""
    numbers = engine_version.split(".")
    newer = (
        engine == "vllm" and len(numbers) > 1 and numbers[1].isdigit() and (int(numbers[0]), int(numbers[1])) >= (0, 21)
    )
    return 0.92 if newer else 0.9


def table_facts(system: str | None, model: str, engine: str, cards: int) -> dict[str, Any]:
    """Return what the memory of one engine of `cards` cards is, by the keys of the group `gpu`."""
    found = described(system, model, engine, cards)
    assert system is not None
    plain = model.rpartition("/")[2].lower().replace("-", "_").replace(".", "_")
    return {
        "name": "_".join([system, plain, engine, *([f"tp{cards}"] if cards > 1 else [])]),
        "memory_gb": CARD_MEMORY_GB[system] * cards,
        "usable_fraction": share_of_memory(engine, found["engine_version"]),
        "weights_gb": round(found["weight_bytes"] / 1e9, 5),
        "overhead_gb": round(OVERHEAD_GB * cards, 9),
        "kv_bytes_per_token": found["kv_bytes_per_token"],
    }


def fill_of_law(gpu: Mapping[str, Any], law: Any) -> dict[str, Any]:
    """Return the values of the group `gpu`, those that are null filled from the tables, or from card and model.

    Parameters
    ----------
    law : LawConfig
        What stands in ``gpu.law``.

    Raises
    ------
    UserError
        If the card, the system, the engine or the model is unknown, or the memory is null and no card is named.
    """
    if law.kind == KIND:
        return fill(gpu, table_facts(law.system, law.model, law.engine, law.tensor_parallel))
    return fill_facts(gpu, law.kind, law.card, law.model)
