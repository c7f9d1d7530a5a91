"""Hostile files: any bytes give a trace or one line of complaint, never another exception, a hang or a wrong trace."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mbexp.config.keys import load_config
from mbexp.config.workload_keys import MAX_TOKENS
from mbexp.errors import UserError
from mbexp.workload import cache, load_trace, sources, table_file
from mbexp.workload.rows import LONGEST_SPAN_S
from mbexp.workload.trace import Trace

VALID = {
    "burstgpt": (
        b"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\r\n"
        b"19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log\r\n"
        b"19440161.5,,2,ChatGPT,36,0,36,API log\r\n"
        b"19440161.5,,2,ChatGPT,36,29,65,API log\r\n"
    ),
    "azure": (
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
        b"2024-05-10 00:00:00.009930+00:00,374,44\n"
        b"2024-05-10 00:00:01+00:00,396,109\n"
        b"2024-05-10 00:00:00.5+00:00,1,1"
    ),
    "mooncake": (
        b'{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
        b'{"timestamp": 3000, "input_length": 2, "output_length": 1, "hash_ids": []}\n'
    ),
    "csv": b'arrival_s,prompt_tokens,output_tokens,who\n0.5,1,2,"a, b"\n0.75,3,4,\n',
}
SCRAPS = [
    *(b",", b"\n", b"\r", b"\r\n", b'"', b'""', b"\0", b"\xff", b"\xef\xbb\xbf", b" ", b"-", b"+", b".", b"e9", b"0x1"),
    *(b"nan", b"inf", b"NULL", b"N/A", b"1e400", b"-1", b"2147483647", b"2147483648", b"9" * 30, b"0.1", b"{", b"}"),
    *(b"[", b"]", b":", b"\\u0000", b"\\", b"true", b"null", b"[" * 3000, b'{"a":' * 3000, b"x" * 3000, b"\n" * 3000),
    *(b"2024-05-10 00:00:00", b"+00:00", b"Z", b"9999-99-99", b"\xe2\x80\xa8", b"\x85", b"#", b"'", b"1_0"),
]

few = settings(
    max_examples=int(os.environ.get("MBEXP_FUZZ_EXAMPLES", "50")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: None)
    monkeypatch.setattr(sources, "LINE_BYTES", 4096)
    monkeypatch.setattr(table_file, "RECORDS_AT_ONCE", 16)


def load(path: Path, kind: str, content: bytes) -> Trace | None:
    """Return a sound trace, or None where the file is refused in one line."""
    path.write_bytes(content)
    extra = {"columns": {"extra": ["who"]}} if kind == "csv" else {}
    workload = {"kind": kind, "path": str(path), "timestamps": "real", "spread_ties_s": 1.0} | extra
    config = load_config({"workload": workload}).workload
    trace, message = None, ""
    try:
        trace = load_trace(config, 5)
    except UserError as error:
        message = str(error)
    if trace is None:
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 1500
        return None
    assert 1 <= len(trace) <= 5
    assert trace.arrival_s[0] == 0
    assert np.all(np.diff(trace.arrival_s) >= 0)
    assert trace.arrival_s[-1] <= LONGEST_SPAN_S + 1
    for lengths in (trace.prompt_tokens, trace.output_tokens):
        assert lengths.dtype == np.int32
        assert lengths.min() >= 1
        assert lengths.max() <= MAX_TOKENS
    for column in trace.extra.values():
        assert len(column) == len(trace)
    return trace


@pytest.mark.parametrize("kind", VALID)
def test_unharmed_file_is_read(kind: str, tmp_path: Path) -> None:
    assert load(tmp_path / "trace", kind, VALID[kind]) is not None


@pytest.mark.parametrize("kind", VALID)
@few
@given(content=st.binary(max_size=300))
@example(content=b"")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\n")
@example(content=b'"')
def test_any_bytes(kind: str, tmp_path: Path, content: bytes) -> None:
    load(tmp_path / "trace", kind, content)


@pytest.mark.parametrize("kind", VALID)
@few
@given(body=st.lists(st.sampled_from(SCRAPS) | st.binary(max_size=5), max_size=12).map(b"".join))
def test_any_body_behind_a_valid_start(kind: str, tmp_path: Path, body: bytes) -> None:
    start = VALID[kind].splitlines(keepends=True)[0]
    load(tmp_path / "trace", kind, start + body)


@pytest.mark.parametrize("kind", VALID)
@few
@given(data=st.data())
def test_mutated_file(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    content = VALID[kind] * data.draw(st.sampled_from([1, 1, 40]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 6))
        content = content[:at] + data.draw(st.sampled_from(SCRAPS) | st.binary(max_size=3)) + content[at + gone :]
    fast = load(tmp_path / "trace", kind, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_file, "_fast_pieces", lambda *_: iter(()))
        slow = load(tmp_path / "trace", kind, content)
    if fast is not None and slow is not None:  # the slow way also refuses what is wrong with cells that nobody reads
        assert fast.sha256 == slow.sha256
        assert all(np.array_equal(fast.extra[name], slow.extra[name]) for name in fast.extra)


@few
@given(
    cells=st.lists(
        st.tuples(st.integers(-(2**70), 2**70), st.integers(-3, 2**33), st.floats() | st.integers(-5, 10**6)),
        min_size=1,
    )
)
def test_any_numbers_are_read_exactly_or_refused(tmp_path: Path, cells: list[tuple[int, int, float]]) -> None:
    rows = [f"{time!r},{prompt},{output}\n" for prompt, output, time in cells]
    trace = load(tmp_path / "trace", "csv", b"arrival_s,prompt_tokens,output_tokens,who\n" + "".join(rows).encode())
    assert trace is None  # three cells where the header has four
    rows = [row.replace("\n", ",x\n") for row in rows]
    trace = load(tmp_path / "trace", "csv", b"arrival_s,prompt_tokens,output_tokens,who\n" + "".join(rows).encode())
    fine = all(
        -1 <= prompt <= MAX_TOKENS and -1 <= output <= MAX_TOKENS and 0 <= time < float("inf")
        for prompt, output, time in cells
    )
    if not fine:
        assert trace is None
    elif trace is not None and len(trace) < 5 and len(cells) < 5:
        kept = sorted(((time, p, o) for p, o, time in cells if p > 0 and o > 0), key=lambda row: row[0])
        assert trace.prompt_tokens.tolist() == [row[1] for row in kept]
        assert trace.output_tokens.tolist() == [row[2] for row in kept]
