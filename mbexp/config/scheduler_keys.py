"""The keys of `scheduler`: queue, batch size, bin selection and fill."""

from __future__ import annotations

from dataclasses import dataclass

from mbexp.config.choices import rule_names
from mbexp.config.schema import Numbers, option
from mbexp.errors import UserError

QUEUES = ("fifo", "per_bin", "per_class")
BATCH_SIZES = rule_names("limit")
SELECTIONS = rule_names("selection")
FILLS = rule_names("fill")
ORDERS = rule_names("order")
WAITS = ("none", "any_type", "every_type", "strict")
ORDER_BY = ("prompt", "output", "total", "service")
MEMORY_RULES = ("corrected", "original", "printed", "released")


@dataclass(frozen=True)
class ControllerConfig:
    """Algorithm 2 of P2: a noisy binary search for the largest batch within the token SLA."""

    alpha_requests: float = option(16.0, "width kept between the two bounds (alpha of P2)", above=0)
    delta_requests: float = option(4.0, "how far the outer bound relaxes at each step (delta of P2)", low=0)
    tolerance_ms: float = option(0.4, "half width of the band around the token SLA (eps_D of P2)", low=0)
    window_batches: int = option(16, "completed batches that the recent means are taken over", low=1, high=1024)
    interval_batches: int = option(1, "completed batches between two updates", low=1)


@dataclass(frozen=True)
class SchedulerConfig:
    """A point of the space queue x batch size x bin selection x fill."""

    name: str = option("multi_bin_dynamic", "label in tables and figures")
    queue: str = option("per_bin", "one FIFO for all, or one for each bin or class", choices=QUEUES)
    batch_size: str = option(
        "dynamic", "fixed, or min(b_mem, b_SLA); a dotted path names your own", choices=BATCH_SIZES, dotted=True
    )
    fixed_batch_size: int | None = option(
        8, "batch size of 'fixed'; null: that of execution.engine", low=1, high=1_000_000
    )
    selection: str = option(
        "round_robin", "which ready bin is served; a dotted path names your own", choices=SELECTIONS, dotted=True
    )
    fill: str = option("greedy", "when a batch may leave; a dotted path names your own", choices=FILLS, dotted=True)
    order: str = option("fifo", "who is next inside a queue; a dotted path names your own", choices=ORDERS, dotted=True)
    order_by: str = option(
        "output",
        "what sjf and its kin sort by: prompt, predicted output, both, or the predicted time alone on a GPU",
        choices=ORDER_BY,
    )
    preempt: bool = option(
        False, "whether the next of the queue displaces who runs with a larger key, if limit or memory keeps it out"
    )
    preempt_share: float | None = option(
        None, "'preempt': only who has emitted at most this share of its prediction; null: anyone", low=0
    )
    preempt_margin: float = option(0.0, "'preempt': only whose key is larger by more than this", low=0)
    timeout_s: float = option(1.0, "'timeout': longest wait of a head before its batch leaves partly filled", low=0)
    wait: str = option(
        "none",
        "WAIT: whether an iteration waits for newcomers, enough of any type, or of every type, that its room takes, "
        "or of every type in any case (strict); a type is a queue (continuous only)",
        choices=WAITS,
    )
    batch_size_min: int = option(1, "B_min of Algorithm 2", low=1, high=1_000_000)
    batch_size_max: int = option(128, "B_max of Algorithms 1 and 2", low=1, high=1_000_000)
    memory_rule: str = option(
        "corrected",
        "L0 of Algorithm 1: theta sigma sqrt(b), the original's 0.1 eta, or P2's as printed; or the rule of P2's "
        "released code, by what running requests hold (the last two: continuous only)",
        choices=MEMORY_RULES,
    )
    memory_overflow_probability: float = option(0.05, "eps_M of Algorithm 1", above=0, high=0.5)
    controller: ControllerConfig = option(ControllerConfig(), "Algorithm 2")
    parameters: Numbers = option({}, "numbers handed to your own rules: by the names they declare, or in their order")

    def __post_init__(self) -> None:
        if self.batch_size_min > self.batch_size_max:
            raise UserError(
                f"scheduler.batch_size_min={self.batch_size_min}: must not exceed "
                f"scheduler.batch_size_max={self.batch_size_max}"
            )
