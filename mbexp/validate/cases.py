"""Every check, in the order of the table."""

from __future__ import annotations

from mbexp.validate import cases_multi_bin, cases_queueing
from mbexp.validate.case import Case


def all_cases() -> list[Case]:
    """Return every check."""
    return [
        *cases_queueing.classical_queues(),
        *cases_queueing.bulk_queues(),
        *cases_multi_bin.saturated_throughput(),
        *cases_multi_bin.prediction_errors(),
        *cases_multi_bin.infinite_servers(),
        *cases_multi_bin.finite_servers(),
    ]
