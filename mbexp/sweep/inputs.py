"""What runs of a sweep share: a trace is read, and its lengths predicted and binned, once for all runs that meet it."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from mbexp.config.keys import Config
from mbexp.results.store import generated_hash

if TYPE_CHECKING:
    from mbexp.prediction import Prediction
    from mbexp.workload.trace import Trace

KEPT_BYTES = 512 << 20  # of arrays, in one process; what was used longest ago goes first


def trace_request(config: Config) -> str:
    """Return what a run asks of its workload, as text: equal text, equal requests."""
    from mbexp.workload.kinds import is_drawn

    windows = config.replicate == "windows"
    by_seed = windows or is_drawn(config.workload)
    workload, seed = dataclasses.asdict(config.workload), config.seed if by_seed else None
    values = [workload, sorted(config.columns_asked), config.num_requests, seed, windows]
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

            found = load_trace(
                config.workload, config.num_requests, config.seed, config.replicate, config.columns_asked
            )
            self._keep(key, found)
        return found

    def prediction(self, config: Config) -> Prediction:
        """Return the predicted lengths and bins of a run's requests."""
        rules = [dataclasses.asdict(config.predictor), dataclasses.asdict(config.bins), config.seed]
        key = trace_request(config) + json.dumps(rules, sort_keys=True)
        found: Prediction | None = self._find(key)
        if found is None:
            from mbexp.prediction import predict_trace

            found = predict_trace(config.predictor, config.bins, self.trace(config), config.seed)
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


def trace_hash(config: Config) -> str:
    """Return what a run's key says of its requests, without reading or generating them.

    That is the hash of the file they come from. Generated requests follow from the configuration, the version of the
    results and the random numbers of NumPy.
    """
    from mbexp.workload.cache import file_sha256
    from mbexp.workload.find import find_file
    from mbexp.workload.kinds import find_kind

    kind = find_kind(config.workload.kind)
    if hasattr(kind, "files_sha256"):
        return str(kind.files_sha256(config.workload))
    if hasattr(kind, "generate"):
        return generated_hash()
    return file_sha256(find_file(config.workload.path or kind.DEFAULT_FILE, config.workload.kind))


def _bytes_of(value: Any) -> int:
    arrays = [*vars(value).values(), *getattr(value, "extra", {}).values()]
    return sum(int(getattr(array, "nbytes", 0)) for array in arrays)
