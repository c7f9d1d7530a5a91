"""Compare the stored results of each scheduler between interpreters: python scripts/compare_interpreters.py PYTHON ...

Each interpreter needs the dependencies of mbexp; the package is taken from this checkout. The exit status is 1 where
one finds other bytes than those in tests/golden, with Numba or without.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CODE = """
import json, platform, numba, numpy
from tests.simulator.golden_results import CASES, digest_of, result_of
found = {name: digest_of(result_of(name)) for name in CASES}
print(json.dumps([f"Python {platform.python_version()}, numpy {numpy.__version__}, numba {numba.__version__}", found]))
"""


def main(interpreters: list[str]) -> int:
    """Print one line for each interpreter and way of running; return the exit status."""
    stored = {}
    for path in (ROOT / "tests/golden").glob("*.json"):
        result = json.loads(path.read_text())
        stored[path.stem] = next(value for key, value in result.items() if key.endswith("_sha256"))
    status = 0
    for interpreter in interpreters or [sys.executable]:
        for name, disabled in (("compiled", "0"), ("plain Python", "1")):
            done = subprocess.run(
                [interpreter, "-c", CODE],
                cwd=ROOT,
                env=os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
            )
            if done.returncode:
                print(f"{interpreter}, {name}: failed\n{done.stderr}")
                status = 1
                continue
            versions, found = json.loads(done.stdout)
            other = sorted(case for case in stored if found.get(case) != stored[case])
            print(f"{versions}, {name}: {f'other bytes in {other}' if other else f'{len(found)} results, same bytes'}")
            status |= bool(other)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
