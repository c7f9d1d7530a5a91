"""A wrong configuration is one line that names the key, the value and the nearest valid name."""

from __future__ import annotations

from dataclasses import fields

import pytest

from mbexp.config.keys import Config, load_config
from mbexp.config.schema import known_keys
from mbexp.errors import UserError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpu": {"cout": 3}}, "gpu.cout=3: unknown key (did you mean 'gpu.count'?)"),
        ({"num_gpu": 3}, "num_gpu=3: unknown key (did you mean 'num_gpus'?)"),
        ({"num_gpus": "eight"}, "num_gpus=eight: must be a whole number"),
        ({"num_gpus": 8.5}, "num_gpus=8.5: must be a whole number"),
        ({"num_gpus": True}, "num_gpus=True: must be a whole number"),
        ({"gpu": {"count": 0}}, "gpu.count=0: must be at least 1"),
        ({"sla": {"request_s": 0}}, "sla.request_s=0.0: must be above 0"),
        ({"sla": {"request_s": float("nan")}}, "sla.request_s=nan: must be a finite number"),
        ({"sla": {"request_s": float("inf")}}, "sla.request_s=inf: must be a finite number"),
        ({"sla": 3}, "sla=3: must be a group of keys, not a single value"),
        ({"seed": None}, "seed=null: a value is needed here"),
        ({"workload": {"rate_scaling": -1}}, "workload.rate_scaling=-1.0: must be above 0"),
        ({"bins": {"edges": [64, "x"]}}, "bins.edges[1]=x: must be a number"),
        ({"bins": {"edges": "64"}}, "bins.edges=64: must be a list, such as [64,256,1024]"),
        ({"output": {"batches": "yes"}}, "output.batches=yes: must be true or false"),
        ({"scheduler": {"name": 3}}, "scheduler.name=3: must be text"),
        (
            {"scheduler": {"batch_size_min": 9, "batch_size_max": 2}},
            "scheduler.batch_size_min=9: must not exceed scheduler.batch_size_max=2",
        ),
        (
            {"scheduler": {"fill": "greddy"}},
            "scheduler.fill=greddy: no such choice (did you mean 'greedy'?); choose from full, greedy, timeout",
        ),
    ],
)
def test_a_mistake_is_one_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(values)

    assert str(caught.value) == message


def test_shortcuts_are_what_they_stand_for() -> None:
    config = load_config({"num_gpus": 4, "gpu": {"count": 8}, "bins": {"k": 2}})

    assert (config.num_gpus, config.k_bins) == (8, 2)


def test_whole_floats_and_integers_convert() -> None:
    config = load_config({"num_gpus": 2.0, "sla": {"request_s": 5}})

    assert isinstance(config.num_gpus, int)
    assert isinstance(config.sla.request_s, float)


def test_dotted_paths_pass_where_a_rule_can_be_named() -> None:
    assert load_config({"scheduler": {"selection": "mine.rule"}}).scheduler.selection == "mine.rule"


def test_every_field_says_why() -> None:
    pending = [Config]
    while pending:
        cls = pending.pop()
        for field in fields(cls):
            assert field.metadata["why"], f"{cls.__name__}.{field.name}"
            if hasattr(field.default, "__dataclass_fields__"):
                pending.append(type(field.default))


def test_known_keys_are_dotted() -> None:
    keys = known_keys(Config)

    assert "scheduler.controller.alpha_requests" in keys
    assert "num_gpus" in keys
