"""Requests drawn from ServeGen's chunk files, which hold rates and lengths of a service's clients (arXiv 2505.09999).

``chunk-i-trace.csv`` has a line for each window of client i, without a header: start (s), requests per second,
coefficient of variation, pattern (Gamma or Weibull, blank where no request came), and two parameters of the pattern
(shape and scale). ``chunk-i-dataset.json`` has distributions of lengths by the second from which they hold.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.config.workload_keys import MAX_TOKENS, WorkloadConfig
from mbexp.errors import UserError, nearest
from mbexp.workload.cache import file_sha256
from mbexp.workload.find import find_file
from mbexp.workload.memory import check_memory
from mbexp.workload.rows import Rows, UsableRows, usable_rows
from mbexp.workload.sources import reading, refuse_all_but_text, shown
from mbexp.workload.trace import FloatArray, IntArray

CLOCK_RESOLUTION_S = 0.0
READS = ("path",)
CUTS_TIME = True  # `generate` draws a window of time alone: two weeks of a service are 100 million requests
STREAM_CLIENTS = 104
WINDOW_S = 600  # of ServeGen's windows, where a file has one line
_PATTERNS: dict[str, Callable[[np.random.Generator, float, int], FloatArray]] = {
    "Gamma": lambda rng, shape, count: rng.standard_gamma(shape, count),
    "Weibull": lambda rng, shape, count: rng.weibull(shape, count),
}
_TRACE, _DATASET = "chunk-{}-trace.csv", "chunk-{}-dataset.json"
_LENGTHS = ("input_tokens", "output_tokens")


@dataclass(frozen=True)
class _Client:
    """The files of one client, its windows in order of their starts, and its number."""

    number: int
    trace: Path
    starts_s: tuple[int, ...]
    windows: tuple[tuple[float, str, float] | None, ...]  # rate, pattern, shape; None of a window without requests

    @property
    def dataset(self) -> Path:
        return self.trace.with_name(_DATASET.format(self.number))

    @cached_property
    def periods(self) -> dict[int, dict[str, Any]]:
        """Return the distributions of lengths, as text, by their starts; those without any length are left out."""
        with reading(self.dataset):
            data = self.dataset.read_bytes()
        try:
            found = {int(start): fields for start, fields in json.loads(data).items()}
            kept = {start: fields for start, fields in found.items() if all(len(fields[name]) > 2 for name in _LENGTHS)}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UserError(
                f"{self.dataset}: is no ServeGen dataset: an object of {' and '.join(_LENGTHS)} for each period"
            ) from None
        return dict(sorted(kept.items()))


def files_sha256(workload: WorkloadConfig) -> str:
    """Return one hash of all files that the requests are drawn from."""
    whole = hashlib.sha256()
    for number, trace in _find(workload):
        for path in (trace, trace.with_name(_DATASET.format(number))):
            with reading(path):
                whole.update(f"{path.name}\0{file_sha256(path)}\0".encode())
    return whole.hexdigest()


def generate(workload: WorkloadConfig, num_requests: int | None, seed: int) -> UsableRows:
    """Draw the requests of all clients, window by window, until there are as many as asked for.

    Each window of a client has ``rate * length`` requests, rounded: as many as were counted. Their gaps are drawn from
    its pattern and stretched to fill the window. Prompt and output lengths are drawn apart, from the last period that
    began before the window (the first, where none did). A client and window has its own stream of the seed.
    """
    window = workload.window
    if window.kind not in ("rows", "time"):
        raise UserError(
            f"workload.window.kind={window.kind}: workload=servegen_clients draws what is asked for; use time (from "
            "start_s of the two weeks on) or rows"
        )
    clients = [_read_trace(number, path) for number, path in _find(workload)]
    starts_s = _common_starts(clients)
    width_s = starts_s[1] - starts_s[0] if len(starts_s) > 1 else WINDOW_S
    first_s = window.start_s if window.kind == "time" else 0.0
    last_s = first_s + window.duration_s if window.kind == "time" and window.duration_s is not None else np.inf
    wanted = None if num_requests is None else num_requests + (window.start_row if window.kind == "rows" else 0)
    parts: list[tuple[FloatArray, IntArray, IntArray, IntArray]] = []
    usable = 0
    for place, start_s in enumerate(starts_s):
        if start_s + width_s <= first_s:
            continue
        if start_s >= last_s or (wanted is not None and usable >= wanted):
            break
        for client in clients:
            drawn = _draw(client, place, width_s, seed)
            if drawn is None:
                continue
            arrival_s, prompt, output = drawn
            kept = (arrival_s >= first_s) & (arrival_s < last_s)
            prompt, output = prompt[kept], output[kept]
            parts.append((arrival_s[kept], prompt, output, np.full(len(prompt), client.number, np.int32)))
            usable += int(np.count_nonzero((prompt > 0) & (output > 0)))
            check_memory(usable, "the trace asked for")
    if not usable:
        raise UserError(f"workload.path={workload.path}: no client has a request in the time asked for")
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    names = sorted({name for client in clients for name in _left_out(client)})
    return usable_rows(
        Rows(
            arrival_s=columns[0],
            prompt_tokens=columns[1].astype(np.int32),
            output_tokens=columns[2].astype(np.int32),
            source=f"drawn from ServeGen's figures of {len(clients):,} client{'s' * (len(clients) != 1)} "
            f"({Path(str(workload.path)).name})",
            extra={"client": columns[3]},
            notes=(
                "prompt and output lengths are drawn apart: ServeGen's files hold no pairs",
                *([f"left out of ServeGen's files: {', '.join(names)}"] if names else []),
            ),
        )
    )


def _find(workload: WorkloadConfig) -> list[tuple[int, Path]]:
    """Return the number and the trace of each client, in order of the numbers."""
    path = find_file(workload.path, workload.kind, or_folder=True)
    there = [entry.name for entry in path.iterdir()] if path.is_dir() else [path.name]
    found = sorted(
        (int(match[1]), path / name if path.is_dir() else path)
        for name in there
        if (match := re.fullmatch(r"chunk-(\d+)-trace\.csv", name))
    )
    if not found:
        near = nearest("chunk-0-trace.csv", there) if path.is_dir() else ""
        raise UserError(
            f"workload.path={workload.path}: no chunk-0-trace.csv, chunk-1-trace.csv, ... of ServeGen{near}"
        )
    for number, trace in found:
        if not trace.with_name(_DATASET.format(number)).is_file():
            raise UserError(f"{trace}: {_DATASET.format(number)} with its lengths is missing beside it")
    return found


def _read_trace(number: int, path: Path) -> _Client:
    refuse_all_but_text(path)
    starts_s: list[int] = []
    windows: list[tuple[float, str, float] | None] = []
    with reading(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line, text in enumerate(lines, 1):
        cells = text.split(",")
        if len(cells) != 6:
            raise UserError(
                f"{path} line {line}: has {len(cells)} cells, not start, rate, cv, pattern and its 2 arguments"
            )
        try:
            start_s, rate, shape = int(cells[0]), float(cells[1]), float(cells[4])
        except ValueError:
            raise UserError(
                f"{path} line {line}: is not start, rate, cv, pattern and 2 numbers ({shown(text)})"
            ) from None
        pattern = cells[3].strip()
        if starts_s and start_s <= starts_s[-1]:
            raise UserError(f"{path} line {line}: start {start_s} s does not follow {starts_s[-1]} s")
        if not 0 <= rate <= 1e6:
            raise UserError(f"{path} line {line}: rate {cells[1]} is not between 0 and a million requests per second")
        if rate and pattern not in _PATTERNS:
            raise UserError(f"{path} line {line}: pattern {pattern!r} is none of {', '.join(_PATTERNS)}")
        if rate and not 1e-3 <= shape <= 1e3:
            raise UserError(f"{path} line {line}: shape {cells[4]} is not between 0.001 and 1,000")
        starts_s.append(start_s)
        windows.append((rate, pattern, shape) if rate else None)
    if not starts_s:
        raise UserError(f"{path}: is empty")
    return _Client(number, path, tuple(starts_s), tuple(windows))


def _common_starts(clients: list[_Client]) -> tuple[int, ...]:
    starts_s = clients[0].starts_s
    for client in clients:
        if client.starts_s != starts_s:
            raise UserError(f"{client.trace}: its windows do not start when those of {clients[0].trace.name} do")
    if len({later - sooner for sooner, later in itertools.pairwise(starts_s)}) > 1:
        raise UserError(f"{clients[0].trace}: its windows are not of one length")
    return starts_s


def _draw(client: _Client, place: int, width_s: float, seed: int) -> tuple[FloatArray, IntArray, IntArray] | None:
    """Return arrivals and lengths of one window of a client; None where it has no request."""
    window, start_s = client.windows[place], client.starts_s[place]
    count = round(window[0] * width_s) if window else 0
    if window is None or not count:
        return None
    if not client.periods:
        raise UserError(f"{client.dataset}: has no lengths, though {client.trace.name} has requests")
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM_CLIENTS, client.number, start_s]))
    gaps = _PATTERNS[window[1]](rng, window[2], count + 1)
    times = np.cumsum(gaps)
    arrival_s = start_s + times[:-1] * (width_s / times[-1])
    period = max((each for each in client.periods if each <= start_s), default=next(iter(client.periods)))
    prompt, output = (_lengths(client, period, name, rng.random(count)) for name in _LENGTHS)
    return arrival_s, prompt, output


def _lengths(client: _Client, period: int, name: str, uniform: FloatArray) -> IntArray:
    """Return a length for each of `uniform`, by the inverse of a distribution that is text: {tokens: probability}."""
    values, cumulative = _distribution(client, period, name)
    return values[np.searchsorted(cumulative, uniform, side="right")]


def _distribution(client: _Client, period: int, name: str) -> tuple[IntArray, FloatArray]:
    fields = client.periods[period]
    text = fields[name]
    if isinstance(text, str):  # parsed once for all windows of the period
        fields[name] = _parsed(text, f"{client.dataset}, period {period}: {name}")
    found: tuple[IntArray, FloatArray] = fields[name]
    return found


def _parsed(text: str, where: str) -> tuple[IntArray, FloatArray]:
    try:
        pairs: npt.NDArray[np.float64] = np.array(text.strip()[1:-1].replace(":", ",").split(","), np.float64)
        values, chances = pairs.reshape(-1, 2).T
    except ValueError:
        raise UserError(f"{where} is not {{tokens: probability, ...}} ({shown(text)})") from None
    good = np.isfinite(pairs).all() and (chances >= 0).all() and abs(chances.sum() - 1) < 1e-3
    if not good or not ((values >= 0) & (values <= MAX_TOKENS) & (values == np.floor(values))).all():
        raise UserError(f"{where} is no distribution of whole numbers of tokens, whose probabilities make 1")
    cumulative = np.cumsum(chances)
    cumulative /= cumulative[-1]
    cumulative[-1] = 1.0  # above every uniform number
    return values.astype(np.int32), cumulative


def _left_out(client: _Client) -> set[str]:
    if "periods" not in vars(client):  # its lengths were not needed
        return set()
    return {name for fields in client.periods.values() for name in fields if name not in _LENGTHS}
