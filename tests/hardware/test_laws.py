"""Building laws: choices in conf/, a user's own law, wrong input, and the speed of a call."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

import mbexp
from mbexp.config.choices import module_names
from mbexp.config.gpu_keys import LAWS, GpuConfig, LawConfig
from mbexp.config.keys import SlaConfig, load_config
from mbexp.config.schema import build
from mbexp.errors import UserError
from mbexp.hardware import GPU_CARDS, MODEL_CARDS, build_law, kv_capacity_tokens
from mbexp.hardware.own import parameter_values
from tests import ROOT

CONF = ROOT / "conf"


# No numbers of their own: those of the user's law, or of an optional package.
UNFIXED = ("own", "aiconfigurator")


def load(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert values["count"] == "${num_gpus}"
    return load_config({"gpu": values | {"count": 1}}).gpu


@pytest.mark.parametrize(
    "path",
    sorted(path for path in (CONF / "gpu").glob("*.yaml") if path.stem not in UNFIXED),
    ids=lambda path: path.stem,
)
def test_every_gpu_choice_builds_and_grows(path):
    gpu = load(path)
    assert gpu.name == path.stem
    law = build_law(gpu)
    assert law.provenance
    assert not [note for note in law.notes if "without meaning" in note]
    assert kv_capacity_tokens(gpu) > 30_000
    sizes, lengths = (1, 2, 7, 32, 33, 200), (2, 100, 128, 700, 2048, 5000)
    times = np.array([[law.service(b, n // 2, n // 2) for n in lengths] for b in sizes])
    assert np.all(times[..., 0] > 0)
    assert np.all(times[..., 1:] >= 0)
    assert np.all(np.diff(times[..., 0], axis=0) >= 0)
    assert np.all(np.diff(times[..., 0], axis=1) > 0)


def test_gpu_choices_of_cards_agree_with_the_cards():
    seen = set()
    for path in (CONF / "gpu").glob("roofline_*.yaml"):
        gpu = load(path)
        assert path.stem == f"roofline_{gpu.law.card}"
        assert gpu.memory_gb == GPU_CARDS[gpu.law.card].memory_gb
        model = MODEL_CARDS[gpu.law.model]
        assert gpu.kv_bytes_per_token == model.kv_bytes_per_token
        assert gpu.weights_gb == pytest.approx(model.weight_bytes / 1e9, abs=5e-6)
        # The file repeats the schema's assumptions, so that a reader sees them.
        assert gpu.law == LawConfig(kind="roofline", card=gpu.law.card)
        seen.add(gpu.law.card)
    steps = {load(path).law.card for path in (CONF / "gpu").glob("*.yaml") if path.stem not in UNFIXED}
    assert seen | steps - {None} == set(GPU_CARDS)


def test_default_choice_is_the_schema_default():
    gpu = load(CONF / "gpu" / "rtx4080_qwen3_1_7b.yaml")
    assert "generated grid" in gpu.law.provenance
    plain = dataclasses.replace(gpu.law, provenance=None, batch_size_range=None, length_range_tokens=None)
    assert dataclasses.replace(gpu, law=plain) == GpuConfig(count=1)


@pytest.mark.parametrize("path", sorted((CONF / "sla").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sla_choice_is_valid(path):
    build(SlaConfig, yaml.safe_load(path.read_text(encoding="utf-8")), "sla")


OWN = """
import numpy as np
from mbexp.hardware.law import LatencyLaw, Price, batch_price, iteration_price

