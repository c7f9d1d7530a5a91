"""``python -m mbexp.compare_engine run.jsonl gpu=...``: a recorded run of a real engine beside its simulation."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mbexp.compare_engine.readers import read_run
from mbexp.errors import UserError, as_program
from mbexp.workload.recorded import FORMATS, Options

if TYPE_CHECKING:
    from mbexp.compare_engine.compare import Comparison

# One engine under vLLM's rules; what stands beside the record, and then what the user gives, replaces these.
ASSUMED = ("num_gpus=1", "execution=vllm", "scheduler=vllm", "bins=none")


def parser() -> argparse.ArgumentParser:
    """Return the command line's arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.compare_engine",
        description="Simulate the requests that a real engine was recorded with, and compare TTFT, TPOT and latency. "
        "'loops' compares published closed loops; it has --help.",
        epilog="example: python -m mbexp.compare_engine requests.jsonl gpu=roofline_h100 execution=vllm "
        "scheduler.fixed_batch_size=256 execution.token_budget=2048",
    )
    arguments.add_argument("record", help="the engine's record, a request each: arrival, lengths, first and last token")
    arguments.add_argument(
        "overrides", nargs="*", help=f"as of mbexp: gpu=..., and the engine's limits (assumed: {' '.join(ASSUMED)})"
    )
    arguments.add_argument("--format", help=f"{', '.join(FORMATS)} or csv (default: told from the file)")
    arguments.add_argument("--prompt-tokens", type=int, help="of every prompt, where the record has no lengths")
    arguments.add_argument("--benchmark", type=int, help="which one, from 1, where the record has several")
    arguments.add_argument("--config-dir", help="folder with config groups of your own, such as that of mbexp.fit")
    arguments.add_argument("--out", help="folder to write (default: a new one in outputs/engines)")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] == "loops":
        from mbexp.compare_engine import loops_command

        loops_command.main(given[1:])
        return
    options = parser().parse_intermixed_args(given)
    from mbexp.cli.composed import told

    with told("mbexp.compare_engine"):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    if options.out and Path(options.out).exists():
        raise UserError(f"--out={options.out}: exists; choose another")
    if not any(override.startswith("gpu=") for override in options.overrides):
        raise UserError("gpu=...: is needed: the card and model of the record; mbexp assumes none")
    recorded = read_run(options.record, Options(options.prompt_tokens, options.benchmark), options.format)
    from mbexp.cli.composed import composed
    from mbexp.compare_engine.compare import COLUMNS, compare, text
    from mbexp.compare_engine.figure import comparison_figure
    from mbexp.figures.style import save
    from mbexp.results.store import complete_folder, to_yaml

    config = composed([*ASSUMED, *recorded.overrides, *options.overrides], options.config_dir)
    comparison = compare(recorded, config)
    said = f"{len(recorded):,} requests of {recorded.source}, on {config.gpu.name}\n{text(comparison)}"
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = Path(options.out) if options.out else Path("outputs", "engines", stamp)
    figure = comparison_figure(comparison)
    with complete_folder(folder) as aside:
        with (aside / "comparison.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(dataclasses.asdict(row) for row in comparison.rows)
        (aside / "comparison.txt").write_text(said + "\n", encoding="utf-8")
        (aside / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        _write_requests(aside / "requests.csv", comparison)
        save(figure, aside, "comparison")
    print(said)
    print(f"written: {folder}/ (comparison.csv, comparison.png, requests.csv, config.yaml)")


def _write_requests(path: Path, comparison: Comparison) -> None:
    """Write a row a request: its arrival and lengths, and the instants of its tokens on either side."""
    engine, simulated = comparison.engine, comparison.mbexp
    names = ("arrival_s", "prompt_tokens", "output_tokens", "engine_first_token_s", "engine_last_token_s",
             "mbexp_first_token_s", "mbexp_last_token_s")  # fmt: skip
    columns = (engine.arrival_s, engine.prompt_tokens, engine.output_tokens, engine.first_token_s,
               engine.last_token_s, simulated.first_token_s, simulated.last_token_s)  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*(column.tolist() for column in columns), strict=True))


if __name__ == "__main__":
    as_program(main)
