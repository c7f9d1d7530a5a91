"""Hostile configurations: whatever the keys and values, a checked configuration or one line of error comes out."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import mbexp
from mbexp.cli.job import run_and_store
from mbexp.config.gpu_keys import LAWS, GpuConfig
from mbexp.config.keys import BinsConfig, Config, PredictorConfig, SlaConfig, WarmUpConfig, load_config
from mbexp.config.messages import explain
from mbexp.config.scheduler_keys import SchedulerConfig
from mbexp.config.schema import LARGEST, SMALLEST, known_keys
from mbexp.config.workload_keys import ArrivalsConfig, LengthsConfig
from mbexp.errors import UserError
from mbexp.paths import config_dir
from mbexp.run import run

KEYS = known_keys(Config)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            *(
                "fifo",
                "per_bin",
                "dynamic",
                "csv",
                "affine",
                "static_fifo",
                "null",
                "true",
                "[1,2]",
                "1e400",
                "-1",
                "???",
            ),
            *("../../x", "/etc/passwd", "x" * 300, "os.system", "mbexp.run.run", "__import__('os').system('x')"),
            *(
                "${seed}",
                "${nothing}",
                "${",
                "${a:b}",
                "${oc.env:HOME}",
                "${oc.decode:1}",
                "${workload}",
                "!!python/name:os",
            ),
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([2**31, 2**63, 2**64, 10**400, -(10**30)]),
    st.floats(),
    st.sampled_from([0.5, 1e-300, 1e300, -0.0, 1e9]),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=3)
    ),
    max_leaves=4,
)
DOTTED = st.one_of(
    st.sampled_from(KEYS), st.sampled_from(KEYS), st.text(max_size=12), st.sampled_from(KEYS).map(lambda key: key + "x")
)


def one_line(error: UserError) -> None:
    text = str(error)
    assert text.strip()
    assert "\n" not in text, text
    assert len(text) < 2000


def nested(pairs: dict[str, Any]) -> dict[str, Any]:
    """Turn dotted keys into groups; a key inside a value that is no group is left out."""
    root: dict[str, Any] = {}
    for key, value in pairs.items():
        place: Any = root
        *groups, name = key.split(".")
        for group in groups:
            if isinstance(place, dict):
                place = place.setdefault(group, {})
        if isinstance(place, dict):
            place[name] = value
    return root


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(DOTTED, VALUES, max_size=4))
def test_any_mapping_is_checked(pairs):
    try:
        config = load_config(nested(pairs))
    except UserError as error:
        one_line(error)
    else:
        assert isinstance(config, Config)
        assert load_config(dataclasses.asdict(config)) == config


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(DOTTED, VALUES, max_size=3))
def test_any_call_is_checked(pairs):
    try:
        config = mbexp.configure(**pairs)
    except UserError as error:
        one_line(error)
    else:
        assert isinstance(config, Config)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(DOTTED, VALUES), max_size=3), st.sampled_from(["", "+", "++", "~"]))
def test_any_command_line_is_checked(composer, pairs, prefix):
    words = [f"{prefix}{key}={value}" for key, value in pairs]
    try:
        composed = composer(words)
        assert isinstance(load_config(OmegaConf.to_container(composed, resolve=True)), Config)
    except UserError as error:
        one_line(error)
    except Exception as caught:
        line = explain(caught)
        if line is None or "\n" in line:
            raise


@pytest.fixture(scope="module")
def composer():
    """Compose as the command line does, without its output folders."""
    import mbexp.cli.main

    assert mbexp.cli.main.job  # has stored what Hydra composes from
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield lambda words: compose("config", overrides=words)


def test_a_label_that_is_a_path_leaves_nothing_outside_the_output_folder(tmp_path):
    for label in ("/../../escaped", "../../escaped", "a/b", "..", "/", "x\0y", "ü" * 300):
        values = {"scheduler.name": label, "num_requests": 20, "output.dir": str(tmp_path / "outputs")}
        folder = run_and_store(mbexp.configure(**values))
        assert folder.resolve().parent == (tmp_path / "outputs").resolve()
        assert yaml.safe_load((folder / "config.yaml").read_text())["scheduler"]["name"] == label
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


@pytest.mark.parametrize("key", ["scheduler.selection", "scheduler.fill", "scheduler.batch_size", "gpu.law.kind"])
def test_a_value_names_no_code_outside_mbexp(key, tmp_path, monkeypatch):
    """A dotted path runs nothing but a file that imports mbexp; anything else is refused before it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bomb.py").write_text("open('exploded', 'w')\ndef rule(): pass\n")
    for value in ("bomb.rule", "os.system", "subprocess.run", "builtins.eval", "mbexp.nothing", "a..b", "bomb.rule()"):
        config = mbexp.configure(**{key: value}, num_requests=10)
        with pytest.raises(UserError) as caught:
            run(config)
        one_line(caught.value)
        assert value in str(caught.value)
    assert not (tmp_path / "exploded").exists()


