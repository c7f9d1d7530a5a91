"""Reads a stored answer and draws what is drawn of it: the one place that knows which figures an answer has."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.capacity.drawing import draw_price, draw_targets
from mbexp.capacity.schedule_drawing import draw_schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE, PRICE_FIGURE = "capacity", "capacity_price"  # PNG files beside answer.json


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """Return the answers that ``answer.json`` of a study's folder holds."""
    stored = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return stored if isinstance(stored, list) else [stored]


def write_figures(folder: Path) -> list[Path]:
    """Draw what ``answer.json`` in `folder` holds, beside it, and return the PNG files.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    from mbexp.figures.style import save

    answers = read_answers(folder)
    picture, priced = draw(answers)
    paths = save(picture, folder, FIGURE, ["png"])
    if priced is None:
        (folder / f"{PRICE_FIGURE}.png").unlink(missing_ok=True)  # of an answer that stood here before
        return paths
    return paths + save(priced, folder, PRICE_FIGURE, ["png"])


def draw(answers: Sequence[Mapping[str, Any]]) -> tuple[Figure, Figure | None]:
    """Return the figure of stored answers, and that of their price where there is one."""
    if answers[0]["find"] == "schedule":
        return draw_schedule(answers), None
    return draw_targets(answers), draw_price(answers)
