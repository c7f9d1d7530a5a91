"""The keys of `gpu`: how many GPUs, their memory, and how long they take."""

from __future__ import annotations

from dataclasses import dataclass

from mbexp.config.choices import module_names
from mbexp.config.kernel_tables import ENGINES
from mbexp.config.schema import Numbers, expand_user, option
from mbexp.errors import UserError

LAWS = module_names("hardware/laws")
# The numbers of 'step'; 0 leaves a term out.
STEP_KEYS = (
    "fixed_ms", "floor_ms", "sequence_ms", "compute_ms", "context_us", "prefill_token_ms", "prefill_square_ns",
    "prefill_extra_ms", "mixed_extra_ms", "mixed_context_us", "experts_ms", "experts_active_share", "host_ms",
    "host_us_per_sequence", "request_overhead_ms",
)  # fmt: skip
LENGTH_MEANINGS = ("output", "prompt_plus_output")
NOISES = ("none", "lognormal", "exponential")


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
    model: str = option("qwen3_1_7b", "'roofline': model card, or path of a Hugging Face config.json")
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
    mixed_extra_ms: float = option(0.0, "'step': more of an iteration that decodes beside prompt tokens", low=0)
    mixed_context_us: float = option(0.0, "'step': more per token of context beside prompt tokens", low=0)
    experts_ms: float = option(0.0, "'step': all experts of a mixture of experts", low=0)
    experts_active_share: float = option(0.0, "'step': active experts of a token, of all", low=0, high=1)
    host_ms: float = option(0.0, "'step': the engine's own time, every iteration", low=0)
    host_us_per_sequence: float = option(0.0, "'step': ..., per decoding sequence", low=0)
    request_overhead_ms: float = option(0.0, "'step': from a request's arrival until it joins a queue", low=0)
    parameters: Numbers = option([], "numbers handed to your own law, in its order")
    provenance: str | None = option(None, "where the numbers come from; null: what the form of the law implies")
    batch_size_range: list[int] | None = option(None, "supported batch sizes, lowest and highest", low=1)
    length_range_tokens: list[int] | None = option(None, "supported lengths, lowest and highest", low=1)

    def __post_init__(self) -> None:
        expand_user(self, "path", "gpu.law.path")
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
