"""Draws what is stored: every figure of a study, or of all studies, and says what could not be drawn and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mbexp.errors import UserError, nearest
from mbexp.figures.registry import FigureSpec, figures, find_figure
from mbexp.figures.study import StoredStudy


@dataclass(frozen=True)
class Drawn:
    """One figure of one study.

    Attributes
    ----------
    spec : FigureSpec
    study : StoredStudy
    paths : tuple of Path
        Its files; empty where it could not be drawn.
    error : str
        Why it could not be drawn; empty where it was.
    """

    spec: FigureSpec
    study: StoredStudy
    paths: tuple[Path, ...]
    error: str = ""


def draw_study(
    study: StoredStudy, folder: Path, only: Sequence[str] = (), formats: Sequence[str] = ("pdf", "png")
) -> list[Drawn]:
    """Draw the figures of a study into `folder`.

    Parameters
    ----------
    only
        Names of figures; without them, all that say something about the study.

    Raises
    ------
    UserError
        If a figure of `only` does not exist, or cannot be drawn of this study.
    """
    from mbexp.figures.style import save

    specs = [find_figure(name) for name in only]
    for spec in specs:
        reason = study.why_not(spec, any_study=True)
        if reason:
            raise UserError(f"figure {spec.name}: not of {study.folder}: {reason}")
    drawn = []
    for spec in specs or study.drawable():
        try:
            figure = spec(study.frame(spec, any_study=bool(only)))
            drawn.append(Drawn(spec, study, tuple(save(figure, folder, spec.name, formats))))
        except UserError as error:
            drawn.append(Drawn(spec, study, (), str(error)))
    return drawn


def find_study(folder: Path) -> StoredStudy:
    """Return the study or run that is stored in `folder`.

    Raises
    ------
    UserError
        If nothing is stored there; it names the nearest folder beside it, or the command that makes the study.
    """
    if (folder / "results.parquet").is_file() or (folder / "summary.json").is_file():
        return StoredStudy(folder)
    beside = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
    known = known_studies()
    if folder.is_dir():
        raise UserError(f"{folder}: neither a study (results.parquet) nor a run (summary.json) is stored there")
    if folder.name in known:
        raise UserError(f"{folder}: not there; `python -m mbexp -cn {folder.name}` makes it")
    raise UserError(f"{folder}: not there{nearest(folder.name, [*beside, *known])}")


def known_studies() -> list[str]:
    """Return the names of the studies that ``python -m mbexp -cn NAME`` knows."""
    from mbexp.paths import config_dir

    return sorted(path.stem for path in config_dir().glob("*.yaml") if path.stem != "config")


def stored_studies(outputs: Path) -> list[StoredStudy]:
    """Return every study and sweep stored below `outputs`, in order of their names."""
    if not outputs.is_dir():
        return []
    return [StoredStudy(path.parent) for path in sorted(outputs.glob("*/results.parquet"))]


def missing_studies(outputs: Path) -> list[str]:
    """Return the known studies that are not stored below `outputs`."""
    stored = {name for study in stored_studies(outputs) for name in study.names}
    return [name for name in known_studies() if name not in stored]


def figures_waiting_for(study: str) -> list[str]:
    """Return the figures that are of this study alone."""
    return [spec.name for spec in figures().values() if study in spec.studies]
