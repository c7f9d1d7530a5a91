"""Reading what is stored: what cannot be read is named in one line, whatever reads it, and the rest is shown."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mbexp.report.content
import mbexp.runs
from mbexp.errors import UserError
from mbexp.figures.aggregate import configuration_keys
from mbexp.figures.drawing import find_study
from mbexp.figures.registry import figures
from mbexp.figures.study import StoredStudy
from mbexp.report.__main__ import main as report
from mbexp.results import index, store
from mbexp.results.index import refresh, stored_runs, stored_table
from mbexp.results.store import complete_folder
from mbexp.results.stored import Damaged, read_config, read_csv, read_json, read_run, read_table
from tests.sweep.test_plan import store_run

KINDS: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: os.truncate(path, 0),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeros": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "a list": lambda path: path.write_text("[1]"),
    "an object": lambda path: path.write_text("{}"),
    "Latin-1": lambda path: path.write_bytes(b"caf\xe9,\xff\n1"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "other types": lambda path: path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), 3))),
}
FAST = ("half", "other types")
OF_STUDY = ("study.json", "results.parquet", "replications.parquet", "best.csv", "verdicts.csv")
OF_RUN = ("summary.json", "provenance.json", "config.yaml", "batches.parquet", "replications.parquet")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a stored study with every kind of table."""
    from mbexp.cli import main

    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["mbexp", "-m", "scheduler=static_fifo,multi_bin_dynamic", "num_gpus=2,4",
                                   "num_requests=60", "replications=2", "study.best=true", "study.name=whole",
                                   "hydra/launcher=basic"])  # fmt: skip
        main.main()
    return folder / "outputs" / "whole"


