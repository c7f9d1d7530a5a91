"""Schedulers compared by name say what else they differ in."""

from __future__ import annotations

import pytest

from mbexp.capacity.command import compose
from mbexp.sweep.unlike import unlike_limits


def warned(*words: str) -> str:
    return " ".join(" ".join(unlike_limits(compose(words))).split())


def test_limits_that_differ_are_named():
    said = warned("execution=vllm", "gpu=h100_llama31_8b", "scheduler=vllm,sjf,hrrn")
    assert said.startswith("! these schedulers let different numbers of requests run at once on a GPU")
    assert "(vllm 1,024, sjf 8, hrrn 8)" in said


@pytest.mark.parametrize(
    "words",
    [
        ("scheduler=static_fifo,sjf",),  # 8 each
        ("scheduler=static_fifo,dynamic_no_bins",),  # a limit that changes is what is compared
        ("execution=vllm", "gpu=h100_llama31_8b", "scheduler=vllm,sjf", "scheduler.fixed_batch_size=256"),
        ("scheduler=static_fifo", "scheduler.fixed_batch_size=8,64"),
        ("scheduler=sjf", "num_gpus=1,2"),
    ],
)
def test_nothing_is_said_where_they_are_alike_or_chosen(words):
    assert warned(*words) == ""
