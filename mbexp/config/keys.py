"""The typed configuration of one run: every key, its default, its range and a word of why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbexp.config.cards import FACTS
from mbexp.config.choices import mode_names, module_names, rule_names
from mbexp.config.kernel_tables import ENGINES, fill_of_law
from mbexp.config.predictor_keys import PredictorConfig
from mbexp.config.schema import Numbers, build, option
from mbexp.config.workload_keys import WorkloadConfig
from mbexp.errors import UserError

QUEUES = ("fifo", "per_bin")
BATCH_SIZES = rule_names("limit")
SELECTIONS = rule_names("selection")
FILLS = rule_names("fill")
MEMORY_RULES = ("corrected", "original", "printed")
REPLICATES = ("seeds", "windows")
LAWS = module_names("hardware/laws")
# The numbers of 'step'; 0 leaves a term out.
STEP_KEYS = (
    "fixed_ms", "floor_ms", "sequence_ms", "compute_ms", "context_us", "prefill_token_ms", "prefill_square_ns",
    "prefill_extra_ms", "mixed_context_us", "experts_ms", "experts_active_share", "host_ms", "host_us_per_sequence",
)  # fmt: skip
LENGTH_MEANINGS = ("output", "prompt_plus_output")
NOISES = ("none", "lognormal", "exponential")
BINS = ("equal_mass", "explicit", "exponential", "none")
EXECUTIONS = mode_names()
PREFILLS = ("first", "chunked")
KV_RULES = ("reserve", "paged")
RESERVATIONS = ("prediction", "longest_of_bin")
PREEMPTIONS = ("recompute", "swap")
UNDERPREDICTIONS = ("extend", "preempt", "requeue")
ASSIGNMENTS = ("central", *rule_names("assignment"))
GPU_SERVES = ("any_bin", "one_bin", "equal_share", "load_share")
OVERSIZED = ("refuse", "reject")
ADMISSIONS = ("budget", "any")
PREFILL_MEMORIES = ("held", "tested", "first_chunk")
LONGEST_FOLDER_NAME = 200  # bytes; file systems take 255, and files written aside have longer names


def _expand_user(config: object, key: str, where: str) -> None:
    """Write a leading ``~`` of a path out, once for all readers: no shell sees what stands in quotes or a file."""
    path = getattr(config, key)
    if path is not None and path.startswith("~"):
        try:
            object.__setattr__(config, key, str(Path(path).expanduser()))
        except RuntimeError:
            raise UserError(f"{where}={path}: there is no such user, or no home folder") from None


@dataclass(frozen=True)
class ControllerConfig:
    """Algorithm 2 of P2: a noisy binary search for the largest batch within the token SLA."""

    alpha_requests: float = option(16.0, "width kept between the two bounds (alpha of P2)", above=0)
    delta_requests: float = option(4.0, "how far the outer bound relaxes at each step (delta of P2)", low=0)
    tolerance_ms: float = option(0.4, "half width of the band around the token SLA (eps_D of P2)", low=0)
    window_batches: int = option(16, "completed batches that the recent means are taken over", low=1, high=1024)
    interval_batches: int = option(1, "completed batches between two updates", low=1)


@dataclass(frozen=True)
class SchedulerConfig:
    """A point of the space queue x batch size x bin selection x fill."""

    name: str = option("multi_bin_dynamic", "label in tables and figures")
    queue: str = option("per_bin", "one FIFO for all, or one for each bin", choices=QUEUES)
    batch_size: str = option(
        "dynamic", "fixed, or min(b_mem, b_SLA); a dotted path names your own", choices=BATCH_SIZES, dotted=True
    )
    fixed_batch_size: int = option(8, "batch size of 'fixed'", low=1, high=1_000_000)
    selection: str = option(
        "round_robin", "which ready bin is served; a dotted path names your own", choices=SELECTIONS, dotted=True
    )
    fill: str = option("greedy", "when a batch may leave; a dotted path names your own", choices=FILLS, dotted=True)
    timeout_s: float = option(1.0, "'timeout': longest wait of a head before its batch leaves partly filled", low=0)
    batch_size_min: int = option(1, "B_min of Algorithm 2", low=1, high=1_000_000)
    batch_size_max: int = option(128, "B_max of Algorithms 1 and 2", low=1, high=1_000_000)
    memory_rule: str = option(
        "corrected",
        "L0 of Algorithm 1: theta sigma sqrt(b), the original's 0.1 eta, or P2's as printed (continuous only)",
        choices=MEMORY_RULES,
    )
    memory_overflow_probability: float = option(0.05, "eps_M of Algorithm 1", above=0, high=0.5)
    controller: ControllerConfig = option(ControllerConfig(), "Algorithm 2")
    parameters: Numbers = option({}, "numbers handed to your own rules: by the names they declare, or in their order")

    def __post_init__(self) -> None:
        if self.batch_size_min > self.batch_size_max:
            raise UserError(
                f"scheduler.batch_size_min={self.batch_size_min}: must not exceed "
                f"scheduler.batch_size_max={self.batch_size_max}"
            )


@dataclass(frozen=True)
class LawConfig:
    """How long a batch takes."""

    kind: str = option("affine", "form of the law; a dotted path names your own", choices=LAWS, dotted=True)
    length: str = option("prompt_plus_output", "what L means", choices=LENGTH_MEANINGS)
    alpha_ms: float = option(59.65, "'affine': fixed time of a batch", low=0)
    beta_ms: float = option(5.742, "'affine': time per token of the longest member", low=0)
    gamma: float = option(0.316, "'affine': growth with the batch, h(b) = 1 + gamma (b-1)/b", low=0)
    c0_ms: float = option(30.0, "'linear': fixed time of a decode step", low=0)
    c1_ms: float = option(0.22, "'linear': time of a decode step per sequence", low=0)
    path: str | None = option(None, "'grid_fit', 'grid_interpolation': latency grid, a CSV file")
    card: str | None = option(None, "'roofline': GPU card; null takes the two numbers below")
    bandwidth_gb_per_s: float | None = option(None, "'roofline': memory bandwidth, 1e9 B/s; null: the card's", above=0)
    dense_tflops: float | None = option(None, "'roofline': dense 16-bit peak, 1e12 FLOP/s; null: the card's", above=0)
    model: str = option("qwen3_1_7b", "'roofline': model card")
    bandwidth_efficiency_weights: float = option(0.85, "'roofline': e_w", above=0, high=1)
    bandwidth_efficiency_attention: float = option(0.75, "'roofline': e_a", above=0, high=1)
    compute_efficiency: float = option(0.60, "'roofline': e_f", above=0, high=1)
    compute_efficiency_attention: float = option(0.40, "'roofline': e_fa", above=0, high=1)
    step_overhead_ms: float = option(0.6, "'roofline': t0", low=0)
    tensor_parallel: int = option(
        1, "cards that one engine takes; each GPU of gpu.count is such an engine", low=1, high=1024
    )
    system: str | None = option(None, "'aiconfigurator': card and its links, by the name of the tables")
    engine: str = option("vllm", "'aiconfigurator': engine of the kernels", choices=tuple(ENGINES))
    fixed_ms: float = option(0.0, "'step': every iteration", low=0)
    floor_ms: float = option(0.0, "'step': least time of its matrix products, reading the weights", low=0)
    sequence_ms: float = option(0.0, "'step': per decoding sequence", low=0)
    compute_ms: float = option(0.0, "'step': per decoding sequence, within the floor", low=0)
    context_us: float = option(0.0, "'step': per token of context of the decoding sequences", low=0)
    prefill_token_ms: float = option(0.0, "'step': per prompt token, within the floor", low=0)
    prefill_square_ns: float = option(0.0, "'step': per square of a prompt's tokens", low=0)
    prefill_extra_ms: float = option(0.0, "'step': an iteration with prompt tokens", low=0)
    mixed_context_us: float = option(0.0, "'step': more per token of context beside prompt tokens", low=0)
    experts_ms: float = option(0.0, "'step': all experts of a mixture of experts", low=0)
    experts_active_share: float = option(0.0, "'step': active experts of a token, of all", low=0, high=1)
    host_ms: float = option(0.0, "'step': the engine's own time, every iteration", low=0)
    host_us_per_sequence: float = option(0.0, "'step': ..., per decoding sequence", low=0)
    parameters: Numbers = option([], "numbers handed to your own law, in its order")
    provenance: str | None = option(None, "where the numbers come from; null: what the form of the law implies")
    batch_size_range: list[int] | None = option(None, "supported batch sizes, lowest and highest", low=1)
    length_range_tokens: list[int] | None = option(None, "supported lengths, lowest and highest", low=1)

    def __post_init__(self) -> None:
        _expand_user(self, "path", "gpu.law.path")
        for key in ("batch_size_range", "length_range_tokens"):
            pair = getattr(self, key)
            if pair is not None and (len(pair) != 2 or pair[0] > pair[1]):
                raise UserError(f"gpu.law.{key}={pair}: must be [lowest, highest]")


@dataclass(frozen=True)
class NoiseConfig:
    """Seeded noise on a batch's time, a factor of mean 1."""

    kind: str = option("none", "distribution of the factor", choices=NOISES)
    cv: float = option(0.05, "'lognormal': coefficient of variation", low=0)


