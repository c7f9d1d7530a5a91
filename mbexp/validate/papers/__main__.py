"""Command line: ``python -m mbexp.validate.papers [--page docs/papers.md]`` compares with the papers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mbexp.errors import as_program
from mbexp.validate.page import wrapped, write_whole
from mbexp.validate.papers import dynamic_batching, mooncake, multi_bin, original, stability
from mbexp.validate.papers.row import Effort

TITLE = """# The papers' numbers: printed, exact, simulated

Does the simulator reproduce what the papers print? `python -m mbexp.validate.papers --page
docs/papers.md` runs the comparison and writes this page.

*Printed* is what the source gives: a number, or "curve" where the source draws without numbers.
*Exact* comes from `mbexp/theory/`. *Simulated* is the mean over seeds with its 95 % confidence
interval, from configurations that anyone can run. *Reproduced* says whether the simulation agrees
with the exact value. Where there is no exact value, the simulation is compared with the printed
value.
"""
P1 = """## P1: multi-bin batching

Guldogan et al., "Multi-Bin Batching for Increasing LLM Inference Throughput", arXiv 2412.04504.
"""
P2 = """## P2: memory-aware and SLA-constrained dynamic batching

Pang et al., "Optimizing LLM Inference Throughput via Memory-aware and SLA-constrained Dynamic
Batching", arXiv 2503.05248.
"""
P3 = """## P3: Mooncake

Qin et al., "Mooncake: Trading More Storage for Less Computation", FAST 2025, and its technical
report, arXiv 2407.00079.
"""
P4 = """## P4: which loads are stable

Li, Dai and Peng, "Throughput-Optimal Scheduling Algorithms for LLM Inference and AI Agents",
arXiv 2504.07347. *Printed* is what the paper proves or shows. The numbers of the law and of both cases
are those of a public reproduction (adolgert/Concourse.jl).
"""
ORIGINAL = """## The original simulator

mbexp starts from an earlier simulator, the original. The original published result files of a grid
search, a method comparison and sensitivity runs. This section uses the original's settings on the
built-in workload: its latency law, memory margin, length predictor and frozen controller.
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
    papers = (P1, multi_bin), (P2, dynamic_batching), (P3, mooncake), (P4, stability), (ORIGINAL, original)
    for heading, paper in papers:
        parts += [heading, *paper.sections(effort)]
    text = wrapped("\n".join(parts))
    print(text)
    if options.page is not None:
        write_whole(options.page, text)
    return 0


if __name__ == "__main__":
    as_program(main)
