"""Config groups and studies of the user's own, in folders of theirs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import mbexp
from mbexp import UserError
from mbexp.cli.words import completed_study_names
from mbexp.paths import use_config_dirs
from mbexp.sweep.table import read_results

Run = Callable[..., tuple[int, str, str]]

SCHEDULER = "name: mine\nqueue: fifo\nbatch_size: fixed\nfixed_batch_size: 3\n"
STUDY = """
defaults: [config, _self_]
num_requests: 200
study: {name: my_study}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {scheduler: "mine,multi_bin_static", num_gpus: "1,2"}
"""


@pytest.fixture(autouse=True)
def no_folders():
    use_config_dirs([])
    yield
    use_config_dirs([])


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "mine.yaml").write_text(SCHEDULER)
    (folder / "my_study.yaml").write_text(STUDY)
    return folder


@pytest.mark.parametrize("how", ["option", "option with sign", "variable"])
def test_files_of_a_folder_are_chosen_by_name(
    how: str, command: Run, own: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = {"option": ["--config-dir", str(own)], "option with sign": [f"--config-dir={own}"], "variable": []}[how]
    if how == "variable":
        monkeypatch.setenv("MBEXP_CONFIG_PATH", f"{tmp_path}{os.pathsep}{own}")

    code, _, err = command(*words, "-cn", "my_study")

    assert (code, err) == (0, "")
    frame = read_results(tmp_path / "outputs" / "my_study")
    assert sorted(set(frame["scheduler"])) == ["mine", "multi_bin_static"]
    assert frame.set_index(["scheduler", "num_gpus"])["batch_size_max"]["mine"].tolist() == [3, 3]


def test_an_unknown_name_is_told_with_those_of_the_folder(command: Run, own: Path) -> None:
    code, _, err = command("--config-dir", str(own), "scheduler=mein")
    assert code == 1
    assert "scheduler=mein: no such choice (did you mean 'mine'?)" in err
    code, _, err = command("--config-dir", str(own), "-cn", "my_studi")
    assert "-cn my_studi: no such study (did you mean 'my_study'?)" in err


def test_a_file_of_the_same_name_wins_and_is_told(command: Run, own: Path) -> None:
    (own / "scheduler" / "mine.yaml").rename(own / "scheduler" / "static_fifo.yaml")

    code, out, err = command("--config-dir", str(own), "scheduler=static_fifo", "num_requests=100")

    assert code == 0
    assert out.startswith("mine, one queue")
    place = own / "scheduler" / "static_fifo.yaml"
    assert err == f"mbexp: {place} takes the place of mbexp's own scheduler=static_fifo\n"
    code, out, _ = command("scheduler=static_fifo", "num_requests=100")  # the next command without it
    assert out.startswith("static_fifo, one queue")


def test_python_takes_the_variable(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBEXP_CONFIG_PATH", str(own))
    assert mbexp.configure(scheduler="mine").scheduler.fixed_batch_size == 3
    monkeypatch.setenv("MBEXP_CONFIG_PATH", str(own / "nothing"))
    with pytest.raises(UserError, match=r"MBEXP_CONFIG_PATH=.*nothing: is no folder"):
        mbexp.configure()


def test_a_missing_folder_is_named(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = command("--config-dir", "nothing")
    assert code == 1
    assert err.count("\n") == 1
    assert "nothing' not found" in err
    monkeypatch.setenv("MBEXP_CONFIG_PATH", "nowhere")
    assert command()[2] == "mbexp: MBEXP_CONFIG_PATH=nowhere: is no folder\n"


def test_names_are_completed(own: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", f"mbexp --config-dir {own} -cn my")
    assert completed_study_names() == ["my_study"]
    monkeypatch.setenv("MBEXP_CONFIG_PATH", str(own))
    monkeypatch.setenv("COMP_LINE", "mbexp scheduler=m")
    _, out, _ = command("-sc", "query=bash")
    assert out.split() == [
        "scheduler=mc_sf",
        "scheduler=mine",
        "scheduler=multi_bin_dynamic",
        "scheduler=multi_bin_static",
    ]
