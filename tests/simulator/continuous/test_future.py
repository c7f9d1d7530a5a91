"""Admission by the future peak against MC-SF in unit rounds and the best schedule there is; VTC against its bound."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np

from mbexp.hardware.iteration import ClosedForm
from mbexp.simulator.continuous.outcome import ContinuousOutcome
from mbexp.simulator.order import Claims, no_claims
from tests.simulator.continuous.agreement import Case, difference, run_closed_form

Rounds = list[tuple[int, int, int]]  # arrival, prompt, output

# Every iteration takes a second, and computes all prompts that were admitted beside decoding: a round of the paper.
ROUND = ClosedForm(1.0, *[0.0] * 7)
RULES = {"kv": "future", "prefill": "chunked", "token_budget": 10**6, "admission": "any"}


def drawn(seed: int, count: int, at_once: bool) -> tuple[Rounds, int]:
    """Small requests as in the paper: prompts of 1 to 5 tokens, outputs up to what fits."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 25]))
    memory = int(random.integers(10, 17))
    prompt = random.integers(1, 5, count)
    output = np.array([random.integers(1, memory - s + 1) // 2 + 1 for s in prompt])
    arrival = np.zeros(count, int) if at_once else np.sort(random.integers(0, 9, count))
    return list(
        zip(arrival.tolist(), prompt.tolist(), np.minimum(output, memory - prompt).tolist(), strict=True)
    ), memory


def fits(running: list[tuple[int, int, int]], memory: int, now: int) -> bool:
    """Whether requests (start, prompt, output) fit in every round from now on."""
    last = max(start + output for start, _, output in running)
    return all(
        sum(prompt + t - start for start, prompt, output in running if t <= start + output) <= memory
        for t in range(now + 1, last + 1)
    )


def mc_sf(requests: Rounds, memory: int, by_output: bool = True) -> list[int]:
    """The rule of arXiv 2502.07115 in unit rounds: the end of each request."""
    starts: dict[int, int] = {}
    now = 0
    while len(starts) < len(requests):
        running = [(start, *requests[i][1:]) for i, start in starts.items() if start + requests[i][2] > now]
        waiting = [i for i, (arrival, _, _) in enumerate(requests) if i not in starts and arrival <= now]
        for i in sorted(waiting, key=lambda i: (requests[i][2] if by_output else 0, i)):
            if not fits([*running, (now, *requests[i][1:])], memory, now):
                break
            running.append((now, *requests[i][1:]))
            starts[i] = now
        now += 1
    return [starts[i] + requests[i][2] for i in range(len(requests))]


def best_total(requests: Rounds, memory: int) -> int:
    """The least sum of times in system of any schedule that stops nobody, by trying all."""

    @functools.cache
    def rest(now: int, starts: tuple[int | None, ...]) -> float:
        if None not in starts:
            return 0.0
        running = [
            (start, *requests[i][1:])
            for i, start in enumerate(starts)
            if start is not None and start + requests[i][2] > now
        ]
        open_ = [i for i, start in enumerate(starts) if start is None and requests[i][0] <= now]
        best = np.inf
        for size in range(len(open_) + 1):
            for chosen in itertools.combinations(open_, size):
                if not chosen and not running and all(requests[i][0] <= now for i, s in enumerate(starts) if s is None):
                    continue  # to wait for nothing
                together = running + [(now, *requests[i][1:]) for i in chosen]
                if chosen and not fits(together, memory, now):
                    continue
                cost = sum(now + requests[i][2] - requests[i][0] for i in chosen)
                after = tuple(now if i in chosen else start for i, start in enumerate(starts))
                best = min(best, cost + rest(now + 1, after))
        return best

    return int(rest(0, (None,) * len(requests)))


def case_of(requests: Rounds, memory: int, order: str = "sjf") -> Case:
    gaps = np.diff([0, *(arrival for arrival, _, _ in requests)]).tolist()
    rows = [(float(gap), prompt, output, output, 0) for gap, (_, prompt, output) in zip(gaps, requests, strict=True)]
    scheduler = {"batch_size": "fixed", "fixed_batch_size": 64, "order": order, "order_by": "output"}
    return Case(rows, ROUND, memory=memory, scheduler=scheduler, rules=RULES)


def test_mc_sf_in_unit_rounds_and_first_come_with_the_same_test() -> None:
    for seed in range(40):
        requests, memory = drawn(seed, 12, at_once=bool(seed % 2))
        for order, by_output in (("sjf", True), ("fifo", False)):
            outcome = run_closed_form(case_of(requests, memory, order))
            assert outcome.finish_s.tolist() == mc_sf(requests, memory, by_output)
            assert not outcome.preemptions.any()
            assert outcome.gpus["held_max"].max() <= memory


def test_no_schedule_is_better_than_the_best_and_mc_sf_is_near() -> None:
    ratios = []
    for seed in range(16):
        requests, memory = drawn(seed, 5, at_once=bool(seed % 2))
        total = run_closed_form(case_of(requests, memory)).finish_s.sum() - sum(arrival for arrival, _, _ in requests)
        best = best_total(requests, memory)
        assert total >= best
        ratios.append(total / best)
    assert min(ratios) == 1.0
    assert np.mean(ratios) < 1.1
    assert max(ratios) < 1.5


def test_exact_lengths_never_overflow_where_prompts_are_computed_whole() -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        rows = [
            (float(random.exponential(0.3)), int(random.integers(1, 40)), output, output, 0)
            for output in random.integers(1, 60, 80).tolist()
        ]
        scheduler = {"batch_size": "fixed", "fixed_batch_size": 64, "order": ("sjf", "fifo")[seed % 2]}
        outcome = run_closed_form(
            Case(rows, ClosedForm(0.05, *[0.0] * 7), memory=300, scheduler=scheduler, rules={"kv": "future"})
        )
        assert not outcome.preemptions.any()
        assert outcome.gpus["held_max"].max() > 200  # the memory was what limited


def test_short_predictions_do_overflow_and_give_way() -> None:
    rows = [(0.0, 5, 20, 2, 0)] * 20
    case = Case(
        rows, ROUND, memory=60, scheduler={"batch_size": "fixed", "fixed_batch_size": 64}, rules={"kv": "future"}
    )
    assert run_closed_form(case).preemptions.any()
    assert difference(case) is None


def test_who_outgrew_its_prediction_is_not_admitted_above_the_memory() -> None:
    """Five hold all memory but two tokens. One that comes back has nothing left to come, and its prompt beside."""
    for prefill, budget in (("chunked", 8), ("chunked", 100), ("alone", 8), ("first", 8)):
        for swap in ("recompute", "swap"):
            rules = {"kv": "future", "prefill": prefill, "token_budget": budget, "preemption": swap}
            rows = [(0.0, 6, 30, 3, 0)] * 5
            case = Case(rows, ROUND, memory=50, rules=rules, scheduler={"batch_size": "fixed", "fixed_batch_size": 5})
            assert difference(case) is None
            outcome = run_closed_form(case)
            assert outcome.preemptions.any()
            assert outcome.gpus["held_max"].max() <= 50


@dataclasses.dataclass
class OfTwo(Case):
    """A case whose requests are of two classes, one half each; the first class has the first arrivals."""

    @property
    def claims(self) -> Claims:
        half = np.arange(len(self.requests)) >= len(self.requests) // 2
        return dataclasses.replace(no_claims(len(half)), of_class=half.astype(np.int32), weights=np.ones(2))


def served_by(outcome: ContinuousOutcome, mine: np.ndarray, instants_s: np.ndarray) -> np.ndarray:
    """Service of a class up to each instant, in rounds of a second: a prompt at its start, two for a decoded token."""
    started = outcome.start_s[mine][:, None] < instants_s
    tokens = np.clip(instants_s - outcome.start_s[mine][:, None] - 1, 0, outcome.output_tokens[mine][:, None] - 1)
    return (started * outcome.prompt_tokens[mine][:, None]).sum(0) + 2 * tokens.sum(0)


def test_classes_that_wait_are_served_within_the_bound_of_vtc() -> None:
    """|W_f - W_g| <= 2 max(w_p L, w_q M): L the longest prompt, M the most tokens that a batch holds."""
    random = np.random.default_rng(4)
    rows = [
        (0.0, int(p), int(o), int(o), 0)
        for p, o in zip(random.integers(1, 20, 400), random.integers(1, 40, 400), strict=True)
    ]
    rows = [
        (gap, prompt, output if i < 200 else output // 4 + 1, predicted, 0)
        for i, (gap, prompt, output, predicted, _) in enumerate(rows)
    ]
    memory = 400
    apart = {}
    for order in ("vtc", "fifo"):
        scheduler = {"batch_size": "fixed", "fixed_batch_size": 64, "order": order}
        rules = {**RULES, "kv": "paged", "block_tokens": 1}
        outcome = run_closed_form(OfTwo(rows, ROUND, memory=memory, scheduler=scheduler, rules=rules))
        first = np.arange(400) < 200
        until_s = min(outcome.start_s[first].max(), outcome.start_s[~first].max())  # both wait up to then
        if order == "fifo":
            until_s = outcome.start_s.max()
        instants_s = np.arange(0.0, until_s)
        apart[order] = np.abs(served_by(outcome, first, instants_s) - served_by(outcome, ~first, instants_s)).max()
    bound = 2 * max(20, 2 * memory)
    assert apart["vtc"] <= bound < apart["fifo"]
