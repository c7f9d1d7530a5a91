"""The replay: its loop against the simulator, its clock, the comparison, and a tiny model served on the CPU."""

import csv
import dataclasses
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mbexp import configure, load_trace
from mbexp.errors import UserError
from mbexp.hardware import MODEL_CARDS, build_law, kv_capacity_tokens
from mbexp.measure.session import OutOfMemory
from mbexp.policy.build import build_policy
from mbexp.replay.__main__ import main
from mbexp.replay.clock import RealClock, VirtualClock
from mbexp.replay.compare import compare, rankings, rows, text
from mbexp.replay.figure import replay_figure
from mbexp.replay.loop import Batch, replay
from mbexp.replay.server import gpu_server, law_server
from mbexp.run import run

CASES = {
    "static_fifo": {"scheduler": "static_fifo"},
    "dynamic_no_bins": {"scheduler": "dynamic_no_bins"},
    "multi_bin_dynamic": {"scheduler": "multi_bin_dynamic"},
    "multi_bin_static": {"scheduler": "multi_bin_static"},
    "longest queue, tight target": {
        "scheduler.selection": "longest_queue", "sla.token_ms": 7.0, "scheduler.batch_size_max": 16
    },
    "timeout": {"scheduler.fill": "timeout", "scheduler.timeout_s": 0.7, "scheduler.selection": "oldest_head"},
    "little memory, underpredicted": {
        "gpu.kv_capacity_tokens": 3000, "predictor": "constant", "predictor.value_tokens": 50.0
    },
    "roofline": {"gpu": "roofline_a100_40gb", "scheduler.selection": "shortest_bin"},
}  # fmt: skip


def configured(values):
    return configure(num_gpus=1, num_requests=400, **values)


def virtual(config, simulation, law=None):
    clock = VirtualClock()
    policy = build_policy(config.scheduler, config.sla, kv_capacity_tokens(config.gpu))
    return replay(simulation.outcome, policy, clock, law_server(law or simulation.law, clock))


@pytest.mark.parametrize("case", CASES)
def test_served_by_the_law_a_replay_is_the_simulation(case):
    config = configured(CASES[case])
    simulation = run(config)
    replayed = virtual(config, simulation)
    assert len(replayed.batches) > 5
    for name in simulation.outcome.batches.dtype.names:
        assert np.array_equal(replayed.batches[name], simulation.outcome.batches[name]), name


def test_comparison_of_a_law_that_is_a_tenth_slow():
    config = configured(CASES["static_fifo"])
    simulation = run(config)
    slow = dataclasses.replace(config.gpu.law, alpha_ms=59.65 / 1.1, beta_ms=5.742 / 1.1)
    replayed = virtual(config, simulation, build_law(dataclasses.replace(config.gpu, law=slow)))
    compared = compare(simulation, replayed)
    assert compared.error_pct == pytest.approx(np.full(len(replayed.batches), 10.0))
    table = {row["quantity"]: row for row in rows([compared])}
    assert table["batch_time_error_median_pct"]["simulated"] == pytest.approx(10)
    assert table["batch_time_error_p95_pct"]["simulated"] == pytest.approx(10)
    assert table["makespan_s"]["difference_pct"] == pytest.approx(
        100 * (simulation.summary["makespan_s"] / replayed.batches["finish_s"].max() - 1)
    )
    assert "median error 10.00 %, p95 10.00 %, bias +10.00 %" in text([compared])


def test_order_of_schedulers_is_compared():
    trace = load_trace(num_requests=400)
    comparisons = []
    for scheduler in ("static_fifo", "multi_bin_dynamic"):
        config = configured({"scheduler": scheduler})
        simulation = run(config, trace)
        comparisons.append(compare(simulation, virtual(config, simulation)))
    for metric, simulated, replayed in rankings(comparisons):
        assert simulated == replayed
        best = min(comparisons, key=lambda each, metric=metric: each.metrics[metric][0])
        assert simulated[0] == best.scheduler
    assert text(comparisons).count(": the same") == 3
    worst = {"latency_mean_s": (9e9, 0.0), "latency_p99_s": (9e9, 0.0), "makespan_s": (9e9, 0.0)}
    turned = [dataclasses.replace(comparisons[0], metrics=comparisons[0].metrics | worst), comparisons[1]]
    assert text(turned).count("NOT the same") == 3
    figure = replay_figure(comparisons)
    assert len(figure.axes) == 2
    assert len(figure.axes[1].lines) == 4


