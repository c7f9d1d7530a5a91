"""Readers of trace files: every format, every fault named by file, line and value, and figures of the real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbexp.config.keys import load_config
from mbexp.errors import UserError
from mbexp.workload import cache, load_trace, sources, table_file
from mbexp.workload.trace import Trace

BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
ROW = "5,ChatGPT,472,18,490,Conversation log\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
MOONCAKE = '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
CSV = "arrival_s,prompt_tokens,output_tokens\n"


@pytest.fixture(autouse=True)
def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: None)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Trace]:
    """Write a file and load all of it, with real timestamps."""

    def write_and_load(content: str | bytes, kind: str = "burstgpt", **keys: Any) -> Trace:
        path = tmp_path / "trace.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        workload = {"kind": kind, "path": str(path), "timestamps": "real", "spread_ties_s": 0.0} | keys
        return load_trace(load_config({"workload": workload}).workload, None, 0)

    return write_and_load


class TestFormats:
    def test_burstgpt_1(self, load: Callable[..., Trace]) -> None:
        trace = load(BURSTGPT + ROW + "9,GPT-4,1,2,3,API log\n" + "12,GPT-4,7,0,7,API log\n" + "20,,4,5,9,\n")
        assert trace.arrival_s.tolist() == [0.0, 4.0, 15.0]
        assert trace.prompt_tokens.tolist() == [472, 1, 4]
        assert trace.output_tokens.tolist() == [18, 2, 5]
        assert trace.arrival_s.dtype == np.float64
        assert trace.prompt_tokens.dtype == trace.output_tokens.dtype == np.int32
        assert trace.dropped == {"failed": 1}
        assert trace.changed == {}
        assert trace.labels("model").tolist() == ["ChatGPT", "GPT-4", ""]
        assert trace.labels("log_type").tolist() == ["Conversation log", "API log", ""]
        assert trace.source == "BurstGPT format (file trace.csv)"

    def test_burstgpt_3_columns_are_found_by_name(self, load: Callable[..., Trace]) -> None:
        header = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        rows = [
            "19440110.0,1722ac82-0a46,43,GPT-4,906,446,1352,Conversation log\n",
            "19440161.5,,2,ChatGPT,36,29,65,API log\n",
            "19440192.0,d5983bf9-4b48,1.5,ChatGPT,37,30,67,Conversation log\n",
            "19440200.0,1722ac82-0a46,43,GPT-4,907,447,1354,Conversation log\n",
        ]
        trace = load(header + "".join(rows))
        assert trace.arrival_s.tolist() == [0.0, 51.5, 82.0, 90.0]
        assert trace.prompt_tokens.tolist() == [906, 36, 37, 907]
        assert trace.output_tokens.tolist() == [446, 29, 30, 447]
        assert trace.extra["session"].tolist() == [0, -1, 1, 0]
        assert "session" not in trace.categories

    def test_azure_2023_seven_digits_crlf_no_final_newline(self, load: Callable[..., Trace]) -> None:
        trace = load(
            AZURE.replace("\n", "\r\n") + "2023-11-16 23:59:59.6805900,374,44\r\n2023-11-17 00:00:00.6805901,396,109",
            "azure",
        )
        assert trace.arrival_s.tolist() == pytest.approx([0.0, 1.0000001], abs=1e-12)
        assert trace.output_tokens.tolist() == [44, 109]

    def test_azure_2024_offsets_from_utc_with_and_without_fraction(self, load: Callable[..., Trace]) -> None:
        times = ["00:00:00.009930+00:00", "00:00:01+00:00", "00:00:02Z", "02:00:03+02:00"]
        trace = load(AZURE + "".join(f"2024-05-10 {time},374,44\n" for time in times), "azure")
        assert trace.arrival_s.tolist() == pytest.approx([0.0, 0.99007, 1.99007, 2.99007], abs=1e-9)

    def test_mooncake_milliseconds(self, load: Callable[..., Trace]) -> None:
        trace = load(MOONCAKE + '{"output_length": 1.0, "timestamp": 27482, "input_length": 2}', "mooncake")
        assert trace.arrival_s.tolist() == [0.0, 27.482]
        assert trace.prompt_tokens.tolist() == [6758, 2]
        assert "hash_ids" in trace.notes[0]

    def test_csv_names_units_and_extra_columns(self, load: Callable[..., Trace]) -> None:
        content = "who,out,in,t,price,in.2\nann,3,2,1500,0.5,x\nbob,5,4,3500,,y\n,7,6,4000,2,x\n"
        columns = {"arrival": "t", "prompt": "in", "output": "out", "extra": ["price", "who"]}
        trace = load(content, "csv", columns=columns, time_unit_s=0.001)
        assert trace.arrival_s.tolist() == [0.0, 2.0, 2.5]
        assert trace.prompt_tokens.tolist() == [2, 4, 6]
        assert trace.output_tokens.tolist() == [3, 5, 7]
        assert trace.labels("who").tolist() == ["ann", "bob", ""]
        assert trace.extra["price"].dtype == np.float64
        np.testing.assert_equal(trace.extra["price"], [0.5, np.nan, 2.0])

    def test_csv_dates_take_no_unit(self, load: Callable[..., Trace]) -> None:
        trace = load(CSV + "2024-01-01 00:00:01,2,3\n2024-01-01T00:01:02.5,2,3\n", "csv", time_unit_s=60.0)
        assert trace.arrival_s.tolist() == [0.0, 61.5]

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("final", [True, False])
    def test_byte_order_mark_line_ends_and_last_line(
        self, load: Callable[..., Trace], end: str, bom: bytes, final: bool
    ) -> None:
        text = (BURSTGPT + ROW + "\n" + ROW).replace("\n", end)
        assert len(load(bom + (text if final else text.removesuffix(end)).encode())) == 2

    def test_quoted_cells_reordered_columns_and_spaces(self, load: Callable[..., Trace]) -> None:
        trace = load('Response tokens , "Timestamp",Model,Request tokens\n"7"," 1 ","a, ""b""", 2.0\n')
        assert (trace.output_tokens[0], trace.prompt_tokens[0], trace.labels("model")[0]) == (7, 2, 'a, "b"')

    def test_pieces_join_without_a_seam(self, load: Callable[..., Trace], monkeypatch: pytest.MonkeyPatch) -> None:
        rows = [f"{second},{('A', 'B', 'C')[second % 3]},{second + 1},{second + 2},0,x\n" for second in range(2000)]
        content = BURSTGPT + "".join(rows)
        whole = load(content)
        monkeypatch.setattr(sources, "LINE_BYTES", 1000)
        monkeypatch.setattr(table_file, "RECORDS_AT_ONCE", 150)
        slow = content.replace("\n1,B,", '\n"1\n",B,')  # a cell that the fast way cannot read, and the slow one can
        for pieces in (load(content), load(slow)):
            assert pieces.sha256 == whole.sha256
            assert pieces.labels("model").tolist() == whole.labels("model").tolist()
        with pytest.raises(UserError, match=r"line 2003: 'Request tokens' is '\?', not a whole number"):
            load(content + ROW + "9,A,?,1,1,x\n" + ROW)
        dates = AZURE + "".join(f"2024-05-10 00:{s // 60 % 60:02}:{s % 60:02}.5+00:00,1,1\n" for s in range(2000))
        assert load(dates, "azure").arrival_s.tolist() == list(range(2000))

    def test_many_texts_get_wide_codes(self, load: Callable[..., Trace]) -> None:
        content = CSV.strip() + ",user\n" + "".join(f"{second},1,1,user {second % 1500}\n" for second in range(3000))
        trace = load(content, "csv", columns={"extra": ["user"]})
        assert trace.labels("user").tolist() == [f"user {second % 1500}" for second in range(3000)]
        assert trace.extra["user"].dtype == np.int16
        assert np.array_equal(trace.extra["user"], np.arange(3000) % 1500)


