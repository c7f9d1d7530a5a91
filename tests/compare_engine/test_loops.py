"""Published closed loops: what is read, what is left out and why, errors by hand; the real table where it is."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mbexp.compare_engine import loops
from mbexp.compare_engine.__main__ import main
from mbexp.compare_engine.closed import closed_loop_tpot_ms
from mbexp.compare_engine.loops import Compared, compare_loops, tables, two_loads
from mbexp.compare_engine.published import COLUMNS, Setup, read_published_loops
from mbexp.config import kernel_tables
from mbexp.errors import UserError
from mbexp.fit.loads import Loads
from tests import SHARED
from tests.hardware.test_kernel_tables import Package

TABLE = SHARED / "measured" / "aiconfigurator" / "silicon_sample.csv"
PLAIN = {
    "mode": "agg", "backend": "vllm", "backend_version": "0.12.0", "system": "h100_sxm", "precision": "",
    "model_path": "meta-llama/Llama-3.1-8B-Instruct", "tp_size": "1", "pp_size": "1", "attention_dp_size": "",
    "moe_tp_size": "1", "moe_ep_size": "1", "isl": "100", "osl": "10", "batch_size": "1", "silicon_tpot_ms": "9",
}  # fmt: skip


def written(path: Path, *changes: dict[str, str], names: tuple[str, ...] = COLUMNS) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(PLAIN | change for change in changes)
    return path


@pytest.fixture(scope="module")
def laws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where laws of the stand-in are kept, so that one is fitted once; machine code stays where it is."""
    return tmp_path_factory.mktemp("laws")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, laws: Path) -> None:
    monkeypatch.setattr(kernel_tables, "cache_dir", lambda: laws)
    monkeypatch.setattr(kernel_tables, "package_version", lambda: "0.12.9")
    monkeypatch.setattr(kernel_tables, "facade", Package)
    monkeypatch.setattr("mbexp.hardware.kernel_fit.facade", Package)


def test_points_are_left_out_for_a_reason(tmp_path: Path) -> None:
    faulty = {"model_path": "Qwen/Qwen3-32B", "precision": "fp8"}
    file = written(
        tmp_path / "t.csv",
        {}, {"batch_size": "8"}, {"tp_size": "2"},
        {"mode": "disagg"}, {"model_path": "nobody/knows"}, {"precision": "fp4"}, {"pp_size": "2"},
        {"attention_dp_size": "8"}, faulty,
        {"model_path": "openai/gpt-oss-120b", "precision": "fp4", "tp_size": "4", "moe_tp_size": "1"},
    )  # fmt: skip
    found, left_out = read_published_loops(file)
    assert [(setup.tensor_parallel, loads.concurrency.tolist()) for setup, loads in found.items()] == [
        (1, [1, 8]),
        (2, [1]),
    ]
    assert next(iter(found)).title == "H100, Llama-3.1-8B, vLLM"
    assert left_out == Counter(
        {
            "prefill and decode on engines of their own": 1,
            "no tables of the model in that precision": 2,
            "layers over several cards": 1,
            "experts or attention not spread by tensor parallelism": 2,
            "measurements that contradict themselves": 1,
        }
    )


def test_every_point_of_the_public_table_is_priced_or_left_out_for_a_reason() -> None:
    if not TABLE.is_file():
        pytest.skip(f"{TABLE} is not at hand")
    found, left_out = read_published_loops(TABLE)
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(len(loads.tpot_ms) for loads in found.values()) + left_out.total() == len(rows) == 5221
    # Counted apart: 16-bit Llama-3.1-8B under TensorRT-LLM on one H100, the 42 points of docs/engines.md.
    title = Setup("tensorrt_llm", "h100_sxm", "meta-llama/Meta-Llama-3.1-8B", 1, "1.0.0rc3", False)
    mine = [
        row
        for row in rows
        if (row["model_path"], row["system"], row["backend"], row["tp_size"], row["precision"], row["mode"])
        == ("meta-llama/Llama-3.1-8B-Instruct", "h100_sxm", "trtllm", "1", "", "agg")
    ]
    assert len(found[title].tpot_ms) == len(mine) == 42
    assert found[title].tpot_ms.sum() == pytest.approx(sum(float(row["silicon_tpot_ms"]) for row in mine))


