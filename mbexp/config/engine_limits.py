"""The limits that an engine sets itself by the card it finds: what null means of a token budget and a batch size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from mbexp.config.cards import find_model_card
from mbexp.errors import UserError

C = TypeVar("C", bound=Any)  # a `mbexp.config.keys.Config`, which fills itself by these functions

GIB = 2**30 / 1e9  # in 1e9 bytes


@dataclass(frozen=True)
class Limits:
    """What an engine takes where it is told nothing.

    Attributes
    ----------
    token_budget : int
        Tokens of one iteration.
    batch_size : int
        Requests that run at once.
    why : str
        Version of the engine, and the class of the card.
    """

    token_budget: int
    batch_size: int
    why: str


@dataclass(frozen=True)
class Card:
    """What an engine knows of a card when it sets its limits.

    Attributes
    ----------
    memory_gib : float
        Of one card.
    name : str
        In small letters; holds "a100" where it is one.
    kv_tokens : int or None
        KV capacity of the engine; None where it is not given as a number.
    context_tokens : int or None
        Longest context of the model, or of the server; None where nobody says.
    """

    memory_gib: float
    name: str
    kv_tokens: int | None
    context_tokens: int | None


def _vllm(card: Card) -> Limits:
    """vLLM's max_num_batched_tokens and max_num_seqs of a server (vllm/engine/arg_utils.py, #17885)."""
    if card.memory_gib >= 70 and "a100" not in card.name:
        return Limits(8192, 1024, "vLLM 0.19 to 0.24, a card of 70 GiB or more that is no A100")
    return Limits(2048, 256, "vLLM 0.19 to 0.24, a card below 70 GiB or an A100")


LEAST_RUNNING, MOST_RUNNING, RUNNING_PER_CONTEXT = 2048, 4096, 512  # of SGLang


def _sglang(card: Card) -> Limits:
    """SGLang's chunked_prefill_size (server_args.py), and its max_running_requests (model_runner_kv_cache_mixin.py).

    ``512 KV capacity / context length``, rounded down, at least 2048 and at most 4096, and never more than half of the
    capacity in tokens. Where the capacity is unknown, the least.
    """
    running = LEAST_RUNNING
    if card.kv_tokens is not None:
        if card.context_tokens is not None:
            estimate = int(card.kv_tokens / card.context_tokens * RUNNING_PER_CONTEXT)
            running = max(min(estimate, MOST_RUNNING), LEAST_RUNNING)
        running = max(1, min(running, card.kv_tokens // 2))
    for below_gib, tokens in ((35, 2048), (60, 4096), (160, 8192)):
        if card.memory_gib < below_gib:
            return Limits(tokens, running, f"SGLang 0.5, a card below {below_gib} GiB")
    return Limits(16384, running, "SGLang 0.5, a card of 160 GiB or more")


def _tensorrt_llm(_: Card) -> Limits:
    """TensorRT-LLM's max_num_tokens and max_batch_size, the same for every card (llmapi/llm_args.py, BaseLlmArgs)."""
    return Limits(8192, 2048, "TensorRT-LLM 1.x, any card")


RULES: dict[str, Callable[[Card], Limits]] = {"vllm": _vllm, "sglang": _sglang, "tensorrt_llm": _tensorrt_llm}
ENGINES = tuple(RULES)


def limits_of(config: Any) -> Limits | None:
    """Return what the engine that ``execution.engine`` names takes on one card of a configuration, None for no engine.

    The card is known by its memory, `gpu.memory_gb` over the cards of an engine, and by the names that the keys hold.
    """
    engine, gpu = config.execution.engine, config.gpu
    if engine is None:
        return None
    names = (gpu.law.card, gpu.law.system, gpu.name)
    context = config.execution.max_model_len_tokens
    if context is None and gpu.law.kind != "aiconfigurator":  # whose models are not those of our cards
        context = find_model_card(gpu.law.model).longest_context_tokens
    card = Card(
        gpu.memory_gb / gpu.law.tensor_parallel / GIB,
        " ".join(n or "" for n in names).lower(),
        gpu.kv_capacity_tokens,
        context,
    )
    return RULES[engine](card)


def fill_limits(config: C) -> C:
    """Return the configuration with the limits that are null taken from the engine and the card.

    Raises
    ------
    UserError
        If one is null and no engine is named.
    """
    execution, scheduler = config.execution, config.scheduler
    if execution.token_budget is not None and scheduler.fixed_batch_size is not None:
        return config
    limits = limits_of(config)
    if limits is None:
        key = "execution.token_budget" if execution.token_budget is None else "scheduler.fixed_batch_size"
        raise UserError(
            f"{key}=null: is the default of an engine on the card, and none is named; use execution=vllm, sglang or "
            f"tensorrt_llm, or give {key} a number"
        )
    budget = limits.token_budget if execution.token_budget is None else execution.token_budget
    size = limits.batch_size if scheduler.fixed_batch_size is None else scheduler.fixed_batch_size
    if execution.prefill == "chunked" and scheduler.batch_size == "fixed":
        size = min(size, budget) if scheduler.fixed_batch_size is None else size
    filled: C = dataclasses.replace(
        config,
        execution=dataclasses.replace(execution, token_budget=budget),
        scheduler=dataclasses.replace(scheduler, fixed_batch_size=size),
    )
    return filled


def note_of(config: Any) -> str | None:
    """Return a sentence on the limits in force, where they are those of an engine on the card."""
    limits = limits_of(config)
    execution, scheduler = config.execution, config.scheduler
    if limits is None or (execution.token_budget, scheduler.fixed_batch_size) != (
        limits.token_budget, limits.batch_size
    ) or scheduler.batch_size != "fixed":  # fmt: skip
        return None
    return (
        f"execution.token_budget={limits.token_budget} and scheduler.fixed_batch_size={limits.batch_size} are the "
        f"defaults of the engine on this card ({limits.why})"
    )
