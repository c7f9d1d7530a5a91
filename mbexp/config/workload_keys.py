"""Keys of the group `workload`: where requests come from, and how time is read."""

from __future__ import annotations

from dataclasses import dataclass

from mbexp.config.choices import module_names
from mbexp.config.schema import Filter, option
from mbexp.errors import UserError

WORKLOADS = module_names("workload/kinds")
WINDOWS = ("rows", "time", "busiest", "typical")
ARRIVALS = ("poisson", "gamma", "constant", "at_once", "closed")
THINK_TIMES = ("constant", "exponential")
TURN_ARRIVALS = ("recorded", "answered")
HISTORIES = ("included", "added")
LENGTHS = ("constant", "uniform", "exponential", "lognormal", "empirical")
FAILED = ("drop", "refuse")
MAX_TOKENS = 2**31 - 1  # lengths are stored as int32


@dataclass(frozen=True)
class WindowConfig:
    """Which contiguous part of a trace is used; its length in requests is `num_requests`."""

    kind: str = option(
        "typical",
        "rows: from start_row; time: from start_s; busiest: highest mean rate; "
        "typical: mean rate of the whole trace, and median burstiness among such windows",
        choices=WINDOWS,
    )
    start_row: int = option(0, "first usable request of 'rows'", low=0)
    start_s: float = option(0.0, "start of 'time', seconds of the trace's own clock after its first request", low=0)
    duration_s: float | None = option(None, "length of 'time'; null takes num_requests from start_s on", above=0)


@dataclass(frozen=True)
class ArrivalsConfig:
    """Arrivals of the synthetic workload."""

    kind: str = option("poisson", "process of the arrivals", choices=ARRIVALS)
    rate_per_s: float = option(1.0, "mean requests per second", above=0)
    cv: float = option(1.0, "coefficient of variation of the gaps of 'gamma'", low=0.001, high=1000)
    users: int | None = option(
        None, "'closed': each sends a request, and the next once the last is answered", low=1, high=10_000_000
    )
    think_time_s: float = option(0.0, "'closed': mean time of a user between an answer and the next request", low=0)
    think_kind: str = option("constant", "'closed': distribution of that time", choices=THINK_TIMES)


@dataclass(frozen=True)
class LengthsConfig:
    """Distribution of a length, in tokens."""

    kind: str = option("constant", "distribution", choices=LENGTHS)
    value_tokens: int | None = option(None, "'constant'", low=1, high=MAX_TOKENS)
    low_tokens: int | None = option(None, "'uniform': lowest, inclusive", low=1, high=MAX_TOKENS)
    high_tokens: int | None = option(None, "'uniform': highest, inclusive", low=1, high=MAX_TOKENS)
    mean_tokens: float | None = option(None, "'exponential', 'lognormal': mean before rounding", above=0)
    sigma: float | None = option(None, "'lognormal': standard deviation of the logarithm", low=0, high=20)
    values_tokens: list[int] | None = option(
        None, "'empirical': values drawn with equal probability", low=1, high=MAX_TOKENS
    )


@dataclass(frozen=True)
class TurnsConfig:
    """Distribution of the number of turns of a conversation."""

    kind: str = option("constant", "distribution", choices=("constant", "geometric", "uniform", "empirical"))
    value: int | None = option(1, "'constant'", low=1, high=1_000_000)
    mean: float | None = option(None, "'geometric': mean", low=1, high=1e6)
    low: int | None = option(None, "'uniform': lowest, inclusive", low=1, high=1_000_000)
    high: int | None = option(None, "'uniform': highest, inclusive", low=1, high=1_000_000)
    values: list[int] | None = option(None, "'empirical': values drawn with equal probability", low=1, high=1_000_000)


@dataclass(frozen=True)
class ThinkConfig:
    """Distribution of the time between an answer and the next turn of its conversation."""

    kind: str = option("constant", "distribution", choices=("constant", "exponential", "lognormal", "empirical"))
    mean_s: float = option(0.0, "mean, of all kinds but 'empirical'", low=0, high=1e9)
    sigma: float = option(1.0, "'lognormal': standard deviation of the logarithm", low=0, high=20)
    values_s: list[float] | None = option(None, "'empirical': values drawn with equal probability", low=0, high=1e9)


@dataclass(frozen=True)
class SessionsConfig:
    """Conversations: which requests are turns of one, and whether a turn waits for the last answer."""

    arrivals: str = option(
        "recorded",
        "recorded: a turn comes at its own time; answered: its think time after the last turn was answered",
        choices=TURN_ARRIVALS,
    )
    session: str | None = option(None, "files: column that names the conversation; null: what the kind has")
    chat: str | None = option(None, "files: column of a request's own id, where turns name the one before them")
    parent: str | None = option(None, "files: column of the id of the turn before; -1 or blank: there is none")
    delay: str | None = option(None, "files: column of the think time; null: the time between two turns, less duration")
    delay_unit_s: float = option(1.0, "files: seconds in one unit of delay", above=0)
    duration: str | None = option(None, "files: column of the seconds that an answer took; null: what the kind has")
    history: str = option(
        "included",
        "files: whether prompts hold the conversation so far, or what is new of each turn (added: it is put before)",
        choices=HISTORIES,
    )
    turns: TurnsConfig = option(TurnsConfig(), "'sessions': turns of a conversation")
    think: ThinkConfig = option(ThinkConfig(), "'sessions': think time before each turn but the first")
    system_prompts: int = option(
        0, "'sessions': different system prompts, one for each conversation", low=0, high=10**6
    )
    system: LengthsConfig = option(LengthsConfig(value_tokens=1), "'sessions': lengths of the system prompts")


