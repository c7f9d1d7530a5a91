"""``python -m mbexp.report``: one static HTML page of stored results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mbexp.errors import UserError, as_program


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mbexp.report",
        description="Write one self-contained HTML page of a stored study or run. Nothing is simulated.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="outputs/<study>, or the folder of one run")
    parser.add_argument("--out", metavar="FILE", help="where to write it (FOLDER/report.html)")
    options = parser.parse_args(arguments)
    try:
        if options.out and len(options.folders) > 1:
            raise UserError(f"--out={options.out}: goes with one folder, not {len(options.folders)}")
        from mbexp.report import write_report

        for folder in options.folders:
            path = write_report(folder, options.out)
            print(f"wrote {path}  ({path.stat().st_size / 1e6:.1f} MB)")
    except UserError as error:
        print(f"mbexp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    as_program(main)
