"""What the terminal says of verdicts: a small table of those that matter; all of them stand in ``verdicts.csv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mbexp.config.output_keys import StudyConfig
from mbexp.results.catalogue import find_column
from mbexp.results.comparisons import TIMES_FROM_PCT
from mbexp.results.lines import prose_lines
from mbexp.sweep.sides import SEEDS, is_load, settings_keys, sides_key
from mbexp.sweep.text import text_table
from mbexp.sweep.verdicts import observations

Row = dict[str, Any]

MOST = 12  # lines


def verdict_lines(
    told: Sequence[Row], by_seed: Sequence[Row], swept: Sequence[str], study: StudyConfig, points: Sequence[Row]
) -> list[str]:
    """Return the verdicts as lines, or why there are none; nothing where no sides were swept.

    Of one setting each comparison is a sentence. Of several, a line says for a pair and a metric in how many settings
    one side wins; pairs without a winner anywhere are only counted.
    """
    key = sides_key(swept, study.compare, points)
    seeds = len({row["seed"] for row in by_seed})
    if key is None:
        several = [name for name in swept if name not in SEEDS and not is_load(name)]
        if len(several) > 1 and seeds > 1:
            return [
                *prose_lines(f"No verdict of {', '.join(several)}: study.compare={several[0]} names one."),
                "",
            ]
        return []
    if len({repr(row.get(key)) for row in by_seed}) < 2:
        return []
    if not told:
        if seeds == 1:
            best_asked = study.best and key != "scheduler"
            return [] if best_asked else ["No verdict from one seed; replications=5 gives intervals and verdicts.", ""]
        if observations(by_seed, swept) == 1:
            same = f"No verdict: all {seeds} seeds gave the same results, which are one observation."
            return [*prose_lines(f"{same} replicate=windows gives each seed a window of the trace file."), ""]
        return [f"No verdict: no two values of {key} met the same requests at the same setting.", ""]
    names = settings_keys(key, swept, points)
    settings = {tuple(repr(row.get(name)) for name in names) for row in told}
    shown = sum(row["winner"] is not None for row in told)
    rule = f"{len(told)} comparisons decided together (Holm): at most 1 table in 20 errs; {shown} show a winner."
    body = _sentences(told) if len(settings) == 1 else _counts(told, len(settings))
    return [*body, *prose_lines(f"{rule} All are in verdicts.csv."), ""]


def _sentences(told: Sequence[Row]) -> list[str]:
    """Return a line for each verdict of a single setting; of many, for the first that name a winner."""
    kept = [row for row in told if row["winner"] is not None] if len(told) > MOST else list(told)
    widest = max((len(row["metric"]) for row in kept), default=0)
    lines = []
    for row in kept[:MOST]:
        text = f"{row['metric']:<{widest}}  {row['verdict']}"
        lines += prose_lines(text, "  ")
    return [*lines, *_left_out(len(kept), "verdicts that name a winner")]


def _counts(told: Sequence[Row], settings: int) -> list[str]:
    """Return a table: for each pair and metric, in how many settings a side is shown to win, by how much."""
    pairs: dict[tuple[str, Any, Any], list[Row]] = {}
    for row in told:
        pairs.setdefault((row["metric"], row["first"], row["second"]), []).append(row)
    rows = []
    for (metric, first, second), found in pairs.items():
        for winner, loser in ((first, second), (second, first)):
            won = [row for row in found if row["winner"] is not None and row["winner"] == winner]
            if won:
                against = len([row for row in found if row["winner"] is not None]) - len(won)
                count = f"{len(won)} of {len(found)}"
                head = {"metric": metric, "better": str(winner), "than": str(loser)}
                rows.append(head | {"in": count, "by": _by(metric, won), "worse in": against})
    metrics = list(dict.fromkeys(row["metric"] for row in told))
    rows.sort(key=lambda row: (-int(str(row["in"]).split()[0]), metrics.index(str(row["metric"]))))
    if not rows:
        return [f"No difference is shown in any of {settings} settings."]
    kept = rows[:MOST]
    return [*text_table(kept, ["metric", "better", "than", "in", "by", "worse in"]), *_left_out(len(rows), "lines")]


def _by(metric: str, won: Sequence[Row]) -> str:
    """Return the least and the largest difference among settings, without sign."""
    relative = won[0]["relative_pct"] is not None
    column = "relative_pct" if relative else "difference"
    known = [row[column] for row in won if row[column] is not None]
    if relative and max(known) > TIMES_FROM_PCT:
        ends = (1 + min(known) / 100, 1 + max(known) / 100)
        factors = [f"{end:.2f}" if abs(end - 1) < 0.05 else _short(end) for end in ends]  # not "1 times"
        return f"{' to '.join(dict.fromkeys(factors))} times"
    sizes = sorted((_short(abs(value)) for value in known), key=lambda text: float(text.replace(",", "")))
    found = find_column(metric)
    unit = "%" if relative else "points" if found and found.unit == "%" else found.unit if found else ""
    return f"{sizes[0]} {unit}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]} {unit}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _left_out(count: int, what: str) -> list[str]:
    return [f"  ... and {count - MOST} more {what}"] if count > MOST else []
