"""The event loop beside its other forms: C, a bare heap, SimPy; on the same trace, with equal results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import c_form, compiled_form, heapq_form, simpy_form
from benchmarks.cases import CALM, RUSH, SCHEDULERS, Case, Form, make_case, same_batches
from benchmarks.report import Table
from benchmarks.timing import in_turn, ratio

OURS, C, NATIVE, HEAP, SIMPY = "mbexp", "C", "C -march=native", "heapq", "SimPy"
OTHERS = (C, NATIVE, HEAP, SIMPY)
LOADS = (("100 GPUs, mostly idle", 100, CALM), ("1 GPU, overloaded", 1, RUSH), ("8 GPUs, overloaded", 8, RUSH))


class UnequalError(AssertionError):
    """Two forms of one simulation found different batches."""


def prepare(case: Case, slow: bool = True) -> dict[str, Form]:
    """Return all forms that this machine can run, ours first."""
    forms = {OURS: compiled_form.prepare(case)}
    if c_form.compiler():
        forms[C] = c_form.prepare(case)
        forms[NATIVE] = c_form.prepare(case, "-march=native")
    if slow:
        forms[HEAP] = heapq_form.prepare(case)
        if simpy_form.available():
            forms[SIMPY] = simpy_form.prepare(case)
    return forms


def check(forms: dict[str, Form], case: Case) -> int:
    """Run each form once and compare; return the number of batches.

    Raises
    ------
    UnequalError
        Naming the first batch and field that differ.
    """
    for form in forms.values():
        form.run()
    ours = forms[OURS].batches().copy()
    for name, form in forms.items():
        if difference := same_batches(ours, form.batches()):
            raise UnequalError(f"{case.name}, {case.config.scheduler.name}: {OURS} and {name}: {difference}")
    return len(ours)


def table(num_requests: int, rounds: int, slow_rounds: int, schedulers: Sequence[str] = SCHEDULERS) -> Table:
    """Time all forms of all schedulers under three loads."""
    found = Table(
        f"The loop alone, {num_requests:,} requests, 8 bins",
        ["load", "scheduler", "batches", "million requests/s", *(f"times {name}" for name in OTHERS)],
    )
    for load, gpus, rate_scaling in LOADS:
        for scheduler in schedulers:
            case = make_case(load, num_requests, gpus, scheduler, rate_scaling=rate_scaling)
            forms = prepare(case, slow=slow_rounds > 0)
            batches = check(forms, case)
            times = in_turn(
                {name: form.run for name, form in forms.items()},
                {name: slow_rounds if name in (HEAP, SIMPY) else rounds for name in forms},
                warm=True,
            )
            rate = {name: len(case) / float(np.median(measured)) / 1e6 for name, measured in times.items()}
            against = {name: ratio(times[OURS], times[name]) for name in times if name != OURS}
            found.rows.append(
                [
                    load,
                    scheduler,
                    f"{batches:,}",
                    f"{rate[OURS]:.1f}",
                    *(against.get(name, "-") for name in OTHERS),
                ]
            )
            found.numbers[f"{load}/{scheduler}"] = {
                "batches": batches,
                "million_requests_per_s": rate,
                "times_as_fast": {name: vars(value) for name, value in against.items()},
            }
    found.remarks.append(
        "All forms found the same batches, bit for bit. Values are medians, with 99 % intervals of the ratios."
    )
    if not c_form.compiler():
        found.remarks.append("There is no C compiler (`cc`) here, so the C form was left out.")
    if not simpy_form.available():
        found.remarks.append("SimPy is not installed, so its form was left out (`pip install simpy`).")
    return found
