"""Conversations drawn from distributions: turns, think times, new tokens, answers, and shared system prompts."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mbexp.config.workload_keys import ThinkConfig, TurnsConfig, WorkloadConfig
from mbexp.errors import UserError
from mbexp.workload.kinds.synthetic import STREAM_ARRIVALS, STREAM_OUTPUTS, STREAM_PROMPTS, draw_arrivals, draw_lengths
from mbexp.workload.memory import check_memory
from mbexp.workload.rows import Rows, UsableRows, usable_rows
from mbexp.workload.trace import FloatArray, IntArray

CLOCK_RESOLUTION_S = 0.0
READS = ("prompt", "output", *(f"sessions.{name}" for name in ("turns", "think", "system_prompts", "system")))
STREAM_TURNS, STREAM_THINK, STREAM_SYSTEM = 121, 122, 123


def generate(workload: WorkloadConfig, num_requests: int | None, seed: int) -> UsableRows:
    """Draw conversations until they have `num_requests` turns; the last one is cut there.

    Conversations begin as ``workload.arrivals`` says. Requests stand in the order in which they would come if answers
    took no time. Each quantity has a stream of its own, so that policies are compared on common random numbers. The
    prompt of a row is what is new of the turn; `mbexp.workload.sessions` puts the conversation before it.
    """
    if num_requests is None:
        raise UserError("num_requests=null: workload=sessions has no end; say how many requests")
    if workload.window.kind != "rows" or workload.window.start_row:
        raise UserError(
            "workload.window: workload=sessions has as many requests as asked for; use kind=rows start_row=0"
        )
    check_memory(num_requests, "the trace asked for")
    sessions = workload.sessions
    rng = {
        stream: np.random.default_rng(np.random.SeedSequence([seed, stream]))
        for stream in (STREAM_ARRIVALS, STREAM_PROMPTS, STREAM_OUTPUTS, STREAM_TURNS, STREAM_THINK, STREAM_SYSTEM)
    }
    turns = _turns(rng[STREAM_TURNS], sessions.turns, num_requests)
    session = np.repeat(np.arange(len(turns)), turns)
    first = np.cumsum(turns) - turns
    turn = np.arange(num_requests) - first[session]
    think_s = draw_think_s(rng[STREAM_THINK], sessions.think, num_requests)
    think_s[first] = 0.0
    begin_s = draw_arrivals(rng[STREAM_ARRIVALS], workload.arrivals, len(turns))
    passed_s = np.cumsum(think_s)
    arrival_s = begin_s[session] + (passed_s - passed_s[first][session])
    prompt = draw_lengths(rng[STREAM_PROMPTS], workload.prompt, num_requests, "workload.prompt")
    output = draw_lengths(rng[STREAM_OUTPUTS], workload.output, num_requests, "workload.output")
    system, system_tokens = np.full(num_requests, -1), np.zeros(num_requests, np.int32)
    if sessions.system_prompts:
        lengths = draw_lengths(rng[STREAM_SYSTEM], sessions.system, sessions.system_prompts, "workload.sessions.system")
        system = rng[STREAM_SYSTEM].integers(0, sessions.system_prompts, len(turns))[session]
        system_tokens = lengths[system]
        prompt[first] += system_tokens[first]
    order = np.argsort(arrival_s, kind="stable")
    columns = {"session": session, "turn": turn, "think_s": think_s, "system": system, "system_tokens": system_tokens}
    rows = usable_rows(
        Rows(
            arrival_s=arrival_s[order],
            prompt_tokens=prompt[order],
            output_tokens=output[order],
            source=f"generated conversations: {workload.arrivals.kind} beginnings, {sessions.turns.kind} turns",
            extra={name: np.asarray(column[order]) for name, column in columns.items()},
        )
    )
    cut = int(turns.sum() < num_requests) or _was_cut(sessions.turns, turns)
    note = "the last conversation is cut where num_requests is reached"
    return dataclasses.replace(rows, notes=(*rows.notes, *((note,) if cut else ())))


def _was_cut(config: TurnsConfig, turns: IntArray) -> bool:
    return config.kind != "constant" or int(turns[-1]) != config.value


def _turns(rng: np.random.Generator, config: TurnsConfig, total: int) -> IntArray:
    """Return the turns of as many conversations as have `total` together, the last one cut."""
    needed = {"constant": ["value"], "geometric": ["mean"], "uniform": ["low", "high"], "empirical": ["values"]}
    for name in needed[config.kind]:
        if getattr(config, name) in (None, []):
            raise UserError(f"workload.sessions.turns.{name}=null: kind={config.kind} needs it")
    if config.kind == "uniform" and int(config.low or 0) > int(config.high or 0):
        raise UserError(f"workload.sessions.turns.low={config.low}: must not exceed high={config.high}")
    parts: list[IntArray] = []
    found = 0
    while found < total:
        count = min(4096, total)
        if config.kind == "constant":
            drawn = np.full(count, config.value)
        elif config.kind == "geometric":
            drawn = rng.geometric(1.0 / float(config.mean or 1.0), count)
        elif config.kind == "uniform":
            drawn = rng.integers(int(config.low or 1), int(config.high or 1), count, endpoint=True)
        else:
            drawn = np.array(config.values)[rng.integers(0, len(config.values or []), count)]
        parts.append(np.minimum(drawn, total).astype(np.int32))
        found += int(parts[-1].sum(dtype=np.int64))
    turns = np.concatenate(parts)
    ends = np.cumsum(turns, dtype=np.int64)
    last = int(np.searchsorted(ends, total))
    turns = turns[: last + 1].copy()
    turns[last] -= int(ends[last]) - total
    return turns


def draw_think_s(rng: np.random.Generator, config: ThinkConfig, count: int) -> FloatArray:
    """Return think times, seconds, float64, shape (count,)."""
    if config.kind == "constant":
        return np.full(count, config.mean_s)
    if config.kind == "exponential":
        return rng.standard_exponential(count) * config.mean_s
    if config.kind == "lognormal":
        if not config.mean_s:
            raise UserError("workload.sessions.think.mean_s=0: kind=lognormal needs a mean above 0")
        middle = math.log(config.mean_s) - config.sigma**2 / 2
        return np.exp(middle + config.sigma * rng.standard_normal(count))
    if not config.values_s:
        raise UserError("workload.sessions.think.values_s=null: kind=empirical needs it")
    return np.array(config.values_s)[rng.integers(0, len(config.values_s), count)]
