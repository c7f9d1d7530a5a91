"""Measure the branch coverage of mbexp/: python scripts/measure_coverage.py

Nothing can watch a compiled function. The fast tests are therefore run as they are, and those of the compiled
functions once more as plain Python; the report is of both. The exit status is 1 where a test fails or less is covered
than pyproject.toml asks for. Processes that tests start are measured too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Their own data file would be the first that the limit on the size of files stops.
NOT_MEASURED = ["tests/sweep/test_runs.py::test_a_full_disk_stops_the_sweep_with_a_reason_and_it_can_go_on"]

# Folders and files of tests of compiled functions, below tests/.
COMPILED = [
    *("compiled/test_order_statistics.py", "compiled/test_structures.py"),
    *("hardware/test_grid.py", "hardware/test_iteration.py", "hardware/test_laws.py", "policy/test_policy_rules.py"),
    *("replay", "simulator/batches", "simulator/continuous", "simulator/test_golden.py"),
    "simulator/test_worked_examples.py",
]
# Without the compiler: what is about compilation itself, and queues of so many requests that it would take hours.
NOT_PLAIN = [
    *("carry", "erlang", "first_class", "another_slot", "own_law", "own_rules", "rule_of_another_kind"),
    *("constant_lengths", "exponential_lengths", "uniform_lengths", "saturat", "slot_holds"),
    *("each_rule_of_a_continuous_case", "larger_cases_with_any_prices", "reach_every_corner"),
]
PLAIN_CASES = "300"  # drawn cases of the reference simulator


def main(arguments: list[str]) -> int:
    """Run both passes and print the report; `arguments` go to ``coverage report``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COVERAGE_FILE": str(Path(folder, "data"))}
        # What is started elsewhere must find this checkout, not an installed one.
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        plain = {"NUMBA_DISABLE_JIT": "1", "MBEXP_REFERENCE_CASES": PLAIN_CASES}
        skipped = [word for test in NOT_MEASURED for word in ("--deselect", test)]
        failed = coverage(["run", "-m", "pytest", "-n", "0", *skipped], environment)
        files = [f"tests/{name}" for name in COMPILED]
        chosen = " and ".join(f"not {name}" for name in NOT_PLAIN)
        failed |= coverage(["run", "-m", "pytest", "-n", "0", *files, "-k", chosen], environment | plain)
        coverage(["combine", "--quiet", folder], environment)
        return coverage(["report", *arguments], environment) or failed


def coverage(words: list[str], environment: dict[str, str]) -> int:
    """Run a command of Coverage in the checkout; return whether it failed."""
    return int(subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, env=environment).returncode != 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
