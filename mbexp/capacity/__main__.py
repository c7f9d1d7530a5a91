"""``python -m mbexp.capacity``: how many GPUs meet these targets?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mbexp.errors import UserError, as_program

USAGE = """python -m mbexp.capacity [find=gpus|rate|schedule] 'sla.targets=[METRIC<=BOUND, ...]' KEY=VALUE ...

The fewest GPUs that meet all targets at the workload's rate, the highest rate that num_gpus carry (find=rate), or
the GPUs that each hour of a trace needs (find=schedule interval_s=3600).
Every key of a run can be set; several values (gpu=A,B) make a table of choices, cheapest first.
Keys of its own: max_gpus, min_replications, max_replications, confidence. --config-dir FOLDER names config groups of
your own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or {"-h", "--help"} & {*words}:
        print(USAGE)
        return 0
    from mbexp.capacity.command import answers
    from mbexp.config.messages import explain
    from mbexp.results.lines import command_lines, prose_lines

    try:
        found = answers(words, ["python", "-m", "mbexp.capacity", *words])
    except KeyboardInterrupt:
        print("mbexp: interrupted; the same command goes on from the stored probes", file=sys.stderr)
        return 130
    except Exception as error:
        line = str(error) if isinstance(error, UserError) else explain(error)
        if line is None:
            raise
        print(f"mbexp: {line}", file=sys.stderr)
        return 1
    for answer in found:
        for line in answer.table():
            print(line)
        choice = ", ".join(f"{key}={value}" for key, value in answer.choices.items())
        said = f"{choice}: {answer.sentence()}" if choice else answer.sentence()
        for text in (said, *(f"! {warning}" for warning in answer.warnings)):
            print("\n".join(prose_lines(text, "  ")))
    if found[0].next_command:
        print("\n".join(command_lines(found[0].next_command, before="next: ")))
    return 0


if __name__ == "__main__":
    as_program(main)
