"""What a report says of a capacity study: its sentences, tables and figures, from the stored answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mbexp.capacity.pictures import FIGURE, PRICE_FIGURE, draw, read_answers
from mbexp.errors import UserError
from mbexp.figures.study import StoredStudy
from mbexp.report.pictures import Picture, picture_of
from mbexp.report.tables import MOST_ROWS, Table, as_table

LISTS = ("choices", "targets", "verdicts", "probes", "intervals", "runs", "warnings", "sentence", "next_command")


@dataclass(frozen=True)
class Answered:
    """The parts of a page that a stored answer fills.

    Attributes
    ----------
    sentences, warnings : list of str
    tables : list of Table
    pictures : list of Picture
    """

    sentences: list[str]
    warnings: list[str]
    tables: list[Table]
    pictures: list[Picture]


def answered(study: StoredStudy) -> Answered | None:
    """Return what a capacity study found, nothing where ``answer.json`` cannot be read; None of any other study."""
    if not (study.folder / "answer.json").is_file():
        return None
    try:
        answers = read_answers(study.folder)
        sentences = [_named(answer) + str(answer["sentence"]) for answer in answers]
        if follow := answers[0].get("next_command"):
            sentences.append(f"Ask next: {follow}")
        warnings = list(dict.fromkeys(_named(answer) + text for answer in answers for text in answer["warnings"]))
        tables = [_answers_table(answers), *map(_numbers_table, answers)]
        picture, price = draw(answers)
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        study.damage.append(f"{study.folder / 'answer.json'}: cannot be read ({error})")
        return Answered([], [], [], [])
    pictures = [picture_of(picture, FIGURE, "The answer", "What was tried, what the targets say, and the answer.")]
    if price is not None:
        pictures.append(picture_of(price, PRICE_FIGURE, "Price", "Price per hour against the first target."))
    return Answered(sentences, warnings, tables, pictures)


def _named(answer: Mapping[str, Any]) -> str:
    choices = ", ".join(f"{key}={value}" for key, value in answer["choices"].items())
    return f"{choices}: " if choices else ""


def _answers_table(answers: list[dict[str, Any]]) -> Table:
    import pandas as pd

    rows = [{key: value for key, value in answer.items() if key not in LISTS} for answer in answers]
    return as_table(pd.DataFrame(rows), "Answers", "A row for each choice, the best first.")


def _numbers_table(answer: Mapping[str, Any]) -> Table:
    """Return the intervals of a schedule, or what was tried on the way to another answer."""
    import pandas as pd

    what = "intervals" if answer["find"] == "schedule" else "probes"
    note = "Each interval, simulated alone." if what == "intervals" else "Each number that was tried."
    name = _named(answer).removesuffix(": ")
    title = f"{what.capitalize()} of {name}" if name else what.capitalize()
    return as_table(pd.DataFrame(answer[what]).head(MOST_ROWS), title, note)
