"""The keys of `execution`: how a GPU executes what it is given."""

from __future__ import annotations

from dataclasses import dataclass

from mbexp.config.choices import mode_names, rule_names
from mbexp.config.engine_limits import ENGINES
from mbexp.config.schema import option

EXECUTIONS = mode_names()
PREFILLS = ("first", "chunked", "alone")
KV_RULES = ("reserve", "paged", "future")
RESERVATIONS = ("prediction", "longest_of_bin")
FUTURE_ESTIMATES = ("predicted", "low", "high", "lightllm", "history")
PREEMPTIONS = ("recompute", "swap", "restart")
WHO_GIVES_WAY = ("admitted_last", "least_predicted")
UNDERPREDICTIONS = ("extend", "preempt", "requeue")
ROUTERS = ("prefix_dynamo", "prefix_sglang", "prefix_llm_d", "session_affinity")  # that know caches, conversations
RULES_OF_ASSIGNMENT = ("central", *rule_names("assignment"))
ASSIGNMENTS = (*RULES_OF_ASSIGNMENT, *ROUTERS)
GPU_SERVES = ("any_bin", "one_bin", "equal_share", "load_share")
OVERSIZED = ("refuse", "reject")
ADMISSIONS = ("budget", "whole", "any")
PREFIX_CACHES = ("none", "lru", "lfu", "belady")
PREFILL_MEMORIES = ("held", "tested", "first_chunk")
OUTPUT_RESERVES = ("none", "full", "ratio")


@dataclass(frozen=True)
class ExecutionConfig:
    """How a GPU executes: whole batches, or iteration by iteration; all keys but `name` belong to the latter."""

    name: str = option("run_to_completion", "mode of execution", choices=EXECUTIONS)
    prefill: str = option(
        "first",
        "first: prompts are computed whole while decoding stalls; chunked: in pieces beside it; alone: in pieces "
        "while it stalls",
        choices=PREFILLS,
    )
    engine: str | None = option(
        None, "whose defaults on the card token_budget and scheduler.fixed_batch_size take where null", choices=ENGINES
    )
    token_budget: int | None = option(
        512,
        "'chunked': tokens of one iteration, decoded ones and prompts together; 'alone': prompt tokens; null: those of "
        "engine",
        low=1,
    )
    admission: str = option(
        "budget",
        "'chunked', 'alone': budget: nobody is admitted once the tokens of the iteration are used up; whole: "
        "nor whose context exceeds what is left of them; any: they do not matter",
        choices=ADMISSIONS,
    )
    prefill_max_tokens: int | None = option(
        None, "'first': most prompt tokens admitted into one prefill; null: no bound", low=1
    )
    kv: str = option(
        "reserve",
        "reserve: prompt + predicted output held from admission on; paged: blocks as needed; future: tokens as needed, "
        "admitted if the peak to come fits",
        choices=KV_RULES,
    )
    future_estimate: str = option(
        "predicted",
        "'future': output that is expected of a request: predicted; the low or high end of its interval; 1024 tokens "
        "or 1.1 of what it emitted, as in LightLLM; or drawn from the history (Past-Future)",
        choices=FUTURE_ESTIMATES,
    )
    future_history: int = option(
        200, "'history': finished outputs that a GPU remembers; Past-Future's artifact 40, its paper 1000", low=1,
        high=100_000,
    )  # fmt: skip
    reserve_for: str = option(
        "prediction",
        "'reserve': the request's own prediction, or the longest in its queue, for a server that knows only the bin",
        choices=RESERVATIONS,
    )
    block_tokens: int = option(16, "'paged': tokens of a block", low=1, high=65536)
    prefill_memory: str = option(
        "held",
        "'paged', 'chunked' or 'alone': a context is held from admission on; or chunk by chunk, admitted if all of it "
        "fits (tested), or its first chunk",
        choices=PREFILL_MEMORIES,
    )
    output_reserve: str = option(
        "none",
        "'paged': what an admission keeps free for outputs to come: none; full: all that is predicted (TensorRT-LLM); "
        "ratio: a share that adapts (SGLang)",
        choices=OUTPUT_RESERVES,
    )
    conservativeness: float = option(
        1.0, "'ratio': factor on the share of 0.7 that is kept free at first", low=0, high=100
    )
    hold_last_token: bool = option(
        True, "'paged': the newest token is held at once; false: with the iteration that computes its cache (vLLM)"
    )
    reserved_blocks: int = option(
        0, "'paged': blocks of a GPU that hold no request; vLLM keeps 1, its null block", low=0
    )
    watermark_pct: float = option(
        0.0, "share of a GPU's memory that an admission leaves free, where something runs", low=0, high=100
    )
    max_model_len_tokens: int | None = option(
        None, "a request of more tokens, prompt and output together, is rejected; null: no bound", low=1
    )
    prefix_cache: str = option(
        "none",
        "which unused block of computed prompts goes first: used longest ago, least often, or last again (belady: an "
        "order that only a simulation knows); none: prompts are computed in full",
        choices=PREFIX_CACHES,
    )
    prefix_cache_blocks: int | None = option(
        None, "size of a cache beside the KV memory; null: what the KV memory leaves, as in vLLM", low=1
    )
    prefix_cache_of: str = option(
        "gpu", "prefix_cache_blocks: each GPU has a cache, or there is one of all", choices=("gpu", "all")
    )
    preemption: str = option(
        "recompute",
        "how a preempted request gets its KV cache back: computed anew, or copied; restart: its tokens are lost, too",
        choices=PREEMPTIONS,
    )
    gives_way: str = option(
        "admitted_last",
        "who is preempted where memory is full: who was admitted last, or has the smallest predicted output (A_min)",
        choices=WHO_GIVES_WAY,
    )
    swap_gb_per_s: float = option(25.0, "'swap': rate of the copies between GPU and host, 1e9 B/s", above=0)
    underprediction: str = option(
        "extend",
        "'reserve': what happens to a request longer than predicted: goes on, or back to the head or tail of its queue",
        choices=UNDERPREDICTIONS,
    )
    assignment: str = option(
        "central",  # the file of execution=continuous sets join_shortest; the other mode has no use for it
        "the rule that gives an arrival to a GPU, as a router does; central: GPUs share the queues; a dotted path "
        "names your own",
        choices=ASSIGNMENTS,
        dotted=True,
    )
    gpu_serves: str = option(
        "any_bin", "which bins a GPU takes: any, one until it is empty, or always the same", choices=GPU_SERVES
    )
    turn_requests: int = option(
        128, "'one_bin': requests that a GPU takes before a waiting bin must get its turn", low=1
    )
    interval_steps: int = option(
        32, "batch_size=dynamic: decode steps of a GPU between two updates of its limit", low=1, high=1_000_000
    )
    oversized_prompt: str = option(
        "refuse", "a prompt larger than the memory of a GPU: an error, or left out and counted", choices=OVERSIZED
    )
