"""The catalogue of metrics: one row a metric, from which the page of the docs, labels, verdicts and the terminal come.

A row stands in the module of its section. Nothing here imports more than the standard library, since the command line
and the figures read it before anything else is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

from mbexp.results.catalogue import batches, latency, memory, prefixes, rates, requests, whole_run
from mbexp.results.catalogue.metric import UNITS, Metric, as_columns, find_column, register, register_own, rows

__all__ = ["UNITS", "Metric", "as_columns", "catalogue", "find_column", "register", "register_own"]

for _section in (requests, rates, latency, batches, memory, prefixes, whole_run):  # in the order of the page
    register(*_section.ROWS)


def catalogue() -> Mapping[str, Metric]:
    """Return every metric by its key in the summary, those that others registered after those of mbexp."""
    return rows()
