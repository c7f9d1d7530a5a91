"""The checks: sections of queueing theory and of P1, with their exact targets."""

from __future__ import annotations

from mbexp.theory import bulk_service, multi_bin, prediction_error, queueing, service_time
from mbexp.theory import lengths as theory_lengths
from mbexp.validate import measure
from mbexp.validate.case import Case
from mbexp.validate.setups import (
    TOKENS_PER_SECOND,
    Values,
    at_once,
    bins_of_p1,
    confusion,
    constant_time,
    lengths,
    linear_time,
    one_queue,
    poisson,
    time_of_longest,
    whole_tokens_of_one_second,
)

UNIFORM = theory_lengths.uniform(1, 20)
UNIFORM_KEYS = lengths("uniform", low=1, high=20)
GSM8K = theory_lengths.lognormal(1.5533, 0.465)  # fitted to the ratios of P1's Fig. 6
GSM8K_KEYS = lengths("lognormal", mean=1.5533, sigma=0.465)

WAIT = measure.from_summary(**{"wait, s": "queue_delay_mean_s"})
WAIT_AND_BATCH = measure.from_summary(**{"wait, s": "queue_delay_mean_s", "batch size": "batch_size_mean"})
LATENCY_WAIT_AND_BATCH = measure.from_summary(
    **{"wait, s": "queue_delay_mean_s", "batch size": "batch_size_mean", "latency, s": "latency_mean_s"}
)


def all_cases() -> list[Case]:
    """Return every check, in the order of the table."""
    return [
        *classical_queues(),
        *bulk_queues(),
        *saturated_throughput(),
        *prediction_errors(),
        *infinite_servers(),
        *finite_servers(),
    ]


def classical_queues() -> list[Case]:
    """One request a batch: the textbook queues."""
    group = "Classical queues (batches of one)"
    single = one_queue(1)
    cases = [
        Case(
            group,
            "M/M/1, lambda .8, exponential lengths",
            {**poisson(0.8), **single, **time_of_longest(), **lengths("exponential", mean=1)},
            WAIT,
            "queueing.mm1",
            {"wait, s": queueing.mm1(0.8, 1).wait},
            requests=2_000_000,
            fast=True,
        ),
        Case(
            group,
            "M/D/1, lambda .8",
            {**poisson(0.8), **single, **constant_time()},
            WAIT,
            "queueing.md1",
            {"wait, s": queueing.md1(0.8, 1).wait},
            fast=True,
        ),
    ]
    for rate in (0.05, 0.07):
        cases.append(
            Case(
                group,
                f"M/G/1, U[1, 20], lambda {rate}",
                {**poisson(rate), **single, **time_of_longest(), **UNIFORM_KEYS},
                WAIT,
                "queueing.mg1",
                {"wait, s": queueing.mg1(rate, UNIFORM.mean, UNIFORM.second_moment).wait},
                fast=rate == 0.05,
            )
        )
    for servers, rate in ((2, 1.6), (4, 3.2), (8, 6.4)):
        cases.append(
            Case(
                group,
                f"M/M/{servers}, lambda {rate}, exponential noise",
                {**poisson(rate), **one_queue(1, gpus=servers), **constant_time(noise="exponential")},
                WAIT,
                "queueing.mmc",
                {"wait, s": queueing.mmc(rate, 1, servers).wait},
                requests=4_000_000,
                fast=servers == 4,
            )
        )
    for servers, rate in ((2, 1.6), (4, 3.2)):
        cases.append(
            Case(
                group,
                f"M/D/{servers}, lambda {rate}",
                {**poisson(rate), **one_queue(1, gpus=servers), **constant_time()},
                WAIT,
                "queueing.mdc",
                {"wait, s": queueing.mdc(rate, 1, servers).wait},
                requests=2_000_000,
                fast=servers == 4,
            )
        )
    return cases


