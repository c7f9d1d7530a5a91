"""The event loop in C, compiled with the system's compiler when it is first needed: the floor."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Case, Form
from mbexp.simulator.batches.state import BATCH_DTYPE, Requests

SOURCE = Path(__file__).with_name("loop.c")
# Contracted (fused) multiply-adds round once where the semantics round twice.
FLAGS = ("-O3", "-ffp-contract=off", "-shared", "-fPIC")


class _Requests(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_void_p) for name in Requests._fields],
        ("n", ctypes.c_int64),
        ("queues", ctypes.c_int64),
    ]


def compiler() -> str | None:
    """Return the system's C compiler, None where there is none."""
    return shutil.which("cc")


def build(*flags: str, source: Path = SOURCE) -> ctypes.CDLL:
    """Compile a loop, once for each source and choice of flags, and load it."""
    key = hashlib.sha256(source.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"mbexp-loop-{key}.so"
    if not library.exists():
        aside = Path(tempfile.mkdtemp()) / "loop.so"
        subprocess.run([compiler() or "cc", *FLAGS, *flags, "-o", str(aside), str(source), "-lm"], check=True)
        shutil.move(aside, library)
    return ctypes.CDLL(str(library))


def prepare(case: Case, *flags: str) -> Form:
    """Return the loop in C."""
    function = getattr(build(*flags), case.config.scheduler.name)
    function.restype = ctypes.c_int64
    requests, policy = case.requests, case.policy
    queues, gpus = case.num_queues, case.num_gpus
    columns = _Requests(*[array.ctypes.data for array in requests], len(case), queues)
    words = 1
    while 63 * words + 1 < gpus:
        words = 64 * words + 1
    batches = np.zeros(len(case), BATCH_DTYPE)
    per_queue = np.zeros(8 * queues, np.int64)
    per_gpu = np.zeros(5 * gpus + 3)

    numbers, count = case.limit_numbers, 0

    def simulate() -> None:
        nonlocal count
        state = policy.limit_state(queues)
        idle = np.zeros(words, np.uint64)
        count = function(
            ctypes.byref(columns), ctypes.c_int32(gpus), ctypes.c_int64(case.kv_capacity_tokens),
            _pointer(case.law.require_batch().parameters), _pointer(numbers), _pointer(state),
            ctypes.c_int64(state.shape[1]), ctypes.c_double(case.config.scheduler.timeout_s),
            _pointer(per_queue), _pointer(per_gpu), _pointer(idle), ctypes.c_int64(words), _pointer(batches),
        )  # fmt: skip

    return Form(simulate, lambda: batches[:count])


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