@dataclass(frozen=True)
class GpuConfig:
    """The GPUs: how many, their memory and their latency law."""

    name: str = option("rtx4080_qwen3_1_7b", "label in tables and figures; null: kind, card and model of the law")
    count: int = option(4, "how many GPUs", low=1, high=1_000_000)
    memory_gb: float = option(12.0, "memory of one GPU, 1e9 bytes; null: that of gpu.law.card", above=0, high=1_000_000)
    usable_fraction: float = option(0.9, "share of the memory that may be used", above=0, high=1)
    weights_gb: float = option(3.44115, "weights of the model, 1e9 bytes; null: those of gpu.law.model", low=0)
    overhead_gb: float = option(1.0, "activations and workspace", low=0)
    kv_bytes_per_token: float = option(196608.0, "KV cache of one token; null: that of gpu.law.model", low=1)
    kv_capacity_tokens: int | None = option(None, "KV capacity of one GPU; null computes it from the memory", low=1)
    price_per_hour: float | None = option(None, "USD for one hour of one card, of gpu.law.tensor_parallel", low=0)
    law: LawConfig = option(LawConfig(), "time of a batch")
    noise: NoiseConfig = option(NoiseConfig(), "noise on that time")


@dataclass(frozen=True)
class BinsConfig:
    """How predicted lengths are cut into bins."""

    kind: str = option("equal_mass", "rule of the edges", choices=BINS)
    k: int = option(4, "number of bins asked for; ties can leave fewer", low=1, high=65535)
    batch_size: int = option(128, "'exponential': the batch size B that its edges are best for", low=1, high=1_000_000)
    edges: list[float] | None = option(
        None, "'explicit': increasing inner edges; a length equal to one is below it", above=0
    )


