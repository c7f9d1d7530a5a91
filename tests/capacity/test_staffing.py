"""Answers of real simulations beside Erlang's staffing, the time of service, and one another."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import mbexp
from mbexp import UserError, configure
from mbexp.capacity.answer import Answer
from mbexp.capacity.options import Options
from mbexp.capacity.probes import Prober, Workers
from mbexp.capacity.question import Question
from mbexp.theory.queueing import mmc_wait_percentile
from mbexp.validate.setups import constant_time, one_queue, poisson


def ask(folder: Path, target: str, rate: float, start: int = 1, options: Options | None = None, **more: Any) -> Answer:
    """Answer for M/M/c with a mean service of a second."""
    config = configure(
        **poisson(rate),
        **constant_time(1.0, "exponential"),
        **{**one_queue(1, gpus=start), "num_requests": 10_000, "sla.targets": [target], **more},
    )
    return Question(config, options or Options(), Prober(folder, Workers(1), (), ["test"]), lambda *_: None).answer()


# Loads with the spare servers of the answer. The bound lies halfway, in logarithm, between the percentiles of the
# least number and of one less, so that neither is too near to be told apart.
PAIRS = [(load, spare) for load in (0.6, 1.3, 2.4, 3.5, 5.2, 7.6, 9.5, 12.3, 16.5, 24.4) for spare in (2, 3, 4)]


@pytest.mark.parametrize(("load", "spare"), PAIRS)
def test_the_fewest_gpus_are_those_of_erlang(tmp_path: Path, load: float, spare: int) -> None:
    servers = math.floor(load) + spare
    share = 99.0 if load < 5 else 95.0 if spare < 4 or load > 16 else 99.0
    few, enough = (mmc_wait_percentile(load, 1.0, count, share) for count in (servers - 1, servers))
    bound = math.sqrt(few * max(enough, 0.05 * few))
    assert enough < bound < few
    # The nearer a server is to saturation, the longer its waits stay alike, and the more requests a mean needs.
    requests = 10_000 if load < 0.93 * servers else 60_000
    answer = ask(tmp_path, f"queue_delay_p{share:.0f}_s<={bound}", load, num_requests=requests)
    assert answer.low <= servers <= answer.high
    assert answer.low == answer.high == servers


def test_start_and_resume_do_not_change_the_answer(tmp_path: Path) -> None:
    first = ask(tmp_path / "a", "queue_delay_p95_s<=0.5", 6.0)
    far = ask(tmp_path / "b", "queue_delay_p95_s<=0.5", 6.0, start=40)
    again = ask(tmp_path / "a", "queue_delay_p95_s<=0.5", 6.0)
    assert first.num_gpus == far.num_gpus == again.num_gpus
    assert first.as_dict() == again.as_dict()


@pytest.mark.slow
def test_fewest_gpus_and_highest_rate_bracket_each_other(tmp_path: Path) -> None:
    target, rate = "queue_delay_p95_s<=0.5", 6.0
    fewest = ask(tmp_path, target, rate)
    assert fewest.low == fewest.high
    by_rate = Options(find="rate", max_replications=5)
    assert ask(tmp_path, target, rate, fewest.num_gpus, by_rate).high >= 0.99 * rate
    assert ask(tmp_path, target, rate, fewest.num_gpus - 1, by_rate).low < 1.01 * rate


def test_too_few_gpus_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_gpus=3: not enough, overloaded") as caught:
        ask(tmp_path, "queue_delay_p95_s<=0.5", 6.0, options=Options(max_gpus=3))
    assert "\n" not in str(caught.value)


def test_a_request_is_good_within_every_limit(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"num_requests": 2000, "num_gpus": 1, "execution": "continuous", "gpu": "roofline_h100"}
    keys |= {"workload": "synthetic", "workload.arrivals.rate_per_s": 20.0}
    plain = mbexp.simulate(**keys)
    frame = plain.requests
    first_s = frame["first_token_s"] - frame["arrival_s"]
    ttft_s = first_s.median()
    good = mbexp.simulate(**{**keys, "sla.ttft_s": float(ttft_s)})
    within = (first_s <= ttft_s) & (frame["finish_s"] - frame["arrival_s"] <= 20.0)
    mean_gap_ms = 1000 * (frame["finish_s"] - frame["first_token_s"])
    within &= mean_gap_ms <= 10.0 * (frame["output_tokens"] - 1) + 1e-9
    count = good.summary["goodput_requests_per_s"] * good.summary["makespan_s"]
    assert count == pytest.approx(within.sum(), abs=1)
    assert good.summary["goodput_requests_per_s"] < plain.summary["goodput_requests_per_s"]


def test_the_function_stores_a_table_cheapest_first(tmp_path: Path) -> None:
    found = mbexp.capacity(
        workload="synthetic",
        num_requests=1000,
        execution="continuous",
        scheduler="static_fifo",
        gpu=("h100_llama31_8b", "a100_llama31_8b"),
        min_replications=2,
        **{"workload.arrivals.rate_per_s": 5.0, "output.dir": str(tmp_path), "sla.targets": ["ttft_p99_s<=2"]},
    )
    prices = [answer.price_per_hour for answer in found]
    assert prices == sorted(prices)
    stored = json.loads((tmp_path / "capacity" / "answer.json").read_text())
    assert [each["gpu"] for each in stored] == [answer.choices["gpu"] for answer in found]
    assert all((tmp_path / "capacity" / run / "summary.json").is_file() for each in stored for run in each["runs"])
    assert {"capacity.png", "capacity_price.png"} <= {path.name for path in (tmp_path / "capacity").iterdir()}
