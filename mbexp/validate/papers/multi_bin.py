"""P1's example, figures and confusion matrices: printed, exact, simulated."""

from __future__ import annotations

import dataclasses

import numpy as np

from mbexp.results.statistics import mean_interval
from mbexp.theory import bulk_service, multi_bin, prediction_error, sample_path
from mbexp.validate import cases_multi_bin as cases
from mbexp.validate import measure
from mbexp.validate.case import Case, Outcome, check, seeds
from mbexp.validate.cases import all_cases
from mbexp.validate.papers.row import Effort, Row, agrees, shown, table
from mbexp.validate.setups import bins_of_p1, lengths, poisson, time_of_longest

FIG_6_PRINTED = {1: 22.71, 2: 27.48, 4: 31.91, 8: 35.27, 16: 37.87, 32: 39.65}  # read off the figure: 1-2 %
READING_ERROR = 0.02


def sections(effort: Effort) -> list[str]:
    """Return the Markdown sections of P1."""
    return [
        toy_example(),
        figure_3(effort),
        figure_4(effort),
        figure_6(effort),
        figure_8(effort),
        figure_9(effort),
        figure_11(effort),
        selections(effort),
    ]


def toy_example() -> str:
    """P1's example of four requests."""
    from mbexp import simulate
    from mbexp.workload.trace import Trace

    rows = []
    trace = Trace(np.zeros(4), np.ones(4, np.int32), np.array([1, 5, 2, 6], np.int32), source="P1's example")
    for name, printed, policy in (
        ("standard batching", 11, bins_of_p1(1, 2)),
        ("two bins, edge between 2 and 5", 8, {**bins_of_p1(2, 2), "bins": "explicit", "bins.edges": [2.0]}),
    ):
        values = {**time_of_longest(), "gpu.law.beta_ms": 1000.0, **policy, "warm_up.share_pct": 0.0}
        result = simulate(trace, **values)
        makespan = result.summary["makespan_s"]
        bins = result.prediction.bins.bin_of(trace.output_tokens)
        path = sample_path.full_batches(trace.arrival_s, trace.output_tokens.astype(float), bins, 2)
        exact = float(path.latency.max())
        verdict = "yes" if makespan == printed == exact else "no"
        rows.append(Row(name, f"{printed} s", f"{exact:g} s", f"{makespan:g} s", verdict, "completion of all four"))
    return f"### Fig. 1b: times 1, 5, 2, 6 in batches of two on one server\n\n{table(rows)}\n"


def figure_3(effort: Effort) -> str:
    """Saturated throughput against k."""
    rows = [_exact_row(outcome) for outcome in _checked(effort, "B 128, k", "Fig. 3")]
    limit = multi_bin.throughput_bounds(cases.UNIFORM, 1, 128)[1]
    note = f"The curve's limit for many bins is B / E[l] = {limit:.4f}."
    return f"### Fig. 3: throughput against k, U[1, 20], B = 128\n\n{table(rows)}\n\n{note}\n"


def figure_4(effort: Effort) -> str:
    """Latency against arrival rate: the line, and one server."""
    rows = [
        _exact_row(outcome, "infinitely many servers; 64 GPUs are enough")
        for outcome in _checked(effort, "64 GPUs", "Fig. 4")
        if outcome.quantity == "latency, s"
    ]
    for rate, k in ((4.0, 1), (6.0, 2), (8.0, 3), (7.0, 1), (9.0, 2), (9.6, 3)):
        rows.append(_one_server(effort, rate, k))
    capacities = ", ".join(f"{_capacity(k):.4f}" for k in (1, 2, 3))
    return (
        "### Fig. 4: mean latency against arrival rate, U[1, 20], B = 128\n\n"
        f"{table(rows)}\n\n"
        f"One server carries at most {capacities} requests/s with 1, 2, 3 bins. Beyond these rates, latency "
        "measures the length of the run, and the run says so.\n"
    )


