"""A user outside the package, in a folder with files of theirs alone: rule, predictor, metric, figure, trace, study.

Each is done from the command line and again from Python, in processes that know nothing of these tests.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import ROOT

ROWS = 900
COMMAND = "python -m mbexp --config-dir conf -cn my_study"
FIGURE_COMMAND = "python -m mbexp.figures outputs/mine --from my_figures.py --only unlucky --width 3.35in --format pdf"
CAPACITY_COMMAND = """python -m mbexp.capacity --config-dir conf workload=calls num_requests=300 scheduler=patient \\
  metrics=[my_metrics.unlucky_latency_s] 'sla.targets=[unlucky_latency_s<=30]'"""

RULES = """
from mbexp.rules import bin_selection


@bin_selection(patience_s=2.0)
def patient(now_s, queues, memory, parameters):
    for place in range(queues.ready_count):
        queue = queues.ready[place]
        if now_s - queues.head_arrival_s[queue] > parameters.patience_s:
            return queue
    return queues.ready[0]
"""

PREDICTORS = """
import mbexp
import numpy as np
import pyarrow.parquet as parquet

INPUT_FILES = ["predictions.parquet"]


def from_model(prompt_tokens, columns, seed, factor=1.0):
    table = parquet.read_table("predictions.parquet").to_pandas().set_index("id")["tokens"]
    return factor * table.loc[columns["id"]].to_numpy()
"""

METRICS = '''
from mbexp import metric


@metric(better="lower", label="Latency of the unluckiest tenth")
def unlucky_latency_s(requests):
    """The mean latency of the slowest tenth of the requests."""
    latency = (requests["finish_s"] - requests["arrival_s"]).sort_values()
    return latency.tail(max(len(latency) // 10, 1)).mean()
'''

FIGURES = '''
from mbexp.figures.registry import figure
from mbexp.figures.style import panels


@figure("The unlucky, by scheduler", needs=("unlucky_latency_s", "workload.arrivals.rate_per_s"))
def unlucky(frame):
    """Latency of the unluckiest tenth against the rate, means over seeds."""
    picture, (axes,) = panels(1)
    for scheduler, rows in frame.groupby("scheduler"):
        means = rows.groupby("workload.arrivals.rate_per_s")["unlucky_latency_s"].mean()
        axes.plot(means.index, means, "o-", label=scheduler)
    axes.set(xlabel="Requests per second", ylabel="Latency of the unluckiest tenth (s)")
    axes.legend()
    return picture
'''

SCHEDULER = """
name: patient
queue: per_bin
batch_size: fixed
fixed_batch_size: 8
selection: my_rules.patient
parameters: {patience_s: 2.0}
"""

WORKLOAD = """
kind: csv
path: calls.jsonl
columns: {arrival: sent_ms, prompt: tokens.in, output: tokens.out, extra: [id]}
time_unit_s: 0.001
where: {model: [llama-8b]}
window: {kind: rows}
timestamps: generated
arrivals: {kind: poisson, rate_per_s: 2.0}
"""

STUDY = """
defaults:
  - config
  - override workload: calls
  - _self_
