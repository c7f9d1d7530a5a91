"""The instrument: plan, storing, going on after an interruption, memory running out, and a tiny model on the CPU."""

import csv
import json
import subprocess
import sys

import pytest

from mbexp.errors import UserError
from mbexp.fit import read_points
from mbexp.fit.__main__ import main as fit
from mbexp.hardware import MODEL_CARDS
from mbexp.hardware.grid import read_grid
from mbexp.measure.__main__ import main
from mbexp.measure.plan import Point, make_plan
from mbexp.measure.session import OutOfMemory, measure
from mbexp.measure.store import Row, Store

MACHINE = {"gpu": "stand-in", "model": "tiny", "weight_bytes": 1000, "kv_bytes_per_token": 10, "cuda_graphs": True}
TINY = MODEL_CARDS["tiny"]


class StandIn:
    """An engine whose times are a formula and whose memory ends."""

    def __init__(self, memory_tokens=10**9, fail_after=None):
        self.memory_tokens, self.fail_after = memory_tokens, fail_after
        self.loaded, self.unloaded, self.renewed, self.calls = [], 0, 0, 0

    def load(self, point):
        self.loaded.append(point)
        self.point = point
        if point.batch_size * point.longest_tokens > self.memory_tokens:
            raise OutOfMemory
        if self.fail_after is not None and len(self.loaded) > self.fail_after:
            raise KeyboardInterrupt
        return self.renew, lambda: None

    def renew(self):
        self.renewed += 1

    def time(self, work):
        work()
        self.calls += 1
        steps = max(1, self.point.output_tokens)
        return steps * (0.01 + 1e-4 * self.point.batch_size) * (1 + 0.01 * (self.calls % 3))

    def peak_memory_bytes(self):
        return 1000 + 10 * self.point.batch_size * self.point.longest_tokens + 77

    def unload(self):
        self.unloaded += 1


