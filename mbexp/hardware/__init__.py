"""GPUs: latency laws as compiled functions, KV memory, cards, and what a latency target means under a law."""

from mbexp.config.cards import GPU_CARDS, MODEL_CARDS, GpuCard, ModelCard
from mbexp.hardware.build import build_law
from mbexp.hardware.memory import kv_capacity_tokens
from mbexp.hardware.sla import check_sla, largest_batch

__all__ = [
    "GPU_CARDS",
    "MODEL_CARDS",
    "GpuCard",
    "ModelCard",
    "build_law",
    "check_sla",
    "kv_capacity_tokens",
    "largest_batch",
]