@dataclass(frozen=True)
class ColumnsConfig:
    """Names of a CSV file's columns."""

    arrival: str = option("arrival_s", "column of arrival times")
    prompt: str = option("prompt_tokens", "column of prompt lengths")
    output: str = option("output_tokens", "column of output lengths")
    extra: list[str] = option([], "further columns to keep beside each request")
    hash_ids: str | None = option(None, "column of a list: names of the blocks of the prompt, equal where they are")
    hash_block_tokens: int = option(16, "tokens of such a block", low=1, high=65536)


@dataclass(frozen=True)
class ClassConfig:
    """A class of requests: a tenant, or a kind of work, with limits of its own."""

    share_pct: float | None = option(None, "share of the requests, drawn, where no column says the class", above=0)
    request_s: float | None = option(None, "longest time to the last token; null: sla.request_s", above=0)
    ttft_s: float | None = option(None, "longest time to the first token; null: sla.ttft_s", above=0)
    tpot_ms: float | None = option(None, "largest mean gap between tokens; null: sla.tpot_ms", above=0)
    priority: int = option(0, "scheduler.order=priority: the lowest goes first")
    weight: float = option(1.0, "share of service that is fair, relative to other classes", above=0)


@dataclass(frozen=True)
class WorkloadConfig:
    """Where requests come from and how time is read."""

    kind: str = option("burstgpt_like", "reader or generator", choices=WORKLOADS)
    path: str | None = option(None, "trace file; looked for here, then under data/")
    timestamps: str = option(
        "scaled",
        "scaled: gaps divided by rate_scaling; real: as in the trace; generated: from workload.arrivals, lengths kept",
        choices=("scaled", "real", "generated"),
    )
    rate_scaling: float = option(200.0, "how many times faster than the trace requests arrive", above=0)
    burst_likeness: float = option(
        0.0,
        "'burstgpt_like': correlation of the lengths (as normal scores) of one request of an API job and the next; "
        "no published figure says it, 0 (independent) is an assumption",
        low=0,
        high=0.9999,
    )
    window: WindowConfig = option(WindowConfig(), "which part of the trace")
    spread_ties_s: float | None = option(
        None,
        "resolution of the trace's clock: equal times are spread over it; 0 keeps them; null: what the kind needs",
        low=0,
    )
    time_unit_s: float | None = option(
        None,
        "files: seconds in one unit of their clock; null: what the kind has, doubted where it looks wrong",
        above=0,
    )
    columns: ColumnsConfig = option(ColumnsConfig(), "'csv': names of the columns")
    where: Filter = option({}, "files: keep the rows with these values only: {model: GPT-4}, {status: [200, 201]}")
    failed: str = option(
        "drop", "files: rows without tokens, such as failed calls, are dropped and counted, or refused", choices=FAILED
    )
    sessions: SessionsConfig = option(SessionsConfig(), "conversations")
    arrivals: ArrivalsConfig = option(ArrivalsConfig(), "'synthetic', and of any kind where timestamps=generated")
    prompt: LengthsConfig = option(LengthsConfig(value_tokens=1), "'synthetic': prompt lengths")
    output: LengthsConfig = option(LengthsConfig(value_tokens=1), "'synthetic': output lengths")
    classes: dict[str, ClassConfig] = option({}, "classes of requests by name, each with a limit of its own")
    class_column: str | None = option(
        None, "column of the trace that holds the class of each request; null: drawn by share_pct"
    )

    def __post_init__(self) -> None:
        for name, each in self.classes.items():
            where = f"workload.classes.{name}"
            if not name.isidentifier():
                raise UserError(f"{where}: must be a name of letters, digits and underscores")
            if each.request_s is None and each.ttft_s is None and each.tpot_ms is None:
                raise UserError(f"{where}: has no limit; give it a request_s, a ttft_s or a tpot_ms")
            if self.class_column is None and each.share_pct is None:
                raise UserError(f"{where}: has no share_pct, and no workload.class_column says who belongs to it")
        shares = sum(each.share_pct or 0.0 for each in self.classes.values())
        if self.classes and self.class_column is None and abs(shares - 100) > 1e-6:
            raise UserError(f"workload.classes: the shares add up to {shares:g} %, not to 100")
        if self.class_column is not None and not self.classes:
            raise UserError(f"workload.class_column={self.class_column}: names no class; add workload.classes")
