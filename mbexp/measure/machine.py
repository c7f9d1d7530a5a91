"""Describes what a measurement ran on; reads, and changes nothing."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
import time
from typing import Any

from mbexp.config.cards import ModelCard
from mbexp.measure.engine import CONTEXT_BLOCK_TOKENS, import_torch

_SMI_FIELDS = "name,driver_version,pstate,clocks.sm,clocks.mem,clocks.max.sm,power.limit,ecc.mode.current"


def describe(model: str, card: ModelCard, dtype: str, device: str, cuda_graphs: bool) -> dict[str, Any]:
    """Return what must be known to repeat a measurement and to use its results."""
    torch = import_torch()
    found: dict[str, Any] = {
        "gpu": f"CPU ({platform.machine()})",
        "device": device,
        "model": model,
        "weights": "random",
        "dtype": dtype,
        "weight_bytes": card.weight_bytes,
        "kv_bytes_per_token": card.kv_bytes_per_token,
        "cuda_graphs": cuda_graphs,
        "context_block_tokens": CONTEXT_BLOCK_TOKENS if cuda_graphs else 1,
        "attention": "scaled_dot_product_attention",
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "mbexp": importlib.metadata.version("mbexp"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": " ".join(["python -m mbexp.measure", *sys.argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name,
            "memory_bytes": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "nvidia_smi": _nvidia_smi(),
        }
    graphs = "CUDA graphs" if cuda_graphs else "no CUDA graphs"
    found["engine"] = f"torch {found['torch']}, transformers {found['transformers']}, {dtype}, {graphs}, random weights"
    return found


def _nvidia_smi() -> dict[str, str]:
    """Return driver, clocks and power limit as they were; empty where the tool is not there."""
    command = ["nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader", "--id=0"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in text.strip().splitlines()[0].split(",")] if text.strip() else []
    return dict(zip(_SMI_FIELDS.split(","), values, strict=False))
