"""Answers beside what is known without a search: M/D/c, infinite capacity, another tool's table, and one another."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mbexp
from mbexp import UserError, configure
from mbexp.capacity.answer import Answer
from mbexp.capacity.options import Options
from mbexp.capacity.probes import Prober, Workers
from mbexp.capacity.question import Question
from mbexp.config.gpu_keys import STEP_KEYS
from mbexp.sweep.making import Crew
from mbexp.theory.queueing import erlang_c, mdc
from mbexp.validate.setups import constant_time, one_queue, poisson


class Apart(Workers):
    """Workers that make every run in a process of their own, however small it is."""

    def crew(self) -> Crew:
        return Crew(self._launch, self.count, may_stay=False)


def question(folder: Path, target: str, rate: float, noise: str, options: Options, **more: Any) -> Question:
    keys = {**poisson(rate), **constant_time(1.0, noise), **one_queue(1), "num_requests": 10_000}
    config = configure(**keys | {"sla.targets": [target]} | more)
    return Question(config, options, Prober(folder, Workers(1), (), ["test"]), lambda *_: None)


@pytest.mark.parametrize(("load", "servers"), [(2.4, 4), (7.6, 9), (12.3, 15)])
def test_the_fewest_gpus_are_those_of_constant_service(tmp_path: Path, load: float, servers: int) -> None:
    few, enough = (mdc(load, 1.0, count).wait for count in (servers - 1, servers))
    answer = question(
        tmp_path, f"queue_delay_mean_s<={math.sqrt(few * enough)}", load, "none", Options(max_replications=20)
    ).answer()
    assert answer.low == answer.high == servers


def test_with_capacity_for_all_the_latency_is_the_time_of_service(tmp_path: Path) -> None:
    service_s = -math.log(1 - 0.95)  # the 95th percentile of an exponential service of a mean of 1 s
    within = question(tmp_path / "a", f"latency_p95_s<={1.1 * service_s}", 0.5, "exponential", Options())
    assert within.answer().high <= 4
    beyond = question(tmp_path / "b", f"latency_p95_s<={0.9 * service_s}", 0.5, "exponential", Options(max_gpus=30))
    with pytest.raises(UserError, match="no number of GPUs is enough, latency_p95_s stays at"):
        beyond.answer()
    last = beyond.probes[max(beyond.probes)]
    assert last.judged[0].mean == pytest.approx(service_s, rel=0.02)
    assert last.mean("queue_delay_p99_s") == 0.0


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_answer(tmp_path: Path) -> None:
    found = []
    for name, crew in (("here", Workers(1)), ("one", Apart(1)), ("two", Apart(2))):
        keys = {**poisson(6.0), **constant_time(1.0, "exponential"), **one_queue(1), "num_requests": 2000}
        config = configure(**keys | {"sla.targets": ["queue_delay_p95_s<=0.5"]})
        with crew as workers:
            prober = Prober(tmp_path / name, workers, (), ["test"])
            found.append(Question(config, Options(max_replications=10), prober, lambda *_: None).answer().as_dict())
    assert found[0] == found[1] == found[2]


# vllm-sr-sim (github.com/vllm-project/semantic-router, src/fleet-sim): shares of Azure requests up to a number of
# tokens (data/azure_cdf.json), its H100, and its table of GPUs by requests/s with two pools, split at 4,096 tokens.
AZURE = {
    64: 0.008373, 128: 0.028171, 256: 0.067589, 512: 0.288629, 768: 0.364272, 1024: 0.404470, 1536: 0.656874,
    2048: 0.779847, 3072: 0.868654, 4096: 0.898208, 6144: 0.975803, 8192: 1.0,
}  # fmt: skip
FIXED_S, PER_SEQUENCE_S, AT_TOKENS, CHUNK = 0.004, 0.00032, 8192, 1024
SPLIT, SLOTS_SHORT, SLOTS_LONG, UTILIZATION, TTFT_S = 4096, 256, 128, 0.85, 0.5
THEIRS = {25: 4, 50: 5, 100: 7, 150: 10, 200: 12, 300: 18, 400: 23}
# GPUs of one pool, simulated with 20,000 requests a run.
OURS = {25: 2, 50: 3, 100: 5, 150: 7, 200: 9, 300: 14, 400: 18}


def azure_lengths(count: int) -> list[int]:
    """Return evenly spread quantiles of the lengths, linear between the known shares."""
    tokens, shares = [0, *AZURE], [0.0, *AZURE.values()]
    return [max(2, int(each)) for each in np.interp((np.arange(count) + 0.5) / count, shares, tokens)]


def parts_of(length: int) -> tuple[int, int]:
    """Return prompt and output of a request: four fifths are its prompt."""
    prompt = max(1, int(0.8 * length))
    return prompt, max(1, length - prompt)


def gpus_of_a_pool(rate: float, lengths: list[int], slots: int) -> int:
    """Return the fewest GPUs by the other tool's rule: slots are the servers of an M/G/c that are always all busy."""
    times = []
    for length in lengths:
        prompt, output = parts_of(length)
        step_s = FIXED_S + PER_SEQUENCE_S * length / AT_TOKENS * slots
        times.append((math.ceil(prompt / CHUNK) + output) * step_s)
    mean = float(np.mean(times))
    variation = float(np.mean(np.square(times))) / mean**2 - 1
    for count in itertools.count(math.ceil(rate * mean / slots) + 1):
        waits = erlang_c(count * slots, rate * mean)
        decay = 2 * (count * slots / mean - rate) / (1 + variation)
        if waits <= 0.01 or math.log(waits / 0.01) / decay <= TTFT_S:
            return max(count, math.ceil(rate * mean / slots / UTILIZATION))
    raise AssertionError


