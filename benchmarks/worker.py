"""Times one version of mbexp on request; started by `compare` with that version on the import path.

It speaks only to the public face of mbexp and to names that `mbexp.run` uses, so that it runs with older versions.
Reads one line a round, writes one line of JSON a round; ends when there is nothing more to read.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def main() -> None:
    """Prepare the cases named on the command line, then time them, a round a line."""
    import mbexp
    import mbexp.run as run_module
    from mbexp.workload import load_trace

    spent: dict[str, float] = {}
    for place, name, phase in _phases(run_module):
        setattr(place, name, _timed(getattr(place, name), phase, spent))
    cases: dict[str, Callable[[], Any]] = {}
    hashes: dict[str, str] = {}
    for name, values in json.loads(sys.argv[1]).items():
        config = mbexp.configure(**values)
        trace = load_trace(config.workload, config.num_requests, config.seed)
        cases[name] = functools.partial(run_module.run, config, trace)
        hashes[name] = _hash(cases[name]())
    print(json.dumps({"version": mbexp.__version__, "path": mbexp.__file__, "batches": hashes}), flush=True)
    for line in sys.stdin:
        times: dict[str, dict[str, float]] = {}
        for name, run in cases.items():
            gc.collect()
            spent.clear()
            began = time.process_time()
            run()
            times[name] = {"run": time.process_time() - began, **spent}
        print(json.dumps({"round": line.strip(), "seconds": times}), flush=True)


def _timed(function: Callable[..., Any], phase: str, spent: dict[str, float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        result = function(*args, **kwargs)
        spent[phase] = spent.get(phase, 0.0) + time.process_time() - began
        return result

    return timed


def _phases(run_module: Any) -> list[tuple[Any, str, str]]:
    """Return what is timed apart: where it stands, its name, what it is called in the table."""
    if hasattr(run_module, "run_to_completion"):  # before modes of execution had a frame in common
        return [(run_module, "run_to_completion", "simulate"), (run_module, "summarize", "metrics")]
    from mbexp.config.choices import mode_names
    from mbexp.modes import find_mode

    return [(run_module, "summarize", "metrics"), *((find_mode(name), "simulate", "simulate") for name in mode_names())]


def _hash(result: Any) -> str:
    digest = hashlib.sha256()
    table = result.requests
    for field in ("start_s", "first_token_s", "finish_s", "gpu"):
        digest.update(np.ascontiguousarray(table[field].to_numpy()).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