study: {name: mine, metrics: [unlucky_latency_s, latency_mean_s]}
num_requests: 300
num_gpus: 3
replications: 5
metrics: [my_metrics.unlucky_latency_s]
predictor: {kind: my_predictors.from_model}
hydra:
  mode: MULTIRUN
  sweeper:
    params: {scheduler: "static_fifo,patient", workload.arrivals.rate_per_s: "1,3"}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the user has."""
    folder = tmp_path_factory.mktemp("user")
    rng = np.random.default_rng(5)
    calls = []
    for number in range(ROWS):
        model = ("llama-8b", "llama-70b")[int(rng.integers(2))]
        tokens = {"in": int(rng.integers(5, 400)), "out": int(rng.integers(5, 300))}
        if number % 50 == 0:
            tokens["out"] = None  # a call that failed
        calls.append({"id": f"call-{number}", "sent_ms": 100 * number, "model": model, "tokens": tokens})
    (folder / "calls.jsonl").write_text("".join(json.dumps(call) + "\n" for call in calls))
    guesses = {call["id"]: (call["tokens"]["out"] or 1) + int(rng.integers(0, 40)) for call in calls}
    pd.DataFrame({"id": list(guesses), "tokens": list(guesses.values())}).to_parquet(folder / "predictions.parquet")
    good = [call for call in calls if call["tokens"]["out"]]
    pd.DataFrame(
        {
            "arrival_s": [call["sent_ms"] / 1000 for call in good],
            "prompt_tokens": [call["tokens"]["in"] for call in good],
            "output_tokens": [call["tokens"]["out"] for call in good],
            "predicted": [guesses[call["id"]] for call in good],
        }
    ).to_parquet(folder / "trace.parquet")
    for name, text in {
        "my_rules.py": RULES,
        "my_predictors.py": PREDICTORS,
        "my_metrics.py": METRICS,
        "my_figures.py": FIGURES,
        "conf/scheduler/patient.yaml": SCHEDULER,
        "conf/workload/calls.yaml": WORKLOAD,
        "conf/my_study.yaml": STUDY,
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_guide_shows_these_files() -> None:
    page = (ROOT / "docs" / "bring_your_own.md").read_text(encoding="utf-8")
    for text in (RULES, PREDICTORS, METRICS, FIGURES, SCHEDULER, WORKLOAD, STUDY, PYTHON.split("told =")[0]):
        assert text.strip() in page
    for command in (COMMAND, FIGURE_COMMAND, *CAPACITY_COMMAND.splitlines(), PYTHON_FIGURE, PYTHON_CAPACITY):
        assert command.strip() in page


def run(folder: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def by_command(folder: Path) -> pd.DataFrame:
    """The study made by the command line."""
    run(folder, *COMMAND.split()[1:], "hydra/launcher=basic")
    return pd.read_csv(folder / "outputs" / "mine" / "results.csv")


def test_a_study_of_files_of_the_users_alone(folder: Path, by_command: pd.DataFrame) -> None:
    calls = pd.read_json(folder / "calls.jsonl", lines=True)
    tokens = pd.json_normalize(calls["tokens"])
    served = calls[(calls["model"] == "llama-8b") & tokens["out"].notna()].head(300)
    guesses = pd.read_parquet(folder / "predictions.parquet").set_index("id")["tokens"]
    assert set(by_command["scheduler"]) == {"static_fifo", "patient"}
    for _, row in by_command.iterrows():
        requests = pd.read_parquet(folder / "outputs" / "mine" / row["run"] / "requests.parquet")
        # the filter, pairs kept, and the predictions of the Parquet file
        assert requests["id"].tolist() == served["id"].tolist()
        assert requests["output_tokens"].tolist() == tokens["out"][served.index].astype(int).tolist()
        assert requests["prompt_tokens"].tolist() == tokens["in"][served.index].tolist()
        assert requests["predicted_tokens"].tolist() == guesses[served["id"]].tolist()
        rate = row["workload.arrivals.rate_per_s"]
        assert 299 / requests["arrival_s"].iloc[-1] == pytest.approx(rate, rel=0.25)
    by_seed = pd.read_csv(folder / "outputs" / "mine" / "replications.csv")
    assert (
        by_seed.groupby(["scheduler", "workload.arrivals.rate_per_s"])["seed"].apply(sorted).tolist()
        == [[0, 1, 2, 3, 4]] * 4
    )
    # each row is the first seed's requests: the metric by hand
    first = by_seed[by_seed["seed"] == 0]
    for _, row in first.iterrows():
        requests = pd.read_parquet(folder / "outputs" / "mine" / row["run"] / "requests.parquet")
        latency = np.sort(requests["finish_s"] - requests["arrival_s"])[-30:]
        assert row["unlucky_latency_s"] == pytest.approx(latency.mean(), rel=1e-9)


def test_its_verdicts_are_decided_together(folder: Path, by_command: pd.DataFrame) -> None:
    told = pd.read_csv(folder / "outputs" / "mine" / "verdicts.csv")
    assert {"patient", "static_fifo"} == set(told["first"]) | set(told["second"])
    assert set(told["metric"]) == {"unlucky_latency_s", "latency_mean_s"}
    assert (told["seeds"] == 5).all()
    assert sorted(set(told["workload.arrivals.rate_per_s"])) == [1, 3]
    assert (told["p_value_corrected"] >= told["p_value"]).all()


PYTHON_FIGURE = """
import my_figures
from mbexp.figures import draw

picture = draw("unlucky", study.folder, width="3.35in")
"""
PYTHON_CAPACITY = """
(answer,) = mbexp.capacity(
    workload="calls",
    num_requests=300,
    scheduler="patient",
    metrics=["my_metrics.unlucky_latency_s"],
    **{"sla.targets": ["unlucky_latency_s<=30"]},
)
"""
PYTHON = (
    """
import json, mbexp
from my_metrics import unlucky_latency_s