def simulated(folder: Path, rate: float, requests: int) -> Answer:
    """Answer for the same lengths and the same step, in one pool, with what each iteration holds."""
    folder.mkdir(exist_ok=True)
    lengths = np.random.default_rng(0).permutation(azure_lengths(requests))
    parts = [parts_of(int(length)) for length in lengths]
    frame = pd.DataFrame(parts, columns=["prompt_tokens", "output_tokens"]).assign(arrival_s=np.arange(float(requests)))
    frame.to_csv(folder / "azure.csv", index=False)
    config = configure(
        workload="csv",
        num_requests=requests,
        scheduler="static_fifo",
        execution="continuous",
        gpu="h100_llama31_8b",
        **{f"gpu.law.{key}": 0.0 for key in STEP_KEYS}
        | {
            "gpu.law.fixed_ms": 1e3 * FIXED_S,
            "gpu.law.context_us": 1e6 * PER_SEQUENCE_S / AT_TOKENS,
            "gpu.law.batch_size_range": [1, SLOTS_SHORT],
            "gpu.kv_capacity_tokens": 2**20,
            "workload.path": str(folder / "azure.csv"),
            "workload.timestamps": "generated",
            "workload.arrivals.rate_per_s": rate,
            "scheduler.fixed_batch_size": SLOTS_SHORT,
            "execution.prefill": "chunked",
            "execution.token_budget": CHUNK,
            "execution.kv": "paged",
            "warm_up.share_pct": 5.0,
            "sla.targets": [f"ttft_p99_s<={TTFT_S}"],
        },
    )
    options = Options(min_replications=3, max_replications=12)
    return Question(config, options, Prober(folder / "study", Workers(1), (), ["test"]), lambda *_: None).answer()


def test_another_tools_table_follows_from_its_rule() -> None:
    lengths = azure_lengths(20_000)
    short, long = ([each for each in lengths if (each <= SPLIT) == is_short] for is_short in (True, False))
    for rate, known in THEIRS.items():
        pools = [
            gpus_of_a_pool(rate * len(part) / len(lengths), part, slots)
            for part, slots in ((short, SLOTS_SHORT), (long, SLOTS_LONG))
        ]
        assert sum(pools) == known


def test_a_simulation_of_the_same_step_needs_fewer(tmp_path: Path) -> None:
    answer = simulated(tmp_path, 25.0, 4000)
    assert answer.low == answer.high == OURS[25] < THEIRS[25]


@pytest.mark.slow
@pytest.mark.parametrize("rate", OURS)
def test_the_docs_hold_our_numbers_beside_that_table(tmp_path: Path, rate: int) -> None:
    answer = simulated(tmp_path, float(rate), 20_000)
    assert answer.low == answer.high == OURS[rate] < THEIRS[rate]


@pytest.mark.slow
def test_the_usual_case_is_answered_by_one_command_each_and_soon(tmp_path: Path) -> None:
    """Two hours of 60,000 requests with ISO times; the answer is the first number that a plain run of it meets."""
    draw = np.random.default_rng(7)
    seconds = np.sort(np.concatenate([draw.uniform(0, 3600, 24_000), draw.uniform(3600, 7200, 36_000)]))
    times = pd.Timestamp("2026-05-10T09:00:00+00:00") + pd.to_timedelta(seconds, unit="s")
    prompts = np.clip(draw.lognormal(math.log(400), 1, 60_000), 1, 6000).astype(int)
    outputs = np.clip(draw.exponential(150, 60_000), 1, 1500).astype(int)
    frame = pd.DataFrame({"arrival_s": times.map(str), "prompt_tokens": prompts, "output_tokens": outputs})
    frame.to_csv(tmp_path / "log.csv", index=False)
    keys: dict[str, Any] = {"workload": "csv", "workload.path": str(tmp_path / "log.csv"), "execution": "vllm"}
    targets = {"sla.targets": ["ttft_p99_s<=1", "tbt_p99_ms<=50"]}
    more = {"workload.timestamps": "scaled", "workload.rate_scaling": 3.0}
    for gpu, traffic in (("h100_llama31_8b", {}), ("a100_llama31_8b", {}), ("h100_llama31_8b", more)):
        asked = keys | {"gpu": gpu} | traffic
        before = time.process_time()
        (found,) = mbexp.capacity(**asked | targets | {"output.dir": str(tmp_path)})
        took_s = time.process_time() - before
        plain = (mbexp.simulate(**asked, num_requests=None, num_gpus=count).summary for count in itertools.count(1))
        meets = (each["ttft_p99_s"] <= 1 and each["tbt_p99_ms"] <= 50 and not each["overloaded"] for each in plain)
        assert found.low == found.high == next(place for place, good in enumerate(meets, 1) if good)
        one_trace = "one trace, no interval: replicate=windows num_requests=N judges windows of it"
        assert found.warnings[-1].startswith("kernel tables hold no host time")
        # The others are what the run itself says.
        said = mbexp.simulate(**asked, num_requests=None, num_gpus=found.num_gpus).warnings
        assert {*found.warnings[:-1]} == {*said, one_trace}
        assert took_s < 15.0
