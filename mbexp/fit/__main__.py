"""``python -m mbexp.fit GRID.csv``: fit every law to a grid, show the errors of each, write ready configurations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mbexp.config.cards import GPU_CARDS, MODEL_CARDS, USUAL_MODEL, find_card
from mbexp.errors import UserError, as_program, unknown_choice
from mbexp.fit import FORMS, Card, Points, fit_form, read_points
from mbexp.fit.forms import SUM_OF_STEPS, roofline_form
from mbexp.fit.imported import ORIGINS, read_published


def parser() -> argparse.ArgumentParser:
    """Return the command line's arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.fit",
        description="Fit the affine, the linear and the roofline law to measured times; none is picked for you. "
        "'step TABLE' fits the law of a step, 'host TABLE gpu=...' the host's time in it; both have --help.",
    )
    arguments.add_argument("grid", help="grid.csv or points.csv of mbexp.measure, or a latency grid of your own")
    arguments.add_argument("--from", dest="origin", help=f"a published table: {', '.join(ORIGINS)}")
    arguments.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="of a published table: which rows are meant",
    )
    arguments.add_argument("--card", help=f"GPU card of the roofline: {', '.join(GPU_CARDS)}")
    arguments.add_argument("--bandwidth-gb-per-s", type=float, help="... or its peak memory bandwidth, 1e9 B/s, and")
    arguments.add_argument("--dense-tflops", type=float, help="its dense 16-bit peak, 1e12 FLOP/s")
    arguments.add_argument("--model", help=f"model card: {', '.join(MODEL_CARDS)}")
    arguments.add_argument(
        "--prompt-tokens", type=int, default=0, help="of a grid: prompt tokens in every max_seq_len (default: none)"
    )
    arguments.add_argument("--cuda-graphs", choices=("on", "off"), help="of a points.csv with both: which to fit")
    arguments.add_argument("--name", help="name of the written configurations (default: from the file)")
    arguments.add_argument("--out", help="folder to write (default: outputs/fits/NAME)")
    arguments.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    given = sys.argv[1:] if argv is None else argv
    from mbexp.fit.step_command import host, step

    commands = {"step": step, "host": host}
    try:
        if given and given[0] in commands:
            commands[given[0]](given[1:])
        else:
            _run(parser().parse_args(given))
    except UserError as error:
        sys.exit(f"mbexp.fit: {error}")


def _run(options: argparse.Namespace) -> None:
    graphs = None if options.cuda_graphs is None else options.cuda_graphs == "on"
    if options.where and not options.origin:
        raise UserError(f"--where {options.where[0]}: is of a published table; name it with --from")
    if options.origin:
        points = read_published(options.grid, options.origin, options.where)
    else:
        points = read_points(options.grid, options.prompt_tokens, graphs)
    named = options.model or points.machine.get("model")
    if options.origin and named is None:
        raise UserError(f"--model: is needed with --from: the weights and KV cache of {points.source} are its")
    model = named or USUAL_MODEL
    if model not in MODEL_CARDS:
        raise unknown_choice("--model", model, MODEL_CARDS)
    card = _card(options, points, model)
    split = bool(points.split and (points.phase == "static").any())
    forms = [*FORMS.values(), *([roofline_form(card)] if card else []), *([SUM_OF_STEPS] if split else [])]
    fits, skipped = [], []
    for form in forms:
        try:
            fits.append(fit_form(form, points))
        except UserError as error:
            skipped.append(f"{form.kind}: not fitted: {error}")
    if card is None:
        skipped.append(
            "roofline: not fitted: it needs the card's peaks: --card, or --bandwidth-gb-per-s and --dense-tflops"
        )
    if not fits:
        raise UserError("; ".join(skipped))

    from mbexp.fit.figure import residual_figure
    from mbexp.fit.interpolation import left_out_errors
    from mbexp.fit.report import gpu_configs, table, write
    from mbexp.hardware.grid import read_grid

    interpolation = left_out_errors(read_grid(str(points.grid))) if points.grid else None
    if named is None:
        skipped.insert(
            0, f"model: {model} is assumed, for its weights and KV cache in the files; --model names another"
        )
    text = "\n".join([table(points, fits, interpolation), *skipped])
    name = options.name or _name(options.grid, points)
    folder = Path(options.out or Path("outputs", "fits", name))
    laws = [fit for fit in fits if fit.form is not SUM_OF_STEPS]
    configs = gpu_configs(points, laws, card, name, model)
    write(folder, text, configs, residual_figure(fits, points), fits, options.overwrite)
    print(text)
    print(f"\nwritten: {folder}/ (residuals.png, fit.json, and a gpu configuration for each law)")
    print("choose one by name:")
    for config in configs:
        print(f"  python -m mbexp --config-dir {folder} gpu={config}")


def _card(options: argparse.Namespace, points: Points, model: str) -> Card | None:
    if options.card is not None and options.card not in GPU_CARDS:
        raise unknown_choice("--card", options.card, GPU_CARDS)
    given = (options.bandwidth_gb_per_s, options.dense_tflops)
    if any(given) and not all(given):
        raise UserError("--bandwidth-gb-per-s and --dense-tflops: both are needed")
    if all(given):
        return Card(*given, model)
    key = options.card or find_card(str(points.machine.get("gpu", "")))
    if key is None:
        return None
    return Card(GPU_CARDS[key].bandwidth_gb_per_s, GPU_CARDS[key].dense_tflops, model, key)


def _name(grid: str, points: Points) -> str:
    path = Path(grid)
    # A folder of mbexp.measure is named for the GPU and the model; its files always have the same names.
    name = path.resolve().parent.name if points.machine else path.stem
    return "".join(letter if letter.isalnum() else "_" for letter in name).strip("_").lower()


if __name__ == "__main__":
    as_program(main)