def test_a_loop_is_simulated_with_the_law_of_its_tables(tmp_path: Path, package: None) -> None:
    """One user alone at contexts 101 to 109: the stand-in's steps, by hand; two engines of cards that it lacks."""
    from tests.hardware.test_kernel_tables import CONTEXT, FIXED, FLOOR, SEQUENCE

    file = written(tmp_path / "t.csv", {}, {"system": "a100_sxm", "tp_size": "3"}, {"batch_size": "4"}, {"isl": "200"})
    found, left_out = read_published_loops(file)
    (compared,) = compare_loops(found, left_out)
    assert left_out == Counter({"no law for A100, Llama-3.1-8B, vLLM, 3 cards": 1})
    by_hand_ms = 1e3 * (FIXED + FLOOR + SEQUENCE + CONTEXT * 105)
    assert compared.untuned_ms[0] == pytest.approx(by_hand_ms, rel=1e-3)
    words = loops.words_of(compared.setup, compared.loads)
    assert compared.untuned_ms[1] == closed_loop_tpot_ms(words, 1, 200, 10)  # in order of concurrency, then length
    # The two loads of the host's time are the shortest requests' 1 and 4 users; the third is judged.
    assert np.isnan(compared.hosted_ms).tolist() == [True, False, True]


def test_two_loads_are_the_shortest_requests_least_and_most_users() -> None:
    loads = Loads(np.array([8.0, 1, 64, 2]), np.array([100.0, 100, 900, 100]), np.full(4, 50.0), np.ones(4), "")
    assert two_loads(loads).tolist() == [1, 0]  # type: ignore[union-attr]
    alone = Loads(np.array([8.0, 8]), np.array([100.0, 900]), np.full(2, 50.0), np.ones(2), "")
    assert two_loads(alone) is None


def test_errors_are_plain_arithmetic() -> None:
    setup = Setup("vllm", "h100_sxm", "Qwen/Qwen3-32B", 2, "", False)
    loads = Loads(np.arange(1.0, 4.0), np.full(3, 100.0), np.full(3, 50.0), np.array([10.0, 20.0, 40.0]), "")
    compared = Compared(setup, loads, np.array([9.0, 21.0, 30.0]), np.array([np.nan, np.nan, 42.0]))
    line = next(line for line in tables([compared]).splitlines() if line.startswith("| H100, Qwen3-32B, vLLM |"))
    # Errors of -10, +5 and -25 %: median 10, 90th percentile 22, two of three within 10 %.
    assert line == "| H100, Qwen3-32B, vLLM | 3 | 2 | 10.0 | 22.0 | -25.0 | 67% | 67% | 1 | 5.0 | 5.0 |"


def test_the_command_writes_tables_points_and_a_figure(
    tmp_path: Path, package: None, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path / "t.csv", {}, {"batch_size": "2"}, {"batch_size": "4"}, {"mode": "disagg"})
    main(["loops", str(file), "--where", "system=h100_sxm", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert (tmp_path / "out" / "errors.md").read_text(encoding="utf-8").strip() in said
    assert "| prefill and decode on engines of their own | 1 |" in said
    with (tmp_path / "out" / "points.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [row["concurrency"] for row in rows] == ["1", "2", "4"]
    assert [row["with_host_tpot_ms"] == "" for row in rows] == [True, False, True]
    error_pct = 100 * (float(rows[1]["mbexp_tpot_ms"]) / 9 - 1)
    assert float(rows[1]["error_pct"]) == pytest.approx(error_pct, abs=1e-3)
    assert (tmp_path / "out" / "loops.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{folder}/none.csv"], "none.csv: no such file"),
        (["{folder}/short.csv"], "short.csv: no column silicon_tpot_ms; published loops have mode, "),
        (["{folder}/text.csv"], "text.csv, line 2"),
        (["{folder}/t.csv", "--where", "engines=vllm"], "--where engines=vllm: must be NAME=VALUE with one of engine"),
        (["{folder}/t.csv", "--where", "engine=sglang"], "--where engine=sglang: no loop is such; engine may be vllm"),
        (["{folder}/t.csv", "--out", "{folder}"], "exists; choose another"),
    ],
)
def test_a_slip_is_one_line(arguments: list[str], told: str, tmp_path: Path, package: None) -> None:
    written(tmp_path / "t.csv", {})
    written(tmp_path / "text.csv", {"silicon_tpot_ms": "many"})
    written(tmp_path / "short.csv", {}, names=COLUMNS[:-1])
    with pytest.raises(SystemExit) as raised:
        main(["loops", *(word.format(folder=tmp_path) for word in arguments)])
    assert str(raised.value.code).startswith("mbexp.compare_engine: ")
    assert told in str(raised.value.code)
    assert "\n" not in str(raised.value.code)


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise UserError("gpu.law.kind=aiconfigurator: aiconfigurator-core is not installed")

    monkeypatch.setattr(kernel_tables, "package_version", missing)
    with pytest.raises(SystemExit, match="is not installed"):
        main(["loops", str(written(tmp_path / "t.csv", {}))])
