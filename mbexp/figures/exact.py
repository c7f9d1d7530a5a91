"""The exact value that belongs to a simulated point of P1: from the keys of its configuration to a mean batch time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError

if TYPE_CHECKING:
    from mbexp.theory.lengths import Lengths

# Keys that fix the model of P1; a figure with an exact curve asks for them all.
KEYS = (
    "num_gpus",
    "k_bins",
    "bins.kind",
    "bins.batch_size",
    "bins.edges",
    "scheduler.queue",
    "scheduler.batch_size",
    "scheduler.fixed_batch_size",
    "predictor.kind",
    "predictor.confusion",
    "predictor.error_probability",
    "workload.kind",
    "workload.prompt.kind",
    "workload.prompt.value_tokens",
    "workload.output.kind",
    "workload.output.low_tokens",
    "workload.output.high_tokens",
    "workload.output.mean_tokens",
    "workload.output.sigma",
    "workload.output.value_tokens",
    "workload.output.values_tokens",
    "gpu.noise.kind",
    "gpu.law.kind",
    "gpu.law.length",
    "gpu.law.alpha_ms",
    "gpu.law.beta_ms",
    "gpu.law.gamma",
    "gpu.law.c0_ms",
    "gpu.law.c1_ms",
)
FINE = 20_000  # lengths of more tokens than this are as good as continuous: the step is below 1/20,000


@dataclass(frozen=True)
class ExactBatch:
    """A full batch of P1's model in the units of a run.

    Attributes
    ----------
    batch_size : int
    mean_s : float
        E[t, k], the mean time of a batch.
    shortest_s : float
        Mean time of a batch whose members are all alike: the limit of many bins.
    num_gpus : int
    """

    batch_size: int
    mean_s: float
    shortest_s: float
    num_gpus: int

    @property
    def capacity_per_s(self) -> float:
        """Requests per second of all GPUs when none is ever idle."""
        return self.num_gpus * self.batch_size / self.mean_s

    @property
    def limit_per_s(self) -> float:
        """Capacity that no number of bins exceeds: without any padding."""
        return self.num_gpus * self.batch_size / self.shortest_s


def exact_batch(values: Mapping[str, Any], **changed: Any) -> ExactBatch:
    """Return the exact mean batch time of a configuration.

    Parameters
    ----------
    values
        The keys in `KEYS`, by dotted name: a row of a frame, or a run's configuration.
    **changed
        Other values for ``k_bins`` and ``error_probability``.

    Raises
    ------
    UserError
        If the configuration is outside the model: lengths of a trace, a batch size that changes, a law without a
        fixed price per token, a predictor without a confusion matrix.
    """
    from mbexp.theory import multi_bin

    config = dict(values)
    config["k_bins"] = changed.get("k_bins", config["k_bins"])
    config["predictor.error_probability"] = changed.get("error_probability", config["predictor.error_probability"])
    batch_size = int(config["scheduler.fixed_batch_size"])
    _require(config, "scheduler.batch_size", "fixed")
    _require(config, "workload.kind", "synthetic")
    _require(config, "gpu.noise.kind", "none", "exponential", "lognormal")  # factors of mean 1 change no mean
    offset_s, per_token_s = _price(config, batch_size)
    lengths = _lengths_s(config, per_token_s)
    bins = _bins(config, lengths, per_token_s)
    time = multi_bin.batch_time(bins, batch_size, _confusion(config, bins.count))
    return ExactBatch(batch_size, offset_s + time.mean, offset_s + lengths.mean, int(config["num_gpus"]))


def latency_without_queue_s(batch: ExactBatch, k: int, arrival_rate_per_s: float) -> float:
    """Return P1's mean latency where no formed batch waits for a GPU: formation, then the batch's own time."""
    from mbexp.theory.multi_bin import latency_infinite_servers

    return latency_infinite_servers(batch.mean_s, batch.batch_size, k, arrival_rate_per_s)


def _require(config: Mapping[str, Any], key: str, *allowed: str) -> None:
    if config[key] not in allowed:
        raise UserError(f"no exact value for {key}={config[key]}; only for {' or '.join(allowed)}")


def _price(config: Mapping[str, Any], batch_size: int) -> tuple[float, float]:
    """Return the fixed time of a batch of this size and its time per token of the longest output, in seconds."""
    _require(config, "gpu.law.kind", "affine", "linear")
    if config["gpu.law.kind"] == "affine":
        offset_s = config["gpu.law.alpha_ms"] / 1e3
        per_token_s = config["gpu.law.beta_ms"] / 1e3 * (1 + config["gpu.law.gamma"] * (batch_size - 1) / batch_size)
    else:
        offset_s = 0.0
        per_token_s = (config["gpu.law.c0_ms"] + config["gpu.law.c1_ms"] * batch_size) / 1e3
    if config["gpu.law.length"] == "prompt_plus_output":
        _require(config, "workload.prompt.kind", "constant")
        offset_s += per_token_s * config["workload.prompt.value_tokens"]
    return offset_s, per_token_s


def _lengths_s(config: Mapping[str, Any], per_token_s: float) -> Lengths:
    """Return the distribution of a request's own time: its output length, priced."""
    import numpy as np

    from mbexp.theory import lengths

    def of(name: str) -> float:
        return float(config[f"workload.output.{name}"]) * per_token_s

    kind = config["workload.output.kind"]
    if kind == "constant":
        return lengths.constant(of("value_tokens"))
    if kind == "uniform":
        low, high = int(config["workload.output.low_tokens"]), int(config["workload.output.high_tokens"])
        if high - low < FINE:
            values = np.arange(low, high + 1) * per_token_s
            return lengths.discrete(list(values), [1.0] * len(values))
        return lengths.uniform(of("low_tokens"), of("high_tokens"))
    if kind == "exponential":
        continuous = lengths.exponential(of("mean_tokens"))
        fine = float(config["workload.output.mean_tokens"]) > FINE
        return continuous if fine else lengths.rounded_up(continuous, per_token_s)
    if kind == "lognormal":
        return lengths.lognormal(of("mean_tokens"), float(config["workload.output.sigma"]))
    return lengths.empirical(np.asarray(config["workload.output.values_tokens"], dtype=np.float64) * per_token_s)


