"""Metrics of the user's own: functions of the columns of requests and batches that become keys of the summary.

A file of the user's that imports mbexp holds them, and ``metrics=[my_metrics.wait_p90_s]`` names them::

    from mbexp import metric

    @metric(better="lower")
    def wait_p90_s(requests):
        return (requests["start_s"] - requests["arrival_s"]).quantile(0.9)
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mbexp.config.keys import Config
from mbexp.config.places import and_place, where_it_failed
from mbexp.config.plugins import load_object
from mbexp.errors import UserError
from mbexp.results.catalogue import Metric, register_own
from mbexp.results.catalogue.metric import SECTION_OF_OWN as SECTION
from mbexp.results.catalogue.metric import unit_of_name
from mbexp.results.metrics import warm_up_requests
from mbexp.results.tables import BatchTable, requests_table

if TYPE_CHECKING:
    import pandas as pd

    from mbexp.simulator.outcome import Outcome
    from mbexp.workload.trace import Trace

Function = Callable[..., float]


def metric(
    function: Function | None = None,
    *,
    key: str = "",
    unit: str = "",
    label: str = "",
    better: Literal["higher", "lower"] | None = None,
    definition: str = "",
) -> Any:
    """Make a function a metric. It is a decorator, with or without arguments.

    mbexp gives the function one data frame, ``requests``, with the columns of requests.parquet. The frame holds the
    measured requests: those that completed, without the warm-up. A function with a second argument, ``batches``, also
    gets the frame of batches.parquet. The function returns a number, or NaN if there is nothing to measure.

    Parameters
    ----------
    key
        Name in the summary and in tables. The default is the name of the function.
    unit
        Unit of the number. The default is the unit that the name ends in: ``_s``, ``_ms``, ``_tokens`` or ``_pct``.
    label
        Words for axes and tables. The default is made of the name.
    better
        ``"higher"`` or ``"lower"``, for verdicts and targets. None if more is neither better nor worse.
    definition
        Sentences that define the metric. The default is the docstring.

    Raises
    ------
    UserError
        If mbexp has a metric of this name, or the unit is not the one that the name ends in.
    """

    def decorate(function: Function) -> Function:
        name = key or function.__name__
        if not name.isidentifier():
            raise UserError(f"metric {name}: must be a name of letters, digits and underscores")
        if better not in ("higher", "lower", None):
            raise UserError(f"metric {name}: better={better}: must be higher, lower or None")
        told = " ".join((definition or inspect.getdoc(function) or f"The metric {name} of the user.").split())
        words = label or name.removesuffix(_ending(name)).replace("_", " ").capitalize()
        row = Metric(name, unit or unit_of_name(name), words, told, better, section=SECTION)
        register_own(row)
        function.metric_row = row  # type: ignore[attr-defined]
        return function

    return decorate if function is None else decorate(function)


def _ending(name: str) -> str:
    unit = unit_of_name(name)
    return "_" + unit.replace("%", "pct").replace("GB", "gb").replace("/s", "_per_s").replace("1_", "") if unit else ""


def own_metrics(
    config: Config, trace: Trace, outcome: Outcome, mode: BatchTable, functions: Sequence[Function] = ()
) -> dict[str, Any]:
    """Return the metrics that ``metrics`` names, and those of `functions`, by their keys.

    Raises
    ------
    UserError
        If one is not there, is no metric, fails or gives no number.
    """
    found = [(f"metrics={path}", load_object("metrics", path)) for path in config.metrics]
    found += [(f"metrics={getattr(function, '__name__', function)}", function) for function in functions]
    if not found:
        return {}
    values: dict[str, Any] = {}
    frames: list[pd.DataFrame] = []
    for where, function in found:
        row = getattr(function, "metric_row", None)
        if not isinstance(row, Metric):
            raise UserError(f"{where}{and_place(function)}: is no metric; decorate the function with mbexp.metric")
        register_own(row)  # in a worker that has it from a pickle
        wanted = _arguments(where, function)
        if not frames:
            frames.append(_measured(config, trace, outcome))
        if wanted == 2 and len(frames) == 1:
            frames.append(mode.table(outcome).to_pandas())
        try:
            value = function(*(frame.copy(deep=False) for frame in frames[:wanted]))
        except UserError:
            raise
        except Exception as error:
            code = getattr(function, "__code__", None)
            failed = where_it_failed(error, code.co_filename) if code else ""
            raise UserError(f"{where}: failed with {type(error).__name__}: {error}{failed}") from error
        if row.key in values:
            raise UserError(f"{where}: two metrics are called {row.key}")
        values[row.key] = _number(where, value)
    return values


def own_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is to be stored of the user's metrics in a summary, so that tables and figures know them later."""
    from mbexp.results.catalogue import catalogue

    fields = ("key", "unit", "label", "definition", "better")
    rows = [row for key, row in catalogue().items() if key in summary and row.section == SECTION]
    return [{name: getattr(row, name) for name in fields} for row in rows]


def _arguments(where: str, function: Function) -> int:
    takes = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    if not 1 <= len(takes) <= 2 or any(
        each.kind not in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in takes
    ):
        raise UserError(f"{where}{and_place(function)}: must take (requests) or (requests, batches)")
    return len(takes)


def _measured(config: Config, trace: Trace, outcome: Outcome) -> pd.DataFrame:
    """Return the completed requests without those of the warm-up, as every metric of requests takes them."""
    table = requests_table(outcome, trace)
    places = np.arange(len(trace)) if outcome.accepted is None else outcome.accepted
    frame: pd.DataFrame = table.to_pandas().iloc[places[warm_up_requests(config, outcome.arrival_s) :]]
    return frame


def _number(where: str, value: Any) -> float | int | bool:
    plain = value.item() if isinstance(value, np.generic) or getattr(value, "shape", None) == () else value
    if not isinstance(plain, numbers.Real):
        raise UserError(f"{where}: gives {type(value).__name__}, not a number")
    return plain if isinstance(plain, (bool, int)) else float(plain)
