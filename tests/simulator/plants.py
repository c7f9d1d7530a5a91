"""Small bugs planted into copies of mbexp, and the runs of named tests that must catch each.

`python -m tests.simulator.plants` runs more tests on every plant and rewrites the table of docs/plants.md.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests import ROOT

PAGE = ROOT / "docs" / "plants.md"

LOOP = "simulator/batches/loop.py"
HEAP = "compiled/busy_heap.py"
ENTRY = "simulator/batches/serve.py"
ADMISSION = "simulator/admission.py"
INDEX_SET = "compiled/index_set.py"
SIZE = "policy/limit.py"
SELECTION = "policy/selection.py"
FILL = "policy/fill.py"

CORNERS_TEST = "tests/simulator/batches/test_agreement.py::test_corners_are_as_worked_out_by_hand"
AGREEMENT = "tests/simulator/batches/test_agreement.py::test_small_cases_agree"
LONG_RUNS = "tests/simulator/batches/test_agreement.py::test_long_runs_agree"

# Tests of other kinds, to see which of them notice too.
OTHERS = (
    "tests/simulator/batches/test_invariants.py::test_they_hold_of_every_run",
    "tests/simulator/test_golden.py::test_results_are_those_stored",
    "tests/policy/test_policy_rules.py::test_algorithm_1_table",
    "tests/policy/test_policy_rules.py::test_the_originals_memory_rule_keeps_a_tenth_free",
    "tests/policy/test_policy_rules.py::test_algorithm_2_settles_at_the_target",
    "tests/simulator/test_worked_examples.py::test_p1_toy_example",
    "tests/simulator/test_worked_examples.py::test_bins_keep_the_long_request_apart",
    "tests/results/test_metrics.py::test_every_metric_by_hand",
    "tests/results/test_metrics.py::test_underprediction_overflows_memory_and_is_told",
)

PASSED, CAUGHT, HUNG = 0, 1, -signal.SIGALRM  # exit statuses of a test's process


@dataclass(frozen=True)
class Plant:
    """One bug: in `file`, the text `old`, found there once, becomes `new`; the corner case `corner` must then fail."""

    name: str
    file: str
    old: str
    new: str
    corner: str

    @property
    def caught_by(self) -> str:
        return f"{CORNERS_TEST}[{self.corner}]"


PLANTS = (
    Plant(
        "the controller's window holds one batch too many",
        SIZE,
        "recent = min(done, length)",
        "recent = min(done, length + 1)",
        "the window holds the last two batches",
    ),
    Plant(
        "the controller's window misses its oldest batch",
        SIZE,
        "for gap_s in state[oldest : oldest + recent]",
        "for gap_s in state[oldest + (recent > 1) : oldest + recent]",
        "the window holds the last two batches",
    ),
    Plant(
        "the controller updates one completion early",
        SIZE,
        "if done % int(",
        "if (done + 1) % int(",
        "the controller moves at every second completion",
    ),
    Plant(
        "the controller's high bound uses the new low bound, not the old",
        SIZE,
        "max(size_mean, low + alpha)",
        "max(size_mean, max(low - delta, size_min) + alpha)",
        "both bounds move from the values before",
    ),
    Plant(
        "the controller's band is closed at its upper end",
        SIZE,
        "if gap_mean_s > target_s + tolerance_s",
        "if gap_mean_s >= target_s + tolerance_s",
        "a mean on the edge of the band is inside",
    ),
    Plant(
        "Algorithm 1 divides the sum of squares by n - 1",
        SIZE,
        "state[SUM_SQUARES] / state[REQUESTS] - mean",
        "state[SUM_SQUARES] / max(state[REQUESTS] - 1, 1) - mean",
        "b_mem is cut, and its variance is that of the members",
    ),
    Plant(
        "Algorithm 1 rounds b_mem instead of cutting it",
        SIZE,
        "math.floor(root * root)",
        "round(root * root)",
        "b_mem is cut, and its variance is that of the members",
    ),
    Plant(
        "the statistics of a completed batch are those of the batch that GPU 0 started last",
        LOOP,
        "gpus.tokens[np.uint64(gpu)] = float",
        "gpus.tokens[0] = float",
        "each queue learns from its own batches",
    ),
    Plant(
        "all queues share the statistics and the controller of queue 0",
        LOOP,
        "interval, bounds, state[queue], limit_parameters)",
        "interval, bounds, state[0], limit_parameters)",
        "each queue learns from its own batches",
    ),
    Plant(
        "a limit that shrinks does not make a queue ready",
        LOOP,
        "if limit[queue] != before and",
        "if limit[queue] > before and",
        "a limit that shrinks makes a queue ready",
    ),
    Plant(
        "completions of one instant come in the order of their start",
        HEAP,
        "times[parent] == time and gpus[parent] < gpu",
        "times[parent] == time",
        "completions of one instant teach in the order of the GPUs",
    ),
    Plant(
        "the idle GPU of highest index comes first",
        INDEX_SET,
        "+ 1 + _PLACE[np.uint64((((word & -word) * _DE_BRUIJN) & 0xFFFFFFFF) >> 27)]",
        "+ int(word).bit_length()",
        "the idle GPU of lowest index comes first",
    ),
    Plant(
        "a batch may not fill the memory to the last token",
        LOOP,
        "if total > capacity:",
        "if total >= capacity:",
        "a batch may fill the memory to the last token",
    ),
    Plant(
        "a request that fills the memory alone is rejected",
        ADMISSION,
        "predicted_tokens[chunk] > kv_capacity_tokens",
        "predicted_tokens[chunk] >= kv_capacity_tokens",
        "a request may fill the memory alone",
    ),
    Plant(
        "batches are packed by true lengths, which no scheduler knows",
        ENTRY,
        "exact = predicted_tokens is output_tokens",
        "exact = True",
        "batches are packed by predictions",
    ),
    Plant(
        "the longest sum of a batch is taken as longest prompt + longest output",
        LOOP,
        "longest_total = max(longest_total, total)",
        "longest_total = np.int32(longest_prompt + longest_output)",
        "the longest sum is that of one member",
    ),
    Plant(
        "noise does not reach the time between tokens",
        LOOP,
        "first_token_s * factor, step_s * factor",
        "first_token_s * factor, step_s",
        "noise multiplies all three times",
    ),
    Plant(
        "nobody wakes for a timeout",
        LOOP,
        "timer_s = min(timer_s, formed_s)",
        "timer_s = min(timer_s, np.inf)",
        "a timeout lets a partial batch leave",
    ),
    Plant(
        "a batch counts as formed when its newest request arrived, not the one that filled it",
        LOOP,
        "np.uint64(first + limit - 1)",
        "np.uint64(first + waiting - 1)",
        "a batch is formed when the request arrives that fills it",
    ),
    Plant(
        "the end of the trace flushes one instant late",
        LOOP,
        "flush_now = joined == n and flush_s",
        "flush_now = joined == n and end_s < now_s and flush_s",
        "the last arrival flushes partial batches at once",
    ),
    Plant(
        "the flush leaves out queues that are ready",
        LOOP,
        "(flush_now or not is_ready[queue])",
        "not is_ready[queue]",
        "the flush also reaches a queue that a new limit makes ready",
    ),
    Plant(
        "round robin serves the same queue again",
        SELECTION,
        "memory[0] = chosen + 1",
        "memory[0] = chosen",
        "round robin takes turns",
    ),
    Plant(
        "ties of the longest queue go to the longer lengths",
        SELECTION,
        "if queues.waiting[queues.ready[place]] > queues.waiting[chosen]:",
        "if queues.waiting[queues.ready[place]] >= queues.waiting[chosen]:",
        "equally long queues: the shorter lengths first",
    ),
    Plant(
        "ties of the first formed batch go to the newer head",
        SELECTION,
        "tied and queues.head_index[queue] < queues.head_index[chosen]",
        "tied and queues.head_index[queue] > queues.head_index[chosen]",
        "batches formed at once: the older head first",
    ),
    Plant(
        "ties of the oldest head go to the shorter lengths instead of the trace's order",
        SELECTION,
        "if queues.head_index[queues.ready[place]] < queues.head_index[chosen]:",
        "if queues.head_arrival_s[queues.ready[place]] < queues.head_arrival_s[chosen]:",
        "heads that arrive at once: the order of the trace",
    ),
    Plant(
        "a timeout counts from the arrival that fills the batch",
        FILL,
        "return min(queue.filling_arrival_s, queue.head_arrival_s + parameters[0])",
        "return queue.filling_arrival_s + parameters[0]",
        "a full batch does not wait for its timeout",
    ),
)

# Runs inside a child: loads what is slow and not ours, then a fork of it for each plant imports the changed copy.
RUNNER = """
import os, signal, sys
import hypothesis, numba, numpy, pyarrow, pytest, scipy.stats
hypothesis.settings.register_profile(
    "plants", phases=[hypothesis.Phase.generate], database=None, derandomize=True, deadline=None
)
hypothesis.settings.load_profile("plants")
root, limit_s, jobs = sys.argv[1], int(sys.argv[2]), [line.split("\\t") for line in sys.stdin.read().splitlines()]
for folder, *tests in jobs:
    for test in tests:
        child = os.fork()
        if child == 0:
            status = 99
            try:
                signal.alarm(limit_s)
                os.chdir(os.path.join(root, folder))
                sys.path.insert(0, os.getcwd())
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                import mbexp
                assert mbexp.__file__.startswith(os.getcwd()), mbexp.__file__
                status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", test])
            finally:
                os._exit(status)
        print(folder, test, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sep="\\t", flush=True)
