"""Mistakes and surroundings that were once told wrongly, in silence, or by a traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import mbexp
from mbexp import UserError, configure, simulate
from mbexp.cli import words
from mbexp.compiled import cache
from mbexp.config.keys import load_config
from mbexp.config.messages import commands
from mbexp.modes import find_mode
from mbexp.paths import cache_dir, config_dir
from mbexp.results.store import run_key
from mbexp.results.terminal import report, say_if_compiling

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command as a program that hears Ctrl-C, whatever this test runner was started with."""

    def start_it(*given: str, code: str = "", **environment: str) -> subprocess.Popen[str]:
        words = ["-c", code] if code else ["-m", "mbexp"]
        return subprocess.Popen(
            [sys.executable, *words, *given], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | environment, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip

    return start_it


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("workload.path=日本.csv", """needs quotes of its own; in a shell 'workload.path="日本.csv"'"""),
        ("workload.path=~/x.csv", """in a shell 'workload.path="~/x.csv"'"""),
        ("workload.path=#h.csv", """in a shell 'workload.path="#h.csv"'"""),
        ("workload.path=a=1,b.csv", """in a shell 'workload.path="a=1,b.csv"'"""),
        ('workload.path=it"s=1', """in a shell "workload.path='it"s=1'\""""),
        ("num_gpus=[1,2", "num_gpus=[1,2: the value cannot be read; are brackets and quotes closed"),
        ("num_gpus=1,,2", "num_gpus=1,,2: the value cannot be read; are brackets and quotes closed"),
        ("nonsense", "nonsense: not of the form key=value"),
        ("workload.where=[a]", "workload.where=[a]: has keys of its own, workload.where.NAME=VALUE"),
        ("sla=3", "sla=3: a group takes one of its names, GROUP=NAME, or keys one by one"),
        ("--experimental-rerun", "--experimental-rerun: not supported; provenance.json"),
        (
            "hydra.run.dir=there",
            "=there: has no effect here; a run makes a folder of its own in output.dir=",
        ),
        (
            "++hydra.sweep.dir=here",
            "has no effect here; a sweep is stored in output.dir=FOLDER, in a folder called study",
        ),
        ("study.name=''", "study.name=: must be the name of a folder"),
        ("study.name=a/b", "study.name=a/b: must be the name of a folder, without a path"),
        (f"study.name={'x' * 300}", "study.name=xxxxxxxxxxxxxxxxxxxx...: has 300 bytes, a folder's name 200 at most"),
        ("output.dir='~nobody-of-that-name/x'", "output.dir=~nobody-of-that-name/x: there is no such user"),
    ],
)
def test_a_word_at_fault_is_named_with_what_to_type(word: str, said: str, command: Command, tmp_path: Path) -> None:
    code, out, err = command("num_requests=20", word)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_quoting_is_advised_works(command: Command) -> None:
    assert "workload.path=日本.csv: no such file" in command("workload=csv", 'workload.path="日本.csv"')[2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "defaults:\n  - config\n  - _self_\nnum_gpus: 3\nnum_gpus: 4\n",
            "mine.yaml line 5: num_gpus is given twice\n",
        ),
        ("defaults:\n\t- config\n", "mine.yaml line 2: a tab; YAML is indented with spaces\n"),
        ("num_gpus: 3\n", "mbexp: -cn mine: it has no 'defaults: [config, _self_]', so it has none of mbexp's keys"),
    ],
)
def test_a_mistake_in_a_study_is_looked_for_in_its_file(text: str, said: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    code, _, err = command("--config-dir", str(tmp_path), "-cn", "mine", "num_requests=20")
    assert code == 1
    assert said in err
    assert err.count("\n") == 1


def test_a_study_that_stands_alone_is_no_run(started: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("num_gpus: 3\n")
    _, err = started("--config-dir", ".", "-cn", "mine").communicate(timeout=60)
    assert err.startswith("mbexp: -cn mine: it has no 'defaults: [config, _self_]'")


@pytest.mark.parametrize(
    ("value", "said"), [("", None), (" ", None), ("-1", None), ("3", None), ("abc", "a whole"), ("0", "a")]
)
def test_workers_named_by_a_variable(value: str, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBEXP_JOBS", value)
    if said is None:
        words.check_environment()
        assert os.environ.get("MBEXP_JOBS") == (value if value.strip() else None)
    else:
        with pytest.raises(UserError, match=f"^MBEXP_JOBS={value}: must be {said}"):
            words.check_environment()


def test_a_variable_set_to_nothing_is_not_set(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBEXP_JOBS", "")
    assert command("--version")[0] == 0
    assert OmegaConf.load(config_dir() / "hydra" / "launcher" / "local.yaml").n_jobs == -1


def test_the_version_is_ours(command: Command) -> None:
    import mbexp

    assert command("--version") == (0, f"mbexp {mbexp.__version__}\n", "")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("mbexp -cn gp", ["gpu_scaling"]),
        ("mbexp num_gpus=3 --config-name k_", ["k_bins"]),
        ("mbexp -cn compare gp", None),
        ("mbexp gp", None),
        ("", None),
    ],
)
def test_studies_are_completed(line: str, names: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.delenv("COMP_POINT", raising=False)
    assert words.completed_study_names() == names


def test_a_home_folder_is_found_in_quotes_and_files(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert command("num_requests=20", "output.dir='~/runs'")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    (folder,) = (tmp_path / "home" / "runs").iterdir()
    assert (folder / "batches.parquet").is_file()
    law = configure(gpu="grid_fit", **{"gpu.law.path": "~/grid.csv"}).gpu.law
    assert law.path == str(tmp_path / "home" / "grid.csv")


def test_a_folder_that_cannot_be_written_is_found_out_before_the_simulation(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mbexp.run.run", lambda *_: pytest.fail("was simulated"))
    (tmp_path / "file").write_text("")
    code, _, err = command("num_requests=20", "output.dir=file/runs")
    assert (code, err) == (1, "mbexp: output.dir=file/runs: cannot write there (Not a directory)\n")
    monkeypatch.setattr(
        "tempfile.TemporaryFile", lambda **_: (_ for _ in ()).throw(OSError(30, "Read-only file system"))
    )
    code, _, err = command("num_requests=20", "output.dir=new/runs")
    assert err == "mbexp: output.dir=new/runs: cannot write there (Read-only file system)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]  # nothing that was made to try is left


class TestTerminal:
    def test_the_scaling_of_time_stands_beside_the_rate(self) -> None:
        lines = report(simulate(num_requests=300, seed=1))
        assert "mean rate" in lines[2]
        rate = float(re.search(r"mean rate ([\d.]+)/s", lines[2]).group(1))  # type: ignore[union-attr]
        shown = re.fullmatch(r"   at 200x the trace's rate: ([\d.]+) requests/s", lines[3])
        assert shown is not None
        assert float(shown.group(1)) == pytest.approx(200 * rate, rel=0.02)
        real = report(simulate(num_requests=300, seed=1, **{"workload.timestamps": "real"}))
        assert not [line for line in real if "the trace's rate" in line]

    def test_limits_that_nobody_chose_are_called_so_beside_targets(self, make_trace) -> None:  # type: ignore[no-untyped-def]
        def goodput(**keys: object) -> str:
            result = simulate(make_trace([0.0, 1.0], [5, 5]), **keys)
            return next(line for line in report(result) if line.startswith("  goodput"))

        targets = {"sla.targets": ["ttft_p95_s<=1"]}
        assert goodput(**targets).endswith("within 20 s and 10 ms per token, by default")
        assert goodput().endswith("within 20 s and 10 ms per token")
        assert goodput(**targets, **{"sla.token_ms": 50.0}).endswith("within 20 s and 50 ms per token")

    def test_nothing_served_says_so_first(self, make_trace) -> None:  # type: ignore[no-untyped-def]
        result = simulate(make_trace([0.0, 1.0], [10, 20], [100, 200]), **{"gpu.kv_capacity_tokens": 20})
        lines = report(result)
        assert "! no request could be served: every number below is of nothing" in lines[:4]
        assert "nothing was served" in next(line for line in lines if line.startswith("  load"))
        assert not [line for line in lines if "short run" in line or "all at once" in line]

    def test_occupancy_stands_under_busy(self, make_trace) -> None:  # type: ignore[no-untyped-def]
        """One request alone: 1 of 8 slots while the GPU is busy, however busy it is."""
        result = simulate(
            make_trace([0.0], [20]), execution="continuous", scheduler="static_fifo", num_gpus=1, gpu="roofline_h100"
        )
        lines = report(result)
        (busy,) = (place for place, line in enumerate(lines) if line.startswith("  GPUs"))
        assert "100 % busy" in lines[busy]
        assert re.match(
            r"  while busy +1.00 requests run   of 8.00 that may; 0\.\d+ % of the KV cache", lines[busy + 1]
        )

    def test_lines_fit_a_narrow_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        result = simulate(num_requests=300, seed=1)
        monkeypatch.setenv("COLUMNS", "80")
        narrow = report(result)
        assert max(map(len, narrow[4:])) <= 80
        monkeypatch.setenv("COLUMNS", "200")
        wide = report(result)
        assert " ".join(" ".join(wide).split()) == " ".join(" ".join(narrow).split())

    def test_a_range_without_an_end_has_none(self) -> None:
        result = simulate(num_requests=50, **{"gpu.law.batch_size_range": [50, 2**31 - 1]})
        assert "(batch size from 50 on, length " in "".join(result.warnings)

    @pytest.mark.parametrize("chosen", ["off", "/proc/none"])
    def test_what_cannot_be_kept_is_not_promised(
        self, chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MBEXP_CACHE", chosen)
        cache.cache_folder.cache_clear()
        try:
            say_if_compiling("continuous", find_mode("continuous").LOOP)
        finally:
            monkeypatch.undo()
            cache.cache_folder.cache_clear()
        said = capsys.readouterr().err
        assert f"as at every command, since machine code cannot be kept (MBEXP_CACHE={chosen})" in said
        assert "later runs start at once" not in said


def test_without_a_home_the_cache_lies_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MBEXP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = cache_dir()
    assert folder is not None
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)  # others could put machine code there
    assert cache_dir() is None


def test_help_lists_every_command(started: Callable[..., subprocess.Popen[str]]) -> None:
    with started("--help") as child:
        out = child.communicate()[0]
    folder = Path(mbexp.__file__).parent
    packages = {path.parent.name for path in folder.glob("*/__main__.py")}
    modules = {path.stem for path in folder.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert set(re.findall(r"python -m mbexp\.(\w+)", out)) == packages | modules - {"__main__"} == set(commands())


def test_the_name_of_a_command_in_place_of_a_key_is_understood(command: Command) -> None:
    code, _, err = command("capacity", "num_gpus=2")
    assert (code, err) == (1, "mbexp: capacity: a command of its own: python -m mbexp.capacity\n")


def test_a_reader_that_goes_ends_the_command_in_silence(started: Callable[..., subprocess.Popen[str]]) -> None:
    with started("--help") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
        assert child.wait(60) == 141


def test_ctrl_c_in_the_last_instant_is_too_late(started: Callable[..., subprocess.Popen[str]]) -> None:
    code = textwrap.dedent("""
        import atexit, os, signal, sys
        import mbexp.cli.main as main
        main.job = lambda: print("stored")
        # Hears the signal when all is over: what runs first at the interpreter's end was registered last.
        main.main = lambda run=main.main: (run(), atexit.register(os.kill, os.getpid(), signal.SIGINT)) and None
        main.start()
    """)
    child = started(code=code)
    out, err = child.communicate(timeout=60)
    assert (out, err, child.returncode) == ("stored\n", "", 0)


def test_figures_of_a_notebooks_environment(tmp_path: Path, started: Callable[..., subprocess.Popen[str]]) -> None:
    """A backend that mbexp's own Python does not have, and names that look like formulas."""
    code = textwrap.dedent("""
        import os
        from mbexp import simulate
        from mbexp.figures import draw
        from mbexp.figures.style import to_bytes
        name = "a$b_$c"
        results = [simulate(num_requests=50, **{"scheduler.name": each}) for each in (name, "plain")]
        figure = draw("latency_cdf", results)
        texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
        assert any(name in text for text in texts), texts
        to_bytes(figure, "png")
        print(os.environ["MPLBACKEND"])
    """)
    child = started(code=code, MPLBACKEND="module://not_installed_here")
    out, err = child.communicate(timeout=120)
    assert (out, err[-500:], child.returncode) == ("module://not_installed_here\n", "", 0)


class TestRunKeys:
    """A run is named after its whole configuration."""

    def key(self, **workload: object) -> str:
        return run_key(load_config({"workload": workload}), "hash")

    def test_time_unit(self) -> None:
        assert self.key(kind="csv", time_unit_s=1.0) != self.key(kind="csv", time_unit_s=0.001)
        keys = {self.key(kind="mooncake", **unit) for unit in ({}, {"time_unit_s": 1.0}, {"time_unit_s": 0.5})}
        assert len(keys) == 3  # what was ignored once must not be taken for what is used now

    def test_where(self) -> None:
        assert self.key(kind="csv", where={}) == self.key(kind="csv")
        assert self.key(kind="csv", where={"a": 1}) not in (self.key(kind="csv"), self.key(kind="csv", where={"a": 2}))


def test_numbers_at_logarithmic_axes_are_no_formulas() -> None:
    """With names taken as they are, Matplotlib's own labels of powers would be shown as they are written."""
    import numpy as np

    from mbexp.replay.figure import replay_figure

    empty = np.zeros(1)
    shown = types.SimpleNamespace(
        scheduler="a", measured_s=np.array([0.01, 3.0]), predicted_s=np.array([0.02, 2.0]), simulated=empty,
        replayed=empty,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mbexp.replay.figure.latencies_s", lambda records: records)
        figure = replay_figure([shown])  # type: ignore[list-item]
        figure.draw_without_rendering()
    texts = [tick.label1.get_text() for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis)
             for tick in axis.get_major_ticks()]  # fmt: skip
    assert "0.1" in texts
    assert not [text for text in texts if "$" in text]
