"""Says in one line what Hydra says in many: what is wrong, where, and the nearest valid choice."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mbexp.errors import UserError, nearest

HYDRA_ERRORS = ("hydra", "omegaconf")


def explain(error: BaseException) -> str | None:
    """Return one line for an error raised by Hydra, OmegaConf or the parser of YAML, None for any other."""
    line = _explained(error)
    return None if line is None else str(UserError(line))


def _explained(error: BaseException) -> str | None:
    for cause in _chain(error):
        if hasattr(cause, "problem_mark") or type(cause).__module__ == "yaml.reader":
            return _yaml(cause)
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
    if group := re.search(r"Error merging override (\S+?)=(.*)", text):
        key, given = group.groups()
        return f"{key}={given}: has keys of its own, {key}.NAME=VALUE or {key}={{NAME: VALUE}}"
    if "Config group override must be" in text:
        from mbexp.paths import config_files

        pairs = (word.partition("=") for word in sys.argv[1:])
        taken = [f"{key}={value}" for key, _, value in pairs if value and config_files(key)]
        word = next((each for each in taken if re.search(r"=[\d.+-]+$", each)), "a group of keys")
        return f"{word}: a group takes one of its names, GROUP=NAME, or keys one by one, GROUP.KEY=VALUE"
    if missing := re.search(r"Cannot find primary config '([^']+)'", text):
        from mbexp.paths import config_files

        return f"-cn {missing.group(1)}: no such study{_listed(missing.group(1), list(config_files()))}"
    if interpolation := re.search(r"Interpolation key '([^']+)' not found\s+full_key: (\S+)", text):
        key, where = interpolation.groups()
        return f"{where}=${{{key}}}: there is no key '{key}'"
    if type(error).__name__ == "OverrideParseException":
        return _unread_override(text)
    if not type(error).__module__.startswith(HYDRA_ERRORS):
        return f"Hydra cannot read the command line ({type(error).__name__}: {str(error)[:200]})"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"\s+", " ", " ".join(lines[:2])) if lines else type(error).__name__


NO_DEFAULTS = "it has no 'defaults: [config, _self_]', so it has none of mbexp's keys but its own"
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
    known = known_keys(Config)
    if key.lstrip("+~") in known:  # what is composed has not all keys: the file behind -cn stands alone
        words = re.search(r"(?:-cn\s*|--config-name[\s=]+)(\S+)", " ".join(sys.argv[1:]))
        return f"-cn {words.group(1) if words else 'STUDY'}: {NO_DEFAULTS}"
    close = nearest(key, known)
    return f"{key}: unknown key{close or '; `mbexp --cfg job` shows all keys'}"


def _yaml(error: BaseException) -> str:
    """Return file, line and fault of a file that is no YAML."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:  # yaml.reader: bytes or characters that no YAML file has
        name, reason = getattr(error, "name", "a YAML file"), getattr(error, "reason", error)
        return f"{name}: is not UTF-8 text that YAML can hold ({reason})"
    problem = str(getattr(error, "problem", None) or "cannot be read as YAML")
    if twice := re.match(r"found duplicate key (.*)", problem):
        problem = f"{twice.group(1)} is given twice"
    elif "'\\t'" in problem:
        problem = "a tab; YAML is indented with spaces"
    return f"{mark.name} line {mark.line + 1}: {problem}"


def commands() -> list[str]:
    """Return the names of the modules that ``python -m mbexp.NAME`` runs."""
    folder = Path(__file__).parents[1]
    own = [path.parent.name for path in folder.glob("*/__main__.py")]
    return sorted([*own, *(name for name in ("download", "runs") if (folder / f"{name}.py").exists())])


def _unread_override(text: str) -> str:
    """Return which word of the command line is at fault, and how to write it, where quotes are all that it needs."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    def fails(word: str) -> bool:
        try:
            OverridesParser.create().parse_override(word)
        except HydraException:
            return True
        return False

    given = zip(sys.argv, sys.argv[1:], strict=False)  # a word behind an option may be what the option takes
    words = [word for before, word in given if not word.startswith("-") and ("=" in word or before[:1] != "-")]
    override = next((word for word in words if fails(word)), None)
    if override is None:  # it stands in a file: a study's hydra.sweeper.params
        lines = text.splitlines()
        return f"{lines[0].removeprefix('LexerNoViableAltException: ')}: cannot be read as values of a key"
    key, sign, value = override.partition("=")
    if not sign and override in commands():
        return f"{override}: a command of its own: python -m mbexp.{override}"
    if not sign or fails(f"{key}=1"):
        return f"{override}: not of the form key=value"
    quote = '"' if '"' not in value else "'"
    quoted = f"{key}={quote}{value}{quote}"
    if value[:1] in ("[", "{", "'", '"') or re.search(r"^,|,\s*,|,$", value) or fails(quoted):
        return f"{override}: the value cannot be read; are brackets and quotes closed, and commas between values?"
    outer = "'" if quote == '"' else '"'
    return f"{override}: such a value needs quotes of its own; in a shell {outer}{quoted}{outer}"
