"""The checks of P1's model: throughput, prediction errors and latency with bins, with their exact targets."""

from __future__ import annotations

from mbexp.theory import lengths as theory_lengths
from mbexp.theory import multi_bin, prediction_error
from mbexp.validate import measure
from mbexp.validate.case import Case
from mbexp.validate.setups import (
    TOKENS_PER_SECOND,
    Values,
    at_once,
    bins_of_p1,
    confusion,
    lengths,
    poisson,
    time_of_longest,
    whole_tokens_of_one_second,
)

UNIFORM = theory_lengths.uniform(1, 20)
UNIFORM_KEYS = lengths("uniform", low=1, high=20)
GSM8K = theory_lengths.lognormal(1.5533, 0.465)  # fitted to the ratios of P1's Fig. 6
GSM8K_KEYS = lengths("lognormal", mean=1.5533, sigma=0.465)


def saturated_throughput() -> list[Case]:
    """All requests at time 0, full batches from k bins: P1's throughput."""
    cases = []
    for batch, counts, figure in ((8, (1, 2, 4, 8, 16), ""), (128, (1, 2, 3, 4, 5, 8), " (P1, Fig. 3)")):
        for k in counts:
            cases.append(
                _saturated(
                    f"U[1, 20], B {batch}, k {k}{figure}",
                    bins_of_p1(k, batch),
                    UNIFORM_KEYS,
                    multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, k), batch),
                    fast=k == 4,
                )
            )
    whole = theory_lengths.uniform_integers(1, 20)
    for k in (1, 2, 3):
        bins = multi_bin.by_edges(whole, multi_bin.equal_mass_edges(whole, k))
        keys = {**whole_tokens_of_one_second(), "workload.output.kind": "uniform"}
        keys |= {"workload.output.low_tokens": 1, "workload.output.high_tokens": 20}
        if k == 3:  # a sample's own quantiles can miss a tie at the edge
            keys |= {"bins": "explicit", "bins.edges": multi_bin.equal_mass_edges(whole, k)}
        values = {**bins_of_p1(k, 8), **keys}
        cases.append(
            _saturated(f"whole tokens 1..20, B 8, k {k}", values, {}, multi_bin.batch_time(bins, 8), fast=k == 3)
        )
    exponential = theory_lengths.exponential(10)
    exponential_keys = lengths("exponential", mean=10)
    for k in (1, 2, 4):
        bins = multi_bin.by_edges(exponential, multi_bin.exponential_edges(10, k, 200))
        cases.append(
            _saturated(
                f"exponential, mean 10, B 200, k {k}, P1's edges (Fig. 9)",
                bins_of_p1(k, 200, edges="exponential"),
                exponential_keys,
                multi_bin.batch_time(bins, 200),
                fast=k == 2,
            )
        )
    for k in (2, 4):
        cases.append(
            _saturated(
                f"exponential, mean 10, B 200, k {k}, equal mass",
                bins_of_p1(k, 200),
                exponential_keys,
                multi_bin.batch_time(multi_bin.equal_mass(exponential, k), 200),
            )
        )
    for k in (1, 2, 4, 8, 16, 32):
        cases.append(
            _saturated(
                f"lognormal like GSM8K, B 8, 8 GPUs, k {k} (Fig. 6)",
                bins_of_p1(k, 8, gpus=8),
                GSM8K_KEYS,
                multi_bin.batch_time(multi_bin.equal_mass(GSM8K, k), 8),
                gpus=8,
            )
        )
    return cases


def prediction_errors() -> list[Case]:
    """Saturated throughput when requests join wrong bins."""
    cases = []
    for k in (2, 4):
        for probability in (0.01, 0.05, 0.1, 0.2, 0.5):
            matrix = prediction_error.neighbour(k, probability)
            cases.append(
                _saturated(
                    f"U[1, 20], B 128, k {k}, neighbour error {probability} (Fig. 8)",
                    {**bins_of_p1(k, 128), **confusion("neighbour", probability)},
                    UNIFORM_KEYS,
                    multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, k), 128, matrix),
                    fast=(k, probability) == (4, 0.05),
                )
            )
    for k, counts in ((2, prediction_error.BERT_K2_COUNTS), (4, prediction_error.BERT_K4_COUNTS)):
        cases.append(
            _saturated(
                f"lognormal like GSM8K, B 8, k {k}, P1's BERT (Fig. 11)",
                {**bins_of_p1(k, 8), **confusion(f"bert_k{k}")},
                GSM8K_KEYS,
                multi_bin.batch_time(multi_bin.equal_mass(GSM8K, k), 8, counts),
                fast=k == 4,
            )
        )
    return cases


def infinite_servers() -> list[Case]:
    """So many GPUs that formed batches never wait: P1's Fig. 4 line and the formation delay."""
    cases = []
    for rate in (4, 6, 8):
        for k in (1, 2, 3):
            time = multi_bin.batch_time(multi_bin.equal_mass(UNIFORM, k), 128).mean
            cases.append(
                Case(
                    "P1: infinitely many servers (Fig. 4)",
                    f"U[1, 20], B 128, 64 GPUs, lambda {rate}, k {k}",
                    {**poisson(rate), **bins_of_p1(k, 128, gpus=64), **time_of_longest(), **UNIFORM_KEYS},
                    measure.full_batches,
                    "multi_bin.latency_infinite_servers",
                    {
                        "formation, s": multi_bin.formation_delay(128, k, rate),
                        "latency, s": multi_bin.latency_infinite_servers(time, 128, k, rate),
                    },
                    requests=600_000,
                )
            )
    return cases


def finite_servers() -> list[Case]:
    """Several bins, few GPUs: no exact mean is known, so the simulator meets a recursion over the same requests."""
    cases = []
    recursion = measure.full_batch_recursion(1 / TOKENS_PER_SECOND)
    for rate, k in ((0.2, 2), (0.4, 2), (0.4, 4), (0.6, 8)):
        cases.append(
            Case(
                "P1: few servers",
                f"U[1, 20], B 8, 1 GPU, lambda {rate}, k {k}",
                {**poisson(rate), **bins_of_p1(k, 8), **time_of_longest(), **UNIFORM_KEYS},
                measure.full_batches,
                "sample_path.full_batches on the same requests",
                reference=recursion,
                fast=k == 4,
            )
        )
    for k, load in ((1, 0.7), (2, 0.8), (4, 0.85), (8, 0.85), (16, 0.9), (32, 0.9)):
        capacity = 8 * multi_bin.batch_time(multi_bin.equal_mass(GSM8K, k), 8).throughput
        cases.append(
            Case(
                "P1: few servers",
                f"lognormal like GSM8K, B 8, 8 GPUs, k {k}, load {load} (Fig. 6)",
                {**poisson(round(load * capacity, 3)), **bins_of_p1(k, 8, 8), **time_of_longest(), **GSM8K_KEYS},
                measure.full_batches,
                "sample_path.full_batches on the same requests",
                reference=recursion,
                requests=500_000,
                replications=10,
            )
        )
    return cases


def _saturated(
    name: str, policy: Values, length_keys: Values, expected: multi_bin.BatchTime, gpus: int = 1, fast: bool = False
) -> Case:
    return Case(
        "P1: saturated throughput",
        name,
        {**at_once(), **time_of_longest(), **policy, **length_keys},
        measure.saturated,
        "multi_bin.batch_time",
        {"throughput, 1/s": gpus * expected.throughput},
        requests=400_000,
        replications=10,
        fast=fast,
    )