def figure_6(effort: Effort) -> str:
    """GSM8K lengths on 8 servers."""
    rows = []
    for outcome in _checked(effort, "8 GPUs", "(Fig. 6)", "saturated"):
        k = int(outcome.name.split("k ")[1].split(" ")[0])
        printed = FIG_6_PRINTED[k]
        fits = agrees(outcome.simulated.mean, printed, READING_ERROR)
        rows.append(
            Row(
                f"capacity, k {k}",
                f"{printed} (read off)",
                f"{outcome.target:.4f}",
                shown(outcome.simulated),
                "yes" if fits and outcome.verdict != "off" else "no",
                "on lognormal lengths, see below",
            )
        )
    latencies = [
        outcome for outcome in _checked(effort, "8 GPUs", "(Fig. 6)", "few servers") if outcome.quantity == "latency, s"
    ]
    least = min(latencies, key=lambda outcome: outcome.simulated.mean)
    for outcome in latencies:
        bins, load = (outcome.name.split(mark)[1].split(" ")[0].rstrip(",") for mark in ("k ", "load "))
        rows.append(
            Row(
                f"least latency, k {bins} (at load {load})",
                "curve",
                "-",
                shown(outcome.simulated) + " s",
                "yes" if outcome.ok else "no",
                "equals the recursion on the same requests" + "; the least of all k" * (outcome is least),
            )
        )
    note = (
        "P1 does not publish its GSM8K lengths. A lognormal of sigma 0.465 and mean 1.5533 s stands in their place: "
        "it was fitted to the printed points."
    )
    return f"### Fig. 6: GSM8K lengths, B = 8, 8 servers\n\n{table(rows)}\n\n{note}\n"


def figure_8(effort: Effort) -> str:
    """Neighbour errors."""
    why = "exact for any confusion matrix"
    rows = [_exact_row(outcome, why) for outcome in _checked(effort, "neighbour error", "Fig. 8")]
    note = (
        "Small errors cost much. With 4 bins, 1 % of requests in each neighbouring bin takes a tenth of the "
        "throughput, because one long request in 128 holds its whole batch."
    )
    return f"### Fig. 8: prediction errors, U[1, 20], B = 128\n\n{table(rows)}\n\n{note}\n"


def figure_9(effort: Effort) -> str:
    """Exponential lengths."""
    why = "exact batch times between these edges"
    rows = [_exact_row(outcome, why) for outcome in _checked(effort, "exponential, mean 10, B 200", "")]
    bounds = ", ".join(f"{multi_bin.exponential_throughput_bound(10, k, 200):.4f}" for k in (1, 2, 4))
    note = (
        f"P1's bound B mu / L_k gives {bounds} for k = 1, 2, 4, close below the exact values. Equal-mass bins are "
        "optimal for uniform lengths. Here they lose a quarter or more, because one bin holds the whole tail."
    )
    return f"### Fig. 9: exponential lengths, mu = 0.1, B = 200\n\n{table(rows)}\n\n{note}\n"


def figure_11(effort: Effort) -> str:
    """The BERT predictor."""
    rows = []
    for k, counts in ((2, prediction_error.BERT_K2_COUNTS), (4, prediction_error.BERT_K4_COUNTS)):
        (outcome,) = _checked(effort, f"k {k}, P1's BERT", "Fig. 11")
        right = 100 * (1 - prediction_error.misbin_share(counts))
        perfect = multi_bin.batch_time(multi_bin.equal_mass(cases.GSM8K, k), 8).throughput
        lost = 100 * (1 - outcome.target / perfect)
        rows.append(
            _exact_row(
                outcome, f"{right:.1f} % in the right bin; costs {lost:.1f} % of the oracle's throughput", "matrix"
            )
        )
    return (
        "### Fig. 11: the BERT predictor's confusion matrices\n\n"
        f"{table(rows)}\n\n"
        "P1 prints the matrices. The throughput is that of mbexp with these matrices, on the lengths of Fig. 6 and "
        "one server.\n"
    )


