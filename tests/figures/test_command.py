"""``python -m mbexp.figures``: what it draws, what it says is missing, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mbexp.errors import UserError
from mbexp.figures.__main__ import main
from mbexp.figures.drawing import known_studies, missing_studies
from mbexp.figures.study import StoredStudy
from mbexp.figures.trace_events import write_trace
from tests.figures.figure_studies import ROOT, compared, saturated, scaling


def test_figures_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "throughput_against_gpus", "--only", "padding_by_bin"]
    assert main([str(scaling()), "--out", str(tmp_path), *only]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in only[1::2] for kind in ("pdf", "png")
    }
    assert (tmp_path / "padding_by_bin.pdf").read_bytes().startswith(b"%PDF-1")
    assert "2 figures in" in capsys.readouterr().out


def test_a_study_with_figures_of_its_own_has_only_these() -> None:
    assert [spec.name for spec in StoredStudy(saturated()).drawable() if spec.table == "results"] == [
        "multi_bin_throughput"
    ]


def test_all_draws_what_is_stored_and_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(saturated(), tmp_path / "outputs" / "multi_bin_throughput")
    (tmp_path / "outputs" / "not_a_study").mkdir()
    arguments = ["all", "--outputs", str(tmp_path / "outputs"), "--format", "png", "--only", "multi_bin_throughput"]
    assert main(arguments) == 0
    assert (tmp_path / "outputs" / "multi_bin_throughput" / "figures" / "multi_bin_throughput.png").is_file()
    told = capsys.readouterr().out
    missing = missing_studies(tmp_path / "outputs")
    assert set(missing) == set(known_studies()) - {"multi_bin_throughput"}
    for name in missing:
        assert f"python -m mbexp -cn {name}" in told


def test_no_study_at_all_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["all", "--outputs", str(tmp_path / "outputs")]) == 0
    assert "no study is stored there" in capsys.readouterr().out


def test_a_figure_that_cannot_be_drawn_does_not_lose_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "multi_bin_throughput"
    shutil.copytree(saturated(), folder)
    for path in folder.glob("*/config.yaml"):
        path.unlink()
    assert main([str(folder), "--format", "png"]) == 1
    told = capsys.readouterr().out
    assert "multi_bin_throughput: NOT DRAWN" in told
    assert "config.yaml: missing" in told
    assert (folder / "figures" / "queue_length.png").is_file()


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        (): "say which folder",
        (str(ROOT / "gpu_scalin"),): "did you mean 'gpu_scaling'",
        (str(tmp_path),): "neither a study",
        (str(scaling()), "--format", "gif"): "--format=gif: must be one or more of pdf, png, svg",
        (str(scaling()), "--only", "latency"): "figure=latency: no such choice",
        (str(scaling()), "--gallery", "page.md"): "--gallery: goes with all",
        (str(ROOT / "grid_search_of_another"),): "not there",
        (str(saturated()), "--chrome-trace", "--out", str(tmp_path)): "",
    }
    scaling()
    for arguments, message in cases.items():
        code = main(list(arguments))
        told = capsys.readouterr()
        if message:
            assert code == 1
            assert message in told.err
            assert told.err.count("\n") == 1
        else:
            assert code == 0


def test_the_list_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", str(compared())]) == 0
    told = capsys.readouterr().out
    assert "padding_by_bin" in told
    assert "not drawn: k_bins does not vary" in told


def test_a_timeline_for_a_viewer(tmp_path: Path) -> None:
    assert main([str(compared()), "--chrome-trace", "--out", str(tmp_path)]) == 0
    files = sorted(tmp_path.glob("trace_*.json"))
    assert len(files) == 4  # a run of each scheduler
    for path in files:
        assert json.loads(path.read_text())["traceEvents"]


def test_the_gallery_shows_each_figure_once(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(saturated(), outputs / "multi_bin_throughput")
    page = tmp_path / "docs" / "gallery.md"
    arguments = ["all", "--outputs", str(outputs), "--format", "png", "--gallery", str(page)]
    assert main([*arguments, "--only", "multi_bin_throughput"]) == 0
    text = page.read_text()
    pictures = [line for line in text.splitlines() if line.startswith("![")]
    assert len(pictures) == len(set(pictures)) > 3
    for line in pictures:
        assert (page.parent / line.rpartition("](")[2].rstrip(")")).is_file()
    assert "python -m mbexp -cn multi_bin_throughput" in text
    assert "## Not shown" in text
    assert "- Latency against arrival rate (P1, Fig. 4): `multi_bin_latency`" in text


def test_a_timeline_needs_stored_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "compare"
    shutil.copytree(compared(), folder)
    for path in folder.glob("*/batches.parquet"):
        path.unlink()
    assert main([str(folder), "--chrome-trace"]) == 1
    assert "no run stored batches.parquet (output.batches=true stores it)" in capsys.readouterr().err


def test_a_timeline_without_requests_shows_no_queue(tmp_path: Path) -> None:
    run = next(compared().glob("*/batches.parquet")).parent
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    write_trace(run, whole)
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "requests.parquet").unlink()
    write_trace(tmp_path / "run", part)
    kinds = [{event["ph"] for event in json.loads(path.read_text())["traceEvents"]} for path in (whole, part)]
    assert kinds[0] - kinds[1] == {"C"}
    (tmp_path / "run" / "batches.parquet").unlink()
    with pytest.raises(UserError, match=r"no batches\.parquet; run it with output\.batches=true"):
        write_trace(tmp_path / "run", part)