@dataclass(frozen=True)
class SlaConfig:
    """Latency targets."""

    token_ms: float = option(10.0, "longest time between two tokens (TBT)", above=0)
    request_s: float = option(20.0, "longest time from arrival to the last token", above=0)
    ttft_s: float | None = option(None, "longest time to the first token of a good request; null: no limit", above=0)
    tpot_ms: float | None = option(None, "largest mean gap of a good request's tokens; null: no limit", above=0)
    targets: list[str] = option([], "what a fleet must meet: metric<=bound or metric>=bound, for mbexp.capacity")


@dataclass(frozen=True)
class WarmUpConfig:
    """What is left out of the metrics at the start of a run."""

    share_pct: float = option(0.0, "share of the first requests", low=0, high=90)
    time_s: float = option(0.0, "requests that arrive before this time", low=0)


@dataclass(frozen=True)
class ExecutionConfig:
    """How a GPU executes: whole batches, or iteration by iteration; all keys but `name` belong to the latter."""

    name: str = option("run_to_completion", "mode of execution", choices=EXECUTIONS)
    prefill: str = option(
        "first",
        "first: prompts are computed whole while decoding stalls; chunked: in pieces beside it",
        choices=PREFILLS,
    )
    token_budget: int = option(512, "'chunked': tokens of one iteration, decoded ones and prompts together", low=1)
    admission: str = option(
        "budget",
        "'chunked': budget: nobody is admitted once the tokens of the iteration are used up; any: they do not matter",
        choices=ADMISSIONS,
    )
    prefill_max_tokens: int | None = option(
        None, "'first': most prompt tokens admitted into one prefill; null: no bound", low=1
    )
    kv: str = option(
        "reserve",
        "reserve: prompt + predicted output held from admission on; paged: blocks as needed",
        choices=KV_RULES,
    )
    reserve_for: str = option(
        "prediction",
        "'reserve': the request's own prediction, or the longest in its queue, for a server that knows only the bin",
        choices=RESERVATIONS,
    )
    block_tokens: int = option(16, "'paged': tokens of a block", low=1, high=65536)
    prefill_memory: str = option(
        "held",
        "'paged', 'chunked': a context is held from admission on; or chunk by chunk, admitted if all of it fits "
        "(tested), or its first chunk",
        choices=PREFILL_MEMORIES,
    )
    hold_last_token: bool = option(
        True, "'paged': the newest token is held at once; false: with the iteration that computes its cache (vLLM)"
    )
    reserved_blocks: int = option(
        0, "'paged': blocks of a GPU that hold no request; vLLM keeps 1, its null block", low=0
    )
    watermark_pct: float = option(
        0.0, "share of a GPU's memory that an admission leaves free, where something runs", low=0, high=100
    )
    max_model_len_tokens: int | None = option(
        None, "a request of more tokens, prompt and output together, is rejected; null: no bound", low=1
    )
    preemption: str = option(
        "recompute", "how a preempted request gets its KV cache back: computed anew, or copied", choices=PREEMPTIONS
    )
    swap_gb_per_s: float = option(25.0, "'swap': rate of the copies between GPU and host, 1e9 B/s", above=0)
    underprediction: str = option(
        "extend",
        "'reserve': what happens to a request longer than predicted: goes on, or back to the head or tail of its queue",
        choices=UNDERPREDICTIONS,
    )
    assignment: str = option(
        "central",  # the file of execution=continuous sets join_shortest; the other mode has no use for it
        "the rule that gives an arrival to a GPU, as a router does; central: GPUs share the queues; a dotted path "
        "names your own",
        choices=ASSIGNMENTS,
        dotted=True,
    )
    gpu_serves: str = option(
        "any_bin", "which bins a GPU takes: any, one until it is empty, or always the same", choices=GPU_SERVES
    )
    turn_requests: int = option(
        128, "'one_bin': requests that a GPU takes before a waiting bin must get its turn", low=1
    )
    interval_steps: int = option(
        32, "batch_size=dynamic: decode steps of a GPU between two updates of its limit", low=1, high=1_000_000
    )
    oversized_prompt: str = option(
        "refuse", "a prompt larger than the memory of a GPU: an error, or left out and counted", choices=OVERSIZED
    )