class TestFaults:
    """What a user sees: one line with file, line and value."""

    @pytest.mark.parametrize(
        ("content", "kind", "message"),
        [
            ("", "burstgpt", "is empty"),
            ("", "mooncake", "is empty"),
            ("\n\n", "burstgpt", "line 1: is blank"),
            ("\n\n", "mooncake", "line 1: is blank"),
            (BURSTGPT, "burstgpt", "no usable request: it has no rows"),
            (
                BURSTGPT + "5,A,0,0,0,x\n6,A,4,0,4,x\n7,A,0,4,4,x\n",
                "burstgpt",
                "(left out: 2 failed, 1 zero_prompt_tokens)",
            ),
            (AZURE + "2023-11-16 18:15:46,0,0\n", "azure", "(left out: 1 zero_output_tokens)"),
            (
                BURSTGPT.replace("Response tokens", "Response_tokens") + ROW,
                "burstgpt",
                "has no column 'Response tokens' (did you mean 'Response_tokens'?)",
            ),
            (AZURE, "burstgpt", "it looks like a file for workload=azure"),
            (BURSTGPT, "azure", "it looks like a file for workload=burstgpt"),
            (MOONCAKE, "azure", "it looks like a file for workload=mooncake"),
            (CSV.replace(",", "?"), "csv", "?output_tokens'; name yours with workload.columns.arrival=NAME"),
            (BURSTGPT.replace("Model", "Timestamp"), "burstgpt", "has 2 columns called 'Timestamp'"),
            (
                BURSTGPT + ROW * 15 + "9,A,4,abc,4,x\n" + ROW,
                "burstgpt",
                "line 17: 'Response tokens' is 'abc', not a whole number",
            ),
            (CSV + "9,1,1\n,3,3\n", "csv", "line 3: 'arrival_s' is empty"),
            (CSV + "2024-01-01 00:00:00,1,x\n", "csv", "line 2: 'output_tokens' is 'x', not a whole number"),
            (CSV + "2024-01-01 00:00:00,1,1\n,1,1\n", "csv", "line 3: 'arrival_s' is empty"),
            (BURSTGPT + ROW + "9,A,1.5,3,3,x\n", "burstgpt", "line 3: 'Request tokens' is '1.5', not a whole number"),
            (BURSTGPT + ROW + "9,A,-4,3,3,x\n", "burstgpt", "line 3: 'Request tokens' is '-4', below 0"),
            (BURSTGPT + ROW + "9,A,3,inf,3,x\n", "burstgpt", "line 3: 'Response tokens' is 'inf', not a whole number"),
            (BURSTGPT + ROW + "9,A,3,1_0,3,x\n", "burstgpt", "line 3: 'Response tokens' is '1_0', not a whole number"),
            (
                BURSTGPT + ROW + "9,A,3000000000,3,3,x\n",
                "burstgpt",
                "line 3: 'Request tokens' is '3000000000', above 2147483647",
            ),
            (BURSTGPT + ROW + f"9,A,1{'0' * 60},3,3,x\n", "burstgpt", "0...', above 2147483647"),
            (BURSTGPT + "-9,A,4,3,3,x\n", "burstgpt", "line 2: 'Timestamp' is '-9', below 0"),
            (BURSTGPT + ROW + "nan,A,4,3,3,x\n", "burstgpt", "line 3: 'Timestamp' is 'nan', not a finite number"),
            (BURSTGPT + ROW + "inf,A,4,3,3,x\n", "burstgpt", "line 3: 'Timestamp' is 'inf', not a finite number"),
            (BURSTGPT + ROW + "1e400,A,4,3,3,x\n", "burstgpt", "line 3: 'Timestamp' is '1e400', not a finite number"),
            (BURSTGPT + ROW + "NA,A,4,3,3,x\n", "burstgpt", "line 3: 'Timestamp' is 'NA', not a number"),
            (BURSTGPT + ROW + "1e300,A,4,3,3,x\n", "burstgpt", "arrivals span 1e+300 s, more than 30,000 years"),
            (BURSTGPT + ROW + "9,A,3\n", "burstgpt", "line 3: has 3 columns, the header has 6"),
            (BURSTGPT + ROW + "9,A,3,3,3,3,3\n", "burstgpt", "line 3: has 7 columns, the header has 6"),
            (BURSTGPT + ROW + "   \n", "burstgpt", "line 3: has 1 column, the header has 6"),
            (BURSTGPT + ROW + '9,"A,3,3,3,x\n' + ROW * 2, "burstgpt", "line 3: has a quote that is not closed"),
            (BURSTGPT + ROW + '9,"A\nB",3,?,3,x\n', "burstgpt", "line 3: 'Response tokens' is '?', not a whole number"),
            (BURSTGPT + '9,"A\nB",3,3,3,x\n9,A,?,1,1,x\n', "burstgpt", "line 4: 'Request tokens' is '?'"),
            ((BURSTGPT + ROW).encode() + b"9,\xfc,3,3,3,x\n", "burstgpt", "line 3: is not UTF-8 text"),
            (b"\xfc," + (BURSTGPT + ROW).encode(), "burstgpt", "line 1: is not UTF-8 text"),
            ((BURSTGPT + ROW).encode("utf-16"), "burstgpt", "is UTF-16 text"),
            ((BURSTGPT + ROW).encode("utf-16-le"), "burstgpt", "line 1: holds NUL bytes"),
            (BURSTGPT + ROW + "9,A,\0,3,3,x\n", "burstgpt", "line 3: holds NUL bytes"),
            (b"\x1f\x8b\x08\x00", "burstgpt", "cannot be read ("),
            (b"\x28\xb5\x2f\xfd....", "burstgpt", "cannot be read ("),
            (b"PK\x03\x04", "burstgpt", "is a zip archive: unpack it first"),
            (b"PAR1....", "azure", "is no Parquet file that can be read ("),
            ("version https://git-lfs.github.com/spec/v1\n", "burstgpt", "is a Git LFS pointer"),
            ("<!DOCTYPE html>", "mooncake", "is a web page"),
            (AZURE + "yesterday,1,1\n", "azure", "line 2: 'TIMESTAMP' is 'yesterday', not a date and time such as"),
            (AZURE + ",1,1\n", "azure", "line 2: 'TIMESTAMP' is empty"),
            (AZURE + "2024-13-10 00:00:00,1,1\n", "azure", "line 2: 'TIMESTAMP' is '2024-13-10 00:00:00', not a date"),
            (
                AZURE + "2024-05-10 00:00:00+00:00,1,1\n2024-05-10 00:00:01,1,1\n",
                "azure",
                "line 3: 'TIMESTAMP' is '2024-05-10 00:00:01', without an offset from UTC, unlike the first row",
            ),
            (
                AZURE + "2024-05-10 00:00:00,1,1\n2024-05-10 00:00:01Z,1,1\n",
                "azure",
                "line 3: 'TIMESTAMP' is '2024-05-10 00:00:01Z', with an offset from UTC, unlike the first row",
            ),
            (
                CSV + "1/2/2024,2,3\n",
                "csv",
                "line 2: 'arrival_s' is '1/2/2024', neither a number nor a date and time such as",
            ),
            (CSV + "2024-01-01,2,3\n5,2,3\n", "csv", "line 3: 'arrival_s' is '5', not a date and time such as"),
            (MOONCAKE + "{oops\n" + MOONCAKE, "mooncake", "line 2: is not a JSON object ('{oops')"),
            (MOONCAKE + "[1, 2]\n", "mooncake", "line 2: is not a JSON object"),
            (MOONCAKE + "[" * 100_000 + "\n", "mooncake", "line 2: is not a JSON object"),
            ("[" * 100_000, "mooncake", "is not a JSON array"),
            ("[" + MOONCAKE + ", 3]", "mooncake", "record 2: is not a JSON object ('3')"),
            (BURSTGPT + ROW, "mooncake", "has no column 'timestamp' (did you mean 'Timestamp'?)"),
            (
                MOONCAKE.replace("input_length", "input_lenght"),
                "mooncake",
                "has no column 'input_length' (did you mean 'input_lenght'?)",
            ),
            (
                MOONCAKE + MOONCAKE.replace("input_length", "input_lenght"),
                "mooncake",
                "line 2: has no 'input_length' (did you mean 'input_lenght'?)",
            ),
            (
                MOONCAKE + MOONCAKE.replace("6758", '"many"'),
                "mooncake",
                "line 2: 'input_length' is 'many', not a whole number",
            ),
            (
                MOONCAKE + MOONCAKE.replace("6758", "[]"),
                "mooncake",
                "line 2: 'input_length' is '[]', not a whole number",
            ),
            (
                MOONCAKE + MOONCAKE.replace("6758", "1.5"),
                "mooncake",
                "line 2: 'input_length' is '1.5', not a whole number",
            ),
            (MOONCAKE + MOONCAKE.replace("6758", "-2"), "mooncake", "line 2: 'input_length' is '-2', below 0"),
            (
                MOONCAKE + MOONCAKE.replace("6758", "1e10"),
                "mooncake",
                "line 2: 'input_length' is '10000000000.0', above 2147483647",
            ),
            (
                MOONCAKE + MOONCAKE.replace(" 0,", " NaN,", 1),
                "mooncake",
                "line 2: 'timestamp' is 'NaN', not a finite number",
            ),
            (
                MOONCAKE + MOONCAKE.replace(" 0,", " true,", 1),
                "mooncake",
                "line 2: 'timestamp' is 'true', not a number",
            ),
        ],
    )
    def test_message(self, load: Callable[..., Trace], content: str | bytes, kind: str, message: str) -> None:
        with pytest.raises(UserError) as caught:
            load(content, kind)
        text = str(caught.value)
        assert message in text
        assert "trace.csv" in text
        assert "\n" not in text
        assert len(text) < 500

    @pytest.mark.parametrize("size", [2 << 20, 20 << 20])
    @pytest.mark.parametrize("kind", ["burstgpt", "mooncake"])
    def test_gigantic_line_is_refused(self, load: Callable[..., Trace], size: int, kind: str) -> None:
        good = (BURSTGPT + ROW).encode() if kind == "burstgpt" else (MOONCAKE * 2).encode()
        with pytest.raises(UserError, match=r"line 3: is longer than 1,048,576 bytes"):
            load(good + b"9," + b"x" * size + b",3\n" + ROW.encode(), kind)
        with pytest.raises(UserError, match=r"line 1: is longer than 1,048,576 bytes"):
            load(b"x" * size, kind)

    def test_one_request(self, load: Callable[..., Trace]) -> None:
        trace = load(BURSTGPT + ROW)
        assert trace.arrival_s.tolist() == [0.0]

    def test_all_at_one_instant(self, load: Callable[..., Trace]) -> None:
        assert load(BURSTGPT + ROW * 4).arrival_s.tolist() == [0.0] * 4
        spread = load(BURSTGPT + ROW * 4, spread_ties_s=1.0)
        assert spread.arrival_s.tolist() == [0.0, 0.25, 0.5, 0.75]
        assert spread.changed == {"ties_spread": 3}

    def test_unsorted_rows_are_sorted_stably_and_counted(self, load: Callable[..., Trace]) -> None:
        rows = "9,A,1,1,2,x\n5,A,2,1,3,x\n9,A,3,1,4,x\n7,A,4,1,5,x\n"
        trace = load(BURSTGPT + rows)
        assert trace.arrival_s.tolist() == [0.0, 2.0, 4.0, 4.0]
        assert trace.prompt_tokens.tolist() == [2, 4, 1, 3]
        assert trace.changed == {"sorted_by_time": 2}
        assert trace.notes == ("2 rows were out of order and sorted by time",)

    def test_columns_named_twice(self, load: Callable[..., Trace]) -> None:
        with pytest.raises(UserError, match="column 'arrival_s' is named 2 times"):
            load(CSV + "1,2,3\n", "csv", columns={"extra": ["arrival_s"]})


