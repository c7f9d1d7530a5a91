"""Hypothesis strategies of small simulations: short lists of requests with many ties, bursts and tight limits."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mbexp.config.scheduler_keys import FILLS, SELECTIONS
from tests.simulator.batches.agreement import Case

# Quarters of a second are exact in binary, so arrivals, completions and timeouts coincide; the odd ones round.
GAPS_S = st.one_of(
    st.just(0.0),
    st.sampled_from([0.25, 0.5, 0.75, 1.0, 2.0, 3.0]),
    st.sampled_from([0.1, 0.2, 0.3, 1e-9, 7.7]),
    st.floats(0, 5),
)
LENGTHS = st.integers(1, 8)
ROUND_WEIGHTS = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0])
WEIGHTS = st.one_of(st.just(0.0), st.sampled_from([0.25, 1.0, 0.1, 0.003]), st.floats(0, 2))


@st.composite
def laws(draw: st.DrawFn) -> list[float]:
    """Weights of `agreement.weighted`; often round ones, and steps of the size of the token SLAs drawn below."""
    weights = draw(st.sampled_from([ROUND_WEIGHTS, WEIGHTS]))
    times = draw(st.lists(weights, min_size=10, max_size=10))
    if draw(st.booleans()):
        times[1:7] = [0.0] * 6  # constant service: completions tie
    rare = st.one_of(st.just(0.0), st.just(0.0), weights)
    return [*times, draw(weights), draw(weights), draw(rare), draw(rare)]


@st.composite
def requests(draw: st.DrawFn, queues: int, longest: int = 40) -> list[tuple[float, int, int, int, int]]:
    gaps = draw(st.sampled_from([GAPS_S, st.just(0.0), st.sampled_from([0.0, 0.5, 1.0])]))
    predictions = draw(st.sampled_from(["exact", "any", "under", "over"]))

    @st.composite
    def request(draw: st.DrawFn) -> tuple[float, int, int, int, int]:
        output = draw(LENGTHS)
        predicted = {
            "exact": st.just(output),
            "any": LENGTHS,
            "under": st.just(1),
            "over": st.integers(output, 20),
        }[predictions]
        return draw(gaps), draw(LENGTHS), output, draw(predicted), draw(st.integers(0, queues - 1))

    return draw(st.lists(request(), min_size=draw(st.sampled_from([0, 1, 8, 20])), max_size=longest))


@st.composite
def schedulers(draw: st.DrawFn, **fixed: Any) -> dict[str, Any]:
    b_min = draw(st.integers(1, 3))
    values: dict[str, Any] = {
        "batch_size": draw(st.sampled_from(["fixed", "dynamic"])),
        "selection": draw(st.sampled_from(SELECTIONS)),
        "fill": draw(st.sampled_from(FILLS)),
        "fixed_batch_size": draw(st.integers(1, 6)),
        "timeout_s": draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.5, 0.3, 100.0])),
        "batch_size_min": b_min,
        "batch_size_max": draw(st.integers(b_min, 10)),
        "memory_rule": draw(st.sampled_from(["corrected", "original"])),
        "memory_overflow_probability": draw(st.sampled_from([0.05, 0.5, 0.001, 0.3])),
    }
    return values | fixed


@st.composite
def controllers(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "alpha_requests": draw(st.sampled_from([0.5, 1.0, 2.0, 3.0, 3.7, 16.0])),
        "delta_requests": draw(st.sampled_from([0.0, 0.5, 1.0, 4.0])),
        "tolerance_ms": draw(st.sampled_from([0.0, 0.4, 250.0, 500.0])),
        "window_batches": draw(st.integers(1, 5)),
        "interval_batches": draw(st.integers(1, 3)),
    }


@st.composite
def cases(draw: st.DrawFn, **fixed: Any) -> Case:
    """Draw a case; `fixed` sets values of its scheduler."""
    queues = draw(st.integers(1, 4))
    rows = draw(requests(queues))
    noise: list[float] = []
    if draw(st.booleans()):
        noise = draw(st.lists(st.sampled_from([1.0, 0.5, 2.0, 0.9, 1.1]), min_size=len(rows), max_size=len(rows)))
    return Case(
        requests=rows,
        queues=queues,
        gpus=draw(st.integers(1, 4)),
        memory=draw(st.one_of(st.just(1000), st.integers(9, 40), st.integers(4, 60))),
        scheduler=draw(schedulers(**fixed)),
        controller=draw(controllers()),
        token_ms=draw(st.sampled_from([250.0, 500.0, 1000.0, 1500.0, 2000.0, 5000.0])),
        law=draw(laws()),
        noise=noise,
    )
