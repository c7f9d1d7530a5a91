"""The law of a step is found again: from exact points, from trials, and from published profiles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mbexp.cli.composed import composed
from mbexp.errors import UserError
from mbexp.fit import read_points
from mbexp.fit.__main__ import main
from mbexp.fit.host import fit_host, kernel_tpot_ms
from mbexp.fit.loads import Loads
from mbexp.fit.step_tables import Asked, read_steps
from mbexp.fit.steps import StepPoints, fit_steps, nonnegative
from mbexp.hardware import build_law
from tests import SHARED

LAW = {
    "fixed_ms": 2.5, "floor_ms": 10.0, "sequence_ms": 0.04, "compute_ms": 0.05, "context_us": 0.15,
    "prefill_token_ms": 0.09, "prefill_square_ns": 2.0, "prefill_extra_ms": 0.0, "mixed_context_us": 0.12,
}  # fmt: skip


def step_ms(b: float, context: float, prompt: float) -> float:
    """The page's formula, term by term."""
    ms = LAW["fixed_ms"] + LAW["sequence_ms"] * b + LAW["context_us"] / 1e3 * context
    ms += max(LAW["floor_ms"], LAW["compute_ms"] * b + LAW["prefill_token_ms"] * prompt)
    ms += LAW["prefill_square_ns"] / 1e6 * prompt**2
    return ms + (LAW["mixed_context_us"] / 1e3 * context if prompt else 0.0)


def rows() -> list[tuple[int, int, int]]:
    decode = [(b, each, 0) for b in (1, 8, 32, 128) for each in (128, 1024, 4096)]
    prefill = [(0, 0, prompt) for prompt in (256, 512, 1024, 2048, 4096)]
    return [*decode, *prefill, *((b, each, 512) for b in (8, 64) for each in (256, 2048))]


def write(path: Path, factors: tuple[float, ...] = (1.0,)) -> Path:
    lines = [
        f"{prompt},{each},{factor * step_ms(b, b * each, prompt) / 1e3!r},{b}"
        for b, each, prompt in rows()
        for factor in factors
    ]
    path.write_text("\n".join(["prompt_tokens,context_tokens,time_s,sequences", *lines]), encoding="utf-8")
    return path


