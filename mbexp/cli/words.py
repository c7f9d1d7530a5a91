"""What is looked at before Hydra sees the command line: words and variables that it takes in silence or misreads."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from mbexp.errors import UserError
from mbexp.paths import config_files, use_config_dirs

TARGETS = re.compile(r"(\+{0,2}sla\.targets)=\[(.*)\]", re.DOTALL)
# Hydra's folders, which every user of Hydra knows and which have no meaning where folders are made whole or not at all.
_FOLDERS = {
    "hydra.run.dir": "a run makes a folder of its own in output.dir=FOLDER",
    "hydra.sweep.dir": "a sweep is stored in output.dir=FOLDER, in a folder called study.name=NAME",
    "hydra.sweep.subdir": "each run of a sweep is named by its key; study.label=TEXT labels it in tables and figures",
    "hydra.output_subdir": "a run's folder holds config.yaml, and a sweep's multirun.yaml",
    "hydra.job.chdir": "output.dir=FOLDER says where results go",
}


def quoted_targets(word: str) -> str:
    """Quote what stands in ``sla.targets=[...]``, since Hydra's grammar has no bare ``<``."""
    match = TARGETS.fullmatch(word)
    if match is None or "'" in word or '"' in word:
        return word
    items = [item.strip() for item in match[2].split(",") if item.strip()]
    return f"{match[1]}=[{','.join(repr(item) for item in items)}]"


def check_words(words: Sequence[str]) -> None:
    """Refuse what would be accepted and have no effect.

    Raises
    ------
    UserError
        Naming what to say in its place.
    """
    for word in words:
        if word.partition("=")[0] == "--experimental-rerun":
            raise UserError(
                f"{word}: not supported; provenance.json in the run's folder holds the command that makes the run again"
            )
        key = word.partition("=")[0].lstrip("+~")
        if key in _FOLDERS:
            raise UserError(f"{word}: has no effect here; {_FOLDERS[key]}")


def check_environment() -> None:
    """Take a variable that is set to nothing as one that is not set, and refuse what is no number of workers."""
    jobs = os.environ.get("MBEXP_JOBS")
    if jobs is None:
        return
    if not jobs.strip():
        del os.environ["MBEXP_JOBS"]
    elif not re.fullmatch(r"\s*(-1|[1-9]\d*)\s*", jobs):
        raise UserError(f"MBEXP_JOBS={jobs}: must be a whole number of workers, or -1 for one on each core")


def completed_study_names() -> list[str] | None:
    """Return the studies that a shell asks for behind ``-cn``; None where it asks for anything else, or does not ask.

    Hydra completes the words of overrides alone, and offers groups there.
    """
    line = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT") or 10**6)]
    asked = re.search(r"(?:\s-cn\s*|\s--config-name[\s=]+)([\w-]*)$", line)
    if asked is None:
        return None
    use_config_dirs(line.split())
    names = sorted(config_files())
    return [name for name in names if name.startswith(asked.group(1))]