class TestRealFiles:
    """Figures of the published files, computed elsewhere on the same rows."""

    @pytest.mark.parametrize(
        ("name", "kind", "rows", "prompts", "outputs", "means", "rate", "cv"),
        [
            (
                "AzureLLMInferenceTrace_conv.csv",
                "azure",
                19_366,
                (1020, 2735, 4142, 14050),
                (129, 424, 601, 1000),
                (1155, 211),
                5.53,
                1.09,
            ),
            (
                "mooncake_conversation_trace.jsonl",
                "mooncake",
                12_031,
                (6909, 27367, 85400, 126195),
                (350, 597, 1119, 2000),
                (12035, 343),
                3.40,
                3.03,
            ),
        ],
    )
    def test_figures(
        self,
        shared_trace: Callable[[str], Path],
        name: str,
        kind: str,
        rows: int,
        prompts: tuple[int, ...],
        outputs: tuple[int, ...],
        means: tuple[int, int],
        rate: float,
        cv: float,
    ) -> None:
        workload = {"kind": kind, "path": str(shared_trace(name)), "timestamps": "real"}
        trace = load_trace(load_config({"workload": workload}).workload)
        assert len(trace) == rows
        assert trace.dropped == trace.changed == {}
        assert trace.source.endswith("as published")
        for lengths, quantiles, mean in zip(
            (trace.prompt_tokens, trace.output_tokens), (prompts, outputs), means, strict=True
        ):
            assert np.percentile(lengths, [50, 90, 99, 100]) == pytest.approx(quantiles, abs=0.6)
            assert lengths.mean() == pytest.approx(mean, abs=0.5)
        gaps = np.diff(trace.arrival_s)
        assert 1 / gaps.mean() == pytest.approx(rate, abs=0.005)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.005)

    def test_head_of_burstgpt(self, shared_trace: Callable[[str], Path]) -> None:
        path = shared_trace("BurstGPT_1_head.csv")
        workload = {"kind": "burstgpt", "path": str(path), "timestamps": "real"}
        trace = load_trace(load_config({"workload": workload}).workload)
        failed = sum(line.split(",")[3] == "0" for line in path.read_text().splitlines()[1:])
        assert (len(trace), trace.dropped) == (400 - failed, {"failed": failed})
        assert set(trace.labels("model")) == {"ChatGPT", "GPT-4"}
        assert trace.changed["ties_spread"] > 0  # its clock has whole seconds, and null spreads what the kind needs
        assert trace.file_sha256 == "7865fda5dac50938a84dfccb06c405e2f5202969ecfbd671c8399de00f4335f0"

    def test_mooncake_batches_can_be_spread(self, shared_trace: Callable[[str], Path]) -> None:
        workload = {
            "kind": "mooncake",
            "path": str(shared_trace("mooncake_conversation_trace.jsonl")),
            "timestamps": "real",
            "spread_ties_s": 3.0,
        }
        trace = load_trace(load_config({"workload": workload}).workload)
        gaps = np.diff(trace.arrival_s)
        assert gaps.min() > 0
        assert gaps.std() / gaps.mean() < 1.0
        assert trace.changed == {"ties_spread": 10_851}


