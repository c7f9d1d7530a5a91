"""What a question of capacity asks beside the configuration of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from mbexp.config.schema import build, option
from mbexp.errors import UserError

FINDS = ("gpus", "rate", "schedule")


@dataclass(frozen=True)
class Options:
    """Keys of ``python -m mbexp.capacity`` that no single run has."""

    find: str = option(
        "gpus", "fewest GPUs at the workload's rate, the highest rate at num_gpus, or GPUs over time", choices=FINDS
    )
    interval_s: float = option(3600.0, "'schedule': length of an interval on the trace's own clock", low=1, high=1e9)
    max_gpus: int = option(1024, "no more GPUs are tried", low=1, high=1_000_000)
    min_replications: int = option(5, "seeds of every probe of a generated workload", low=2, high=10_000)
    max_replications: int = option(40, "seeds of a probe that stays undecided", low=2, high=10_000)
    confidence: float = option(0.95, "of the stated range", above=0.5, high=0.9999)

    def __post_init__(self) -> None:
        if self.max_replications < self.min_replications:
            raise UserError(
                f"max_replications={self.max_replications}: must be at least min_replications={self.min_replications}"
            )


def split(arguments: Sequence[str]) -> tuple[Options, list[str]]:
    """Return the options among the words of a command line, and the words that are Hydra's."""
    import yaml

    names = {field.name for field in fields(Options)}
    own = {}
    rest = []
    for word in arguments:
        key, _, value = word.partition("=")
        if key in names:
            own[key] = yaml.safe_load(value)
        else:
            rest.append(word)
    return build(Options, own), rest
