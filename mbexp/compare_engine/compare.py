"""The comparison: the same statistics of the engine's requests and of the simulated ones, request by request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mbexp.compare_engine.records import EngineRun
from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.run import run
from mbexp.workload.trace import Trace

FloatArray = npt.NDArray[np.float64]

COLUMNS = ("metric", "statistic", "engine", "mbexp", "error_pct")
STATISTICS: dict[str, Callable[[FloatArray], float]] = {
    "mean": lambda values: float(values.mean()),
    **{f"p{share}": lambda values, share=share: float(np.percentile(values, share)) for share in (50, 90, 95, 99)},
}


@dataclass(frozen=True)
class Timeline:
    """Instants of the same requests, in order of arrival: of the engine, or simulated.

    Attributes
    ----------
    arrival_s, first_token_s, last_token_s : float64 arrays, shape (n,)
    prompt_tokens, output_tokens : int arrays, shape (n,)
    """

    arrival_s: FloatArray
    first_token_s: FloatArray
    last_token_s: FloatArray
    prompt_tokens: npt.NDArray[np.int32]
    output_tokens: npt.NDArray[np.int32]

    def per_request(self) -> dict[str, FloatArray]:
        """Return the compared quantities; TPOT of requests with two tokens or more."""
        several = self.output_tokens > 1
        decode_s = (self.last_token_s - self.first_token_s)[several]
        return {
            "ttft_s": self.first_token_s - self.arrival_s,
            "tpot_ms": 1e3 * decode_s / (self.output_tokens[several] - 1),
            "latency_s": self.last_token_s - self.arrival_s,
        }

    def whole(self) -> dict[str, float]:
        """Return the quantities of the whole run: first arrival to last token, and what was done a second."""
        makespan_s = float(self.last_token_s.max() - self.arrival_s.min())
        return {
            "makespan_s": makespan_s,
            "throughput_requests_per_s": len(self.arrival_s) / makespan_s,
            "throughput_output_tokens_per_s": float(self.output_tokens.sum(dtype=np.int64)) / makespan_s,
        }


@dataclass(frozen=True)
class Row:
    """A line of the table; `error_pct` is (mbexp - engine) / engine, and NaN where the engine's value is 0."""

    metric: str
    statistic: str
    engine: float
    mbexp: float
    error_pct: float


@dataclass(frozen=True)
class Comparison:
    """A recorded run beside its simulation.

    Attributes
    ----------
    engine, mbexp : Timeline
        Of the same requests, in the same order.
    rows : tuple of Row
    notes : tuple of str
        Sentences a reader of the numbers must see.
    """

    engine: Timeline
    mbexp: Timeline
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def error_pct(self, metric: str, statistic: str) -> float:
        """Return the error of one line of the table."""
        return next(row.error_pct for row in self.rows if (row.metric, row.statistic) == (metric, statistic))


def compare(recorded: EngineRun, config: Config) -> Comparison:
    """Simulate the requests of a recorded run, and compare.

    Raises
    ------
    UserError
        If the configuration has batches that run to completion, or refuses some of the requests that the engine served.
    """
    if config.execution.name != "continuous":
        raise UserError(
            f"execution.name={config.execution.name}: engines join and leave requests between steps; "
            "choose execution=vllm or execution=continuous"
        )
    trace = Trace(recorded.arrival_s, recorded.prompt_tokens, recorded.output_tokens, source=recorded.source)
    result = run(config, trace)
    outcome = result.outcome
    refused = len(recorded) - len(outcome.arrival_s)
    if refused:
        raise UserError(
            f"{refused:,} of {len(recorded):,} requests do not fit gpu.kv_capacity_tokens="
            f"{result.summary['kv_capacity_tokens']:,}, and the engine served them: give its real capacity"
        )
    engine = Timeline(
        recorded.arrival_s,
        recorded.first_token_s,
        recorded.last_token_s,
        recorded.prompt_tokens,
        recorded.output_tokens,
    )
    simulated = dataclasses.replace(engine, first_token_s=outcome.first_token_s, last_token_s=outcome.finish_s)
    rows = table(engine, simulated)
    return Comparison(engine, simulated, rows, (*recorded.notes, *result.warnings, *_doubts(rows)))


def table(engine: Timeline, simulated: Timeline) -> tuple[Row, ...]:
    """Return the lines of the table."""
    pairs: list[tuple[str, str, float, float]] = []
    ours = simulated.per_request()
    for metric, values in engine.per_request().items():
        if len(values):
            pairs += [(metric, name, of(values), of(ours[metric])) for name, of in STATISTICS.items()]
    whole = simulated.whole()
    pairs += [(metric, "run", value, whole[metric]) for metric, value in engine.whole().items()]
    return tuple(Row(*pair, 100 * (pair[3] / pair[2] - 1) if pair[2] else np.nan) for pair in pairs)


def _doubts(rows: tuple[Row, ...]) -> list[str]:
    notes = []
    off = [row for row in rows if row.statistic == "p50" and row.mbexp and not 0.01 < row.engine / row.mbexp < 100]
    if off:
        notes.append(
            f"{off[0].metric} p50 is {off[0].engine:.4g} of the engine and {off[0].mbexp:.4g} simulated: "
            "a unit, or the card and model, may be wrong"
        )
    return notes


def text(comparison: Comparison) -> str:
    """Return the table and the notes in words."""
    lines = [f"{'metric':<32}{'statistic':<11}{'engine':>11}{'mbexp':>11}{'error':>10}"]
    for row in comparison.rows:
        lines.append(
            f"{row.metric:<32}{row.statistic:<11}{row.engine:>11.4g}{row.mbexp:>11.4g}{row.error_pct:>+8.1f} %"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes)])