def test_a_disk_that_fails_while_a_file_is_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(.*Is a directory"):
        sources.open_source(tmp_path, [])


class TestForms:
    """The same requests in every form that is read."""

    ROWS = (("2024-05-10 00:00:00.25", 10, 5, "a, b"), ("2024-05-10 00:00:01", 20, 6, 'say "x"'),
            ("2024-05-10 00:01:02", 30, 7, "two\nlines"))  # fmt: skip
    NAMES = ("arrival_s", "prompt_tokens", "output_tokens", "who")

    def content(self, form: str) -> bytes:
        import gzip
        import io
        import json

        import pyarrow as pa
        import pyarrow.csv as pa_csv
        import pyarrow.parquet as parquet

        columns = dict(zip(self.NAMES, map(list, zip(*self.ROWS, strict=True)), strict=True))
        table, out = pa.table(columns), io.BytesIO()
        if form.startswith("parquet"):
            if "timestamps" in form:
                table = table.set_column(0, "arrival_s", table["arrival_s"].cast(pa.timestamp("ns")))
            parquet.write_table(table, out)
        elif "json" in form:
            records = [json.dumps(dict(zip(self.NAMES, row, strict=True))) for row in self.ROWS]
            out.write((f"[{', '.join(records)}]" if "array" in form else "\n".join(records)).encode())
        else:
            separator = {"semicolons": ";", "tabs": "\t", "bars": "|"}.get(form, ",")
            pa_csv.write_csv(table, out, pa_csv.WriteOptions(delimiter=separator))
        plain = out.getvalue()
        if "zstd" in form:
            return bytes(pa.Codec("zstd").compress(plain, asbytes=True))
        return gzip.compress(plain[:40]) + gzip.compress(plain[40:]) if "gzip" in form else plain

    @pytest.mark.parametrize(
        "form",
        ["commas", "semicolons", "tabs", "bars", "gzip", "zstd", "json", "json gzip", "json array", "parquet",
         "parquet timestamps"],
    )  # fmt: skip
    def test_form(self, load: Callable[..., Trace], form: str) -> None:
        trace = load(self.content(form), "csv", columns={"extra": ["who"]})
        assert trace.arrival_s.tolist() == [0.0, 0.75, 61.75]
        assert trace.prompt_tokens.tolist() == [10, 20, 30]
        assert trace.output_tokens.tolist() == [5, 6, 7]
        assert trace.labels("who").tolist() == [row[3] for row in self.ROWS]

    def test_a_bad_cell_of_parquet_has_its_row(self, load: Callable[..., Trace]) -> None:
        import io

        import pyarrow as pa
        import pyarrow.parquet as parquet

        out = io.BytesIO()
        parquet.write_table(pa.table({"arrival_s": [0, 1], "prompt_tokens": [1, 2], "output_tokens": [1.0, 2.5]}), out)
        with pytest.raises(UserError, match=r"row 2: 'output_tokens' is '2.5', not a whole number"):
            load(out.getvalue(), "csv")

    def test_named_fields_of_json_and_packed_files_of_every_kind(self, load: Callable[..., Trace]) -> None:
        import gzip

        line = '{"t": 3, "tokens": {"x": 1}, "in": 7, "out": 8, "model": "m"}\n{"t": 4.5, "in": 9, "out": 1}\n'
        columns = {"arrival": "t", "prompt": "in", "output": "out", "extra": ["model"]}
        trace = load(line, "csv", columns=columns)
        assert (trace.arrival_s.tolist(), trace.labels("model").tolist()) == ([0.0, 1.5], ["m", ""])
        for content, kind in ((BURSTGPT + ROW, "burstgpt"), (AZURE + "2024-05-10 00:00:00,1,1\n", "azure")):
            assert load(gzip.compress(content.encode()), kind).sha256 == load(content, kind).sha256
        assert load(gzip.compress(MOONCAKE.encode()), "mooncake").sha256 == load(MOONCAKE, "mooncake").sha256


@pytest.mark.parametrize("cell", ["", "nan", "NaN", "null", "-1", " ", "None", "-1.0"])
def test_a_failed_call_without_tokens_is_left_out_and_counted(load: Callable[..., Trace], cell: str) -> None:
    trace = load(CSV + f"0,100,10\n1,200,{cell}\n1.5,{cell},3\n2,50,5\n", "csv")
    assert trace.arrival_s.tolist() == [0.0, 2.0]
    assert trace.output_tokens.tolist() == [10, 5]
    assert trace.dropped == {"no_token_count": 2}
    if cell in ("null", "NaN", "-1"):
        json_trace = load(MOONCAKE + MOONCAKE.replace("6758", cell), "mooncake")
        assert (len(json_trace), json_trace.dropped) == (1, {"no_token_count": 1})


class TestWhere:
    ROWS = CSV.strip() + ",model,status\n0,1,1,a,200\n1,2,2,b,200\n2,3,3,a,500\n3,4,0,a,200\n4,5,5,,201\n"

    @pytest.mark.parametrize(
        ("where", "prompts", "dropped"),
        [
            ({"model": "a"}, [1, 3], {"not_asked_for": 2, "zero_output_tokens": 1}),
            ({"model": ["a", "b"], "status": 200}, [1, 2], {"not_asked_for": 2, "zero_output_tokens": 1}),
            ({"model": ""}, [5], {"not_asked_for": 4}),
            ({"model": None}, [5], {"not_asked_for": 4}),
            ({"Status": [500, 201]}, [3, 5], {"not_asked_for": 3}),
        ],
    )
    def test_rows(self, load: Callable[..., Trace], where: Any, prompts: list[int], dropped: dict[str, int]) -> None:
        trace = load(self.ROWS, "csv", where=where, columns={"extra": ["model"]})
        assert trace.prompt_tokens.tolist() == prompts
        assert trace.dropped == dropped

    def test_names_of_burstgpt(self, load: Callable[..., Trace]) -> None:
        trace = load(BURSTGPT + ROW + "9,GPT-4,1,2,3,API log\n", where={"log_type": "API log"})
        assert trace.prompt_tokens.tolist() == [1]
        assert trace.source == "BurstGPT format (file trace.csv); rows with log_type=API log"

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ({"model": "c"}, r"workload.where.model=c: no row of .* has it.*; it has 'a', 'b'"),
            ({"modle": "a"}, r"has no column 'modle' \(did you mean 'model'\?\)"),
            ({"prompt_tokens": 1}, "workload.where.prompt_tokens: 'prompt_tokens' is a column of numbers"),
            ({"model": {"a": 1}}, "workload.where.model={'a': 1}: must be a value, or a list of values"),
            ({"model": []}, r"workload.where.model=\[\]: must be a value, or a list of values"),
        ],
    )
    def test_mistakes(self, load: Callable[..., Trace], where: Any, message: str) -> None:
        with pytest.raises(UserError, match=message):
            load(self.ROWS, "csv", where=where)


