"""Building laws: choices in conf/, a user's own law, wrong input, and the speed of a call."""

import dataclasses

import numpy as np
import pytest
import yaml

from mbexp.config.keys import GpuConfig, LawConfig, SlaConfig
from mbexp.config.schema import build
from mbexp.errors import UserError
from mbexp.hardware import GPU_CARDS, MODEL_CARDS, build_law, kv_capacity_tokens
from mbexp.hardware.build import LAW_MODULES
from tests import ROOT

CONF = ROOT / "conf"


def load(path):
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert values["count"] == "${num_gpus}"
    return build(GpuConfig, values | {"count": 1}, "gpu")


@pytest.mark.parametrize("path", sorted((CONF / "gpu").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_gpu_choice_builds_and_grows(path):
    gpu = load(path)
    assert gpu.name == path.stem
    law = build_law(gpu)
    assert law.provenance
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
    assert seen == set(GPU_CARDS)


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
from mbexp.hardware.law import LatencyLaw, latency_law

@latency_law
def crowded(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):
    step_s = parameters[0] + parameters[1] * batch_size**1.5
    first_token_s = 1e-5 * sum_prompt
    return first_token_s + longest_output * step_s, first_token_s, step_s

def made(gpu):
    return LatencyLaw(gpu.name, crowded, np.array([gpu.memory_gb, 0.0]), "made", (1, 9), (1, 99), "output")

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
    return build(GpuConfig, {"law": {"kind": f"my_own_laws.{name}", **keys}}, "gpu")


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
        ("plain", "neither a law decorated with"),
        ("absent", "absent"),
    ],
)
def test_own_law_that_is_none(own_laws, name, message):
    with pytest.raises(UserError, match=message):
        build_law(own(name))


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
    assert np.array_equal(mine.parameters, listed.parameters)
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

    keys = {"affine": {}, "linear": {}, "roofline": {"card": "h100"}}
    keys |= {key: {"path": "rtx4080_qwen3_1_7b_generated.csv"} for key in ("grid_fit", "grid_interpolation")}
    assert set(keys) == set(LAW_MODULES)
    for kind, options in keys.items():
        law = build_law(GpuConfig(law=LawConfig(kind=kind, **options)))
        expected = sum(law.service(1 + call % 64, 50, 150, 200, 50, 150)[0] for call in range(256))
        assert total(law.function, law.parameters, 256) == pytest.approx(expected)
        assert len(total.signatures) == 1
