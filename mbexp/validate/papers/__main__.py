"""Command line: ``python -m mbexp.validate.papers [--page docs/papers.md]`` compares with the papers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mbexp.errors import as_program
from mbexp.validate.page import wrapped, write_whole
from mbexp.validate.papers import dynamic_batching, mooncake, multi_bin, original
from mbexp.validate.papers.row import Effort

TITLE = """# The papers' numbers: printed, exact, simulated

Written by `python -m mbexp.validate.papers --page docs/papers.md`.

*Printed* is what the source gives: a number, or "curve" where it draws without numbers. *Exact* comes from
`mbexp/theory/`. *Simulated* is the mean over seeds with its 95 % confidence interval, from configurations that anyone
can run. *Reproduced* says whether the simulation agrees with the exact value (with the printed one where there is no
exact one).
"""
P1 = '## P1: "Multi-Bin Batching for Increasing LLM Inference Throughput", Guldogan et al., arXiv 2412.04504\n'
P2 = (
    '## P2: "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained Dynamic Batching", Pang et al., '
    "arXiv 2503.05248\n"
)
P3 = (
    '## P3: "Mooncake: Trading More Storage for Less Computation", Qin et al., FAST 2025, and its technical report, '
    "arXiv 2407.00079\n"
)
ORIGINAL = """## The original simulator

The simulator that mbexp starts from published result files: a grid search, a method comparison, sensitivity runs. Its
settings are used here (its latency law, memory margin, length predictor and frozen controller), on the built-in
workload.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m mbexp.validate.papers",
        description="Compare with the numbers of the papers and of the original.",
    )
    parser.add_argument("--quick", action="store_true", help="short runs, to see that the command works")
    parser.add_argument("--page", metavar="FILE", type=Path, help="write the page to this Markdown file as well")
    options = parser.parse_args(arguments)
    effort = Effort(replications=2, share=0.01) if options.quick else Effort()
    parts = [TITLE] if not options.quick else [TITLE, "**Quick runs: the intervals are wide.**\n"]
    papers = (P1, multi_bin), (P2, dynamic_batching), (P3, mooncake), (ORIGINAL, original)
    for heading, paper in papers:
        parts += [heading, *paper.sections(effort)]
    text = wrapped("\n".join(parts))
    print(text)
    if options.page is not None:
        write_whole(options.page, text)
    return 0


if __name__ == "__main__":
    as_program(main)
