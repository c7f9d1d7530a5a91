"""From a configuration to a trace: the file, the counts of a window, the shipped configurations, the registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbexp.config.keys import load_config
from mbexp.config.workload_keys import WORKLOADS, WorkloadConfig
from mbexp.errors import UserError
from mbexp.paths import config_dir
from mbexp.workload import cache, kinds, load_trace
from mbexp.workload.find import find_file
from mbexp.workload.rows import Rows, joined, usable_rows

HEADER = "Timestamp,Model,Request tokens,Response tokens\n"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cache, "cache_dir", lambda: tmp_path / "cache")


def workload_of(**keys: Any) -> WorkloadConfig:
    return load_config({"workload": {"timestamps": "real"} | keys}).workload


class TestFind:
    def test_as_given_then_under_data(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.csv").write_text("x")
        assert find_file("a.csv", "csv") == Path("data/a.csv")
        (tmp_path / "a.csv").write_text("y")
        assert find_file("a.csv", "csv") == Path("a.csv")
        assert find_file(str(tmp_path / "a.csv"), "csv") == tmp_path / "a.csv"
        monkeypatch.setenv("HOME", str(tmp_path))
        assert find_file("~/a.csv", "csv") == tmp_path / "a.csv"

    def test_missing_file_names_near_ones_and_the_download(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "BurstGPT_1_head.csv").write_text("x")
        with pytest.raises(UserError) as caught:
            find_file("BurstGPT_1.csv", "burstgpt")
        assert str(caught.value) == (
            "workload.path=BurstGPT_1.csv: no such file (neither BurstGPT_1.csv nor data/BurstGPT_1.csv) "
            "(did you mean 'BurstGPT_1_head.csv'?); fetch it: python -m mbexp.download burstgpt_1"
        )

    def test_missing_file_without_pinned_hash_names_its_address(self) -> None:
        with pytest.raises(UserError, match=r"; it is at https://github\.com/Azure/.*conv_1week\.csv$"):
            find_file("AzureLLMInferenceTrace_conv_1week.csv", "azure")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (None, "workload=csv reads a file; give its path"),
            ("", "give its path"),
            (".", "is a folder, not a file"),
            ("/dev/null", "is not a regular file"),
            ("nowhere/x.csv", "no such file (neither nowhere/x.csv nor data/nowhere/x.csv)"),
            ("/nowhere/x.csv", "no such file (/nowhere/x.csv)"),
            ("a\0b", "workload.path=a b: no such file"),  # shown without the byte that could not be
            ("x" * 5000, "xxx"),
            ("~nobody-of-that-name/x", "nobody-of-that-name"),
        ],
    )
    def test_no_file(self, name: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError) as caught:
            find_file(name, "csv")
        assert message in str(caught.value)
        assert len(str(caught.value)) < 700

    def test_unreadable_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.csv"
        path.write_text("x")

        def refuse(self: Path, *_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
            find_file(str(path), "csv")

    def test_null_path_is_the_published_name_of_the_kind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=r"python -m mbexp.download mooncake_conversation"):
            load_trace(workload_of(kind="mooncake"))


class TestCounts:
    def test_windows_share_out_what_was_left_out(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(1)
        rows = [f"{time},A,{prompt},{output}\n" for time, prompt, output in rng.integers(0, 4, (200, 3)).tolist()]
        path = tmp_path / "x.csv"
        path.write_text(HEADER + "".join(rows))
        whole = load_trace(workload_of(kind="burstgpt", path=str(path)))
        total = len(whole)
        assert total + sum(whole.dropped.values()) == 200
        assert whole.dropped.keys() == {"failed", "zero_prompt_tokens"}
        parts = [
            load_trace(workload_of(kind="burstgpt", path=str(path), window={"kind": "rows", "start_row": start}), 7)
            for start in range(0, total, 7)
        ]
        for reason in ("failed", "zero_prompt_tokens"):
            assert sum(part.dropped.get(reason, 0) for part in parts) == whole.dropped[reason]
        assert sum(part.changed.get("sorted_by_time", 0) for part in parts) == whole.changed["sorted_by_time"]

    def test_fewer_rows_than_asked_for(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text(HEADER + "1,A,1,1\n2,A,1,1\n")
        trace = load_trace(workload_of(kind="burstgpt", path=str(path)), 10_000)
        assert len(trace) == 2
        assert trace.notes == ("the trace has 2 usable requests, fewer than num_requests=10,000: all are used",)

    def test_default_scales_by_200(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text(HEADER + "1,A,1,1\n201,A,1,1\n401,A,1,1\n")
        config = load_config({"workload": {"kind": "burstgpt", "path": str(path)}}).workload
        assert load_trace(config, 3).arrival_s.tolist() == [0.0, 1.0, 2.0]

    def test_arrays_are_the_callers_own(self, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text(HEADER + "".join(f"{second},A,3,4\n" for second in range(30_000)))
        config = workload_of(kind="burstgpt", path=str(path))
        before = load_trace(config)
        for _ in range(2):  # parsed, then from a memory map
            trace = load_trace(config)
            for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens, trace.extra["model"]):
                array += 1
        assert load_trace(config).sha256 == before.sha256 or np.array_equal(
            load_trace(config).prompt_tokens, np.full(30_000, 3)
        )

    def test_blocks_join_with_their_counts(self) -> None:
        def block(times: list[float], outputs: list[int]) -> Any:
            return usable_rows(
                Rows(np.array(times), np.ones(len(times), np.int32), np.array(outputs, np.int32), "test", "failed")
            )

        both = joined([block([0.0, 1.0, 2.0], [1, 0, 2]), block([0.0, 0.0, 3.0], [0, 3, 0])], [10.0, 20.0])
        assert both.arrival_s.tolist() == [0.0, 2.0, 10.0]
        assert both.output_tokens.tolist() == [1, 2, 3]
        assert both.dropped_at["failed"].tolist() == [1, 2, 3]


class TestConfigurations:
    @pytest.mark.parametrize("path", sorted((config_dir() / "workload").glob("*.yaml")), ids=lambda path: path.stem)
    def test_shipped_file_is_valid_and_every_key_has_its_reason(self, path: Path) -> None:
        from omegaconf import OmegaConf

        config = load_config({"workload": OmegaConf.to_container(OmegaConf.load(path))}).workload
        assert path.stem in (config.kind, "lognormal", "azure_2024") or config.kind in ("csv", "recorded")
        lines = [line for line in path.read_text().splitlines()[1:] if not line.strip().startswith("#")]
        plain = {"kind", "prompt", "output", "path"}  # said by the line above or below
        for line in lines:
            assert "#" in line or line.split(":")[0].strip() in plain, line

    def test_every_kind_has_a_configuration(self) -> None:
        stems = {path.stem for path in (config_dir() / "workload").glob("*.yaml")}
        assert set(WORKLOADS) <= stems

    @pytest.mark.parametrize("kind", ["azure", "mooncake", "burstgpt"])
    def test_shipped_file_reads_the_real_trace(self, kind: str, shared_trace: Callable[[str], Path]) -> None:
        from mbexp.config.compose import configure

        names = {
            "azure": "AzureLLMInferenceTrace_conv.csv",
            "mooncake": "mooncake_conversation_trace.jsonl",
            "burstgpt": "BurstGPT_1_head.csv",
        }
        config = configure(workload=kind, **{"workload.path": str(shared_trace(names[kind]))})
        trace = load_trace(config.workload, 300, 0)
        assert len(trace) == 300
        assert trace.arrival_s[0] == 0
        assert "(typical)" in trace.window


class TestRegistry:
    def test_a_file_in_the_folder_is_a_kind(self) -> None:
        assert WORKLOADS == ("aiperf_sessions", "azure", "burstgpt", "burstgpt_like", "csv", "mooncake", "recorded",
                             "servegen_clients", "sessions", "sharegpt", "synthetic")  # fmt: skip
        for name in WORKLOADS:
            module = kinds.find_kind(name)
            assert hasattr(module, "read") != hasattr(module, "generate")
            assert module.CLOCK_RESOLUTION_S >= 0

    def test_unknown_kind(self) -> None:
        with pytest.raises(UserError, match=r"workload\.kind=burstgtp: no such choice \(did you mean 'burstgpt'\?\)"):
            load_config({"workload": {"kind": "burstgtp"}})
        with pytest.raises(UserError, match="no such choice"):
            kinds.find_kind("os")

    def test_configuration_needs_no_heavy_import(self) -> None:
        code = (
            "import sys, mbexp.config.keys, mbexp.workload; "
            "sys.exit(', '.join(sorted({'numpy', 'pyarrow', 'pandas', 'scipy', 'numba'} & set(sys.modules))) or 0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_cached_trace_needs_no_pyarrow(self, tmp_path: Path) -> None:
        """What makes a second run start fast."""
        path = tmp_path / "x.csv"
        path.write_text(HEADER + "1,A,1,1\n")
        code = (
            "import sys, pathlib; from mbexp.config.keys import load_config\n"
            "from mbexp.workload import cache, load_trace\n"
            "cache.cache_dir = lambda: pathlib.Path(sys.argv[2])\n"
            "load_trace(load_config({'workload': {'kind': 'burstgpt', 'path': sys.argv[1]}}).workload)\n"
            "sys.exit('pyarrow' if 'pyarrow' in sys.modules else 0)"
        )
        command = [sys.executable, "-c", code, str(path), str(tmp_path / "cache")]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_unknown_attribute(self) -> None:
        import mbexp.workload

        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = mbexp.workload.nothing
