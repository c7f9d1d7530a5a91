"""Records of requests that engines and load generators write, a format each, told from the names in the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbexp.errors import UserError, nearest
from mbexp.workload.sources import refuse_all_but_text

SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class RawRecord:
    """One request as a reader gives it: `place` in the file in words, tokens, and instants in seconds of one clock."""

    place: str
    prompt_tokens: float
    output_tokens: float
    arrival_s: float
    first_token_s: float
    last_token_s: float


@dataclass(frozen=True)
class Options:
    """What a file may leave open: `prompt_tokens` of every request, and which of several `benchmark`s, from 1.

    `keys` are the names by which a user gives the two.
    """

    prompt_tokens: int | None = None
    benchmark: int | None = None
    keys: tuple[str, str] = ("--prompt-tokens", "--benchmark")


@dataclass(frozen=True)
class Found:
    """What a reader found: requests that succeeded, and sentences about the others."""

    records: list[RawRecord]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A format: its name, the keys that tell it, whether it is one document or a record a line, and its reader."""

    name: str
    keys: frozenset[str]
    lines: bool
    read: Callable[[str, Any, Options], Found]


def read_records(path: str, file: Path, options: Options, name: str | None = None) -> tuple[str, Found] | None:
    """Return the format of a file of JSON records and what it holds; None of a file that is no JSON object.

    Parameters
    ----------
    path
        The file's name, for messages.
    file
        The file.
    options
        What the file leaves open.
    name
        Format; None tells it from the names in the file.

    Raises
    ------
    UserError
        In one line: no known format, or a missing field.
    """
    refuse_all_but_text(file)
    text = _text(file)
    if not text.lstrip().startswith("{"):
        return None
    document, lines = _parse(path, text)
    first = document if document is not None else lines[0][1]
    form = FORMATS[name] if name is not None else _told(path, first)
    if form.lines:
        content: Any = lines if lines else [("line 1", document)]
    elif document is None:
        raise UserError(f"{path}: a record of {form.name} is one JSON document, this file has a document a line")
    else:
        content = document
    return form.name, form.read(path, content, options)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file}: is not UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error})") from None


def _parse(path: str, text: str) -> tuple[dict[str, Any] | None, list[tuple[str, dict[str, Any]]]]:
    """Return the one document of a file, or its documents by line."""
    try:
        return json.loads(text), []
    except json.JSONDecodeError:
        pass
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: is not JSON ({error.msg})") from None
            if not isinstance(record, dict):
                raise UserError(f"{path}, line {number}: is not a JSON object")
            records.append((f"line {number}", record))
    return None, records


def _told(path: str, record: Mapping[str, Any]) -> Format:
    for form in FORMATS.values():
        if form.keys <= record.keys():
            return form
    missing = {form.name: sorted(form.keys - record.keys()) for form in FORMATS.values()}
    close = min(missing, key=lambda each: len(missing[each]) / len(FORMATS[each].keys))
    raise UserError(
        f"{path}: no format that is read ({', '.join(FORMATS)}, csv); nearest is {close}, which has "
        f"{', '.join(missing[close])} as well"
    )


def _get(path: str, place: str, record: Any, *names: str) -> Any:
    """Return a field, named by the path to it, or raise in one line."""
    for depth, name in enumerate(names):
        if not isinstance(record, Mapping) or record.get(name) is None:
            near = nearest(name, record) if isinstance(record, Mapping) else ""
            raise UserError(f"{path}, {place}: no {'.'.join(names[: depth + 1])}{near}")
        record = record[name]
    return record


