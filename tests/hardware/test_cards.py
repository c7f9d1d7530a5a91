"""Memory, weights, KV cache and label follow the card and the model that are chosen, unless they are set."""

import dataclasses
import subprocess
import sys

import pytest
import yaml

import mbexp
from mbexp.config.keys import load_config
from mbexp.errors import UserError
from mbexp.hardware import build_law, kv_capacity_tokens


def gpu_of(**keys):
    return mbexp.configure(
        gpu="roofline_h100", **{f"gpu.{key.replace('__', '.')}": value for key, value in keys.items()}
    ).gpu


def test_another_card_brings_its_memory_and_label():
    gpu = gpu_of(law__card="h200")
    assert (gpu.name, gpu.memory_gb) == ("roofline_h200", 141)
    assert kv_capacity_tokens(gpu) == 1_067_756  # the reference value of an H200, tests/hardware/test_reference.py
    assert gpu == mbexp.configure(gpu="roofline_h200").gpu


def test_another_model_brings_its_weights_and_kv_cache():
    gpu = gpu_of(law__model="tiny")
    # 2 layers: per layer attention 2 x 64 x 16 x (4 + 2), MLP 3 x 64 x 96, norms 2 x 64 + 2 x 16; 256 x 64 embeddings,
    # a last norm of 64; 2 bytes each. A token leaves 2 x 2 layers x 2 heads x 16 x 2 bytes.
    parameters = 2 * (2 * 64 * 16 * 6 + 3 * 64 * 96 + 2 * 64 + 2 * 16) + 256 * 64 + 64
    assert gpu.weights_gb == round(2 * parameters / 1e9, 5)
    assert gpu.kv_bytes_per_token == 256
    assert (gpu.name, gpu.memory_gb) == ("roofline_h100_tiny", 80)
    assert kv_capacity_tokens(gpu) == int((0.9 * 80 - gpu.weights_gb - 1.0) * 1e9 / 256 + 1e-9)


def test_a_value_that_is_set_wins():
    gpu = gpu_of(law__card="h200", memory_gb=100, name="mine")
    assert (gpu.name, gpu.memory_gb, gpu.weights_gb) == ("mine", 100, 3.44115)
    gpu = gpu_of(law__model="tiny", weights_gb=2, kv_bytes_per_token=500)
    assert (gpu.weights_gb, gpu.kv_bytes_per_token) == (2, 500)


def test_other_laws_take_a_card_s_facts_where_they_are_null():
    keys = {"memory_gb": None, "weights_gb": None, "kv_bytes_per_token": None, "name": None}
    gpu = load_config({"gpu": {**keys, "law": {"kind": "affine", "card": "a100_40gb"}}}).gpu
    assert (gpu.name, gpu.memory_gb, gpu.kv_bytes_per_token) == ("affine_a100_40gb", 40, 114_688)
    assert build_law(gpu).notes == ()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"law__card": None}, r"gpu\.memory_gb=null: no card to take it from; set it, or gpu\.law\.card"),
        ({"law__card": "h20"}, r"gpu\.law\.card=h20: no such choice"),
        ({"law__model": "small"}, r"gpu\.law\.model=small: no such choice"),
        ({"law__step_overhead_ms": -1}, r"gpu\.law\.step_overhead_ms=-1\.0: must be at least 0"),
        ({"law": 3}, r"gpu\.law=3: must be a group of keys"),
    ],
)
def test_what_cannot_be_filled_is_one_line(keys, message):
    with pytest.raises(UserError, match=message) as error:
        gpu_of(**keys)
    assert "\n" not in str(error.value)


def test_the_command_line_agrees(tmp_path):
    words = ["gpu=roofline_h100", "gpu.law.card=a100_40gb", "gpu.law.model=tiny", "num_requests=30"]
    command = [sys.executable, "-m", "mbexp", *words, "workload=synthetic", f"output.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (stored,) = tmp_path.glob("*/config.yaml")
    gpu = mbexp.configure(gpu="roofline_h100", **{"gpu.law.card": "a100_40gb", "gpu.law.model": "tiny"}).gpu
    assert yaml.safe_load(stored.read_text(encoding="utf-8"))["gpu"] == dataclasses.asdict(gpu)
    assert gpu.name == "roofline_a100_40gb_tiny"
