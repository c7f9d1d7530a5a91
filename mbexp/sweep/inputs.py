"""What runs of a sweep share: a trace is read, and its lengths predicted and binned, once for all runs that meet it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.config import Config
from mbexp.paths import cache_dir

if TYPE_CHECKING:
    from mbexp.prediction import Prediction
    from mbexp.workload.trace import Trace

KEPT_BYTES = 512 << 20  # of arrays, in one process; what was used longest ago goes first


def trace_request(config: Config) -> str:
    """Return what a run asks of its workload, as text: equal text, equal requests."""
    from mbexp.workload.kinds import find_kind

    generated = hasattr(find_kind(config.workload.kind), "generate")
    values = [dataclasses.asdict(config.workload), config.num_requests, config.seed if generated else None]
    return json.dumps(values, sort_keys=True)


class SharedInputs:
    """Traces and predictions of this process, kept for the runs to come."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Trace | Prediction] = OrderedDict()

    def trace(self, config: Config) -> Trace:
        """Return the requests of a run."""
        key = trace_request(config)
        found: Trace | None = self._find(key)
        if found is None:
            from mbexp.workload import load_trace

            found = load_trace(config.workload, config.num_requests, config.seed)
            self._keep(key, found)
        return found

    def prediction(self, config: Config) -> Prediction:
        """Return the predicted lengths and bins of a run's requests."""
        rules = [dataclasses.asdict(config.predictor), dataclasses.asdict(config.bins), config.seed]
        key = trace_request(config) + json.dumps(rules, sort_keys=True)
        found: Prediction | None = self._find(key)
        if found is None:
            from mbexp.prediction import predict

            trace = self.trace(config)
            found = predict(config.predictor, config.bins, trace.prompt_tokens, trace.output_tokens, config.seed)
            self._keep(key, found)
        return found

    def _find(self, key: str) -> Any:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def _keep(self, key: str, value: Trace | Prediction) -> None:
        self._kept[key] = value
        while len(self._kept) > 2 and sum(map(_bytes_of, self._kept.values())) > KEPT_BYTES:
            self._kept.popitem(last=False)


def trace_sha256(config: Config, inputs: SharedInputs) -> str:
    """Return the hash of a run's requests, from a note of an earlier time where nothing has changed since.

    So a sweep whose runs are all stored is recognized without reading or generating a trace.
    """
    note = _note(config)
    if note is not None:
        with contextlib.suppress(OSError):
            text = note.read_text()
            if len(text) == 64:
                return text
    sha256 = inputs.trace(config).sha256
    if note is not None:
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=note.parent)
            with os.fdopen(handle, "w") as file:
                file.write(sha256)
            os.replace(aside, note)
    return sha256


def _note(config: Config) -> Path | None:
    """Return the file that holds the hash of a run's requests, named by all that they depend on."""
    folder = cache_dir()
    if folder is None:
        return None
    import numpy as np

    from mbexp.workload.cache import file_sha256
    from mbexp.workload.find import find_file
    from mbexp.workload.kinds import find_kind

    kind = find_kind(config.workload.kind)
    content = None
    if not hasattr(kind, "generate"):
        content = file_sha256(find_file(config.workload.path or kind.DEFAULT_FILE, config.workload.kind))
    text = json.dumps([trace_request(config), content, _workload_sources(), np.__version__])
    return folder / "trace-hashes" / hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _workload_sources() -> str:
    """Return a hash of the code that reads and generates traces."""
    import mbexp.workload

    digest = hashlib.sha256()
    for source in sorted(Path(str(mbexp.workload.__file__)).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _bytes_of(value: Any) -> int:
    arrays = [*vars(value).values(), *getattr(value, "extra", {}).values()]
    return sum(int(getattr(array, "nbytes", 0)) for array in arrays)