@batch_price
def crowded(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
    step_s = parameters[0] + parameters[1] * batch_size**1.5
    first_token_s = 1e-5 * sum_prompt
    return first_token_s + longest_output * step_s, first_token_s, step_s

@iteration_price
def steps(parameters, decodes, context_tokens, prompt_tokens, prompt_squares, square_growth, prompts_ended):
    return parameters[0] + 1e-6 * context_tokens + 1e-5 * prompt_tokens, 1e-6 * decodes, np.inf

def made(gpu):
    batch = Price(crowded, np.array([gpu.memory_gb, 0.0]))
    return LatencyLaw(gpu.name, batch, None, "made", (1, 9), (1, 99), "output")

def both(gpu):
    return LatencyLaw(gpu.name, Price(crowded, [0.01, 0.002]), Price(steps, [0.01], ("said of steps",)), "made")

def neither(gpu):
    return LatencyLaw(gpu.name, None, None, "made")

def swapped(gpu):
    return LatencyLaw(gpu.name, Price(steps, [0.01]), None, "made")

def wrong(gpu):
    return 3

def plain(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
    return 1.0, 1.0, 1.0
"""


@pytest.fixture
def own_laws(tmp_path, monkeypatch):
    (tmp_path / "my_own_laws.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_own_laws", raising=False)


def own(name, **keys):
    return load_config({"gpu": {"law": {"kind": f"my_own_laws.{name}", **keys}}}).gpu


def test_own_law_by_dotted_path(own_laws):
    law = build_law(own("crowded", parameters=[0.01, 0.002], batch_size_range=[1, 64]))
    assert law.service(4, 100, 10) == pytest.approx((0.004 + 10 * 0.026, 0.004, 0.026))
    assert law.batch_size_range == (1, 64)
    assert "my_own_laws.crowded" in law.provenance


def test_own_law_from_a_function_of_the_configuration(own_laws):
    law = build_law(own("made"))
    assert law.service(4, 100, 10)[2] == 12.0
    assert law.length_range_tokens == (1, 99)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", "returned int, not a LatencyLaw"),
        ("plain", "neither a price decorated with"),
        ("neither", "returned a LatencyLaw without a price"),
        ("swapped", r"whose batch is not a Price of a function decorated with mbexp\.hardware\.law\.batch_price"),
        ("absent", "absent"),
    ],
)
def test_own_law_that_is_none(own_laws, name, message):
    with pytest.raises(UserError, match=message):
        build_law(own(name))


def run_own(name, execution, **keys):
    law = {"gpu.law.kind": f"my_own_laws.{name}", **{f"gpu.law.{key}": value for key, value in keys.items()}}
    one = {"kind": "constant", "value_tokens": 1}
    alone = {"arrivals": {"kind": "constant", "rate_per_s": 1}, "prompt": one, "output": one, "rate_scaling": 1.0}
    trace = mbexp.load_trace("synthetic", num_requests=20, **alone)
    return mbexp.simulate(trace, execution=execution, **law)


def test_own_law_that_lacks_the_price_of_the_mode(own_laws):
    with pytest.raises(UserError, match=r"the latency law my_own_laws\.crowded has no iteration price"):
        run_own("crowded", "continuous", parameters=[0.01, 0.002])
    with pytest.raises(UserError, match=r"the latency law my_own_laws\.steps has no batch price"):
        run_own("steps", "run_to_completion", parameters=[0.01])


def test_own_law_with_both_prices_serves_both_modes(own_laws):
    whole = run_own("both", "run_to_completion")
    steps = run_own("both", "continuous")
    # One request at a time, of one token: a batch, and a prefill, of one prompt token.
    assert np.allclose(whole.outcome.batches["finish_s"] - whole.outcome.batches["start_s"], 0.012 + 1e-5)
    assert np.allclose(steps.outcome.first_token_s - steps.outcome.start_s, 0.01 + 1e-5)
    assert "said of steps" in steps.warnings
    assert "said of steps" not in whole.warnings


def test_numbers_of_an_own_law_may_have_names():
    assert parameter_values({"step_ms": 3, "sequence_ms": 0.5}).tolist() == [3.0, 0.5]


def test_the_choice_for_own_laws_claims_nothing_of_another(own_laws):
    gpu = mbexp.configure(gpu="own", **{"gpu.law.kind": "my_own_laws.crowded", "gpu.law.parameters": [0.01, 0.002]}).gpu
    law = build_law(gpu)
    assert (gpu.name, law.name) == ("crowded", "my_own_laws.crowded")
    assert law.provenance == "the law my_own_laws.crowded of the user"
    assert law.batch_size_range == law.length_range_tokens == (1, 2**31 - 1)
    with pytest.raises(UserError, match=r"gpu\.law\.kind=null: a value is needed here"):
        mbexp.configure(gpu="own")


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ({"kind": "affine", "c0_ms": 25}, ["gpu.law.c0_ms=25: without meaning under gpu.law.kind=affine"]),
        (
            {"kind": "linear", "alpha_ms": 2.5, "path": "x.csv"},
            ["gpu.law.alpha_ms=2.5, gpu.law.path=x.csv: without meaning under gpu.law.kind=linear"],
        ),
        # The default's 12 GB are not those of an H200, and its KV cache is not the tiny model's.
        ({"card": "h200", "model": "tiny"},
         ["gpu.law.card=h200, gpu.law.model=tiny: without meaning under gpu.law.kind=affine"]),
        ({"kind": "affine", "alpha_ms": 25, "length": "output", "batch_size_range": [1, 9]}, []),
        ({"kind": "my_own_laws.crowded", "parameters": [1, 1], "gamma": 0},
         ["gpu.law.gamma=0: without meaning under gpu.law.kind=my_own_laws.crowded"]),
        ({"kind": "my_own_laws.both", "gamma": 0}, []),  # a function may read any key
    ],
)  # fmt: skip
def test_a_key_of_another_kind_is_named(own_laws, law, said):
    assert list(build_law(load_config({"gpu": {"law": law}}).gpu).notes) == said


def test_a_module_and_a_file_are_a_law(tmp_path):
    """In a copy of the package; as plain Python, for a changed package is compiled anew."""
    for folder in ("mbexp", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "mbexp" / "hardware" / "laws" / "toy.py").write_text(TOY, encoding="utf-8")
    (tmp_path / "conf" / "gpu" / "toy.yaml").write_text(
        "name: toy\ncount: ${num_gpus}\nlaw: {kind: toy, parameters: [3.0]}\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mbexp", "gpu=toy", "workload=synthetic", "num_requests=5", "gpu.law.gamma=0"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DISABLE_JIT": "1", "MBEXP_CACHE": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("outputs/*/summary.json")
    assert json.loads(summary.read_text(encoding="utf-8"))["service_time_mean_s"] == pytest.approx(3.0)
    assert "gpu.law.gamma=0: without meaning under gpu.law.kind=toy" in " ".join(done.stdout.split())


TOY = """
import numpy as np
from mbexp.hardware.law import LatencyLaw, Price, batch_price

KEYS = ("parameters",)

@batch_price
def toy(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
    return parameters[0], parameters[0], 0.0

def build(gpu):
    return LatencyLaw.configured(gpu, "made up", Price(toy, np.array(gpu.law.parameters)))
"""


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"kind": "afine"}, "did you mean 'affine'"),
        ({"kind": "roofline"}, r"gpu\.law\.card=null: the roofline needs a card \(rtx4080_16gb"),
        ({"kind": "roofline", "card": "h10"}, r"gpu\.law\.card=h10: no such choice \(did you mean 'h100'\?\)"),
        ({"kind": "roofline", "card": "h100", "model": "qwen"}, r"gpu\.law\.model=qwen: no such choice"),
        ({"kind": "roofline", "card": "h100", "length": "output"}, r"gpu\.law\.length=output: the roofline prices"),
        ({"kind": "grid_fit"}, r"gpu\.law\.path=null: gpu\.law\.kind=grid_fit needs a latency grid"),
        ({"batch_size_range": [8, 2]}, r"gpu\.law\.batch_size_range=\[8, 2\]: must be \[lowest, highest\]"),
        ({"beta_ms": -1}, r"gpu\.law\.beta_ms=-1\.0: must be at least 0"),
    ],
)
def test_wrong_law_is_one_clear_line(law, message):
    with pytest.raises(UserError, match=message) as error:
        build_law(build(GpuConfig, {"law": law}, "gpu"))
    assert "\n" not in str(error.value)


def test_roofline_of_a_card_that_is_not_listed():
    keys = {"kind": "roofline", "bandwidth_gb_per_s": 3350, "dense_tflops": 989.4}
    mine = build_law(build(GpuConfig, {"law": keys}, "gpu"))
    listed = build_law(GpuConfig(law=LawConfig(kind="roofline", card="h100")))
    assert np.array_equal(mine.batch.parameters, listed.batch.parameters)
    assert "a card as configured, efficiencies assumed" in mine.provenance
    tuned = build_law(GpuConfig(law=LawConfig(kind="roofline", card="h100", compute_efficiency=0.5)))
    assert "efficiencies as configured" in tuned.provenance


def test_model_that_does_not_fit_the_memory():
    with pytest.raises(UserError, match=r"gpu\.memory_gb=4: no room for the KV cache"):
        kv_capacity_tokens(GpuConfig(memory_gb=4))
    assert kv_capacity_tokens(GpuConfig(memory_gb=4, kv_capacity_tokens=77)) == 77


def test_every_law_is_a_first_class_value_of_one_type():
    """The loop is compiled once for all laws: each is handed over as a value and called through its type."""
    from numba import njit, types

    from mbexp.hardware.law import LAW_TYPE

    signature = types.float64(LAW_TYPE, types.Array(types.float64, 1, "C"), types.int64)

    @njit(signature)
    def total(law, parameters, calls):
        service_s = 0.0
        for call in range(calls):
            service_s += law(parameters, 1 + call % 64, 50, 150, 200, 50, 150)[0]
        return service_s

    keys = {"affine": {}, "linear": {}, "roofline": {"card": "h100"}, "step": {"fixed_ms": 5.0, "context_us": 0.05}}
    keys |= {key: {"path": "rtx4080_qwen3_1_7b_generated.csv"} for key in ("grid_fit", "grid_interpolation")}
    # What 'aiconfigurator' builds is a step: see test_kernel_tables.py.
    assert {*keys, "aiconfigurator"} == set(module_names("hardware/laws")) == set(LAWS)
    for kind, options in keys.items():
        law = build_law(GpuConfig(law=LawConfig(kind=kind, **options)))
        expected = sum(law.service(1 + call % 64, 50, 150, 200, 50, 150)[0] for call in range(256))
        assert total(law.batch.function, law.batch.parameters, 256) == pytest.approx(expected)
        assert len(total.signatures) == 1