def selections(effort: Effort) -> str:
    """Which bin to serve when partial batches may leave: not in P1, but asked at once."""
    lines = ["| k | selection | mean latency, s | p99, s | offered load |", "|---|---|---|---|---|"]
    for k, rules in (
        (1, ("oldest_head",)),
        (2, ("oldest_head", "longest_queue", "round_robin", "shortest_bin")),
        (4, ("oldest_head", "longest_queue", "round_robin", "shortest_bin")),
    ):
        for rule in rules:
            values = {**poisson(0.4), **bins_of_p1(k, 8), **time_of_longest(), **lengths("uniform", low=1, high=20)}
            values |= {"scheduler.fill": "greedy", "scheduler.selection": rule}
            runs = list(seeds(values, effort.requests(300_000), effort.replications))
            means = mean_interval([run.summary["latency_mean_s"] for run in runs])
            tails = mean_interval([run.summary["latency_p99_s"] for run in runs])
            unstable = all(measure.grows(run) for run in runs)
            lines.append(
                f"| {k} | {rule} | {'unstable' if unstable else shown(means)} | "
                f"{'unstable' if unstable else shown(tails)} | "
                f"{max(run.summary['offered_load'] for run in runs):.2f} |"
            )
    one_bin = multi_bin.equal_mass(cases.UNIFORM, 1)
    exact = bulk_service.general(0.4, [multi_bin.batch_service(one_bin, size) for size in range(1, 9)], 8)
    return (
        "### Beyond P1: partial batches, U[1, 20], B = 8, lambda 0.4, one server\n\n"
        + "\n".join(lines)
        + "\n\nLongest queue has the best mean, and oldest head the best tail. Serving the shortest bin first wastes "
        "the server on small batches of short requests. It is unstable at a load that full batches carry. Four bins "
        "with partial batches do worse than two. *Unstable* means that the number of waiting requests climbs "
        "throughout every run, although the offered load (that of full batches) is below 1. The exact mean for k = 1 "
        f"is {exact.latency:.3f} s.\n"
    )


def _capacity(k: int) -> float:
    return multi_bin.batch_time(multi_bin.equal_mass(cases.UNIFORM, k), 128).throughput


def _one_server(effort: Effort, rate: float, k: int) -> Row:
    values = {**poisson(rate), **bins_of_p1(k, 128), **time_of_longest(), **cases.UNIFORM_KEYS}
    runs = list(seeds(values, effort.requests(400_000), effort.replications))
    capacity = _capacity(k)
    setting = f"1 GPU, lambda {rate:g}, k {k}"
    if rate >= capacity:
        flagged = all(run.summary["overloaded"] for run in runs)
        return Row(
            setting, "diverges", "diverges", "flagged as overloaded" if flagged else "not flagged",
            "yes" if flagged else "no", f"above {capacity:.4f}/s",
        )  # fmt: skip
    latency = mean_interval([measure.full_batches(run)["latency, s"] for run in runs])
    line = multi_bin.latency_infinite_servers(multi_bin.uniform_batch_time(1, 20, k, 128), 128, k, rate)
    verdict = "yes" if latency.high > line else "no"
    return Row(setting, "curve", f"above {line:.2f}", shown(latency), verdict, "the line plus the wait for the server")


def _checked(effort: Effort, *words: str) -> list[Outcome]:
    found = [case for case in all_cases() if all(word.lower() in f"{case.group} {case.name}".lower() for word in words)]
    if not found:
        raise AssertionError(f"no case named {words}")
    return [outcome for case in found for outcome in check(_shortened(case, effort))]


def _shortened(case: Case, effort: Effort) -> Case:
    return dataclasses.replace(case, replications=effort.replications, requests=effort.requests(case.requests))


def _exact_row(outcome: Outcome, why: str = "", printed: str = "curve") -> Row:
    inside = outcome.verdict != "off"
    return Row(
        outcome.name.split(" (")[0],
        printed,
        f"{outcome.target:.4f}",
        shown(outcome.simulated),
        "yes" if inside else "no",
        why or "P1's own formula, exact",
    )