def _bins(config: Mapping[str, Any], lengths: Lengths, per_token_s: float) -> Any:
    """Return the bins as the run cuts them."""
    from mbexp.theory import multi_bin
    from mbexp.theory.lengths import DiscreteLengths

    _require(config, "scheduler.queue", "fifo", "per_bin")
    k, kind = int(config["k_bins"]), config["bins.kind"]
    if config["scheduler.queue"] == "fifo" or kind == "none" or k == 1:
        return multi_bin.equal_mass(lengths, 1)
    if kind == "exponential":
        return multi_bin.by_edges(lengths, multi_bin.exponential_edges(lengths.mean, k, int(config["bins.batch_size"])))
    if kind == "explicit":
        return multi_bin.by_edges(lengths, [edge * per_token_s for edge in config["bins.edges"]])
    if isinstance(lengths, DiscreteLengths):  # the run puts a tie at an edge wholly below it
        return multi_bin.by_edges(lengths, multi_bin.equal_mass_edges(lengths, k))
    return multi_bin.equal_mass(lengths, k)


def _confusion(config: Mapping[str, Any], k: int) -> Any:
    from mbexp.theory import prediction_error

    _require(config, "predictor.kind", "oracle", "confusion")
    if config["predictor.kind"] == "oracle" or k == 1:
        return None
    _require(config, "predictor.confusion", "neighbour", "bert_k2", "bert_k4")
    if config["predictor.confusion"] == "neighbour":
        return prediction_error.neighbour(k, float(config["predictor.error_probability"]))
    return {"bert_k2": prediction_error.BERT_K2_COUNTS, "bert_k4": prediction_error.BERT_K4_COUNTS}[
        config["predictor.confusion"]
    ]
