"""Columns of a user's trace among those of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from mbexp import Trace, load_trace, simulate
from mbexp.results import tables
from mbexp.results.tables import requests_table, write_requests

OWN = ("request", "batch", "gpu", "bin", "status")


def read(tmp_path: Path, text: str, extra: list[str]) -> Trace:
    (tmp_path / "trace.csv").write_text(text)
    return load_trace("csv", None, path=str(tmp_path / "trace.csv"), columns={"extra": extra})


def test_identifiers_stay_what_they_are(tmp_path: Path) -> None:
    rid, zips, tags, price = (["1830000000000000001", "1830000000000000002", "1830000000000000003"],
                              ["00123", "0123", "123"], ["1e3", "1000", "nan"], ["0.5", "", "2"])  # fmt: skip
    rows = "".join(f"{at},1,1,{','.join(each)}\n" for at, each in enumerate(zip(rid, zips, tags, price, strict=True)))
    trace = read(
        tmp_path, "arrival_s,prompt_tokens,output_tokens,rid,zip,tag,price\n" + rows, ["rid", "zip", "tag", "price"]
    )
    result = simulate(trace)
    found = requests_table(result.outcome, trace).to_pydict()
    assert (found["rid"], found["zip"], found["tag"]) == (rid, zips, tags)
    assert found["price"][::2] == [0.5, 2.0]
    assert np.isnan(found["price"][1])


def test_columns_with_names_of_ours_are_kept_beside_them(tmp_path: Path) -> None:
    head = ",".join(["arrival_s,prompt_tokens,output_tokens,latency_s,trace_gpu", *OWN])
    trace = read(tmp_path, head + "\n0,9,1,1.5,z,r-1,17,a100,short,ok\n1,9,2,2.5,z,r-2,18,,long,ok\n",
                 ["latency_s", *OWN, "trace_gpu"])  # fmt: skip
    result = simulate(trace, scheduler="static_fifo")
    for name, theirs in zip(
        OWN, (["r-1", "r-2"], [17, 18], ["a100", None], ["short", "long"], ["ok", "ok"]), strict=True
    ):
        found = result.requests[f"trace_{name}"].astype(object)
        assert found.where(found.notna(), None).tolist() == theirs
        assert result.requests[name].tolist() != theirs
    assert result.requests["trace_trace_gpu"].tolist() == ["z", "z"]
    assert result.requests["latency_s"].tolist() == [1.5, 2.5]
    assert result.requests["status"].tolist() == ["completed", "completed"]


@pytest.mark.parametrize("few", [0, 1000])
def test_texts_are_stored_whole_whatever_their_number(
    few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "FEW_TEXTS", few)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 7)
    users = [f"user {at % 11}" if at % 5 else None for at in range(40)]
    rows = "".join(f"{at},1,1,{user or ''}\n" for at, user in enumerate(users))
    trace = read(tmp_path, "arrival_s,prompt_tokens,output_tokens,user\n" + rows, ["user"])
    write_requests(simulate(trace).outcome, trace, tmp_path / "requests.parquet")
    assert parquet.read_table(tmp_path / "requests.parquet")["user"].to_pylist() == users


def test_models_of_the_generated_trace_have_their_names() -> None:
    frame = simulate(num_requests=500).requests
    assert set(frame["model"]) == {"ChatGPT", "GPT-4"}
