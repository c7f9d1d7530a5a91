"""An answer: a number or a range, how sure it is, what it costs; as a sentence, a file, a row and a data frame."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mbexp.capacity.judge import PASS, Judged
from mbexp.config.keys import Config
from mbexp.hardware.host_time import NO_HOST_TIME, without_host_time
from mbexp.results.replications import said_once
from mbexp.results.store import replace_file

if TYPE_CHECKING:
    import pandas as pd

HOUR_S = 3600.0


@dataclass(frozen=True)
class Probe:
    """The runs at one number.

    Attributes
    ----------
    number : int
        GPUs, or steps of 1 % from the workload's own rate.
    verdict : str
    judged : list of Judged
        One a target.
    summaries : list of dict
        One a replication.
    whole : list of Judged
        One a target, of the whole trace at once, where the replications are windows of it.
    """

    number: int
    verdict: str
    judged: list[Judged]
    summaries: list[dict[str, Any]]
    whole: Sequence[Judged] = ()

    def mean(self, key: str) -> float:
        """Return the mean of a metric over the replications."""
        return sum(math.nan if one[key] is None else float(one[key]) for one in self.summaries) / len(self.summaries)

    def short(self) -> str:
        """Return every target's value in a line."""
        windows = ", ".join(map(str, self.judged))
        return f"{windows}; whole trace {', '.join(map(str, self.whole))}" if self.whole else windows

    def why(self) -> str:
        """Return what does not pass, or that the GPUs are overloaded."""
        bad = [each for each in self.judged if each.verdict != PASS]
        whole = [each for each in self.whole if each.verdict != PASS]
        if self.mean("offered_load") >= 1:
            return f"overloaded, offered load {self.mean('offered_load'):.3g}"
        if whole:
            return "whole trace " + ", ".join(f"{each} against {each.target.bound:g}" for each in whole)
        if not bad:
            return "the queue climbs throughout the run"
        return ", ".join(f"{each} against {each.target.bound:g}" for each in bad)

    def warnings(self) -> list[str]:
        """Return what its runs say of themselves, each sentence once."""
        said = [str(one.get("warnings") or "").split("\n") for one in self.summaries]
        told = said_once([text for text in each if text and not text.startswith("windows: ")] for each in said)
        return [text if count == len(said) else f"{text} ({count} of {len(said)} runs)" for text, count in told]

    def windows_that_miss(self) -> str | None:
        """Return how many windows of a trace miss a target that their mean meets, or None."""
        if not self.whole:
            return None
        missed = [
            (each.target, value)
            for each in self.judged
            for value in (each.target.value(one) for one in self.summaries)
            if each.target.excess(value) > 0
        ]
        if not missed:
            return None
        count = sum(any(each.target.excess(each.target.value(one)) > 0 for each in self.judged)
                    for one in self.summaries)  # fmt: skip
        target, value = max(missed, key=lambda pair: pair[0].excess(pair[1]))
        return (
            f"{count} of {len(self.summaries)} windows miss a target by themselves, {target.metric} up to {value:.4g}: "
            "the busy hours of the trace do not meet what it meets as a whole"
        )


