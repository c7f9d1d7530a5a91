"""Users of a closed loop: there is no offered load to begin the search at, and there is an answer."""

from __future__ import annotations

import mbexp
from mbexp.validate.setups import constant_time, one_queue


def test_users_of_a_closed_loop_have_an_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (answer,) = mbexp.capacity(
        workload="synthetic",
        num_requests=300,
        min_replications=2,
        max_replications=2,
        **{
            "workload.arrivals": {"kind": "closed", "users": 6, "think_time_s": 0.0},
            "workload.prompt": {"kind": "constant", "value_tokens": 1},
            "workload.output": {"kind": "constant", "value_tokens": 1},
            **one_queue(1, gpus=1),
            **constant_time(),
            "sla.targets": ["latency_max_s<=3.5"],
        },
    )
    assert (answer.low, answer.high) == (2, 2)  # 6 users share 2 GPUs of a second each: 3 s
