"""What a run shows in the terminal, against values worked out by hand and the text of the README."""

from __future__ import annotations

import dataclasses

from mbexp import simulate
from mbexp.compiled import cache
from mbexp.results.terminal import report, say_if_compiling

SECOND_A_TOKEN = {
    "gpu.law": {"kind": "affine", "length": "output", "alpha_ms": 1000, "beta_ms": 1000, "gamma": 0},
    "gpu.kv_capacity_tokens": 100,
}


def test_every_row_by_hand(make_trace):
    """The run of tests/results/test_metrics.py: batches at 0-4, 4-7 and 10-16 s, and a request that can never fit."""
    result = simulate(
        make_trace([0.0, 1.0, 2.0, 10.0, 11.0], [3, 2, 1, 5, 200]), scheduler="static_fifo", num_gpus=1,
        **{"scheduler.fixed_batch_size": 2, "sla.request_s": 5.5}, **SECOND_A_TOKEN,
    )  # fmt: skip

    assert report(result)[3:13] == [
        "  requests                     4 completed   1 rejected",
        "  load                    0.300 requests/s   offered load 0.750",
        "  throughput              0.250 requests/s   0.688 tokens/s",
        "  goodput                     0 requests/s   within 5.5 s and 10 ms per token",
        "  latency                      5.25 s mean   p50 5.50  p95 6.00  p99 6.00 s",
        "  first token                  2.25 s mean   p99 3.97 s, queue included",
        "  between tokens             1,000 ms mean   p99 1,000 ms",
        "  SLA violations        50.0 % of requests   100 % of tokens",
        "  batches               1.33 requests mean   8.33 % padding, 0 % misbinned",
        "  GPUs                         81.2 % busy   makespan 16.0 s",
    ]


def test_one_bin_and_no_rate(make_trace):
    result = simulate(make_trace([0.0, 0.0], [3, 3]), scheduler="multi_bin_static", num_gpus=1, **SECOND_A_TOKEN)
    lines = report(result)

    assert lines[0].startswith("multi_bin_static, 1 bin, 1 x ")
    assert "  load                        - requests/s   all at once" in lines


def test_means_of_counts_are_short(make_trace):
    result = simulate(make_trace([0.0, 1.0], [3, 3]), num_gpus=1, **SECOND_A_TOKEN)
    means = result.summary | {"completed_requests": 1999 + 2 / 3, "rejected_requests": 1 / 3, "bins": 11 / 3}
    lines = report(dataclasses.replace(result, summary=means))

    assert ", 3.7 bins, " in lines[0]
    assert "  requests               1,999.7 completed   0.3 rejected" in lines


def test_compiling_is_told_of_each_mode(monkeypatch, capsys):
    monkeypatch.setattr(cache, "is_compiled", lambda loop: loop == "compiled before")
    for execution in ("one", "compiled before", "another"):
        say_if_compiling(execution, execution)

    assert [line.split("; ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "mbexp: compiling the event loop, once for execution=one",
        "mbexp: compiling the event loop, once for execution=another",
    ]
