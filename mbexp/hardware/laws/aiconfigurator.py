"""The law of a step for any model on any card that the kernel tables of aiconfigurator-core have (an extra)."""

from __future__ import annotations

import dataclasses

from mbexp.config.gpu_keys import GpuConfig
from mbexp.config.kernel_tables import OVER_PCIE, described
from mbexp.hardware.host_time import NO_HOST_TIME, without_host_time
from mbexp.hardware.kernel_fit import PHASES, fitted
from mbexp.hardware.law import LatencyLaw
from mbexp.hardware.laws import step

# What the tables do not hold can be added: the host's time, and the context of decoding beside prompts.
ADDED = ("mixed_context_us", "mixed_extra_ms", "host_ms", "host_us_per_sequence", "request_overhead_ms")
KEYS = ("system", "model", "engine", "tensor_parallel", *ADDED)
LARGE_PCT = (5.0, 25.0)  # median and worst error of a phase from which a reader is warned


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the law of a step that is fitted to the tables, once: the cache keeps it.

    Raises
    ------
    UserError
        Where the extra is missing or has no tables for the system, the model and the engine.
    """
    law = gpu.law
    facts = described(law.system, law.model, law.engine, law.tensor_parallel)
    found = fitted(law)
    numbers = dataclasses.replace(law, kind="step", **found["keys"])
    built = step.build(dataclasses.replace(gpu, law=numbers))
    where = f"{law.engine} {facts['engine_version']} kernel tables of aiconfigurator-core {facts['package_version']}"
    terms = ", ".join(f"{key} {value:g}" for key, value in found["keys"].items())
    errors = ", ".join("{} {:.1f} and {:.1f} %".format(phase, *found["errors"][phase]) for phase in PHASES)
    modes = ", ".join(f"{name} {mode}" for name, mode in facts["quantisation"].items())
    notes = [
        f"{law.model} on {law.tensor_parallel} x {law.system}: quantised as {modes}",
        f"fit to {found['queries']} steps of the tables, median and worst error: {errors}",
    ]
    if without_host_time(law):
        notes.append(NO_HOST_TIME)
    large = [
        phase
        for phase in PHASES
        if any(error > limit for error, limit in zip(found["errors"][phase], LARGE_PCT, strict=True))
    ]
    if large:
        notes.append(f"the fit errs much in {' and '.join(large)}: above 5 % in the median, or 25 % at worst")
    if law.tensor_parallel > 1 and law.system in OVER_PCIE:
        notes.append(f"{law.system} links its cards over PCIe: they take longer than the tables say")
    return dataclasses.replace(
        built,
        provenance=law.provenance or f"{where}, fitted: {terms}",
        batch_size_range=built.batch_size_range if law.batch_size_range else (1, 256),
        length_range_tokens=built.length_range_tokens if law.length_range_tokens else (1, 16_384),
        notes=(*built.notes, *notes),
    )