class Answer:
    """What was found.

    Attributes
    ----------
    find : {"gpus", "rate"}
    low, high : float
        The answer lies between: GPUs, or requests/s. Equal where it is sure.
    num_gpus : int
        That surely meet the targets: the fewest that were found.
    rate_per_s : float
        Mean arrival rate that these carry.
    monotone : bool
        Whether one more GPU (1 % less traffic) meets the targets too.
    probe : Probe
        At the answer.
    beyond : Probe or None
        At one GPU less (1 % more traffic) than the sure end.
    next_command : str or None
        The command to ask next, ready to paste.
    """

    def __init__(self, question: Any, low: int, high: int, monotone: bool) -> None:
        config = question.config
        self.find, self.monotone = question.options.find, monotone
        self.targets = [str(target) for target in question.targets]
        self.choices: dict[str, Any] = {}
        self.next_command: str | None = None
        self.probes = dict(sorted(question.probes.items()))
        self.runs = list(question.prober.keys)
        self.confidence = question.options.confidence
        sure = high if self.find == "gpus" else low
        self.probe = self.probes[sure]
        self.rate_per_s = self.probe.mean("arrival_rate_per_s")
        if self.find == "gpus":
            self.num_gpus, self.low, self.high = high, float(low), float(high)
            self.beyond = self.probes.get(high - 1)
        else:
            self.num_gpus, self.low = config.num_gpus, self.rate_per_s
            self.high = self.probes[high].mean("arrival_rate_per_s") if high in self.probes else self.low
            self.beyond = self.probes.get(low + 1)
        self.gpu = config.gpu.name
        self.replications = len(self.probe.summaries)
        price = config.gpu.price_per_hour
        cards = self.num_gpus * (config.gpu.law.tensor_parallel or 1)
        self.price_per_hour = math.nan if price is None else price * cards
        tokens, good = self.probe.mean("throughput_tokens_per_s"), self.probe.mean("goodput_requests_per_s")
        self.price_per_million_tokens = self.price_per_hour / HOUR_S / tokens * 1e6 if tokens else math.nan
        self.price_per_thousand_good = self.price_per_hour / HOUR_S / good * 1e3 if good else math.nan
        self.warnings = self._warnings(question)

    def _warnings(self, question: Any) -> list[str]:
        config = question.config
        found = self.probe.warnings()
        if (drawn := drawn_parts(config)) is not None:
            found.append(f"generated workload: {drawn}; judge a trace of your own traffic before you buy")
        if (missed := self.probe.windows_that_miss()) is not None:
            found.append(missed)
        if not question.seeded and self.replications == 1:
            found.append("one trace, no interval: replicate=windows num_requests=N judges windows of it")
        if not self.monotone:
            found.append("not monotone: one GPU more, or 1 % less traffic, fails")
        if config.execution.name == "run_to_completion":
            found.append(
                "execution=run_to_completion: a batch runs until its longest answer ends, as no serving engine has it; "
                "execution=vllm scheduler=vllm has the rules of one"
            )
        if without_host_time(config.gpu.law):
            found.append(NO_HOST_TIME)
        return list(dict.fromkeys(found))

    def rank(self) -> tuple[float, ...]:
        """Return what orders several answers: rates by what is carried, numbers of GPUs by price, else by number."""
        price = math.inf if math.isnan(self.price_per_hour) else self.price_per_hour
        return (-self.low if self.find == "rate" else 0.0, price, self.num_gpus)

    def sentence(self) -> str:
        """Return the answer in one sentence."""
        targets = in_words(self.targets)
        if self.find == "gpus":
            few = f"{self.num_gpus}" if self.low == self.high else f"{self.low:.0f} to {self.high:.0f}"
            said = f"{few} x {self.gpu} meet{'s' * (few == '1')} {targets}"
            less = f"{self.num_gpus - 1} "
        else:
            few = f"{self.low:.4g}" if self.low == self.high else f"{self.low:.4g} to {self.high:.4g}"
            said = f"{self.num_gpus} x {self.gpu} carry {few} requests/s within {targets}"
            less = "1 % more "
        if self.beyond is not None:
            said += f" ({less}{self.beyond.verdict}: {self.beyond.why()})"
        if not math.isnan(self.price_per_hour):
            per_million = f"${self.price_per_million_tokens:.3g} per million output tokens"
            said += f"; ${self.price_per_hour:.2f} an hour, {per_million}"
        return said + "."

    def row(self) -> dict[str, Any]:
        """Return the answer as a flat row."""
        return {
            **self.choices,
            "num_gpus": self.num_gpus,
            "low": self.low,
            "high": self.high,
            "rate_per_s": self.rate_per_s,
            "price_per_hour": self.price_per_hour,
            "price_per_million_tokens": self.price_per_million_tokens,
            "price_per_thousand_good": self.price_per_thousand_good,
            **{f"{each.target}": each.mean for each in self.probe.judged},
        }

    def table(self) -> list[str]:
        """Return lines to show before the sentence: none, since the search has shown its probes."""
        return []

    @property
    def frame(self) -> pd.DataFrame:
        """The probes: a row for each number, with value, half width and verdict of each target."""
        import pandas as pd

        rows = []
        for number, probe in self.probes.items():
            row: dict[str, Any] = {"number": number, "verdict": probe.verdict, "replications": len(probe.summaries)}
            for each in probe.judged:
                name = each.target.metric
                row |= {name: each.mean, f"{name}_half_width": each.half_width, f"{name}_verdict": each.verdict}
            row["arrival_rate_per_s"] = probe.mean("arrival_rate_per_s")
            rows.append(row)
        return pd.DataFrame(rows)

    def as_dict(self) -> dict[str, Any]:
        """Return what ``answer.json`` holds; what is not known is null."""
        return plain(
            {
                **self.row(),
                "find": self.find,
                "choices": self.choices,
                "targets": self.targets,
                "confidence": self.confidence if self.replications > 1 else None,
                "verdicts": {
                    str(each.target): {"verdict": each.verdict, "mean": each.mean, "half_width": each.half_width}
                    for each in self.probe.judged
                },
                "whole_trace": {str(each.target): each.mean for each in self.probe.whole} or None,
                "probes": self.frame.to_dict("records"),
                "runs": self.runs,
                "warnings": self.warnings,
                "next_command": self.next_command,
                "sentence": self.sentence(),
            }
        )


