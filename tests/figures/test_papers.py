"""Exact curves of the papers' figures: the papers' own numbers, and simulated points on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mbexp import configure
from mbexp.errors import UserError
from mbexp.figures import draw
from mbexp.figures.dynamic_batching_paper import capacities
from mbexp.figures.exact import KEYS, exact_batch, latency_without_queue_s
from mbexp.figures.memory import flat
from mbexp.figures.study import StoredStudy
from tests.figures.figure_studies import ROOT, UNIFORM, grid, saturated, store_study


def of(**changed: Any) -> dict[str, Any]:
    values = flat(configure(**{**UNIFORM, **{name.replace("__", "."): value for name, value in changed.items()}}))
    assert set(KEYS) <= set(values)
    return values


# P1's Fig. 3 and the saturated table of B = 8, both for U[1, 20]
@pytest.mark.parametrize(
    ("batch", "k", "throughput"),
    [
        *[(8, 1, 0.4472), (8, 2, 0.5636), (8, 4, 0.6479), (8, 8, 0.7003), (8, 16, 0.7298)],
        *[(128, 1, 6.4475), (128, 2, 8.4342), (128, 3, 9.3996), (128, 4, 9.9703), (128, 5, 10.3472), (128, 8, 10.9692)],
    ],
)
def test_throughput_of_uniform_lengths(batch: int, k: int, throughput: float) -> None:
    exact = exact_batch(of(scheduler__fixed_batch_size=batch, k_bins=k))
    assert exact.capacity_per_s == pytest.approx(throughput, abs=6e-5)
    assert exact.limit_per_s == pytest.approx(batch / 10.5)


# P1's Fig. 8
@pytest.mark.parametrize(
    ("k", "throughputs"),
    [(2, [7.4085, 6.6577, 6.5337, 6.4745, 6.4475]), (4, [8.8802, 8.0624, 7.9252, 7.8586, 7.8221])],
)
def test_throughput_with_prediction_errors(k: int, throughputs: list[float]) -> None:
    config = of(scheduler__fixed_batch_size=128, k_bins=k, predictor="confusion")
    exact = [exact_batch(config, error_probability=p).capacity_per_s for p in (0.01, 0.05, 0.1, 0.2, 0.5)]
    assert exact == pytest.approx(throughputs, abs=6e-5)


# P1's Fig. 9
@pytest.mark.parametrize(
    ("bins", "k", "throughput"),
    [
        *[("exponential", 1, 3.4025), ("exponential", 2, 7.2686), ("exponential", 4, 11.8070)],
        *[("equal_mass", 2, 5.5101), ("equal_mass", 4, 8.3140)],
    ],
)
def test_throughput_of_exponential_lengths(bins: str, k: int, throughput: float) -> None:
    lengths = {"workload.output.kind": "exponential", "workload.output.mean_tokens": 1e6, "gpu.law.c0_ms": 0.01}
    values = of(bins=bins, k_bins=k, scheduler__fixed_batch_size=200, **lengths, **{"bins.batch_size": 200})
    assert exact_batch(values).capacity_per_s == pytest.approx(throughput, abs=6e-5)


# P1's Fig. 4
@pytest.mark.parametrize(("k", "latencies"), [(1, [35.73, 30.44, 27.79]), (2, [46.93, 36.34, 31.05])])
def test_latency_where_gpus_abound(k: int, latencies: list[float]) -> None:
    batch = exact_batch(of(scheduler__fixed_batch_size=128, k_bins=k))
    assert [latency_without_queue_s(batch, k, rate) for rate in (4, 6, 8)] == pytest.approx(latencies, abs=6e-3)


def test_the_original_law_prices_the_prompt_and_the_batch() -> None:
    law = {"gpu.law.kind": "affine", "gpu.law.length": "prompt_plus_output", "workload.prompt.kind": "constant"}
    lengths = {"workload.output.kind": "constant", "workload.output.value_tokens": 50}
    exact = exact_batch(of(**law, **lengths, num_gpus=3, workload__prompt__value_tokens=100))
    step_s = 5.742e-3 * (1 + 0.316 * 7 / 8)
    assert exact.mean_s == pytest.approx(0.05965 + step_s * 150)
    assert exact.capacity_per_s == pytest.approx(3 * 8 / (0.05965 + step_s * 150))


def test_short_whole_lengths_are_not_taken_for_continuous_ones() -> None:
    small = {"workload.output.low_tokens": 1, "workload.output.high_tokens": 20, "gpu.law.c0_ms": 1000.0}
    assert exact_batch(of(**small, k_bins=1)).mean_s == pytest.approx(18.2445, abs=6e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workload": "burstgpt_like"}, "workload.kind=burstgpt_like"),
        ({"scheduler": "multi_bin_dynamic"}, "scheduler.batch_size=dynamic"),
        ({"predictor": "noisy"}, "predictor.kind=noisy"),
        ({"scheduler.queue": "per_class"}, "scheduler.queue=per_class"),
        ({"gpu.law.kind": "roofline", "gpu.law.card": "h100"}, "gpu.law.kind=roofline"),
    ],
)
def test_no_exact_value_is_made_up(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        exact_batch({**of(), **flat(configure(**{**UNIFORM, **changed}))})


def test_simulated_points_lie_on_the_exact_line() -> None:
    (axes,) = draw("multi_bin_throughput", saturated()).axes
    results = StoredStudy(saturated()).results.groupby("k_bins")["throughput_requests_per_s"].mean()
    line = axes.lines[0]
    exact = dict(zip(line.get_xdata().tolist(), line.get_ydata().tolist(), strict=True))
    assert list(exact) == [1, 2, 3, 4]
    assert exact[4] == pytest.approx(0.6479, abs=6e-5)
    # 1,000 batches: a standard error of 0.2 % of the mean, and the last one partly filled
    assert {k: exact[k] for k in (1, 2, 4)} == pytest.approx(results.to_dict(), rel=0.01)
    points = axes.lines[1].get_ydata().tolist()
    assert points == pytest.approx(results.tolist())


def test_latency_against_rate_and_k_on_servers() -> None:
    rates = {"workload.arrivals.kind": "poisson", "num_requests": 3_000, "warm_up.share_pct": 5}
    points = grid(k_bins=[1, 2], workload__arrivals__rate_per_s=[0.4, 0.8, 4.0])
    folder = store_study(ROOT, "multi_bin_servers", points, **{**UNIFORM, **rates, "num_gpus": 4})
    (axes,) = draw("multi_bin_latency", folder).axes
    config = of(k_bins=1, num_gpus=4)
    expected = latency_without_queue_s(exact_batch(config), 1, 0.4)
    assert axes.lines[0].get_ydata()[0] == pytest.approx(expected)
    simulated = StoredStudy(folder).results.query("k_bins == 1")["latency_mean_s"].iloc[0]
    assert simulated == pytest.approx(expected, rel=0.05)
    left, right = draw("multi_bin_servers", folder).axes
    dotted = sorted(float(line.get_xdata()[0]) for line in left.lines if len(set(line.get_xdata())) == 1)
    assert dotted == pytest.approx([4 * 0.4472, 4 * 0.5636], abs=3e-4)
    # the points on the right are the saturated runs, on the exact line
    points_right = [line for line in right.lines if line.get_linestyle() == "None"]
    for line, exact in zip(points_right, (4 * 0.4472, 4 * 0.5636), strict=False):
        assert line.get_ydata()[0] == pytest.approx(exact, rel=0.05)


def test_prediction_error_and_exponential_figures_draw_their_lines() -> None:
    points = grid(k_bins=[2, 4], predictor__error_probability=[0.0, 0.1, 0.5])
    folder = store_study(
        ROOT, "multi_bin_prediction_error", points, num_requests=2_000, predictor="confusion", **UNIFORM
    )
    (axes,) = draw("multi_bin_prediction_error", folder).axes
    first = axes.lines[0]
    assert first.get_ydata()[0] == pytest.approx(0.5636, abs=6e-5)
    assert np.all(np.diff(first.get_ydata()) <= 1e-12)  # errors never help
    lengths = {"workload.output.kind": "exponential", "workload.output.mean_tokens": 1e6, "bins.batch_size": 8}
    points = grid(bins=["equal_mass", "exponential"], k_bins=[1, 2])
    folder = store_study(ROOT, "multi_bin_exponential", points, num_requests=2_000, **{**UNIFORM, **lengths})
    (axes,) = draw("multi_bin_exponential", folder).axes
    curves = {text.get_text(): line for text, line in zip(axes.texts, axes.lines, strict=False)}
    assert set(curves) == {"equal_mass", "exponential"}


def test_decode_step_of_the_second_paper() -> None:
    decode = {
        "workload": "synthetic",
        "workload.arrivals.kind": "at_once",
        "workload.output.kind": "constant",
        "workload.output.value_tokens": 100,
        "gpu": "linear_p2",
        "gpu.kv_capacity_tokens": 10_000_000,
        "scheduler": "static_fifo",
        "num_gpus": 2,
    }
    points = [{"scheduler.fixed_batch_size": b} for b in (1, 64, 250)]
    folder = store_study(ROOT, "decode_step", points, num_requests=8_000, **decode)
    step, rate = draw("decode_step", folder).axes
    squares = [line for line in step.lines if line.get_marker() == "s"]
    assert [round(float(line.get_xdata()[0]), 1) for line in squares] == [90.9, 227.3]
    assert [float(line.get_ydata()[0]) for line in squares] == pytest.approx([50.0, 80.0])
    tokens = [float(line.get_ydata()[0]) for line in rate.lines if line.get_marker() == "s"]
    assert tokens == pytest.approx([1818, 2841], abs=0.6)
    simulated = StoredStudy(folder).results
    assert simulated["tbt_mean_ms"].tolist() == pytest.approx([30 + 0.22 * b for b in (1, 64, 250)])
    full = simulated["throughput_tokens_per_s"].iloc[0] / 2  # b = 1: every batch is full
    assert full == pytest.approx(1000 / 30.22, rel=1e-6)


def test_capacity_is_the_highest_rate_carried_within_the_target() -> None:
    frame = pd.DataFrame(
        {
            "scheduler": ["a"] * 4 + ["b"] * 4,
            "workload.arrivals.rate_per_s": [1, 2, 3, 4] * 2,
            "tbt_mean_ms": [40, 45, 55, 60, 30, 30, 30, 30],
            "sla.token_ms": 50,
            "overloaded": [False] * 4 + [False, False, True, True],
            "queue_climbing": [False] * 4 + [False, True, False, False],
        }
    )
    assert capacities(frame, ["scheduler"]) == {("a",): 2.0, ("b",): 1.0}
    assert capacities(frame[frame["tbt_mean_ms"] > 50], ["scheduler"]) == {("a",): 0.0}
    frame = frame.assign(latency_mean_s=1.0, throughput_requests_per_s=1.0)
    left, _ = draw("token_sla_capacity", frame).axes
    names = [text.get_text() for text in left.get_figure().legends[0].get_texts()]
    assert names == ["a: carries 2 requests/s", "b: carries 1 requests/s"]
