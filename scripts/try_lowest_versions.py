"""Try mbexp with the lowest versions that pyproject.toml allows: python scripts/try_lowest_versions.py [PYTEST WORDS]

A fresh environment gets the lowest version of each dependency that is named there (uv, `--resolution lowest-direct`),
and passes tests of every place that a library is used: composing, compiling, tables, figures, report and sweeps. The
newest versions are those of a plain `pip install`, which the whole suite runs on. The exit status is pytest's; it is 0
where uv, which chooses the versions, does not install.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "tests/simulator/test_golden.py",  # numpy, numba: the stored results, bit for bit
    "tests/results/test_tables.py",  # pyarrow
    "tests/results/test_statistics.py",  # scipy
    "tests/sweep/test_table.py",  # hydra-core, omegaconf, hydra-joblib-launcher, joblib, pandas
    "tests/report/test_report.py",  # jinja2, matplotlib, pandas
)


def names() -> list[str]:
    """Return the packages that pyproject.toml gives a lowest version of."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [re.split("[<>=]", word)[0] for word in words]


def main(words: list[str]) -> int:
    """Make the environment and run the tests; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="mbexp-lowest-") as folder:
        python = f"{folder}/bin/python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        if subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"]).returncode:
            print("skipped: uv does not install")
            return 0
        install = [f"{folder}/bin/uv", "pip", "install", "--quiet", "--python", python]
        subprocess.run([*install, "--resolution", "lowest-direct", "-e", f"{ROOT}[test]"], check=True)
        code = f"from importlib.metadata import version\nfor name in {names()}: print(name, version(name))"
        found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
        print("lowest:", ", ".join(found.splitlines()), flush=True)
        # A cache of its own: machine code of one Numba is not another's.
        env = os.environ | {"MBEXP_CACHE": f"{folder}/cache", "PYTHONPATH": str(ROOT)}
        # Old libraries call new ones by names that are to go, as matplotlib 3.10.0 calls pyparsing.
        words = ["-W", "ignore::DeprecationWarning", *(words or TESTS)]
        return subprocess.run([python, "-m", "pytest", *words], cwd=ROOT, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
