"""``python -m mbexp.replay``: serve a window of a trace on this machine's GPU, and compare with its simulation."""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbexp.config.cards import MODEL_CARDS
from mbexp.errors import UserError, as_program, unknown_choice
from mbexp.measure.__main__ import add_engine_arguments, uses_graphs

if TYPE_CHECKING:
    from mbexp.config.keys import Config
    from mbexp.measure.engine import TorchEngine
    from mbexp.replay.compare import Comparison

SCHEDULERS = "static_fifo,dynamic_no_bins,multi_bin_dynamic"


def parser() -> argparse.ArgumentParser:
    """Return the command line's arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.replay",
        description="Serve a window of a trace on the real clock and the real GPU, once for each scheduler, and "
        "compare with the simulation of the same window.",
        epilog="example: python -m mbexp.replay --config-dir outputs/fits/h100_qwen3_1_7b gpu=h100_qwen3_1_7b_roofline "
        "workload=azure workload.path=AzureLLMInferenceTrace_conv.csv num_requests=200",
    )
    arguments.add_argument("overrides", nargs="*", help="as of mbexp: workload=..., gpu=..., num_requests=200")
    arguments.add_argument("--schedulers", default=SCHEDULERS, help=f"default: {SCHEDULERS}")
    arguments.add_argument("--config-dir", help="folder with config groups of your own, such as that of mbexp.fit")
    arguments.add_argument("--out", help="folder to write (default: a new one in outputs/replays)")
    add_engine_arguments(arguments)
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = parser().parse_intermixed_args(argv)
    from mbexp.cli.composed import told

    with told("mbexp.replay"):
        _run(options)


def _run(options: argparse.Namespace) -> None:
    if options.model not in MODEL_CARDS:
        raise unknown_choice("--model", options.model, MODEL_CARDS)
    if options.out and Path(options.out).exists():
        raise UserError(f"--out={options.out}: exists; choose another")
    from mbexp.measure.engine import TorchEngine, check_device

    check_device(options.device)
    configs = [_configure(options, name) for name in options.schedulers.split(",")]
    from mbexp.measure.machine import describe
    from mbexp.replay.compare import text

    engine = TorchEngine(MODEL_CARDS[options.model], options.dtype, options.device, uses_graphs(options))
    machine = describe(options.model, engine.card, options.dtype, options.device, engine.cuda_graphs)
    machine["command"] = " ".join(["python -m mbexp.replay", *sys.argv[1:]])
    print(f"{machine['gpu']}, {engine.card.name}, {machine['engine']}")
    comparisons = [replay_one(config, engine) for config in configs]
    said = text(comparisons)
    folder = _write(options, comparisons, said, machine, configs[0])
    print(said)
    print(f"written: {folder}/")


def replay_one(config: Config, engine: TorchEngine) -> Comparison:
    """Simulate and replay one configuration.

    Raises
    ------
    UserError
        If the configuration is not of one GPU that runs batches to completion, or a batch does not fit the GPU.
    """
    from mbexp.hardware import kv_capacity_tokens
    from mbexp.measure.plan import Point
    from mbexp.measure.session import OutOfMemory
    from mbexp.policy.build import build_policy
    from mbexp.replay.clock import RealClock
    from mbexp.replay.compare import compare
    from mbexp.replay.loop import replay
    from mbexp.replay.server import gpu_server
    from mbexp.run import run

    if config.gpu.count != 1:
        raise UserError(f"num_gpus={config.gpu.count}: a replay runs on one GPU")
    if config.execution.name != "run_to_completion":
        raise UserError(f"execution.name={config.execution.name}: a replay runs batches to completion")
    simulation = run(config)
    records = simulation.outcome
    longest = int((records.prompt_tokens.astype("int64") + records.output_tokens).max())
    if longest > engine.card.longest_context_tokens:
        raise UserError(f"a request of {longest} tokens exceeds the {engine.card.longest_context_tokens} of the model")
    print(
        f"{config.scheduler.name}: {len(records.arrival_s)} requests of {simulation.trace.source}; "
        f"about {simulation.summary['makespan_s']:.0f} s, by the simulation"
    )
    try:
        for size in (1, int(records.batches["size"].max())):  # libraries set themselves up before the clock starts
            engine.load_batch(Point("static", size, int(records.prompt_tokens[0]), 2))()
    except OutOfMemory:
        raise UserError(f"the GPU has no memory for a batch of {size}") from None
    policy = build_policy(config.scheduler, config.sla, kv_capacity_tokens(config.gpu))
    clock = RealClock()
    replayed = replay(records, policy, clock, gpu_server(engine, clock))
    engine.unload()
    return compare(simulation, replayed, clock.paused_s)


def _configure(options: argparse.Namespace, scheduler: str) -> Config:
    """Return the configuration of one scheduler, composed as by mbexp itself."""
    from mbexp.cli.composed import composed

    return composed(["num_gpus=1", *options.overrides, f"scheduler={scheduler}"], options.config_dir)


def _write(
    options: argparse.Namespace, comparisons: list[Comparison], said: str, machine: dict[str, Any], config: Config
) -> Path:
    from mbexp.figures.style import save
    from mbexp.replay.compare import rankings, rows
    from mbexp.replay.figure import replay_figure
    from mbexp.results.store import complete_folder, to_yaml, write_json

    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    folder = Path(options.out) if options.out else Path("outputs", "replays", stamp)
    with complete_folder(folder) as aside:
        _write_csv(aside / "comparison.csv", rows(comparisons))
        _write_csv(aside / "batches.csv", _batch_rows(comparisons))
        (aside / "comparison.txt").write_text(said + "\n", encoding="utf-8")
        (aside / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        machine = machine | {
            "paused_s": {each.scheduler: each.paused_s for each in comparisons},
            "rankings": [
                {"metric": metric, "simulated": simulated, "replayed": replayed}
                for metric, simulated, replayed in rankings(comparisons)
            ],
        }
        write_json(aside / "machine.json", machine)
        save(replay_figure(comparisons), aside, "replay")
    return folder


def _batch_rows(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    return [
        {"scheduler": each.scheduler, "start_s": float(batch["start_s"]), "batch_size": int(batch["size"]),
         "measured_s": float(measured), "predicted_s": float(predicted)}
        for each in comparisons
        for batch, measured, predicted in zip(each.replayed.batches, each.measured_s, each.predicted_s, strict=True)
    ]  # fmt: skip


def _write_csv(path: Path, table: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    as_program(main)
