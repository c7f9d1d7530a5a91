"""Points of a sweep: the same as Hydra would compose one by one, from fewer compositions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import mbexp.cli.main  # noqa: F401  (registers schema and sweeper)
from mbexp.config.keys import load_config
from mbexp.errors import UserError
from mbexp.paths import config_dir
from mbexp.sweep import points as module
from mbexp.sweep.points import Point, compose_points, expand, override_value

Loader = Any


@pytest.fixture(scope="module")
def loader() -> Iterator[Loader]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture(scope="module")
def master(loader: Loader) -> DictConfig:
    composed: DictConfig = loader.load_configuration("config", [], RunMode.MULTIRUN)
    return composed


def make(loader: Loader, master: DictConfig, *arguments: str, params: Any = None, explicit: Any = None) -> list[Point]:
    swept, assignments = expand(arguments, params, explicit, loader)
    return compose_points(assignments, swept, master, loader)


def by_hydra(overrides: tuple[str, ...]) -> Any:
    composed = compose("config", list(overrides), return_hydra_config=True)
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(composed)
    try:
        values: Any = OmegaConf.to_container(OmegaConf.masked_copy(composed, [k for k in composed if k != "hydra"]))
        values = OmegaConf.to_container(OmegaConf.create(values), resolve=True)
    finally:
        HydraConfig.instance().cfg = before
    return load_config(values)


@pytest.mark.parametrize(
    "arguments",
    [
        ["k_bins=1,2,4,8"],
        ["scheduler=glob(*,exclude=[vllm,sglang,tensorrt_llm])", "num_gpus=1,2", "seed=range(3)"],
        ["workload=choice(burstgpt_like,synthetic)", "workload.rate_scaling=1,100"],
        ["bins=explicit", "bins.edges=[1,2],[3,4,5]"],
        ["num_gpus=1,2", "gpu.count=3"],  # the key behind a shortcut wins
        ["gpu.law.alpha_ms=1,2", "gpu.law={alpha_ms:5}"],  # a later dict wins over a value
        ["gpu.law={alpha_ms:5}", "gpu.law.alpha_ms=1,2"],
        ["sla={token_ms:5},{request_s:3}"],  # merged, and the first does not leak into the second
        ["++sla.token_ms=7,8", "k_bins=2"],
        ["study.question='a, b and c','d'", "scheduler.name=${study.question}"],
        ["num_requests=null,10"],
        ["k_bins=${num_gpus}", "num_gpus=3,5"],
        ["scheduler.name='${hydra:runtime.choices.scheduler}'", "scheduler=static_fifo,dynamic_no_bins"],
    ],
)
def test_every_point_is_what_hydra_composes(loader: Loader, master: DictConfig, arguments: list[str]) -> None:
    points = make(loader, master, *arguments)

    assert len(points) > 1
    for point in (points[0], points[1], points[-1]):
        assert point.config == by_hydra(point.overrides), point.overrides


def test_the_product_is_in_hydras_order(loader: Loader, master: DictConfig) -> None:
    points = make(loader, master, "num_gpus=1,2", "k_bins=4,8")

    assert [point.overrides for point in points] == [
        ("num_gpus=1", "k_bins=4"), ("num_gpus=1", "k_bins=8"), ("num_gpus=2", "k_bins=4"), ("num_gpus=2", "k_bins=8"),
    ]  # fmt: skip
    assert [point.swept for point in points][1] == {"num_gpus": 1, "k_bins": 8}


def test_plain_values_cost_one_composition(loader: Loader, master: DictConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    original = module._compose
    monkeypatch.setattr(module, "_compose", lambda *args: composed.append(args) or original(*args))

    make(loader, master, "num_gpus=1,2,4", "k_bins=1,2", "scheduler=static_fifo,dynamic_no_bins")

    assert len(composed) == 2  # one for each scheduler, for 12 points


def test_a_command_line_narrows_and_widens_a_study(loader: Loader) -> None:
    params = {"num_gpus": "1,2,4", "k_bins": "1,2"}

    swept, points = expand(["num_gpus=8", "seed=1,2"], params, None, loader)

    assert swept == ["k_bins", "seed"]
    assert [list(point.values()) for point in points] == [
        ["num_gpus=8", "k_bins=1", "seed=1"], ["num_gpus=8", "k_bins=1", "seed=2"],
        ["num_gpus=8", "k_bins=2", "seed=1"], ["num_gpus=8", "k_bins=2", "seed=2"],
    ]  # fmt: skip


def test_explicit_points_are_combined_with_the_rest(loader: Loader, master: DictConfig) -> None:
    explicit = [
        {"study.label": "a 'b', c", "scheduler": "static_fifo", "num_gpus": 1},
        {"study.label": "d", "scheduler": "multi_bin_dynamic", "bins.edges": [1, 2.5]},
    ]

    points = make(loader, master, "seed=3", params={"k_bins": "1,2"}, explicit=explicit)

    assert [point.swept["study.label"] for point in points] == ["a 'b', c", "d"] * 2
    assert [point.config.scheduler.name for point in points] == ["static_fifo", "multi_bin_dynamic"] * 2
    assert points[1].config.bins.edges == [1, 2.5]
    assert "bins.edges" not in points[0].swept
    assert {point.config.seed for point in points} == {3}


def test_a_point_takes_nothing_from_the_one_before(loader: Loader, master: DictConfig) -> None:
    """Explicit points need not set the same keys, though they are set on one composition."""
    explicit = [
        {"scheduler": "static_fifo", "scheduler.fixed_batch_size": 32},
        {"scheduler": "static_fifo"},
        {"scheduler": "static_fifo", "sla": {"token_ms": 3}},
        {"scheduler": "static_fifo", "num_gpus": 9},
    ]

    points = make(loader, master, explicit=explicit)

    assert [point.config.scheduler.fixed_batch_size for point in points] == [32, 8, 8, 8]
    assert [point.config.sla.token_ms for point in points] == [10, 10, 3, 10]
    assert [point.config.gpu.count for point in points] == [4, 4, 4, 9]
    for point in points:
        assert point.config == by_hydra(point.overrides)


def test_a_key_of_the_command_line_replaces_that_of_explicit_points(loader: Loader) -> None:
    _, points = expand(["num_gpus=7"], None, [{"num_gpus": 1, "k_bins": 2}], loader)

    assert points == [{"num_gpus": "num_gpus=7", "k_bins": "k_bins=2"}]


def test_swept_values_are_those_of_the_keys(loader: Loader, master: DictConfig) -> None:
    point = make(loader, master, "scheduler=static_fifo,dynamic_no_bins", "bins.edges=[1,2],[3]", "sla.token_ms=5,6")[0]

    assert point.swept == {"scheduler": "static_fifo", "bins.edges": "[1,2]", "sla.token_ms": 5}
    assert point.choices["gpu"] == "rtx4080_qwen3_1_7b"
    assert not [group for group in point.choices if group.startswith("hydra")]


def test_a_key_that_is_forced_is_the_same_key(loader: Loader, master: DictConfig) -> None:
    """``++num_gpus=1,2`` is ``num_gpus=1,2``: in what is swept, and against what a study says of the key."""
    swept, assignments = expand(["++num_gpus=1,2"], {"num_gpus": "4,8"}, [{"num_gpus": 9, "seed": 1}], loader)

    assert swept == ["num_gpus", "seed"]
    points = compose_points(assignments, swept, master, loader)
    assert [point.swept for point in points] == [{"num_gpus": 1, "seed": 1}, {"num_gpus": 2, "seed": 1}]
    assert [point.config.num_gpus for point in points] == [1, 2]


def test_an_interpolated_value_is_what_it_has_come_to(loader: Loader, master: DictConfig) -> None:
    points = make(loader, master, "num_gpus=2,4", "seed=${num_gpus},0", "bins.edges=[1,${num_gpus}],null")

    assert [point.swept["seed"] for point in points[::2]] == [2, 0, 4, 0]
    assert [point.swept["bins.edges"] for point in points[:2]] == ["[1.0,2.0]", None]


def test_scaling_time_that_is_kept_is_refused(loader: Loader, master: DictConfig) -> None:
    with pytest.raises(UserError, match="rate_scaling=50,100: timestamps are real here, which no scaling changes"):
        make(loader, master, "workload.timestamps=real", "workload.rate_scaling=50,100")
    assert len(make(loader, master, "workload.timestamps=real,scaled", "workload.rate_scaling=50,100")) == 4
    assert len(make(loader, master, "workload.timestamps=real", "workload.rate_scaling=50", "seed=1,2")) == 2


@pytest.mark.parametrize("argument", ["kbins=1,2", "scheduler=static_fio,static_fifo", "sla.tokenms=1,2"])
def test_an_unknown_name_is_found_before_anything_runs(loader: Loader, master: DictConfig, argument: str) -> None:
    with pytest.raises(HydraException):
        make(loader, master, argument)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("num_gpus=2,0", "num_gpus=0: must be at least 1"),
        ("k_bins=interval(1,3)", "k_bins=interval(1,3): a sweep needs values; an interval has none"),
        ("k_bins=glob(*)", "nothing to sweep over"),
        ("+gpu.cout=1,2", "gpu.cout=1: unknown key (did you mean 'gpu.count'?)"),
    ],
)
def test_an_impossible_value_is_one_line(loader: Loader, master: DictConfig, argument: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        make(loader, master, argument)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "value", [None, True, 3, 2.5, "plain", "it's, a {b}: [c]", "back\\slash", [1, "a b"], {"a": 1}]
)
def test_values_of_yaml_survive_as_overrides(loader: Loader, value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_override(f"key={override_value(value)}")

    assert parsed.value() == value


def test_a_point_is_plain_data(loader: Loader, master: DictConfig) -> None:
    """Workers get configurations as JSON; what they build from it must be the same."""
    import json

    for point in make(loader, master, "scheduler=static_fifo,multi_bin_dynamic", "bins.edges=null,[1,2]"):
        values = json.loads(json.dumps(dataclasses.asdict(point.config)))
        assert load_config(values) == point.config
