"""Figures of the studies of continuous batching: each draws its study, and the numbers in it are those of theory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mbexp import UserError, simulate
from mbexp.figures import draw
from mbexp.figures.continuous import _output_moments
from mbexp.figures.drawing import find_study
from mbexp.figures.registry import find_figure
from mbexp.sweep.table import read_results
from mbexp.theory.dynamic_batching import slot_tokens

Command = Callable[..., tuple[int, str, str]]

STUDIES = {
    "continuous_binning": ("workload.rate_scaling=40,320",),
    "continuous_conservation": ("k_bins=1,2",),
    "continuous_memory": (),
    "continuous_occupancy": (),
    "continuous_token_sla": ("workload.arrivals.rate_per_s=4,12",),
    "chunk_budget": ("workload.arrivals.rate_per_s=10",),
    "prefix_routing": ("workload.arrivals.users=10,20",),
}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_draws_its_figure_and_no_other_of_its_kind(study: str, command: Command, tmp_path: Path) -> None:
    code, _, err = command("-cn", study, *STUDIES[study], "num_requests=300", "replications=2")
    assert code == 0, err
    folder = next(path.parent for path in (tmp_path / "outputs").glob("*/study.json"))
    picture = draw(study, folder)
    drawn = [artist for panel in picture.axes for artist in [*panel.lines, *panel.collections, *panel.containers]]
    assert len(drawn) >= len(picture.axes)
    assert all(panel.get_xlabel() or panel.get_ylabel() for panel in picture.axes)


def test_the_study_of_the_mooncake_trace_draws_its_figure(command: Command, tmp_path: Path) -> None:
    rows = [
        {"timestamp": 50 * at, "input_length": 900, "output_length": 5, "hash_ids": [at % 7, 10 + at]}
        for at in range(700)
    ]
    (tmp_path / "part.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sizes = "num_requests=300", "replications=2", "workload.path=part.jsonl"
    code, _, err = command("-cn", "prefix_mooncake", *sizes)
    assert code == 0, err
    picture = draw("prefix_mooncake", tmp_path / "outputs" / "prefix_mooncake")
    assert [len(panel.lines) >= 5 for panel in picture.axes] == [True] * 6  # a line for each router, and none


def test_bins_known_but_not_lengths_make_reservations_smaller(command: Command, tmp_path: Path) -> None:
    """Relative to one bin: GPU time falls only where a server reserves for the longest of a bin."""
    code, _, err = command(
        "-cn", "continuous_conservation", "execution.gpu_serves=any_bin", "k_bins=1,8", "num_requests=4000",
        "replications=1",
    )  # fmt: skip
    assert code == 0, err
    table = read_results(tmp_path / "outputs" / "continuous_conservation").set_index(["study.label", "k_bins"])
    gain = table["throughput_requests_per_s"].xs(8, level=1) / table["throughput_requests_per_s"].xs(1, level=1)
    assert gain.pop("memory binds, bins known") > 1.15
    assert gain.to_list() == pytest.approx([1.0] * len(gain), abs=0.02)


@pytest.mark.parametrize(
    ("keys", "draws"),
    [
        ({"kind": "constant", "value_tokens": 304}, lambda rng: np.full(10**6, 304)),
        ({"kind": "uniform", "low_tokens": 1, "high_tokens": 607}, lambda rng: rng.integers(1, 608, 10**6)),
        ({"kind": "exponential", "mean_tokens": 304}, lambda rng: rng.exponential(304, 10**6)),
        ({"kind": "lognormal", "mean_tokens": 304, "sigma": 1.0}, lambda rng: 304 * rng.lognormal(-0.5, 1.0, 10**6)),
    ],
)
def test_the_length_biased_mean_of_the_figure_is_that_of_theory(keys, draws) -> None:
    row = pd.Series({f"workload.output.{name}": value for name, value in {"mean_tokens": np.nan, **keys}.items()})
    mean, square = _output_moments(row)
    lengths = np.asarray(draws(np.random.default_rng(0)), float)
    assert square / (2 * mean) == pytest.approx(slot_tokens(np.full(10**6, 1e-9), lengths), rel=0.02)


def test_figures_of_batches_pass_over_continuous_runs(command: Command, tmp_path: Path) -> None:
    code, _, err = command(
        "--multirun", "execution=continuous,run_to_completion", "scheduler=dynamic_no_bins", "gpu=roofline_h100",
        "num_requests=300",
    )  # fmt: skip
    assert code == 0, err
    study = find_study(next(path.parent for path in (tmp_path / "outputs").glob("*/study.json")))
    names = [spec.name for spec in study.drawable()]
    assert "controller_trajectory" in names
    frame = study.frame(find_figure("controller_trajectory"))
    modes = study.results.set_index("run")["execution"]
    assert set(modes[frame["run"].unique()]) == {"run_to_completion"}
    draw("gpu_timeline", study.folder)


def test_a_figure_of_batches_that_a_continuous_result_has_not_says_so() -> None:
    result = simulate(num_requests=50, execution="continuous", gpu="roofline_h100", scheduler="dynamic_no_bins")
    with pytest.raises(UserError, match="controller_trajectory: the batches of no result have b_sla, controller_low"):
        draw("controller_trajectory", result)