@dataclass(frozen=True)
class OutputConfig:
    """What a run stores, and where."""

    dir: str = option("outputs", "folder that run folders are made in")
    batches: bool = option(True, "store batches.parquet")
    requests: bool | None = option(None, "store requests.parquet; null: up to a million requests")
    every_replication: bool = option(False, "store the requests of each further seed too, as requests_SEED.parquet")

    def __post_init__(self) -> None:
        _expand_user(self, "dir", "output.dir")


@dataclass(frozen=True)
class StudyConfig:
    """What a sweep is for, and how it ends; none of it changes a run."""

    name: str | None = option(None, "folder of the sweep below output.dir; null: named after the swept keys")
    question: str | None = option(None, "what the study asks")
    label: str | None = option(None, "name of a point in tables and figures, where its keys do not say enough")
    best: bool = option(False, "end with the best configuration of each load")
    target_pct: float = option(5.0, "request-SLA violation that a best configuration may have", low=0, high=100)
    compare: str | None = option(
        None, "swept key whose values are the sides of verdicts; null: the scheduler, else the label, else the one key"
    )
    metrics: list[str] = option([], "metrics that verdicts are about; none: throughput, p95 latency, violation")
    timeout_s: float | None = option(None, "end a run that takes longer, and count it as failed; null: never", above=0)
    runs_per_job: int = option(16, "runs in one job of a launcher that sends jobs to other machines", low=1)

    def __post_init__(self) -> None:
        name = self.name
        if name is None:
            return
        if not name.strip() or name.startswith(".") or Path(name).name != name:
            raise UserError(f"study.name={name}: must be the name of a folder, without a path; null names it for you")
        if len(name.encode()) > LONGEST_FOLDER_NAME:
            size = len(name.encode())
            raise UserError(
                f"study.name={name[:20]}...: has {size} bytes, a folder's name {LONGEST_FOLDER_NAME} at most"
            )