def without_drawing(study: StoredStudy) -> tuple[list[Any], list[tuple[str, str]]]:
    """Stand for `draw_pictures`: everything is read, nothing is drawn."""
    failed = []
    for spec in study.drawable():
        try:
            study.frame(spec)
        except UserError as error:
            failed.append((spec.title, str(error)))
    return [], failed


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
@pytest.mark.parametrize("file", ["study", "run"])
def test_no_damage_stops_a_list_or_makes_a_report_a_traceback(
    file: str,
    kind: str,
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(mbexp.report.content, "draw_pictures", without_drawing)
    keys = json.loads((study / "study.json").read_text())["runs"]
    for name in OF_STUDY if file == "study" else OF_RUN:
        if kind == "other types" and not name.endswith(".json"):
            continue
        folder = tmp_path / name / "hurt"
        shutil.copytree(study, folder)
        run = folder / keys[0]
        damaged = (folder if file == "study" else run) / name
        KINDS[kind](damaged)

        assert mbexp.runs.main([str(folder)]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines()[-1] == ("3 runs" if file == "run" and not unseen(name, kind) else "4 runs")
        assert err.count("\n") == err.count(f"mbexp: not listed: {damaged}: ") == ("3 runs" in out)
        for shown in {folder, damaged.parent}:
            code = report([str(shown)])
            out, err = capsys.readouterr()
            assert (code, err.count("\n")) in ((0, 0), (1, 1)), err
            assert code == 0 or str(damaged) in err or "is stored there" in err


def unseen(name: str, kind: str) -> bool:
    """Whether a damage leaves a run that can be listed: provenance of another kind is all that older runs have."""
    return name == "provenance.json" and kind in ("an object", "other types")


def test_a_damaged_table_beside_the_results_costs_its_own_part_of_a_report(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mbexp.report.content, "draw_pictures", without_drawing)
    folder = tmp_path / "hurt"
    shutil.copytree(study, folder)
    (folder / "best.csv").write_bytes(b"\xff\xfe\0")
    told = mbexp.report.content.collect(find_study(folder))

    assert [table.title for table in told.tables] == ["Verdicts", "Results"]
    (reason,) = [reason for _, reason in told.not_drawn if "best.csv" in reason]
    assert reason.startswith(f"{folder / 'best.csv'}: cannot be read (")


def test_names_out_of_stored_files_lead_nowhere_else(study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hurt"
    shutil.copytree(study, folder)
    known = json.loads((folder / "study.json").read_text())
    for name in ("../../elsewhere", "/tmp/elsewhere", ".."):
        (folder / "study.json").write_text(json.dumps(known | {"name": name}))
        assert find_study(folder).name == "hurt"
    assert find_study(folder).run_folder("../../elsewhere") == folder / "elsewhere"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda run: (run / "summary.json").write_text('{"num_requests": 4444444444}'),
            "summary.json: not what was stored",
        ),
        (lambda run: os.truncate(run / "summary.json", 5), "summary.json: cut short (5 of "),
        (lambda run: os.truncate(run / "config.yaml", 0), "config.yaml: empty"),
        (lambda run: (run / "config.yaml").unlink(), "config.yaml: missing"),
        (lambda run: (run / "provenance.json").write_text('{"files": {'), "provenance.json: cannot be read (Expecting"),
        (lambda run: (run / "provenance.json").write_text('{"files": {}}'), "files has no summary.json"),
        (lambda run: (run / "provenance.json").write_text('{"files": {"a": 1}}'), "files is not a list of sizes"),
    ],
)
def test_what_is_wrong_with_a_run_is_said(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    run = store_run(tmp_path / "run")
    damage(run)

    with pytest.raises(Damaged) as error:
        read_run(run)
    assert message in str(error.value)
    assert str(error.value).startswith(str(run))


def test_runs_without_a_list_of_files_are_judged_by_their_content(tmp_path: Path) -> None:
    """Runs that were stored before there was one stay stored."""
    run = store_run(tmp_path / "run")
    (run / "provenance.json").write_text("{}")
    assert read_run(run)[0] == {"num_requests": 3}

    (run / "batches.parquet").write_bytes(b"PAR1")
    with pytest.raises(Damaged, match=r"batches.parquet: cannot be read"):
        read_run(run)


def test_every_reader_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\0\0")
    for read in (read_json, read_table, read_csv):
        for name in ("x", "gone"):
            with pytest.raises(Damaged, match=str(tmp_path / name)):
                read(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="names open files by /proc")
def test_a_long_run_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    real = SimpleNamespace(fsync=os.fsync, rename=os.rename)
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr(os, "rename", lambda *paths: (done.append("rename"), real.rename(*paths)))
    for durable in (False, True):
        with complete_folder(tmp_path / f"{durable}", durable=durable) as aside:
            (aside / "one").touch()
            (aside / "two").touch()

    assert done[0] == "rename"
    before, after = done[1 : done.index("rename", 1)], done[done.index("rename", 1) + 1 :]
    assert {Path(path).name for path in before[:-1]} == {"one", "two"}
    assert before[-1].endswith(".partial")
    assert after == [str(tmp_path)]


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of runs that are many enough for an index, with the reader counted."""
    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "INDEXED_FROM", 3)
    for place in range(5):
        store_run(tmp_path / "runs" / f"{place:012x}", num_requests=place, label="x" if place else 3)
    return tmp_path / "runs"


def test_a_row_is_read_once_and_again_when_a_file_changes(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(index, "read_run", lambda run: (read.append(run.name), read_run(run))[1])

    def rows() -> list[dict[str, Any]]:
        read.clear()
        table, damage = stored_table(indexed)
        assert damage == []
        found: list[dict[str, Any]] = table.to_pylist()
        return found

    first = rows()
    assert len(read) == 5
    assert [row["num_requests"] for row in first] == [0, 1, 2, 3, 4]
    assert rows() == first
    assert read == []
    store_run(indexed / f"{2:012x}", num_requests=22, label="y")
    again = sorted(rows(), key=lambda row: row["run"])
    assert read == [f"{2:012x}"]
    assert again == [row | ({"num_requests": 22, "label": "y"} if row["num_requests"] == 2 else {}) for row in first]
    shutil.rmtree(indexed / f"{0:012x}")
    assert len(rows()) == 4
    assert read == []
    for file in (indexed.parent / "cache" / "runs").iterdir():
        file.write_bytes(b"PAR1 no index")
    assert len(rows()) == 4
    assert len(read) == 4


def test_an_index_names_the_damaged_each_time(indexed: Path) -> None:
    run = indexed / f"{1:012x}"
    os.truncate(run / "summary.json", 0)
    for _ in range(2):
        table, damage = stored_table(indexed)
        assert len(table) == 4
        assert damage == [f"{run / 'summary.json'}: empty"]


def test_a_sweep_gives_the_index_what_it_knows(indexed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "read_config", lambda path: pytest.fail("read"))
    table = refresh(indexed, sorted(os.listdir(indexed)), lambda key: {"num_gpus": 7})
    assert table["num_gpus"].to_pylist() == [7] * 5


def test_a_run_for_the_tables_of_a_sweep_is_what_its_files_hold(indexed: Path) -> None:
    names = sorted(os.listdir(indexed))
    for _ in range(2):
        runs = stored_runs(indexed, names)
        for name in names:
            summary, known, seeds = runs.run(name)
            assert list(summary.items()) == list(read_run(indexed / name)[0].items())
            assert known["plan"] is None
            assert seeds is None
            assert name in runs
    assert "0" * 11 + "9" not in runs


def test_a_file_is_read_again_when_its_content_changed_though_its_times_and_size_did_not(indexed: Path) -> None:
    names = sorted(os.listdir(indexed))
    summary = indexed / names[3] / "summary.json"
    refresh(indexed, names)
    before = summary.stat()
    summary.write_bytes(b"\0" * before.st_size)
    os.utime(summary, ns=(before.st_atime_ns, before.st_mtime_ns))
    runs = stored_runs(indexed, names)
    assert [name for name in names if runs.damage(name)] == [names[3]]
    assert names[3] not in runs


def test_what_a_power_cut_may_have_spoilt_is_read_again_before_a_sweep_relies_on_it(
    indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, read = sorted(os.listdir(indexed)), []
    monkeypatch.setattr(index, "read_run", lambda run: (read.append(run.name), read_run(run))[1])

    def count(sure: bool) -> int:
        read.clear()
        stored_runs(indexed, names, sure=sure)
        return len(read)

    assert [count(sure=False), count(sure=False), count(sure=True), count(sure=True)] == [5, 0, 5, 5]
    monkeypatch.setattr(index, "SETTLED_S", 0.0)
    assert [count(sure=True), count(sure=True)] == [5, 0]


def test_keys_for_figures_are_those_of_the_runs_though_few_files_are_read(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.setenv("MBEXP_CACHE", str(tmp_path))
    monkeypatch.setattr(index, "INDEXED_FROM", 1)
    results = StoredStudy(study).results
    names = tuple(sorted({*configuration_keys()} - {*results.columns}))
    configs = [read_config(study / run / "config.yaml") for run in results["run"]]
    assert any(isinstance(config.get(name), list) for config in configs for name in names)
    for _ in range(2):  # with no index yet, and with one
        stored = StoredStudy(study)
        for name in names:
            expected = pd.Series([config.get(name) for config in configs], name=name)
            pd.testing.assert_series_equal(stored.with_keys(results, (name,))[name], expected)
        monkeypatch.setattr(index, "read_run", lambda run: pytest.fail(f"{run} was read"))


def test_a_key_of_a_damaged_run_is_read_from_its_own_file(study: Path, tmp_path: Path) -> None:
    for name in ("summary.json", "config.yaml"):
        folder = tmp_path / name
        shutil.copytree(study, folder)
        path = next(folder.glob(f"*/{name}"))
        os.truncate(path, 0)
        stored = StoredStudy(folder)
        if name == "summary.json":
            assert stored.with_keys(stored.results, ("gpu.law.c0_ms",))["gpu.law.c0_ms"].nunique() == 1
            continue
        with pytest.raises(Damaged, match=f"{path.parent.name}/config.yaml: empty"):
            stored.with_keys(stored.results, ("gpu.law.c0_ms",))


def test_every_figure_is_known_to_the_reader_of_damage(study: Path) -> None:
    """The stand-in for drawing reads what drawing would."""
    assert {spec.name for spec in StoredStudy(study).drawable()} <= set(figures())
    assert store.ASIDE.startswith(".*")


def test_a_figure_on_a_full_disk_is_one_line_and_leaves_nothing(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbexp.figures.drawing import draw_study

    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    (drawn,) = draw_study(StoredStudy(study), tmp_path / "figures", ["latency_cdf"], ["png"])
    assert drawn.error == f"{tmp_path / 'figures'}: cannot be written (No space left on device)"
    assert list((tmp_path / "figures").iterdir()) == []
