"""The checks of queues without bins: classical queues and bulk service, with their exact targets."""

from __future__ import annotations

from mbexp.theory import bulk_service, multi_bin, queueing, service_time
from mbexp.validate import measure
from mbexp.validate.case import Case
from mbexp.validate.cases_multi_bin import UNIFORM, UNIFORM_KEYS
from mbexp.validate.setups import (
    bins_of_p1,
    constant_time,
    lengths,
    linear_time,
    one_queue,
    poisson,
    time_of_longest,
)

WAIT = measure.from_summary(**{"wait, s": "queue_delay_mean_s"})
WAIT_AND_BATCH = measure.from_summary(**{"wait, s": "queue_delay_mean_s", "batch size": "batch_size_mean"})
LATENCY_WAIT_AND_BATCH = measure.from_summary(
    **{"wait, s": "queue_delay_mean_s", "batch size": "batch_size_mean", "latency, s": "latency_mean_s"}
)


def classical_queues() -> list[Case]:
    """One request a batch: the textbook queues."""
    group = "Classical queues (batches of one)"
    single = one_queue(1)
    cases = [
        Case(
            group,
            "M/M/1, lambda 0.8, exponential lengths",
            {**poisson(0.8), **single, **time_of_longest(), **lengths("exponential", mean=1)},
            WAIT,
            "queueing.mm1",
            {"wait, s": queueing.mm1(0.8, 1).wait},
            requests=2_000_000,
            fast=True,
        ),
        Case(
            group,
            "M/D/1, lambda 0.8",
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
                f"greedy, B 8, T(b) = 1 + 0.1 b, lambda {rate}",
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
            "greedy, B 8, longest of U[1, 20], lambda 0.4",
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
            "full, B 8, longest of U[1, 20], lambda 0.4",
            {**poisson(0.4), **bins_of_p1(1, 8), **time_of_longest(), **UNIFORM_KEYS},
            measure.full_batches,
            "bulk_service.general with multi_bin.batch_service",
            _full(bulk_service.general(0.4, multi_bin.batch_service(one_bin, 8), 8, 8)),
            requests=4_000_000,
        )
    )
    return cases


def _full(delay: bulk_service.BulkDelay) -> dict[str, float]:
    return {
        "formation, s": delay.formation,
        "wait of the batch, s": delay.batch_wait,
        "latency, s": delay.latency,
    }