def in_words(targets: Sequence[str]) -> str:
    """Return all of the targets in words: "both targets"."""
    return {1: "the target", 2: "both targets"}.get(len(targets), f"all {len(targets)} targets")


def drawn_parts(config: Config) -> str | None:
    """Return what of the workload is drawn rather than recorded, or None."""
    from mbexp.workload.kinds import find_kind

    if hasattr(find_kind(config.workload.kind), "generate"):
        return "arrivals and lengths are drawn, not recorded"
    return "arrivals are drawn, not recorded" if config.workload.timestamps == "generated" else None


class Found(Protocol):
    """What is found for one choice: an `Answer`, or a `mbexp.capacity.timetable.Schedule`."""

    find: str
    choices: dict[str, Any]
    warnings: list[str]
    next_command: str | None

    def rank(self) -> tuple[float, ...]:
        """Return what orders several of one question, the best first."""
        ...

    def sentence(self) -> str:
        """Return what is found in one sentence."""
        ...

    def table(self) -> list[str]:
        """Return lines to show before the sentence."""
        ...

    def row(self) -> dict[str, Any]:
        """Return a flat row."""
        ...

    @property
    def frame(self) -> pd.DataFrame:
        """What the answer rests on."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Return what ``answer.json`` holds."""
        ...


def write_answers(answers: Sequence[Found], folder: Path) -> None:
    """Write ``answer.json`` (an object, or a list of several), ``answers.csv``, and ``schedule.csv`` of schedules."""
    import pandas as pd

    values = [each.as_dict() for each in answers]
    text = json.dumps(values[0] if len(values) == 1 else values, indent=2, ensure_ascii=False) + "\n"
    replace_file(folder / "answer.json", lambda aside: aside.write_text(text, encoding="utf-8"))
    table = pd.DataFrame([each.row() for each in answers])
    replace_file(folder / "answers.csv", lambda aside: table.to_csv(aside, index=False))
    if answers[0].find == "schedule":
        intervals = pd.concat([each.frame for each in answers])
        replace_file(folder / "schedule.csv", lambda aside: intervals.to_csv(aside, index=False))
    else:
        (folder / "schedule.csv").unlink(missing_ok=True)  # of an answer that stood here before


def plain(value: Any) -> Any:
    """Return a value as JSON holds it; a number that is not finite is null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