def rows(folder):
    with (folder / "points.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_plan():
    plan = make_plan(batch_sizes=(2, 1), lengths=(8, 4, 8), prefill_sequences=(1,), prompt_share=0.25)
    assert plan == [
        Point("prefill", 1, prompt_tokens=4),
        Point("prefill", 1, prompt_tokens=8),
        Point("decode", 1, context_tokens=4),
        Point("decode", 1, context_tokens=8),
        Point("decode", 2, context_tokens=4),
        Point("decode", 2, context_tokens=8),
        Point("static", 1, 1, 3),
        Point("static", 1, 2, 6),
        Point("static", 2, 1, 3),
        Point("static", 2, 2, 6),
    ]
    assert all(point.longest_tokens <= 100 for point in make_plan(lengths=(50, 100, 200), longest_tokens=100))
    assert {point.phase for point in make_plan(phases=("decode",))} == {"decode"}
    assert make_plan(phases=("static",), lengths=(1,)) == []  # a batch has a prompt and an output
    assert [str(point) for point in (plan[0], plan[2], plan[6])] == [
        "prefill 1 x prompt 4", "decode 1 x context 4", "static 1 x prompt 1 + output 3",
    ]  # fmt: skip


def test_points_are_timed_and_stored_in_both_formats(tmp_path):
    plan = make_plan(batch_sizes=(1, 2, 4), lengths=(16, 32), prefill_sequences=(1,))
    engine = StandIn()
    shown = []
    measure(plan, engine, Store(tmp_path, dict(MACHINE)), repeats=6, warm_up=2, show=shown.append)
    assert shown == plan == engine.loaded
    assert engine.unloaded == len(plan)
    assert engine.renewed == engine.calls == 8 * len(plan)  # new inputs before every run, warm-up included
    stored = rows(tmp_path)
    assert [row["status"] for row in stored] == ["ok"] * len(plan)
    last = stored[-1]
    assert (last["phase"], last["batch_size"], last["prompt_tokens"], last["output_tokens"]) == (
        "static",
        "4",
        "8",
        "24",
    )
    # Times are t, 1.01 t, 1.02 t, twice each.
    assert float(last["median_s"]) == pytest.approx(24 * 0.0104 * 1.01)
    assert float(last["max_s"]) / float(last["min_s"]) == pytest.approx(1.02)
    assert last["repeats"] == "6"
    assert last["cuda_graphs"] == "on"
    grid = read_grid(str(tmp_path / "grid.csv"))
    assert list(zip(grid.batch_size, grid.length_tokens, strict=True)) == [(b, n) for b in (1, 2, 4) for n in (16, 32)]
    points = read_points(str(tmp_path / "points.csv"))
    assert len(points) == len(plan)
    assert points.machine["overhead_bytes"] == 77
    assert points.grid == tmp_path / "grid.csv"


def test_no_run_is_begun_after_the_time_of_a_point(tmp_path):
    engine = StandIn()
    measure(make_plan(("decode",), (1,), (16,)), engine, Store(tmp_path, dict(MACHINE)), 50, seconds_per_point=0)
    assert rows(tmp_path)[0]["repeats"] == "3"


def test_interrupted_measurement_goes_on(tmp_path):
    plan = make_plan(("decode",), (1, 2), (16, 32))
    with pytest.raises(KeyboardInterrupt):
        measure(plan, StandIn(fail_after=3), Store(tmp_path, dict(MACHINE)))
    assert len(rows(tmp_path)) == 3
    engine = StandIn()
    measure(plan, engine, Store(tmp_path, dict(MACHINE)))
    assert engine.loaded == plan[3:]
    assert len(rows(tmp_path)) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["machine.json", "points.csv"]


def test_out_of_memory_is_recorded_and_larger_points_are_skipped(tmp_path):
    plan = make_plan(("decode", "static"), (1, 2, 4), (16, 32, 64))
    engine = StandIn(memory_tokens=64)
    measure(plan, engine, Store(tmp_path, dict(MACHINE)))
    status = {
        (row["phase"], int(row["batch_size"]), int(row["context_tokens"])): row["status"] for row in rows(tmp_path)
    }
    assert status["decode", 2, 32] == "ok"
    assert status["decode", 2, 64] == "out_of_memory"
    assert status["decode", 4, 16] == "ok"
    assert status["decode", 4, 32] == "out_of_memory"
    assert status["decode", 4, 64] == "skipped"
    assert Point("decode", 4, context_tokens=64) not in engine.loaded
    assert len(rows(tmp_path)) == len(plan)
    again = StandIn(memory_tokens=64)
    measure(plan, again, Store(tmp_path, dict(MACHINE)))
    assert again.loaded == []
    points = read_points(str(tmp_path / "points.csv"))
    assert points.notes == ("points.csv: 6 points were not measured (out of memory, most often)",)


def test_folder_of_another_measurement_is_not_added_to(tmp_path):
    Store(tmp_path, dict(MACHINE)).add(Row(Point("decode", 1, context_tokens=4), "ok", (0.1,), 0))
    with pytest.raises(UserError, match="holds a measurement with gpu stand-in, this one has another; choose another"):
        Store(tmp_path, MACHINE | {"gpu": "another"})
    (tmp_path / "points.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not written by this version"):
        Store(tmp_path, dict(MACHINE))
    (tmp_path / "machine.json").write_text("{half")
    with pytest.raises(UserError, match="cannot be used"):
        Store(tmp_path, dict(MACHINE))


def test_nothing_of_torch_is_imported_otherwise():
    code = (
        "import sys, mbexp.measure.__main__, mbexp.measure.session, mbexp.measure.store, mbexp.fit.__main__;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "qwen"], r"--model=qwen: no such choice"),
        (["--phases", "prefil"], r"--phases=prefil: no such choice \(did you mean 'prefill'\?\)"),
        (["--prompt-share", "1"], r"--prompt-share=1\.0: must be at least 0 and below 1"),
        (["--lengths", "99999"], r"none within the 40960 tokens"),
        (["--repeats", "0"], r"--repeats=0: must be at least 1"),
    ],
)
def test_wrong_command_is_one_clear_line(arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_a_length_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--lengths", "0,5"])
    assert "must be whole numbers above zero, such as 1,2,4" in capsys.readouterr().err


def test_machine_without_a_gpu_says_so_in_one_line():
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError:
        expected = r"mbexp\.measure: needs PyTorch and Transformers .*: pip install 'mbexp\[gpu\]'$"
    else:
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        expected = r"mbexp\.measure: no GPU here .*--device cpu --model tiny$"
    with pytest.raises(SystemExit, match=expected) as stopped:
        main([])
    assert "\n" not in str(stopped.value)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The command with an engine that needs no PyTorch; gives what `StandIn` is made with."""
    monkeypatch.chdir(tmp_path)
    made = {}
    monkeypatch.setattr("mbexp.measure.engine.check_device", lambda device: None)
    monkeypatch.setattr("mbexp.measure.engine.TorchEngine", lambda *_: StandIn(**made))

    def describe(model, card, dtype, device, graphs):
        return MACHINE | {"gpu": "NVIDIA H100 80GB HBM3", "model": model, "cuda_graphs": graphs, "engine": "none"}

    monkeypatch.setattr("mbexp.measure.machine.describe", describe)
    return made


SMALL = ["--phases", "decode", "--batch-sizes", "1,2", "--lengths", "16,32", "--repeats", "3"]


def test_the_command_stores_where_it_says_and_times_nothing_twice(stand_in, tmp_path, capsys):
    main(SMALL)
    said = capsys.readouterr().out
    folder = tmp_path / "outputs" / "measurements" / "h100_qwen3_1_7b"
    assert "4 of 4 points to time" in said
    assert "4 points timed\n" in said
    assert len(rows(folder)) == 4
    assert f"next: python -m mbexp.fit {folder.relative_to(tmp_path)}/points.csv" in said
    main(SMALL)
    assert "0 of 4 points to time" in capsys.readouterr().out
    main([*SMALL, "--cuda-graphs", "off"])  # another way to run is another measurement
    assert (folder.parent / f"{folder.name}_no_graphs" / "points.csv").is_file()


def test_the_command_says_what_is_beyond_the_memory(stand_in, capsys):
    stand_in["memory_tokens"] = 32
    main(SMALL)
    assert "3 points timed, 1 beyond the memory" in capsys.readouterr().out


def test_an_interrupted_command_keeps_what_was_timed(stand_in, capsys):
    stand_in["fail_after"] = 2
    with pytest.raises(SystemExit) as stopped:
        main([*SMALL, "--out", "here"])
    assert stopped.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    stand_in["fail_after"] = None
    main([*SMALL, "--out", "here"])
    assert "2 of 4 points to time" in capsys.readouterr().out


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="needs the extra [gpu]: PyTorch")
    pytest.importorskip("transformers", reason="needs the extra [gpu]: Transformers")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


@pytest.fixture
def engine(torch):
    from mbexp.measure.engine import TorchEngine

    return TorchEngine(TINY, "float32", "cpu", cuda_graphs=False)


def test_model_has_the_parameters_of_its_card(engine):
    assert sum(parameter.numel() for parameter in engine.model.parameters()) == TINY.parameters


@pytest.mark.parametrize(("batch_size", "prompt", "output"), [(1, 5, 1), (3, 7, 9), (2, 1, 4)])
def test_static_batch_decodes_what_the_whole_sequence_gives(torch, engine, batch_size, prompt, output):
    """The last token, and every key but the last step's, are those of the model run over the sequence at once."""
    renew, serve = engine.load(Point("static", batch_size, prompt, output))
    renew()
    tokens = engine.prompt.clone()
    assert engine.time(serve) > 0
    for _ in range(output):
        logits = engine.model(input_ids=tokens).logits
        tokens = torch.cat([tokens, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(engine.token, tokens[:, -1:])
    assert int(engine.cache.position) == prompt + output - 1
    from transformers import DynamicCache

    cache = DynamicCache()
    engine.model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True)
    for layer in range(TINY.layers):
        torch.testing.assert_close(
            engine.cache.keys[layer][:, :, : prompt + output - 1], cache.layers[layer].keys, rtol=1e-4, atol=1e-4
        )


def test_decode_step_attends_to_its_context_alone(torch, engine):
    """What lies beyond the context changes nothing; what lies in it does."""
    renew, step = engine.load(Point("decode", 2, context_tokens=6))
    renew()
    assert engine.cache.keys[0].shape == (2, TINY.kv_heads, 6, TINY.head_dim)
    first = engine.token.clone()
    engine.time(step)
    assert int(engine.cache.position) == 6
    renew()
    assert int(engine.cache.position) == 5
    assert not torch.equal(engine.token, first)  # inputs change between repeats


def test_unloaded_engine_holds_no_cache(engine):
    engine.load(Point("decode", 2, context_tokens=6))
    engine.unload()
    assert engine.cache is None


def test_memory_that_runs_out_is_told_apart(engine):
    assert isinstance(engine._explain(RuntimeError("CUDA error: out of memory")), OutOfMemory)
    other = RuntimeError("shape mismatch")
    assert engine._explain(other) is other
    with pytest.raises(OutOfMemory):
        engine.load(Point("decode", 10**9, context_tokens=10**5))


def test_graphs_need_a_gpu(torch):
    with pytest.raises(SystemExit, match="CUDA graphs need a CUDA device, not cpu: --cuda-graphs off"):
        main(["--device", "cpu", "--model", "tiny", "--cuda-graphs", "on"])


def test_measure_then_fit_on_the_cpu(torch, tmp_path, capsys):
    out = tmp_path / "cpu_tiny"
    command = [
        "--device",
        "cpu",
        "--model",
        "tiny",
        "--dtype",
        "float32",
        "--batch-sizes",
        "1,4",
        "--lengths",
        "8,16,32",
    ]
    command += ["--prefill-sequences", "1,4", "--repeats", "3", "--out", str(out)]
    main(command)
    said = capsys.readouterr().out
    assert "18 of 18 points to time" in said
    assert "random weights" in said
    machine = json.loads((out / "machine.json").read_text())
    assert machine["weights"] == "random"
    assert machine["torch"] == torch.__version__
    assert machine["gpu"].startswith("CPU")
    main(command)
    assert "0 of 18 points to time" in capsys.readouterr().out
    fit(
        [str(out / "points.csv"), "--bandwidth-gb-per-s", "10", "--dense-tflops", "0.1", "--out", str(tmp_path / "fit")]
    )
    assert sorted(path.stem for path in (tmp_path / "fit" / "gpu").iterdir()) == [
        f"cpu_tiny_{kind}" for kind in ("affine", "interpolation", "linear", "roofline")
    ]
