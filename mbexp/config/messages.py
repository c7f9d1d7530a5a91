"""Says in one line what Hydra says in many: what is wrong, where, and the nearest valid choice."""

from __future__ import annotations

import re

from mbexp.errors import nearest

HYDRA_ERRORS = ("hydra", "omegaconf")


def explain(error: BaseException) -> str | None:
    """Return one line for an error raised by Hydra or OmegaConf, None for any other."""
    if not _is_hydras(error):
        return None
    text = "\n".join(str(part) for part in _chain(error))
    if extra := re.search(r"'hydra/launcher/(submitit|ray)\w*'", text):
        launcher = {"submitit": "slurm", "ray": "ray"}[extra.group(1)]
        return f'hydra/launcher: {extra.group(1)} is not installed; pip install "mbexp[{launcher}]"'
    for pattern, say in ((_MISSING_OPTION, _missing_option), (_UNKNOWN_KEY, _unknown_key)):
        match = pattern.search(text)
        if match:
            return say(match, text)
    if ambiguous := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{ambiguous.group(1)}: several values need --multirun (-m), a list needs brackets: key=[1,2]"
    if names := re.search(r"Error merging override (\S*\bparameters)=(\[.*)", text):
        key, given = names.groups()
        return f"{key}={given}: a command line sets numbers one by one, {key}.NAME=1.5 or by their place, {key}.0=1.5"
    if missing := re.search(r"Cannot find primary config '([^']+)'", text):
        from mbexp.paths import config_dir

        studies = [path.stem for path in config_dir().glob("*.yaml")]
        return f"-cn {missing.group(1)}: no such study{_listed(missing.group(1), studies)}"
    if interpolation := re.search(r"Interpolation key '([^']+)' not found\s+full_key: (\S+)", text):
        key, where = interpolation.groups()
        return f"{where}=${{{key}}}: there is no key '{key}'"
    parse = re.search(r"Error parsing override '([^']*)'", text) or re.search(r"LexerNoViableAltException: (.*)", text)
    if parse:
        return f"{parse.group(1)}: not of the form key=value"
    if not type(error).__module__.startswith(HYDRA_ERRORS):
        return f"the command line is not of the form key=value ({type(error).__name__} in Hydra)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\s+", " ", " ".join(lines[:2])) if lines else type(error).__name__


_MISSING_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'")
_UNKNOWN_KEY = re.compile(r"Could not override '([^']+)'")


def _is_hydras(error: BaseException) -> bool:
    """Is it an error of theirs, or another (an assertion) that came up inside their code?"""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = str(place.tb_frame.f_globals.get("__name__", "")) if place else ""
    return type(error).__module__.startswith(HYDRA_ERRORS) or module.startswith(HYDRA_ERRORS)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and what caused it; under a debugger OmegaConf gives errors that are their own cause."""
    found = [error]
    while (cause := found[-1].__cause__) is not None and cause not in found:
        found.append(cause)
    return found


def _missing_option(match: re.Match[str], text: str) -> str:
    group, name = match.groups()
    options = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)+)", text)
    known = options.group(1).split() if options else []
    return f"{group}={name}: no such choice{_listed(name, known)}"


def _listed(name: str, known: list[str]) -> str:
    choices = f"; choose from {', '.join(sorted(known))}" if known else ""
    return nearest(name, known) + choices


def _unknown_key(match: re.Match[str], text: str) -> str:
    from mbexp.config.keys import Config
    from mbexp.config.schema import known_keys

    key = next((group for group in match.groups() if group), "override")
    close = nearest(key, known_keys(Config))
    return f"{key}: unknown key{close or '; `mbexp --cfg job` shows all keys'}"