def test_real_clock_waits_and_can_be_paused():
    clock = RealClock()
    clock.wait(0.02)
    assert 0.02 <= clock.now() < 0.2
    before = clock.now()
    with clock.paused():
        time.sleep(0.05)
    assert clock.now() - before < 0.04
    assert clock.paused_s >= 0.05


def test_on_the_real_clock_no_batch_starts_before_its_requests_arrive():
    values = {
        "workload": "synthetic",
        "workload.arrivals.rate_per_s": 400.0,
        "workload.prompt": {"kind": "constant", "value_tokens": 2.0},
        "workload.output": {"kind": "constant", "value_tokens": 3.0},
        "scheduler": "static_fifo",
    }
    config = configure(num_gpus=1, num_requests=60, **values)
    simulation = run(config)
    clock = RealClock()

    def serve(batch):
        clock.wait(clock.now() + 0.004)
        return 0.001, 0.0015

    policy = build_policy(config.scheduler, config.sla, kv_capacity_tokens(config.gpu))
    replayed = replay(simulation.outcome, policy, clock, serve)
    start_s = replayed.batches["start_s"][replayed.batch_of]
    assert np.all(start_s >= replayed.arrival_s)
    assert replayed.batches["size"].sum() == 60
    assert np.all(np.diff(replayed.batches["start_s"]) >= 0.004)