"""


def copy_with(plant: Plant | None, folder: Path) -> None:
    """Copy the package and its tests into `folder`, changed by `plant`."""
    hidden = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for name in ("mbexp", "tests", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=hidden)
    shutil.copy(ROOT / "pyproject.toml", folder)
    if plant is not None:
        path = folder / "mbexp" / plant.file
        text = path.read_text(encoding="utf-8")
        if text.count(plant.old) != 1:
            raise AssertionError(f"{plant.name}: {plant.old!r} is {text.count(plant.old)} times in {plant.file}")
        path.write_text(text.replace(plant.old, plant.new), encoding="utf-8")


def run(
    tests: Mapping[Plant | None, Sequence[str]], cases: int = 200, limit_s: int = 120
) -> dict[tuple[Plant | None, str], int]:
    """Run tests on plants (None: the package as it is) without Numba, `cases` drawn ones where a test draws them.

    Returns
    -------
    dict
        What became of each: `PASSED`, `CAUGHT` (the test failed) or `HUNG` (it was stopped after `limit_s` seconds).
    """
    plants = list(tests)
    with tempfile.TemporaryDirectory() as root:
        for number, plant in enumerate(plants):
            copy_with(plant, Path(root) / str(number))
        lines = ["\t".join([str(number), *tests[plant]]) for number, plant in enumerate(plants)]
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, root, str(limit_s)],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
            env=os.environ
            | {"NUMBA_DISABLE_JIT": "1", "MBEXP_REFERENCE_CASES": str(cases)}
            | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
    status = {}
    for line in done.stdout.splitlines():
        number, test, code = line.split("\t")
        assert int(code) in (PASSED, CAUGHT, HUNG), f"{line}: pytest could not run the test"
        status[plants[int(number)], test] = int(code)
    return status


def page() -> str:
    """Run every test on every plant and return the table of the page."""
    wanted = [CORNERS_TEST, AGREEMENT, LONG_RUNS, *OTHERS]
    status = run(dict.fromkeys([None, *PLANTS], wanted), cases=1500, limit_s=900)
    broken = [test for test in wanted if status[None, test] != PASSED]
    if broken:
        raise AssertionError(f"these fail without a plant: {broken}")
    lines = ["| planted bug | in `mbexp/` | caught by the corner case | and by |", "|---|---|---|---|"]
    for plant in PLANTS:
        caught = [test.partition("::")[2] for test in wanted if status[plant, test] == CAUGHT]
        caught.remove(CORNERS_TEST.partition("::")[2])
        lines.append(
            f"| {plant.name} | `{plant.file}` | {plant.corner} | {', '.join(f'`{name}`' for name in caught) or '-'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Rewrite the table of the page, below its heading."""
    head = PAGE.read_text(encoding="utf-8").partition("| planted bug |")[0]
    PAGE.write_text(head + page(), encoding="utf-8")


if __name__ == "__main__":
    main()
