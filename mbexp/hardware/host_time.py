"""What laws leave out that come from tables of kernels: the time of the host between them."""

from __future__ import annotations

from mbexp.config.gpu_keys import LawConfig

NO_HOST_TIME = (
    "kernel tables hold no host time: the time per token of published runs was within 10 % in half and within 20 % "
    "in three quarters, mostly longer; gpu.law.host_ms and host_us_per_sequence add it"
)


def without_host_time(law: LawConfig) -> bool:
    """Return whether a law is that of a card's kernels, and nothing was added for the host."""
    from_tables = law.kind == "aiconfigurator" or (law.kind == "step" and law.card is not None)
    return from_tables and not law.host_ms and not law.host_us_per_sequence
