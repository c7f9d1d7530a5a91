"""Command line: ``python -m mbexp.validate [--fast] [--only TEXT] [--page FILE] [--jobs N]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mbexp.errors import UserError, as_program
from mbexp.validate.case import Case, Outcome, check
from mbexp.validate.cases import all_cases
from mbexp.validate.page import table_line, write_page


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks, print a row for each as it ends, and return 0 if all are within their intervals."""
    parser = argparse.ArgumentParser(
        prog="python -m mbexp.validate", description="Compare the simulator with exact results of queueing theory."
    )
    parser.add_argument("--fast", action="store_true", help="the subset that the tests run, in seconds")
    parser.add_argument("--only", metavar="TEXT", default="", help="only cases whose group or name contains TEXT")
    parser.add_argument("--page", metavar="FILE", type=Path, help="write the table to this Markdown file as well")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="cases run at once (default 1)")
    options = parser.parse_args(arguments)
    wanted = options.only.lower()
    cases = [
        case
        for case in all_cases()
        if (case.fast or not options.fast) and wanted in f"{case.group} {case.name}".lower()
    ]
    try:
        if not cases:
            raise UserError(f"--only={options.only}: no case has this in its name")
        outcomes = run_cases(cases, options.fast, options.jobs)
        if options.page is not None:
            write_page(options.page, outcomes, options.fast)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed = [outcome for outcome in outcomes if not outcome.ok]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} quantities agree with theory")
    for outcome in failed:
        print(f"{outcome.verdict}: {outcome.name}: {outcome.quantity}", file=sys.stderr)
    return 1 if failed else 0


def run_cases(cases: Sequence[Case], fast: bool, jobs: int = 1) -> list[Outcome]:
    """Return the outcomes of all cases in their order, printing each row as soon as it is known."""
    from joblib import Parallel, delayed

    done: list[Outcome] = []
    group = ""
    results = Parallel(n_jobs=jobs, return_as="generator")(delayed(check)(case, fast) for case in cases)
    for outcomes in results:
        if outcomes[0].group != group:
            group = outcomes[0].group
            print(f"\n{group}")
        for outcome in outcomes:
            print(table_line(outcome), flush=True)
        done.extend(outcomes)
    print()
    return done


if __name__ == "__main__":
    as_program(main)