def _number(path: str, place: str, record: Any, *names: str) -> float:
    value = _get(path, place, record, *names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{path}, {place}: {'.'.join(names)}={value!r} is not a number")
    return float(value)


def _left_out(count: int, why: str) -> tuple[str, ...]:
    if not count:
        return ()
    who, them = ("1 request is", "it") if count == 1 else (f"{count:,} requests are", "them")
    return (f"{who} left out, {why}; the engine spent time on {them}, mbexp does not",)


def _llmservingsim(path: str, lines: list[tuple[str, dict[str, Any]]], options: Options) -> Found:
    """Read two clocks: arrivals on the wall's, tokens on the engine's monotonic one.

    A request is queued at or after its arrival, so engine time + max(arrival_time - queued_ts) is wall time: the
    tightest bound that the records give.
    """
    names = ("input_toks", "output_toks", "arrival_time", "queued_ts", "first_token_ts", "last_token_ts")
    rows = [[_number(path, place, record, name) for name in names] for place, record in lines]
    shift_s = max(arrival - queued for _, _, arrival, queued, _, _ in rows)
    records = [
        RawRecord(place, prompt, output, arrival, first + shift_s, last + shift_s)
        for (place, _), (prompt, output, arrival, _, first, last) in zip(lines, rows, strict=True)
    ]
    return Found(records, ("arrivals and tokens are on two clocks, joined by max(arrival_time - queued_ts)",))


def _vllm(path: str, document: dict[str, Any], options: Options) -> Found:
    names = ("input_lens", "output_lens", "start_times", "ttfts", "itls")
    columns = {name: document[name] for name in names}
    for name, values in columns.items():
        if not isinstance(values, list) or len(values) != len(columns["input_lens"]):
            raise UserError(f"{path}: {name} is not a list as long as input_lens")
    errors = document.get("errors") or [""] * len(columns["input_lens"])
    records, failed = [], 0
    for index, (prompt, output, start, ttft, gaps) in enumerate(zip(*columns.values(), strict=True)):
        if errors[index] or not output:
            failed += 1
            continue
        place = f"request {index}"
        row = {"input_lens": prompt, "output_lens": output, "start_times": start, "ttfts": ttft}
        prompt, output, start, ttft = (_number(path, place, row, name) for name in row)
        try:
            last = start + ttft + float(sum(gaps))
        except TypeError:
            raise UserError(f"{path}, {place}: itls is not a list of numbers") from None
        records.append(RawRecord(place, prompt, output, start, start + ttft, last))
    return Found(records, _left_out(failed, "failed"))


def _aiperf(path: str, lines: list[tuple[str, dict[str, Any]]], options: Options) -> Found:
    records, others = [], 0
    for place, record in lines:
        about = _get(path, place, record, "metadata")
        if (
            about.get("benchmark_phase", "profiling") != "profiling"
            or about.get("was_cancelled")
            or record.get("error")
        ):
            others += 1
            continue
        start, end = (_number(path, place, about, name) / 1e9 for name in ("request_start_ns", "request_end_ns"))
        metrics = _get(path, place, record, "metrics")
        unit = metrics.get("time_to_first_token", {}).get("unit", "ms")
        if unit not in SECONDS:
            raise UserError(
                f"{path}, {place}: metrics.time_to_first_token.unit={unit}: must be one of {', '.join(SECONDS)}"
            )
        ttft = _number(path, place, metrics, "time_to_first_token", "value") * SECONDS[unit]
        prompt, output = (
            _number(path, place, metrics, name, "value") for name in ("input_sequence_length", "output_sequence_length")
        )
        records.append(RawRecord(place, prompt, output, start, start + ttft, end))
    return Found(records, _left_out(others, "failed, cancelled or of the warm-up"))


def _genai_perf(path: str, document: dict[str, Any], options: Options) -> Found:
    if options.prompt_tokens is None:
        raise UserError(f"{path}: genai-perf records no lengths of prompts; give them with {options.keys[0]}=N")
    experiments = document["experiments"]
    experiment = _one_of(path, experiments, options, "experiments")
    records, failed = [], 0
    for index, request in enumerate(_get(path, "experiment", experiment, "requests")):
        place = f"request {index}"
        instants = request.get("response_timestamps") or []
        if not instants:
            failed += 1
            continue
        start = _number(path, place, request, "timestamp") / 1e9
        records.append(
            RawRecord(place, options.prompt_tokens, len(instants), start, instants[0] / 1e9, instants[-1] / 1e9)
        )
    notes = (
        f"every prompt has {options.prompt_tokens} tokens, as given; a response counts as one token, which holds "
        "where the server streams token by token",
    )
    return Found(records, (*notes, *_left_out(failed, "without a response")))


def _guidellm(path: str, document: dict[str, Any], options: Options) -> Found:
    benchmark = _one_of(path, document["benchmarks"], options, "benchmarks")
    records = []
    requests = _get(path, "benchmark", benchmark, "requests")
    for index, request in enumerate(_get(path, "benchmark.requests", requests, "successful")):
        place = f"request {index}"
        timings = _get(path, place, request, "info", "timings")
        start, first, last = (
            _number(path, place, timings, name)
            for name in ("request_start", "first_token_iteration", "last_token_iteration")
        )
        prompt, output = (_guidellm_tokens(path, place, request, name) for name in ("prompt", "output"))
        records.append(RawRecord(place, prompt, output, start, first, last))
    others = sum(len(requests.get(name) or []) for name in ("errored", "incomplete"))
    return Found(records, _left_out(others, "failed or not ended"))


def _guidellm_tokens(path: str, place: str, request: Mapping[str, Any], side: str) -> float:
    """Return the tokens of a side: its own field, or the total or the text of its metrics."""
    if request.get(f"{side}_tokens") is not None:
        return _number(path, place, request, f"{side}_tokens")
    name = "input_metrics" if side == "prompt" else "output_metrics"
    metrics = _get(path, place, request, name)
    total = "total_tokens" if metrics.get("total_tokens") is not None else "text_tokens"
    return _number(path, place, request, name, total)


def _one_of(path: str, choices: Any, options: Options, what: str) -> Any:
    if not isinstance(choices, list) or not choices:
        raise UserError(f"{path}: {what} is empty")
    if options.benchmark is None and len(choices) > 1:
        raise UserError(f"{path}: has {len(choices)} {what}; choose one with {options.keys[1]}=1 to {len(choices)}")
    number = options.benchmark or 1
    if not 1 <= number <= len(choices):
        raise UserError(f"{options.keys[1]}={number}: {path} has {what} 1 to {len(choices)}")
    return choices[number - 1]


def _format(name: str, keys: str, lines: bool, read: Callable[[str, Any, Options], Found]) -> Format:
    return Format(name, frozenset(keys.split()), lines, read)


FORMATS = {
    form.name: form
    for form in (
        _format("llmservingsim", "input_toks output_toks arrival_time queued_ts first_token_ts last_token_ts", True,
                _llmservingsim),
        _format("vllm", "input_lens output_lens start_times ttfts itls", False, _vllm),
        _format("aiperf", "metadata metrics", True, _aiperf),
        _format("genai-perf", "experiments", False, _genai_perf),
        _format("guidellm", "benchmarks", False, _guidellm),
    )
}  # fmt: skip