@dataclass(frozen=True)
class Config:
    """One run."""

    num_gpus: int = option(4, "shortcut for gpu.count", low=1, high=1_000_000)
    k_bins: int = option(4, "shortcut for bins.k", low=1, high=65535)
    num_requests: int | None = option(10_000, "requests to simulate; null takes all that the trace has", low=1)
    seed: int = option(0, "seed of every random draw", low=0, high=2**63 - 1)
    replications: int = option(1, "repeat the run with seeds seed, seed + 1, ... and give means", low=1, high=100_000)
    replicate: str = option(
        "seeds",
        "what a further seed brings: other random draws, or the next window of num_requests of a trace file",
        choices=REPLICATES,
    )
    force: bool = option(False, "run again what a sweep has stored already")
    scheduler: SchedulerConfig = option(SchedulerConfig(), "batching policy")
    workload: WorkloadConfig = option(WorkloadConfig(), "requests")
    gpu: GpuConfig = option(GpuConfig(), "hardware and latency law")
    bins: BinsConfig = option(BinsConfig(), "bins over predicted lengths")
    sla: SlaConfig = option(SlaConfig(), "latency targets")
    predictor: PredictorConfig = option(PredictorConfig(), "prediction of output lengths")
    execution: ExecutionConfig = option(ExecutionConfig(), "mode of execution")
    warm_up: WarmUpConfig = option(WarmUpConfig(), "start of the run left out of the metrics")
    metrics: list[str] = option([], "dotted paths of metrics of your own, added to the summary", dotted=True)
    output: OutputConfig = option(OutputConfig(), "what is stored")
    study: StudyConfig = option(StudyConfig(), "what a sweep is for")

    @property
    def workload_read(self) -> WorkloadConfig:
        """The workload with the column among those kept that `predictor.column` takes predictions from."""
        columns, column = self.workload.columns, self.predictor.column
        if self.predictor.kind != "column" or not column or column in columns.extra:
            return self.workload
        return dataclasses.replace(self.workload, columns=dataclasses.replace(columns, extra=[*columns.extra, column]))


def load_config(values: Mapping[str, Any]) -> Config:
    """Check `values` and return the frozen configuration.

    Shortcuts are set to what they stand for, and what is null of a GPU's memory to that of its card and model.

    Raises
    ------
    UserError
        One line naming the key, the value and the nearest valid name.
    """
    # A wrong shortcut is named as the user typed it, not as the key that it fills.
    shortcuts = {name: values[name] for name in ("num_gpus", "k_bins") if name in values}
    values = {**shortcuts, **values}
    gpu = values.get("gpu")
    if isinstance(gpu, Mapping) and any(gpu.get(key, "") is None for key in FACTS):
        law = build(LawConfig, gpu.get("law", {}), "gpu.law")
        values["gpu"] = fill_of_law(gpu, law)
    config = build(Config, values)
    for path in config.metrics:
        if "." not in path:
            raise UserError(
                f"metrics={path}: must be the dotted path of a metric of your own, such as my_metrics.{path}"
            )
    return dataclasses.replace(config, num_gpus=config.gpu.count, k_bins=config.bins.k)


def all_defaults() -> dict[str, Any]:
    """Return every key with its default, shortcuts as interpolations: what the config groups then override."""
    values = dataclasses.asdict(Config())
    values["gpu"]["count"] = "${num_gpus}"
    values["bins"]["k"] = "${k_bins}"
    return values