class StandIn:
    """An engine that serves a batch in no time, until its memory ends."""

    def __init__(self, batch_size_max):
        self.card, self.cuda_graphs, self.batch_size_max = MODEL_CARDS["tiny"], False, batch_size_max
        self.served = []

    def load_batch(self, point):
        if point.batch_size > self.batch_size_max:
            raise OutOfMemory

        def serve():
            self.served.append(point)
            return 0.001, 0.0001 * (point.output_tokens - 1)

        return serve

    def unload(self):
        pass


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The command with an engine that needs no PyTorch."""
    monkeypatch.chdir(tmp_path)
    engine = StandIn(10**6)
    monkeypatch.setattr("mbexp.measure.engine.check_device", lambda device: None)
    monkeypatch.setattr("mbexp.measure.engine.TorchEngine", lambda *_: engine)
    machine = {"gpu": "none", "engine": "a stand-in", "weights": "random"}
    monkeypatch.setattr("mbexp.measure.machine.describe", lambda *_: dict(machine))
    return engine


QUICK = [
    "--model", "tiny", "--schedulers", "static_fifo,multi_bin_dynamic", "workload=synthetic",
    "workload.arrivals.rate_per_s=400", "workload.prompt={kind: constant, value_tokens: 6}",
    "workload.output={kind: uniform, low_tokens: 1, high_tokens: 9}", "num_requests=40",
]  # fmt: skip


def test_the_command_replays_every_scheduler_and_writes_one_folder(stand_in, tmp_path, capsys):
    main([*QUICK, "--out", "here"])
    said = capsys.readouterr().out
    assert "static_fifo: 40 requests of" in said
    assert "written: here/" in said
    assert sorted(path.name for path in Path("here").iterdir()) == [
        "batches.csv", "comparison.csv", "comparison.txt", "config.yaml", "machine.json", "replay.pdf", "replay.png",
    ]  # fmt: skip
    with open("here/batches.csv") as file:
        batches = list(csv.DictReader(file))
    assert Counter(row["scheduler"] for row in batches).keys() == {"static_fifo", "multi_bin_dynamic"}
    served = [point.batch_size for point in stand_in.served]
    assert sum(int(row["batch_size"]) for row in batches) == 2 * 40
    assert sum(served) > 2 * 40  # and batches that set the libraries up before the clock starts
    assert Path("here/comparison.txt").read_text().strip() in said
    assert set(json.loads(Path("here/machine.json").read_text())["paused_s"]) == {"static_fifo", "multi_bin_dynamic"}
    with pytest.raises(SystemExit, match=r"mbexp\.replay: --out=here: exists; choose another"):
        main([*QUICK, "--out", "here"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["num_gpus=2"], "num_gpus=2: a replay runs on one GPU"),
        (["execution=continuous"], r"execution\.name=continuous: a replay runs batches to completion"),
        (["--schedulers", "static_fif"], r"scheduler=static_fif: no such choice \(did you mean 'static_fifo'\?\)"),
        (["num_request=3"], r"num_request: unknown key \(did you mean 'num_requests'\?\)"),
        (["--config-dir", "nowhere"], "--config-dir=nowhere: no such folder"),
        (
            ["workload.output={kind: constant, value_tokens: 5000}"],
            "a request of 5006 tokens exceeds the 4096 of the model",
        ),
    ],
)
def test_what_cannot_be_replayed_is_said_before_anything_is_written(stand_in, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([*QUICK, "--out", "here", *arguments])
    assert not Path("here").exists()


def test_a_gpu_without_room_for_the_largest_batch_is_said(stand_in):
    stand_in.batch_size_max = 0
    with pytest.raises(SystemExit, match="the GPU has no memory for a batch of 1"):
        main([*QUICK, "--out", "here"])
    stand_in.batch_size_max = 6  # of 8
    with pytest.raises(SystemExit, match="the GPU has no memory for a batch of"):
        main([*QUICK, "scheduler.fill=full", "--out", "here"])
    assert not Path("here").exists()


def test_memory_that_ends_during_a_replay_is_said(stand_in):
    clock = RealClock()
    serve = gpu_server(stand_in, clock)
    first_token_s, step_s = serve(Batch(1, 6, 4, 10, 6, 4))
    assert (first_token_s, step_s) == (0.001, pytest.approx(0.0001))
    assert serve(Batch(1, 6, 1, 7, 6, 1))[1] is None  # one token has no step
    stand_in.batch_size_max = 1
    with pytest.raises(UserError, match=r"no memory for a batch of static 2 x prompt 6 \+ output 4: gpu\.memory_gb"):
        serve(Batch(2, 6, 4, 10, 12, 8))


def test_an_interrupted_replay_writes_nothing(stand_in, monkeypatch, capsys):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stand_in, "load_batch", interrupt)
    with pytest.raises(SystemExit) as stopped:
        main([*QUICK, "--out", "here"])
    assert stopped.value.code == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not Path("here").exists()


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="needs the extra [gpu]: PyTorch")
    pytest.importorskip("transformers", reason="needs the extra [gpu]: Transformers")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


CPU = ["--device", "cpu", "--model", "tiny", "--dtype", "float32"]
SMALL = [
    "workload=synthetic", "workload.arrivals.rate_per_s=50", "workload.prompt={kind: constant, value_tokens: 6}",
    "workload.output={kind: uniform, low_tokens: 1, high_tokens: 9}", "num_requests=24", "gpu.law.length=output",
    "gpu.law.alpha_ms=2", "gpu.law.beta_ms=1",
]  # fmt: skip


def test_replay_on_the_cpu(torch, tmp_path, capsys):
    out = tmp_path / "replay"
    main([*SMALL, *CPU, "--out", str(out), "--schedulers", "static_fifo,multi_bin_dynamic"])
    said = capsys.readouterr().out
    assert "static_fifo: 24 requests of" in said
    assert "order of the schedulers, best first" in said
    with (out / "batches.csv").open() as file:
        batches = list(csv.DictReader(file))
    for scheduler in ("static_fifo", "multi_bin_dynamic"):
        assert sum(int(row["batch_size"]) for row in batches if row["scheduler"] == scheduler) == 24
    assert all(float(row["measured_s"]) > 0 for row in batches)
    with (out / "comparison.csv").open() as file:
        table = {(row["scheduler"], row["quantity"]): row for row in csv.DictReader(file)}
    assert float(table["static_fifo", "makespan_s"]["replayed"]) > 0.2  # 24 arrivals at 50 a second, in real time
    machine = json.loads((out / "machine.json").read_text())
    assert machine["weights"] == "random"
    assert set(machine["paused_s"]) == {"static_fifo", "multi_bin_dynamic"}
    assert sorted(path.name for path in out.iterdir()) == [
        "batches.csv", "comparison.csv", "comparison.txt", "config.yaml", "machine.json", "replay.pdf", "replay.png",
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="exists; choose another"):
        main([*SMALL, *CPU, "--out", str(out)])


def test_configuration_of_the_users_own_folder(torch, tmp_path, capsys):
    (tmp_path / "mine" / "gpu").mkdir(parents=True)
    (tmp_path / "mine" / "gpu" / "my_card.yaml").write_text(
        "name: my_card\ncount: ${num_gpus}\nlaw: {length: output, alpha_ms: 2, beta_ms: 1}\n"
    )
    arguments = [*SMALL[:5], "gpu=my_card", *CPU, "--config-dir", str(tmp_path / "mine"), "--schedulers", "static_fifo"]
    main([*arguments, "--out", str(tmp_path / "replay")])
    assert "name: my_card" in (tmp_path / "replay" / "config.yaml").read_text()


def test_unknown_model():
    with pytest.raises(SystemExit, match=r"mbexp\.replay: --model=qwen: no such choice"):
        main(["--model", "qwen"])