@pytest.mark.parametrize(("slip", "told"), [(1e-3, "too small"), (1e3, "too large")])
def test_times_of_another_unit_are_told(slip: float, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the median time of a decode step is .* s, {told} for an engine by about 1,0"):
        read_steps(str(write(tmp_path / "steps.csv", (slip,))), None, Asked())


@pytest.mark.parametrize("factors", [(1.0,), (1.0, 0.97, 5.0)])
def test_exact_steps_give_back_their_law(factors: tuple[float, ...], tmp_path: Path) -> None:
    """A trial three times over, one of them disturbed: the median is the step itself."""
    points = read_steps(str(write(tmp_path / "steps.csv", factors)), None, Asked())
    assert len(points) == len(rows())
    # The floor hides what is below it: with a prompt of 256 tokens, 23 ms exceed the 10 ms.
    fit = fit_steps(points)
    for key, value in LAW.items():
        assert fit.keys[key] == pytest.approx(value, rel=1e-4, abs=1e-9), key
    assert all(worst < 0.01 for _, _, worst in fit.phases.values())


def test_terms_are_never_negative() -> None:
    columns = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert nonnegative(columns, np.array([3.0, 2.0, 1.0])) == pytest.approx([2.0, 0.0])
    assert nonnegative(columns, np.array([1.0, 3.0, 5.0])) == pytest.approx([0.0, 13 / 7 * 22 / 26])
    assert nonnegative(columns, np.array([-1.0, -1.0, -1.0])) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("sequences,context_tokens,time\n1,2,3", "no column of a time with its unit"),
        ("requests,context_tokens,time_ms\n1,2,3", "no column sequences"),
        ("sequences,time_ms\n1,2", "no column context_tokens or prompt_tokens"),
        ("sequences,context_tokens,time_ms\n1,2,3", "1 decode steps found"),
        ("sequences,context_tokens,time_ms\n1,2,zero", "line 2: time_ms='zero' is not a number"),
    ],
)
def test_a_slip_in_a_table_is_one_line(columns: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "steps.csv"
    path.write_text(columns, encoding="utf-8")
    with pytest.raises(UserError) as raised:
        fit_steps(read_steps(str(path), None, Asked()))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_batch_size_does_not_tell_the_terms_apart() -> None:
    context = np.array([100.0, 200.0, 300.0, 400.0])
    none, ones = np.zeros(4), np.full(4, 8.0)
    prompts = np.array([256.0, 512.0, 1024.0, 2048.0])
    points = StepPoints(
        np.concatenate([ones, none]),
        np.concatenate([context, none]),
        np.concatenate([none, prompts]),
        np.concatenate([none, prompts**2]),
        np.ones(8),
        "steps",
    )
    with pytest.raises(UserError, match="decode steps do not tell three terms apart"):
        fit_steps(points)


# Coefficients of published fits to the same profiles, by others' code: c0, c1 (ms), c2 (us), p1 (ms), p2 (ns).
PUBLISHED = {"RTX4090": (16.89, 0.0418, 0.1478, 0.0886, 1.92), "RTXPRO6000": (11.11, 0.0179, 0.0927, 0.0343, 1.154)}


@pytest.mark.parametrize("card", PUBLISHED)
def test_a_profile_gives_the_coefficients_known_of_it(card: str) -> None:
    folder = SHARED / "measured" / "llmservingsim" / "profiles" / card / "meta-llama" / "Llama-3.1-8B" / "tp1"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not at hand")
    keys = fit_steps(read_steps(str(folder), "llmservingsim", Asked(layers=32))).keys
    found = (keys["fixed_ms"] + keys["floor_ms"], keys["sequence_ms"], keys["context_us"], keys["prefill_token_ms"],
             keys["prefill_square_ns"])  # fmt: skip
    for value, known in zip(found, PUBLISHED[card], strict=True):
        assert value == pytest.approx(known, rel=0.1)  # which points to weigh how is a choice
    with pytest.raises(UserError, match="--layers"):
        read_steps(str(folder), "llmservingsim", Asked())


def test_a_splitwise_table_is_read_for_one_model_and_card() -> None:
    file = SHARED / "measured" / "splitwise_sim" / "perf_model.csv"
    if not file.is_file():
        pytest.skip(f"{file} is not at hand")
    with pytest.raises(UserError, match="has several model; choose one with --model: bloom-176b, llama2-70b"):
        read_steps(str(file), "splitwise-sim", Asked())
    with pytest.raises(UserError, match="is not measured"):
        read_steps(str(file), "splitwise-sim", Asked(model="llama2-70b", hardware="h100-80gb-pcap", tensor_parallel=8))
    fit = fit_steps(
        read_steps(str(file), "splitwise-sim", Asked(model="llama2-70b", hardware="h100-80gb", tensor_parallel=8))
    )
    assert fit.phases["decode"][1] < 3
    assert fit.not_fitted == ("mixed_extra_ms, mixed_context_us: 0, since the points have no mixed steps",)


def loads(tpot_ms: np.ndarray) -> Loads:
    return Loads(
        np.array([4.0, 16.0, 64.0]), np.array([500.0, 1000.0, 250.0]), np.array([250.0, 125.0, 40.0]), tpot_ms, ""
    )


def test_host_terms_are_found_again_and_never_negative() -> None:
    law = build_law(composed(["gpu=own", "gpu.law.kind=step", *(f"gpu.law.{key}={v}" for key, v in LAW.items())]).gpu)
    empty = loads(np.ones(3))
    kernels_ms = kernel_tpot_ms(law, empty)
    # By hand: 4 of 250 steps hold a prompt of 500; the last load starts 64 / 40 prompts of 250 in every step.
    alone = step_ms(4, 4 * 625, 0)
    assert kernels_ms[0] == pytest.approx(alone + 4 / 250 * (step_ms(4, 4 * 625, 500) - alone))
    crowded = step_ms(64, 64 * 270, 400) - LAW["prefill_square_ns"] / 1e6 * (400**2 - 400 * 250)
    assert kernels_ms[2] == pytest.approx(crowded)
    fit = fit_host(law, loads(kernels_ms + 1.5 + 0.04 * empty.concurrency))
    assert (fit.host_ms, fit.host_us_per_sequence) == pytest.approx((1.5, 40.0))
    assert np.abs(fit.left_out_pct).max() < 1e-6
    assert fit.before_pct.max() < 0
    faster = fit_host(law, dataclasses.replace(empty, tpot_ms=0.9 * kernels_ms))
    assert (faster.host_ms, faster.host_us_per_sequence) == (0.0, 0.0)


def test_the_commands_print_and_write(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = str(write(tmp_path / "steps.csv"))
    main(["step", table, "--name", "mine", "--model", "llama31_8b", "--kv-tokens", "40000"])
    assert "context_us: 0.15" in capsys.readouterr().out
    config = composed(["gpu=mine"], str(tmp_path / "outputs" / "fits" / "mine"))
    assert config.gpu.law.kind == "step"
    assert config.gpu.law.prefill_token_ms == pytest.approx(LAW["prefill_token_ms"], rel=1e-4)
    (tmp_path / "loads.csv").write_text(
        "concurrency,prompt_tokens,output_tokens,tpot_ms\n4,500,250,20\n64,500,250,30\n", encoding="utf-8"
    )
    main(["host", "loads.csv", "gpu=mine", "--config-dir", "outputs/fits/mine"])
    assert "gpu.law.host_ms=" in capsys.readouterr().out
    for given, said in (
        (["step", table, "--name", "mine", "--kv-tokens", "1"], "needs --model"),
        (["host", "loads.csv", "num_gpus=1"], "gpu=...: is needed"),
        (["host", "loads.csv", "gpu=roofline_h100"], "host terms belong to the law of a step"),
        (["step", table, "--from", "splitwise"], "splitwise-sim"),
    ):
        with pytest.raises(SystemExit, match=f"^mbexp.fit: .*{said}"):
            main(given)


def test_a_file_of_points_is_read_as_other_tables_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of columns are stripped, a leading ~ is the home folder, and what is no CSV is said in a line."""
    monkeypatch.setenv("HOME", str(tmp_path))
    header = "phase, batch_size,prompt_tokens,output_tokens,context_tokens,cuda_graphs,median_s,status"
    (tmp_path / "points.csv").write_text(f"{header}\ndecode,4,0,0,512,on,0.01,ok\n", encoding="utf-8")
    points = read_points("~/points.csv")
    assert (points.batch_size[0], points.seconds[0]) == (4, 0.01)
    (tmp_path / "points.csv").write_bytes(f"{header}\nd\xe9code".encode("latin-1"))
    with pytest.raises(UserError, match="line 2: is not UTF-8 text"):
        read_points("~/points.csv")