class TestUnitOfTime:
    SECONDS = "".join(
        f'{{"timestamp": {time}, "input_length": 5, "output_length": 5, "turn": 1}}\n' for time in (0.0, 61.0, 62.5)
    )

    def test_a_mooncake_form_file_in_seconds_is_doubted_and_can_be_told(self, load: Callable[..., Trace]) -> None:
        doubted = load(self.SECONDS, "mooncake")
        assert "unit of time in doubt: times were read as milliseconds, but some have fractions" in doubted.notes[0]
        assert "workload.time_unit_s=1 reads them so" in doubted.notes[0]
        told = load(self.SECONDS, "mooncake", time_unit_s=1.0)
        assert (told.arrival_s.tolist(), told.notes) == ([0.0, 61.0, 62.5], ())
        assert load(self.SECONDS, "mooncake", time_unit_s=0.001).notes == ()

    @pytest.mark.parametrize(
        ("kind", "times", "said"),
        [
            ("csv", [1700000000000 + 500 * at for at in range(9)], "1700000000000 looks like milliseconds since 1970"),
            (
                "csv",
                [1.7e18 + 5e8 * at for at in range(9)],
                "looks like nanoseconds since 1970; workload.time_unit_s=1e-09",
            ),
            ("csv", [300 * at for at in range(9)], "that is one request in 300 s, and all are whole numbers"),
            ("csv", [30 * at for at in range(9)], None),
            ("csv", [300.5 * at for at in range(9)], None),
            ("csv", [1700000000 + at for at in range(9)], None),
            ("csv", [0, 10_000_000], None),
            ("mooncake", [1700000000 + at for at in range(9)], "1700000000 looks like seconds since 1970"),
            ("mooncake", [1700000000000 + 90 * at for at in range(9)], None),
            ("mooncake", list(range(9)), "that is 1,000 requests a second; workload.time_unit_s=1 reads them so"),
            ("mooncake", [100 * at for at in range(9)], None),
            ("mooncake", [0] * 9, None),
            ("burstgpt", [1700000000000 + 500 * at for at in range(9)], "looks like milliseconds since 1970"),
        ],
    )
    def test_doubts(self, load: Callable[..., Trace], kind: str, times: list[float], said: str | None) -> None:
        content = {
            "csv": CSV + "".join(f"{time!r},1,1\n" for time in times),
            "mooncake": "".join(MOONCAKE.replace(": 0,", f": {time!r},") for time in times),
            "burstgpt": BURSTGPT + "".join(f"{time!r},A,1,1,2,x\n" for time in times),
        }[kind]
        notes = [note for note in load(content, kind).notes if "unit of time" in note]
        assert len(notes) == (said is not None)
        assert (said or "") in "".join(notes)

    def test_every_kind_takes_a_unit_or_refuses_it(self, load: Callable[..., Trace]) -> None:
        assert load(BURSTGPT + ROW + ROW.replace("5,", "8,", 1), time_unit_s=60.0).arrival_s.tolist() == [0.0, 180.0]
        with pytest.raises(UserError, match="time_unit_s=1: has no effect with workload=azure, whose times are dates"):
            load(AZURE + "2024-05-10 00:00:00,1,1\n", "azure", time_unit_s=1.0)
        with pytest.raises(UserError, match="time_unit_s=1: has no effect with workload=synthetic, which has no file"):
            load("", "synthetic", time_unit_s=1.0, path=None)


