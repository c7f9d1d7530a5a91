"""The command line as a user meets it: the commands of the README, and mistakes in one line."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mbexp import UserError, configure

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mbexp(command: Run) -> Run:
    """Run the command line in a folder of its own; return exit code, output and errors."""
    return command


def stored_runs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "outputs").iterdir() if path.is_dir())


def test_the_main_job_stores_one_complete_folder(mbexp: Run, tmp_path: Path) -> None:
    code, out, err = mbexp("scheduler=multi_bin_dynamic", "num_gpus=8", "num_requests=2000")

    assert (code, err) == (0, "")
    (folder,) = stored_runs(tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "batches.parquet", "config.yaml", "provenance.json", "requests.parquet", "run.log", "summary.json",
    ]  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["completed_requests"] == 2000
    assert summary["warnings"].count("\n") + 1 == out.count("\n! ")
    assert "multi_bin_dynamic, 4 bins, 8 x rtx4080_qwen3_1_7b" in out
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["command"] == ["mbexp", "scheduler=multi_bin_dynamic", "num_gpus=8", "num_requests=2000"]
    assert provenance["law_provenance"].startswith("fitted to a generated grid")


@pytest.mark.parametrize("scheduler", ["static_fifo", "dynamic_no_bins", "multi_bin_static", "multi_bin_dynamic"])
@pytest.mark.parametrize(
    ("workload", "name"),
    [
        ("azure", "AzureLLMInferenceTrace_conv.csv"),
        ("mooncake", "mooncake_conversation_trace.jsonl"),
        ("burstgpt", "BurstGPT_1_head.csv"),
    ],
)
def test_every_scheduler_runs_on_every_real_trace(
    scheduler: str, workload: str, name: str, mbexp: Run, shared_trace: Callable[[str], Path], tmp_path: Path
) -> None:
    path = shared_trace(name)

    code, _, err = mbexp(f"scheduler={scheduler}", f"workload={workload}", f"workload.path={path}", "num_requests=null")

    assert (code, err) == (0, "")
    summary = json.loads((stored_runs(tmp_path)[0] / "summary.json").read_text())
    rows = {"azure": 19_366, "mooncake": 12_031, "burstgpt": 400}[workload]
    assert summary["arrived_requests"] + summary["dropped_rows"] == rows
    assert summary["completed_requests"] + summary["rejected_requests"] == summary["arrived_requests"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["num_gpu=8"], "num_gpu: unknown key (did you mean 'num_gpus'?)"),
        (["+gpu.cout=3"], "gpu.cout=3: unknown key (did you mean 'gpu.count'?)"),
        (["num_gpus=eight"], "num_gpus=eight: must be a whole number"),
        (["num_gpus=0"], "num_gpus=0: must be at least 1"),
        (
            ["scheduler.batch_size_min=200"],
            "scheduler.batch_size_min=200: must not exceed scheduler.batch_size_max=128",
        ),
        (["bins=explicit", "bins.edges=[3,2]"], "bins.edges=[3.0, 2.0]: must increase"),
        (["workload.rate_scaling=-3"], "workload.rate_scaling=-3.0: must be above 0"),
        (
            ["k_bins=1,2"],
            "k_bins=1,2: several values need --multirun (-m), a list needs brackets: key=[1,2]",
        ),
        (
            ["scheduler=multi_bin_dynamc"],
            "scheduler=multi_bin_dynamc: no such choice (did you mean 'multi_bin_dynamic'?); "
            "choose from a_max, a_min, dynamic_no_bins, ",
        ),
        (["num_gpus=${nope}"], "num_gpus=${nope}: there is no key 'nope'"),
        (["nonsense"], "nonsense: not of the form key=value"),
        (["scheduler.selection=os.system"], "does not import mbexp, so it is not run"),
        (["workload=burstgpt", "workload.path=BurstGPT_9.csv"], "workload.path=BurstGPT_9.csv: no such file"),
        (["output.dir=/dev/null/outputs"], "output.dir=/dev/null/outputs: cannot write there"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, mbexp: Run, tmp_path: Path) -> None:
    code, out, err = mbexp("num_requests=100", *words)

    assert code == 1
    assert out == ""
    assert err.startswith("mbexp: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("outputs/*"))


def test_a_study_that_does_not_exist(mbexp: Run) -> None:
    code, _, err = mbexp("-cn", "cofig")

    assert code == 1
    assert err.startswith("mbexp: -cn cofig: no such study (did you mean 'config'?)")


def test_keys_of_other_choices_can_be_set(mbexp: Run, tmp_path: Path) -> None:
    code, _, _ = mbexp(
        "scheduler=static_fifo", "scheduler.fill=timeout", "scheduler.timeout_s=2", "scheduler.queue=per_bin",
        "num_requests=200",
    )  # fmt: skip

    assert code == 0
    config = (stored_runs(tmp_path)[0] / "config.yaml").read_text()
    assert "timeout_s: 2.0" in config


def interrupt_while_writing(folder: Path) -> tuple[int, str]:
    """Start a large run in `folder` and press Ctrl-C while its results are written; return exit code, errors."""
    command = [sys.executable, "-m", "mbexp", "num_requests=1500000", "num_gpus=100", "output.requests=true"]
    # A session of its own, or the test runner would hear the signal too.
    child = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    began = time.monotonic()
    while time.monotonic() - began < 120 and not list(folder.glob("outputs/.*")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=120)
    return child.returncode, err


def test_ctrl_c_leaves_no_half_folder(tmp_path: Path) -> None:
    for attempt in range(3):  # on a busy machine a run can end before the signal reaches it
        folder = tmp_path / str(attempt)
        folder.mkdir()
        code, err = interrupt_while_writing(folder)
        assert not list(folder.glob("outputs/.*"))
        if code == 130:
            break

    assert code == 130
    assert "interrupted" in err
    assert not list(folder.glob("outputs/*"))


def test_a_mistake_is_one_line_under_a_debugger_too(mbexp: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """OC_CAUSE=1 is what a debugger makes OmegaConf do: its error is then its own cause."""
    monkeypatch.setenv("OC_CAUSE", "1")
    with pytest.raises(UserError, match=r"^gpu\.count=\$\{nope\}: there is no key 'nope'$"):
        configure(num_gpus="${nope}")
    assert mbexp("num_gpus=${nope}")[2] == "mbexp: num_gpus=${nope}: there is no key 'nope'\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("num_gpus=0: must be at least 1"), 1, "mbexp: num_gpus=0: must be at least 1\n"),
        (KeyboardInterrupt(), 130, "mbexp: interrupted; nothing half-written was left behind\n"),
        (BrokenPipeError(), 141, ""),  # `mbexp ... | head`
    ],
)
def test_how_the_command_ends(
    error: BaseException, code: int, said: str, mbexp: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("mbexp.cli.main.job", fail)
    assert mbexp() == (code, "", said)


def test_a_mistake_of_ours_keeps_its_traceback(mbexp: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mbexp.cli.main.job", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        mbexp()


def test_a_launcher_that_is_not_installed_says_what_to_install(mbexp: Run) -> None:
    if importlib.util.find_spec("submitit"):
        pytest.skip("the extra [slurm] is installed")
    _, _, err = mbexp("-m", "k_bins=1,2", "hydra/launcher=slurm")
    assert err == 'mbexp: hydra/launcher: submitit is not installed; pip install "mbexp[slurm]"\n'
