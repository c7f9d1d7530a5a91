"""ServeGen's chunk files: as many requests a window as were counted, gaps and lengths of the distributions there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mbexp import UserError, load_trace
from mbexp.config.compose import configure
from mbexp.results.store import generated_hash
from mbexp.sweep.inputs import trace_hash
from mbexp.workload.trace import Trace

# Lines as ServeGen publishes them: blank patterns where a window has no request.
TRACES = {
    0: "0,1.5,8.6,Weibull,0.375,0.397\n600,0,0,,0,0\n1200,0.25,4.07,Gamma,0.0604,103.65\n1800,2.0,1.0,Gamma,1.0,0.5\n",
    7: "0,0,0,,0,0\n600,0.5,0.96,Weibull,1.05,0.064\n1200,0.01,2.1,Gamma,0.216,166.9\n1800,0,0,,0,0\n",
}
LENGTHS = {
    0: {"0": ("{5: 0.25, 100: 0.75}", "{1: 0.5, 7: 0.5}"), "1200": ("{}", "{}"), "1800": ("{9: 1.0}", "{3: 1.0}")},
    7: {"1200": ("{40: 1.0}", "{0: 0.5, 2: 0.5}")},
}


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    folder = tmp_path / "m-tiny"
    folder.mkdir()
    for number, text in TRACES.items():
        (folder / f"chunk-{number}-trace.csv").write_text(text)
        periods = {
            start: {"input_tokens": prompt, "output_tokens": output, "image_tokens": "{1: 1.0}"}
            for start, (prompt, output) in LENGTHS[number].items()
        }
        (folder / f"chunk-{number}-dataset.json").write_text(json.dumps(periods))
    return folder


def load(path: Path, seed: int = 0, num_requests: int | None = None, **window: object) -> Trace:
    return load_trace(
        "servegen_clients", path=str(path), seed=seed, num_requests=num_requests,
        **({"window": {"kind": "time", **window}} if window else {}),
    )  # fmt: skip


def test_each_window_has_as_many_requests_as_were_counted(pool: Path) -> None:
    trace = load(pool)
    clients = trace.extra["client"]

    # rate * 600 of each client and window, less client 7's answers of no token, which are left out and counted
    at_s = trace.arrival_s + trace_start(pool)
    counted = {0: [900, 0, 150, 1200], 7: [0, 300, 6, 0]}
    for number, counts in counted.items():
        found = np.histogram(at_s[clients == number], np.arange(0, 2401, 600))[0]
        if number == 0:
            assert found.tolist() == counts
        else:
            dropped = sum(trace.dropped.values())
            assert found.sum() + dropped == sum(counts)
            assert 0.3 * sum(counts) < dropped < 0.7 * sum(counts)
    assert "image_tokens" in " ".join(trace.notes)


def trace_start(pool: Path) -> float:
    """When the first request comes: `Trace` counts from there, the files from midnight."""
    from mbexp.workload.kinds import servegen_clients

    config = configure(workload="servegen_clients", **{"workload.path": str(pool)}).workload
    ((_, trace), *_) = servegen_clients._find(config)
    drawn = servegen_clients._draw(servegen_clients._read_trace(0, trace), 0, 600, 0)
    assert drawn is not None
    return float(drawn[0].min())


def test_gaps_have_the_pattern_of_their_window_and_lengths_their_distribution(pool: Path) -> None:
    trace = load(pool / "chunk-0-trace.csv", start_s=1800)
    gaps = np.diff(trace.arrival_s)
    assert len(trace) == 1200
    assert stats.kstest(gaps, "expon", args=(0, 0.5)).pvalue > 0.01  # Gamma of shape 1 at 2 a second
    assert {*trace.prompt_tokens} == {9}

    bursty = load(pool / "chunk-0-trace.csv", duration_s=600)
    gaps = np.diff(bursty.arrival_s)
    scale = gaps.mean() / stats.weibull_min.mean(0.375)
    assert stats.kstest(gaps, stats.weibull_min(0.375, scale=scale).cdf).pvalue > 0.01
    assert stats.kstest(gaps, "expon", args=(0, gaps.mean())).pvalue < 1e-6
    assert stats.binomtest(int((bursty.prompt_tokens == 100).sum()), 900, 0.75).pvalue > 0.01
    assert stats.binomtest(int((bursty.output_tokens == 7).sum()), 900, 0.5).pvalue > 0.01


def test_lengths_are_of_the_last_period_that_holds_some(pool: Path) -> None:
    empty_period = load(pool / "chunk-0-trace.csv", start_s=1200, duration_s=600)  # its own period is blank
    before_the_first = load(pool / "chunk-7-trace.csv", start_s=600, duration_s=600)

    assert {*empty_period.prompt_tokens} == {5, 100}
    assert {*before_the_first.prompt_tokens} == {40}


def test_a_later_start_gives_the_same_requests_and_another_seed_others(pool: Path) -> None:
    whole, part = load(pool), load(pool, start_s=600)
    rest = whole.arrival_s > whole.arrival_s[-len(part)] - 1e-9

    assert rest.sum() == len(part)
    assert part.arrival_s == pytest.approx(whole.arrival_s[rest] - whole.arrival_s[rest][0])
    assert part.prompt_tokens.tolist() == whole.prompt_tokens[rest].tolist()
    assert load(pool, seed=1).arrival_s.tolist() != whole.arrival_s.tolist()
    assert len(load(pool, num_requests=100)) == 100
    assert load(pool, num_requests=100).arrival_s.tolist() == whole.arrival_s[:100].tolist()


def test_a_run_is_known_by_all_its_files(pool: Path) -> None:
    config = configure(workload="servegen_clients", **{"workload.path": str(pool)})
    before = trace_hash(config)

    assert before == load(pool).file_sha256 != generated_hash()
    path = pool / "chunk-7-dataset.json"
    path.write_text(path.read_text().replace("40", "41"))
    assert trace_hash(config) != before


def test_mistakes_are_named(pool: Path, tmp_path: Path) -> None:
    def told(path: Path, **window: object) -> str:
        with pytest.raises(UserError) as error:
            load(path, **window)
        return str(error.value)

    assert "no chunk-0-trace.csv" in told(tmp_path)
    assert "use time" in told(pool, kind="typical")
    assert "no client has a request in the time asked for" in told(pool, start_s=1e6)
    (pool / "chunk-7-dataset.json").write_text('{"0": {"input_tokens": "{5: 0.7}", "output_tokens": "{5: 1}"}}')
    assert "chunk-7-dataset.json, period 0: input_tokens is no distribution" in told(pool)
    (pool / "chunk-7-dataset.json").write_text("[1]")
    assert "chunk-7-dataset.json: is no ServeGen dataset" in told(pool)
    (pool / "chunk-7-dataset.json").unlink()
    assert "chunk-7-dataset.json with its lengths is missing" in told(pool)
    for text, reason in (
        ("0,1,1,Gama,1,1\n", "line 1: pattern 'Gama' is none of Gamma, Weibull"),
        ("0,1,1,Gamma,1\n", "line 1: has 5 cells"),
        ("0,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", "line 2: start 0 s does not follow 0 s"),
        ("0,x,1,Gamma,1,1\n", "line 1: is not start, rate"),
    ):
        (pool / "chunk-0-trace.csv").write_text(text)
        assert reason in told(pool / "chunk-0-trace.csv")
    with pytest.raises(UserError, match="whose requests are drawn"):
        load_trace("servegen_clients", path=str(pool), where={"model": "a"})
