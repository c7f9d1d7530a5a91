"""The validation table, for the terminal and as the page docs/validation.md."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from mbexp.errors import UserError
from mbexp.validate.case import PRECISION, SHOWN_CONFIDENCE, VERDICT_CONFIDENCE, Outcome

INTRODUCTION = """# Validation: the simulator against theory

Does the simulator agree with queueing theory? `python -m mbexp.validate --page docs/validation.md`
compares the two and writes this page. The command exits non-zero if a row is not ok.

Every row is a configuration that anyone can run (`mbexp/validate/cases_*.py`), simulated with many
seeds. Beside it stands the value that theory gives (`mbexp/theory/`). The column *source* names the
function of theory. Times are in seconds of the simulated clock.

- *simulated* is the mean over seeds with its {shown:.0f} % confidence interval. All rows use the
  same seeds. Rows with the same arrivals therefore tend to deviate in the same direction.
- **ok**: the target lies within the {verdict:.1f} % interval, and that interval reaches less than
  {precision:.0f} % of the target to either side. A bias of that size would not hide in it. *too
  wide* is a failure as well. There are {count} comparisons: at 95 % one in twenty would miss by
  chance.
- Where the source is a recursion, no exact mean is known. The simulator must agree with the
  recursion over the same requests, to rounding, in every seed. The interval shows how well the mean
  itself is known.
- Lengths are whole tokens. The continuous models are run with 500,000 tokens to a second, an error
  below 1e-5.
- Steady-state means leave out the first 5 % of each run. The end of a run flushes partial batches
  at the instant of the last arrival. Means of full batches therefore also leave out the batch that
  the last arrival fills. Saturated throughput counts the full batches, and leaves out the flushed
  ones.

The functions of theory give the exact values at any other point, too:

```python
from mbexp.theory import lengths, multi_bin, queueing

queueing.mdc(arrival_rate=3.2, service=1.0, servers=4).wait  # 0.386
bins = multi_bin.equal_mass(lengths.lognormal(mean=1.55, sigma=0.465), k=4)
multi_bin.batch_time(bins, batch_size=8).throughput  # 4.04 requests a second
```
"""


def table_line(outcome: Outcome) -> str:
    """Return one row for the terminal."""
    interval = f"{outcome.simulated.mean:11.6g} ± {outcome.simulated.half_width:8.2g}"
    label = f"{outcome.name}: {outcome.quantity}"
    return f"  {label:<88} target {outcome.target:11.6g}  simulated {interval}  {outcome.verdict}"


def write_page(path: Path, outcomes: Sequence[Outcome], fast: bool) -> None:
    """Write the table as Markdown, whole or not at all."""
    lines = [
        INTRODUCTION.format(
            shown=100 * SHOWN_CONFIDENCE,
            verdict=100 * VERDICT_CONFIDENCE,
            count=len(outcomes),
            precision=100 * PRECISION,
        )
    ]
    if fast:
        lines.append("**This is the fast subset: short runs, judged by their own wide intervals.**\n")
    agreed = sum(outcome.ok for outcome in outcomes)
    total = sum({(outcome.group, outcome.name): outcome.requests for outcome in outcomes}.values())
    lines.append(f"**{agreed} of {len(outcomes)} quantities agree**, {total / 1e6:.0f} million requests simulated.\n")
    for group, rows in groupby(outcomes, key=lambda outcome: outcome.group):
        lines += [
            f"## {group}",
            "| case | quantity | target | simulated | source | verdict |",
            "|---|---|---|---|---|---|",
        ]
        for row in rows:
            interval = f"{row.simulated.mean:.6g} ± {row.simulated.half_width:.1g}"
            lines.append(
                f"| {row.name} | {row.quantity} | {row.target:.6g} | {interval} | `{row.source}` | {row.verdict} |"
            )
        lines.append("")
    write_whole(path, wrapped("\n".join(lines)))


def wrapped(text: str) -> str:
    """Return `text` with the paragraphs that are one long line broken at 100 characters; tables stay."""
    lines = []
    for line in text.split("\n"):
        inner = "  " if line.startswith("- ") else ""
        prose = len(line) > 100 and not line.startswith(("|", "#"))
        lines += textwrap.wrap(line, 100, subsequent_indent=inner, break_on_hyphens=False) if prose else [line]
    return "\n".join(lines)


def write_whole(path: Path, text: str) -> None:
    """Write a page aside and rename it, so that a reader never meets half of one."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"--page={path}: {error.strerror}") from error
