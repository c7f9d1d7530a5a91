"""From the words of a command to its answers, one for each choice, stored as a study."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mbexp.capacity.answer import Found, write_answers
from mbexp.capacity.onward import next_command
from mbexp.capacity.options import Options, split
from mbexp.capacity.pictures import write_figures
from mbexp.capacity.probes import Prober, Workers
from mbexp.capacity.progress import Shown
from mbexp.capacity.question import Question, Say
from mbexp.capacity.schedule import plan
from mbexp.cli.words import quoted_targets
from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.paths import named_config_dirs, use_config_dirs
from mbexp.results.store import replace_file
from mbexp.sweep.points import Point, compose_points, expand, override_value
from mbexp.sweep.table import rows_of, to_table, write_table
from mbexp.version import RESULTS_VERSION, __version__

NAME = "capacity"  # of the study, where study.name does not say otherwise
QUESTION = "How many GPUs meet these targets?"


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Return keywords as words of a command line; a tuple is a set of choices."""
    words = []
    for key, value in values.items():
        if isinstance(value, tuple):
            words.append(f"{key}={','.join(map(_word, value))}")
        elif isinstance(value, Mapping):
            words += [f"{key}.{inner}={_word(item)}" for inner, item in value.items()]
        else:
            words.append(f"{key}={_word(value)}")
    return words


def _word(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[\w.-]+", value)
    return str(value) if plain else override_value(value)


def compose(words: Sequence[str]) -> list[Point]:
    """Return the checked configuration of each choice."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    import mbexp.cli.main  # noqa: F401  # registers the keys and the sweeper
    from mbexp.paths import config_dir

    with initialize_config_dir(version_base="1.3", config_dir=str(config_dir())):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        swept, assignments = expand(words, None, None, loader)
        return compose_points(assignments, swept, master, loader)


def answers(arguments: Sequence[str], command: list[str] | None = None, workers: int | None = None) -> list[Any]:
    """Return an `Answer` or a `Schedule` for each choice of a command, the best first, and store them as a study.

    The folder is ``output.dir/study.name``.

    Raises
    ------
    UserError
        On a mistake, and where no number is enough for a choice.
    """
    from mbexp.workload.kinds import find_kind

    options, rest = split(arguments)
    words = [quoted_targets(word) for word in use_config_dirs(rest)]
    for folder in named_config_dirs():
        if not folder.is_dir():
            raise UserError(f"--config-dir={folder}: no such folder")
    points = compose(words)
    given = {word.partition("=")[0].lstrip("+") for word in words}
    command = command or ["python", "-m", "mbexp.capacity", *arguments]
    found: list[Found] = []
    made: dict[str, Point] = {}
    began = time.perf_counter()
    with Workers(workers) as crew:
        for point in points:
            config = point.config
            if options.find != "rate" and "num_gpus" in point.swept:
                raise UserError(f"num_gpus: is what find={options.find} looks for; find=rate takes several")
            if options.find == "schedule" and "num_requests" in given:
                raise UserError(
                    f"num_requests={config.num_requests}: find=schedule takes all requests of the trace; "
                    "workload.window.kind=time with start_s and duration_s takes a part of it"
                )
            whole = not hasattr(find_kind(config.workload.kind), "generate") or options.find == "schedule"
            if "num_requests" not in given and whole:
                config = dataclasses.replace(config, num_requests=None)  # a log is judged whole
            folder = Path(config.output.dir) / (config.study.name or NAME)
            prober = Prober(folder, crew, point.overrides, command, point)
            ask = plan if options.find == "schedule" else _search
            shown = Shown()
            try:
                answer = ask(config, options, prober, shown)
            finally:
                shown.close()
            made |= prober.made
            answer.choices = dict(point.swept)
            answer.next_command = next_command(arguments, config, options.find, point.swept)
            found.append(answer)
    found.sort(key=lambda each: each.rank())
    write_answers(found, folder)
    write_study(folder, made, command, time.perf_counter() - began)
    write_figures(folder)
    return found


def write_study(folder: Path, made: Mapping[str, Point], command: list[str], wall_time_s: float) -> None:
    """Write the table of all probes and ``study.json``, as every study has them."""
    points = list(made.values())
    swept = list(dict.fromkeys(key for point in points for key in point.swept))
    rows, _ = rows_of(folder, points, list(made))
    write_table(to_table(rows), folder, "results")
    values = {
        "name": folder.name,
        "config_name": NAME,
        "question": points[0].config.study.question or QUESTION,
        "command": command,
        "swept": swept,
        "points": len(points),
        "runs": list(made),
        "targets": points[0].config.sla.targets,
        "failures": [],
        "missing": 0,
        "wall_time_s": round(wall_time_s, 3),
        "mbexp_version": __version__,
        "results_version": RESULTS_VERSION,
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    replace_file(folder / "study.json", lambda aside: aside.write_text(text, encoding="utf-8"))


def _search(config: Config, options: Options, prober: Prober, say: Say) -> Found:
    return Question(config, options, prober, say).answer()
