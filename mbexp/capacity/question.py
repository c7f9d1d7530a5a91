"""From one configuration to its answer: what a number means, how it is judged, and where the search begins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from mbexp.capacity.answer import Answer, Probe
from mbexp.capacity.judge import FAIL, UNDECIDED, Judged, judge
from mbexp.capacity.options import Options
from mbexp.capacity.probes import Prober
from mbexp.capacity.progress import Shown, bracket, probes_left
from mbexp.capacity.search import least
from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.results.targets import read_targets
from mbexp.workload.load import OWN_ARRIVALS

Say = Callable[..., None]
STEP = 1.01  # of rates: a grid, so that the answer is the same wherever a search begins
FURTHEST = 1400  # steps, a factor of a million
IDLE_LOAD, SAME = 0.5, 1e-3  # a floor: with GPUs less busy than this, twice as many change a target by no more


class Question:
    """One configuration and what is asked of it.

    Parameters
    ----------
    config : Config
    options : Options
    prober : Prober
    say : function
        Takes a line on a probe, and how far the search is, as `mbexp.capacity.progress.Shown` does.
    one_trace : bool
        Whether the requests of the configuration's own seed are all that is judged, as those of a trace file are.
    changed : dict
        What tells `config` from the configuration that the prober's words make.
    """

    def __init__(
        self,
        config: Config,
        options: Options,
        prober: Prober,
        say: Say | None = None,
        one_trace: bool = False,
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        self.changed = dict(changed or {})
        self.config, self.options, self.prober = config, options, prober
        self.say = say or Shown()
        self.targets = read_targets(config.sla, config.execution.name, config.workload.classes)
        self.seeded, self.most = (False, 1) if one_trace else _replications(config, options)
        self.windows = not self.seeded and not one_trace and config.replicate == "windows"
        self.probes: dict[int, Probe] = {}
        looks = 1 if not self.seeded else 1 + math.ceil(math.log2(options.max_replications / options.min_replications))
        # Two ends of a range can err, each at every look.
        self.error = (1 - options.confidence) / 2 / looks

    def answer(self) -> Answer:
        """Search, and return the answer.

        Raises
        ------
        UserError
            Where no number is enough.
        """
        if self.options.find == "rate":
            return self._highest_rate()
        highest = self.options.max_gpus
        start = min(self._work(), highest)
        found = least(self._verdict, start, 1, highest)
        if found is None:
            last = self.probes[highest]
            raise UserError(f"max_gpus={highest}: not enough, {last.why()}; raise it, or the bound that fails")
        return Answer(self, found.low, found.high, found.monotone)

    def _highest_rate(self) -> Answer:
        found = least(lambda n: self._verdict(-n), self._steps_to_full_load(), -FURTHEST, FURTHEST)
        if found is None:
            last = self.probes[-FURTHEST]
            raise UserError(f"num_gpus={self.config.num_gpus}: carries no rate within the targets, {last.why()}")
        if found.high == -FURTHEST:
            raise UserError(
                f"num_gpus={self.config.num_gpus}: meets the targets at any rate up to a millionfold of this one; "
                "take more requests (num_requests), or a tighter bound"
            )
        return Answer(self, -found.high, -found.low, found.monotone)

    def _offered_load(self, number: int) -> float:
        """Return the offered load of one run at a number, NaN where there is none."""
        config, changed = self.at(number)
        load = self.prober.summaries(config, changed, [self.config.seed])[0]["offered_load"]
        return math.nan if load is None else float(load)  # all at once, or users who bring what the GPUs carry

    def _work(self) -> int:
        """Return how many GPUs the offered load keeps busy."""
        load = self._offered_load(self.config.num_gpus) * self.config.num_gpus
        return max(1, math.ceil(load)) if math.isfinite(load) else 1

    def _steps_to_full_load(self) -> int:
        """Return by how many steps less traffic than the workload's offers a load of one."""
        load = self._offered_load(0)
        return math.ceil(math.log(load, STEP)) if load > 0 and math.isfinite(load) else 0

    def at(self, number: int) -> tuple[Config, dict[str, Any]]:
        """Return the configuration of a probe: so many GPUs, or the rate times `STEP` to the power `number`."""
        config = self.config
        if self.options.find == "gpus":
            gpu = dataclasses.replace(config.gpu, count=number)
            return dataclasses.replace(config, num_gpus=number, gpu=gpu), {"num_gpus": number, **self.changed}
        workload, factor = config.workload, STEP**number
        if workload.kind in OWN_ARRIVALS or workload.timestamps == "generated":
            rate = workload.arrivals.rate_per_s * factor
            arrivals = dataclasses.replace(workload.arrivals, rate_per_s=rate)
            workload = dataclasses.replace(workload, arrivals=arrivals)
            changed: dict[str, Any] = {"workload.arrivals.rate_per_s": rate}
        else:
            scaling = factor * (workload.rate_scaling if workload.timestamps == "scaled" else 1.0)
            workload = dataclasses.replace(workload, timestamps="scaled", rate_scaling=scaling)
            changed = {"workload.rate_scaling": scaling}
        return dataclasses.replace(config, workload=workload), {**changed, **self.changed}

    def _verdict(self, number: int) -> str:
        if number in self.probes:
            return self.probes[number].verdict
        config, changed = self.at(number)
        count = min(self.options.min_replications, self.most) if self.seeded else self.most
        while True:
            places = range(self.config.seed, self.config.seed + count)
            summaries = self.prober.summaries(config, changed, places)
            verdict, judged = judge(self.targets, summaries, self.error, self.seeded)
            if verdict != UNDECIDED or count >= self.most:
                break
            count = min(2 * count, self.most)
        whole: list[Judged] = []
        if self.windows and verdict != FAIL:
            # Windows begin empty, and their mean is of quiet hours and busy ones: the trace must pass as it is, too.
            of_whole = {**changed, "num_requests": None, "replicate": "seeds"}
            config = dataclasses.replace(config, num_requests=None, replicate="seeds")
            once, whole = judge(
                self.targets, self.prober.summaries(config, of_whole, [config.seed]), self.error, seeded=False
            )
            verdict = FAIL if once == FAIL else verdict
        self.probes[number] = Probe(number, verdict, judged, summaries, whole)
        if verdict == FAIL and self.options.find == "gpus":
            self._refuse_floor(self.probes[number])
        line = f"  {next(iter(changed))}={next(iter(changed.values())):.6g}: {verdict}, {self.probes[number].short()}"
        self.say(line, *self._how_far())
        return verdict

    def _refuse_floor(self, probe: Probe) -> None:
        """Refuse targets that further GPUs bring no nearer: their values stay at twice as many, and these are idle."""
        for fewer in self.probes.values():
            if 2 * fewer.number > probe.number or fewer.verdict != FAIL or not fewer.mean("offered_load") < IDLE_LOAD:
                continue
            for before, now in zip(fewer.judged, probe.judged, strict=True):
                same = abs(now.mean - before.mean) <= SAME * abs(now.mean)
                if before.verdict == now.verdict == FAIL and same:
                    raise UserError(
                        f"sla.targets={now.target}: no number of GPUs is enough, {now.target.metric} stays at "
                        f"{now.mean:.4g} from {fewer.number} GPUs on; take another card, model or bound"
                    )

    def _how_far(self) -> tuple[int, int, str]:
        """Return how many probes are made, about how many are to come, and where the answer lies, in words."""
        by_gpus = self.options.find == "gpus"
        sign = 1 if by_gpus else -1
        fails, passes = bracket((sign * number, probe.verdict) for number, probe in self.probes.items())
        ends = [None if each is None else self._shown(sign * each) for each in (fails, passes)]
        unit = "GPUs" if by_gpus else "requests/s"
        if None not in ends:
            words = f"between {ends[not by_gpus]} and {ends[by_gpus]} {unit}"
        elif by_gpus and ends[1] == "1":
            words = "1 GPU is enough"
        elif by_gpus and ends == ["1", None]:
            words = "more than 1 GPU"
        elif ends[1] is not None:
            words = f"at {'most' if by_gpus else 'least'} {ends[1]} {unit}"
        else:
            words = f"{'more' if by_gpus else 'less'} than {ends[0]} {unit}" if ends[0] is not None else ""
        return len(self.probes), probes_left(fails, passes), words

    def _shown(self, number: int) -> str:
        return str(number) if self.options.find == "gpus" else f"{self.probes[number].mean('arrival_rate_per_s'):.4g}"


def _replications(config: Config, options: Options) -> tuple[bool, int]:
    """Return whether seeds replicate, and how many replications there can be."""
    from mbexp.workload import load_trace
    from mbexp.workload.kinds import is_drawn

    if is_drawn(config.workload) and config.replicate == "seeds":
        return True, options.max_replications
    if config.replicate != "windows":
        return False, 1
    if config.num_requests is None:
        raise UserError("num_requests=null: replicate=windows needs the length of a window")
    whole = len(load_trace(config.workload, None, config.seed, "seeds"))
    if (windows := whole // config.num_requests) < 1:
        raise UserError(f"num_requests={config.num_requests}: the trace has {whole:,} requests, no whole window")
    return False, max(1, windows - config.seed)