# What is run: not the readers of files, which have a test of their own, and nothing that only takes long.
LEFT_OUT = (
    "name", "path", "card", "column", "model", "system", "provenance", "parameters", "batch_size_range",
    "length_range_tokens",
)  # fmt: skip
FEWER = {"gpu.law.kind": [kind for kind in LAWS if "grid" not in kind], "gpu.count": (1, 2, 7, 300)}


def allowed(hint: Any, key: str, metadata: Any) -> st.SearchStrategy[Any]:
    """Values that the schema lets through, the ends of the range included."""
    kinds = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)
    strategies = [st.none()] if type(None) in kinds else []
    hint = kinds[0]
    low, high, above = metadata["low"], metadata["high"] or LARGEST, metadata["above"]
    if key in FEWER:
        strategies.append(st.sampled_from(FEWER[key]))
    elif get_origin(hint) is list:
        strategies.append(st.lists(allowed(get_args(hint)[0], key, metadata), max_size=4))
    elif hint is bool:
        strategies.append(st.booleans())
    elif hint is str and metadata["choices"] is None:
        strategies.append(st.just("") if type(None) not in kinds else st.none())
    elif hint is str:
        strategies.append(st.sampled_from(metadata["choices"]))
    else:
        least = low if low is not None else SMALLEST if above == 0 else -high
        ordinary = (
            st.integers(max(0, least), min(500, high)) if hint is int else st.floats(max(0, least), min(50, high))
        )
        extreme = st.integers(least, high) if hint is int else st.floats(least, high)
        strategies += [ordinary, extreme, st.sampled_from([least, high]).map(hint)]
    return st.one_of(strategies)


def options(cls: Any, prefix: str) -> dict[str, st.SearchStrategy[Any]]:
    found: dict[str, st.SearchStrategy[Any]] = {}
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        key = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            found |= options(hints[field.name], f"{key}.")
        elif field.name not in LEFT_OUT:
            found[key] = allowed(hints[field.name], key, field.metadata)
    return found


GROUPS = {
    "scheduler": SchedulerConfig,
    "gpu": GpuConfig,
    "bins": BinsConfig,
    "sla": SlaConfig,
    "predictor": PredictorConfig,
    "warm_up": WarmUpConfig,
    "workload.arrivals": ArrivalsConfig,
    "workload.prompt": LengthsConfig,
    "workload.output": LengthsConfig,
}
OPTIONS = {key: values for group, cls in GROUPS.items() for key, values in options(cls, f"{group}.").items()}


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """Some keys of some groups, with values that the schema allows."""
    keys = draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=12, unique=True))
    files = {
        "scheduler": draw(st.sampled_from(["static_fifo", "dynamic_no_bins", "multi_bin_static", "multi_bin_dynamic"])),
        "workload": draw(st.sampled_from(["burstgpt_like", "synthetic"])),
    }
    return files | {"seed": draw(st.integers(0, 2**63 - 1))} | {key: draw(OPTIONS[key]) for key in keys}


@settings(max_examples=75, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes(), st.integers(1, 60))
def test_any_allowed_run_ends_in_numbers_or_a_message(values, num_requests):
    """Values inside their ranges but beyond all sense: a result whose invariants hold, or one line."""
    try:
        result = run(mbexp.configure(**values, num_requests=num_requests))
    except UserError as error:
        one_line(error)
    else:
        assert result.summary["arrived_requests"] == num_requests
        assert result.summary["invariants_checked"] > 0
