"""Refuses a trace that cannot fit into the machine's memory, before anything is drawn."""

from __future__ import annotations

import os

from mbexp.errors import UserError

BYTES_PER_REQUEST = 48  # columns of a trace, and what is needed while they are made


def check_memory(num_requests: int, what: str) -> None:
    """Raise `UserError` if `num_requests` rows need more than the machine's memory, where that is known."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not POSIX
        return
    need = num_requests * BYTES_PER_REQUEST
    if need > memory > 0:
        raise UserError(
            f"{what} has about {num_requests:,} requests, which need {need / 1e9:,.0f} GB; "
            f"this machine has {memory / 1e9:,.0f} GB"
        )