def bulk_queues() -> list[Case]:
    """One queue, batches that leave with what waits, or full."""
    group = "Bulk service (one queue)"
    cases = []
    for rate, gpus in ((1.6, 1), (3.2, 1), (6.4, 2)):
        greedy = bulk_service.greedy_exponential(rate, 1, 4, gpus)
        cases.append(
            Case(
                group,
                f"greedy, B 4, exponential, {gpus} GPU, lambda {rate}",
                {**poisson(rate), **one_queue(4, gpus=gpus), **constant_time(noise="exponential")},
                WAIT_AND_BATCH,
                "bulk_service.greedy_exponential",
                {"wait, s": greedy.wait, "batch size": greedy.batch_size},
                requests=2_000_000,
                fast=rate == 1.6,
            )
        )
    for rate, gpus in ((1.6, 1), (3.2, 1), (6.4, 2)):
        cases.append(
            Case(
                group,
                f"full, B 4, exponential, {gpus} GPU, lambda {rate}",
                {**poisson(rate), **one_queue(4, "full", gpus), **constant_time(noise="exponential")},
                measure.full_batches,
                "bulk_service.full_exponential",
                _full(bulk_service.full_exponential(rate, 1, 4, gpus)),
                requests=8_000_000 if rate == 1.6 else 4_000_000,
            )
        )
    cases.append(
        Case(
            group,
            "full, B 4, constant 1 s, lambda 3.2",
            {**poisson(3.2), **one_queue(4, "full"), **constant_time()},
            measure.full_batches,
            "bulk_service.general (batch wait = M/D/4)",
            _full(bulk_service.general(3.2, service_time.deterministic(1), 4, 4)),
            requests=2_000_000,
            fast=True,
        )
    )
    greedy = bulk_service.general(3.2, service_time.deterministic(1), 4)
    cases.append(
        Case(
            group,
            "greedy, B 4, constant 1 s, lambda 3.2",
            {**poisson(3.2), **one_queue(4), **constant_time()},
            WAIT_AND_BATCH,
            "bulk_service.general",
            {"wait, s": greedy.wait, "batch size": greedy.batch_size},
            fast=True,
        )
    )
    for rate in (2, 4):
        by_size = [service_time.deterministic(1 + 0.1 * size) for size in range(1, 9)]
        greedy = bulk_service.general(rate, by_size, 8)
        cases.append(
            Case(
                group,
                f"greedy, B 8, T(b) = 1 + .1 b, lambda {rate}",
                {**poisson(rate), **one_queue(8), **linear_time(1, 0.1)},
                LATENCY_WAIT_AND_BATCH,
                "bulk_service.general",
                {"wait, s": greedy.wait, "batch size": greedy.batch_size, "latency, s": greedy.latency},
                fast=rate == 4,
            )
        )
    one_bin = multi_bin.equal_mass(UNIFORM, 1)
    greedy = bulk_service.general(0.4, [multi_bin.batch_service(one_bin, size) for size in range(1, 9)], 8)
    cases.append(
        Case(
            group,
            "greedy, B 8, longest of U[1, 20], lambda .4",
            {**poisson(0.4), **one_queue(8), **time_of_longest(), **UNIFORM_KEYS},
            LATENCY_WAIT_AND_BATCH,
            "bulk_service.general with multi_bin.batch_service",
            {"wait, s": greedy.wait, "batch size": greedy.batch_size, "latency, s": greedy.latency},
            requests=2_000_000,
        )
    )
    cases.append(
        Case(
            group,
            "full, B 8, longest of U[1, 20], lambda .4",
            {**poisson(0.4), **bins_of_p1(1, 8), **time_of_longest(), **UNIFORM_KEYS},
            measure.full_batches,
            "bulk_service.general with multi_bin.batch_service",
            _full(bulk_service.general(0.4, multi_bin.batch_service(one_bin, 8), 8, 8)),
            requests=4_000_000,
        )
    )
    return cases


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


def _full(delay: bulk_service.BulkDelay) -> dict[str, float]:
    return {
        "formation, s": delay.formation,
        "wait of the batch, s": delay.batch_wait,
        "latency, s": delay.latency,
    }