study = mbexp.sweep(
    jobs=1,
    scheduler=["static_fifo", "patient"],
    workload="calls",
    num_requests=300,
    num_gpus=3,
    replications=5,
    metrics=["my_metrics.unlucky_latency_s"],
    predictor={"kind": "my_predictors.from_model"},
    **{"workload.arrivals.rate_per_s": [1, 3], "study.name": "from_python"},
)
told = mbexp.compare(
    5, 1, workload="calls", num_requests=300, num_gpus=3, scheduler=["static_fifo", "patient"],
)
trace = mbexp.load_trace("csv", path="trace.parquet", num_requests=None, columns={"extra": ["predicted"]})
by_array = mbexp.simulate(trace, predicted_tokens=trace.extra["predicted"], metrics=[unlucky_latency_s])
by_column = mbexp.simulate(trace, predictor="column", **{"predictor.column": "predicted"})
"""
    + PYTHON_FIGURE
    + PYTHON_CAPACITY
    + """
with_gpus = [
    mbexp.simulate(workload="calls", num_requests=300, scheduler="patient", metrics=[unlucky_latency_s],
                   num_gpus=gpus, seed=seed).summary["unlucky_latency_s"]
    for gpus in (answer.num_gpus - 1, answer.num_gpus) for seed in range(5)
]
print(json.dumps({
    "width": picture.get_size_inches()[0], "lines": [line.get_ydata().tolist() for line in picture.axes[0].lines],
    "gpus": answer.num_gpus, "with_gpus": with_gpus, "sentence": answer.sentence(),
    "rows": study.results[["run", "unlucky_latency_s"]].values.tolist(),
    "seeds": int(told["seeds"].min()), "verdicts": told["verdict"].tolist(),
    "unlucky": by_array.summary["unlucky_latency_s"],
    "same": (by_array.requests["finish_s"] == by_column.requests["finish_s"]).all().item(),
    "bias": by_column.summary["prediction_bias_tokens"],
}))
"""
)


def test_python_does_the_same(folder: Path, by_command: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBEXP_CONFIG_PATH", "conf")

    found = json.loads(run(folder, "-c", PYTHON).splitlines()[-1])

    rows = dict(found["rows"])
    assert rows == pytest.approx(dict(zip(by_command["run"], by_command["unlucky_latency_s"], strict=True)))
    assert found["seeds"] == 5
    assert all("patient" in verdict for verdict in found["verdicts"])
    trace = pd.read_parquet(folder / "trace.parquet")
    assert found["bias"] == pytest.approx((trace["predicted"] - trace["output_tokens"]).mean())
    assert found["same"]
    assert found["unlucky"] > 0
    # the figure: the width of a column, and the means of the command's table
    assert found["width"] == pytest.approx(3.35)
    means = by_command.groupby(["scheduler", "workload.arrivals.rate_per_s"])["unlucky_latency_s"].mean()
    assert found["lines"] == [pytest.approx(means[side].tolist()) for side in ("patient", "static_fifo")]
    # the metric as a target: the answer keeps it and one GPU less does not, as runs of each show
    assert np.mean(found["with_gpus"][:5]) > 30 >= np.mean(found["with_gpus"][5:])
    assert found["sentence"].startswith(f"{found['gpus']} x ")


def test_a_figure_of_ones_own_at_the_width_of_a_column(folder: Path, by_command: pd.DataFrame) -> None:
    run(folder, *FIGURE_COMMAND.split()[1:])

    pdf = (folder / "outputs" / "mine" / "figures" / "unlucky.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(3.35 * 72, abs=0.5)


def test_a_metric_of_ones_own_is_a_target(folder: Path) -> None:
    told = run(folder, *shlex.split(CAPACITY_COMMAND.replace("\\\n", " "))[1:])

    assert re.match(r"2 x \S+ meet the target \(1 fail: unlucky_latency_s \d", told)
    page = (ROOT / "docs" / "bring_your_own.md").read_text(encoding="utf-8")
    assert told.splitlines()[0] in page


def test_a_parameter_of_the_rule_is_swept_over_a_column_of_predictions(folder: Path) -> None:
    run(
        folder, "-m", "mbexp", "-m", "scheduler.queue=per_bin", "scheduler.selection=my_rules.patient",
        "scheduler.parameters.patience_s=0.5,500", "workload=csv", "workload.path=trace.parquet", "predictor=column",
        "predictor.column=predicted", "study.name=patience", "hydra/launcher=basic", "num_gpus=1", "num_requests=null",
        "workload.timestamps=generated", "workload.arrivals.rate_per_s=5",
    )  # fmt: skip
    frame = pd.read_csv(folder / "outputs" / "patience" / "results.csv")
    assert frame["scheduler.parameters.patience_s"].tolist() == [0.5, 500]
    assert frame["latency_mean_s"].nunique() == 2
    requests = pd.read_parquet(folder / "outputs" / "patience" / frame["run"][0] / "requests.parquet")
    assert requests["predicted_tokens"].tolist() == pd.read_parquet(folder / "trace.parquet")["predicted"].tolist()