def test_arrivals_of_ones_own_keep_the_lengths_of_a_file(load: Callable[..., Trace]) -> None:
    content = CSV + "".join(f"{at},{at + 1},{2 * at + 1}\n" for at in range(2000))
    own = load(content, "csv")
    mine = {"timestamps": "generated", "arrivals": {"kind": "constant", "rate_per_s": 4.0}}
    trace = load(content, "csv", **mine)
    assert np.array_equal(trace.arrival_s, np.arange(2000) / 4.0)
    assert np.array_equal(trace.prompt_tokens, own.prompt_tokens)  # pairs stay pairs
    assert np.array_equal(trace.output_tokens, own.output_tokens)
    assert "constant arrivals at 4/s in place of its own" in trace.source
    config = load_config({"workload": {"kind": "csv", "path": "x"} | mine}).workload
    assert config.timestamps == "generated"
    poisson = {"timestamps": "generated", "arrivals": {"kind": "poisson", "rate_per_s": 4.0}}
    assert len(load(content, "csv", **poisson)) / load(content, "csv", **poisson).arrival_s[-1] == pytest.approx(
        4, rel=0.1
    )
    with pytest.raises(UserError, match=r"workload\.arrivals: has no effect with workload\.timestamps=real; workload"):
        load(content, "csv", arrivals={"rate_per_s": 4.0})
