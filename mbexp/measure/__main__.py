"""``python -m mbexp.measure``: time Qwen3-1.7B, with random weights, on this machine's GPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mbexp.config.cards import MODEL_CARDS
from mbexp.errors import UserError, as_program, unknown_choice
from mbexp.measure.plan import PHASES, Point, make_plan


def parser() -> argparse.ArgumentParser:
    """Return the command line's arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m mbexp.measure",
        description="Time prefills, decode steps and whole batches on this machine's GPU. Stored after every point; "
        "the same command goes on where it stopped. No clock, power or mode of the card is changed.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_engine_arguments(arguments)
    arguments.add_argument("--phases", type=_words, default=",".join(PHASES), help="what to time")
    arguments.add_argument("--batch-sizes", type=_numbers, default="1,2,4,8,16,32,64,128", help="of decode and static")
    arguments.add_argument("--lengths", type=_numbers, default="128,256,512,1024,2048",
                           help="prompts of prefill, contexts of decode, prompt + output of static")  # fmt: skip
    arguments.add_argument("--prefill-sequences", type=_numbers, default="1,2,4,8", help="prompts in a prefill")
    arguments.add_argument(
        "--prompt-share", type=float, default=0.25, help="of static: share of the length that is prompt"
    )
    arguments.add_argument("--repeats", type=int, default=20, help="timed runs of a point")
    arguments.add_argument("--seconds-per-point", type=float, default=10.0, help="no new run after this, from three on")
    arguments.add_argument("--out", help="folder (default: outputs/measurements/GPU_MODEL)")
    return arguments


def add_engine_arguments(arguments: argparse.ArgumentParser) -> None:
    """Add what says how the model runs, which `mbexp.replay` shares."""
    arguments.add_argument("--model", default="qwen3_1_7b", help=f"architecture: {', '.join(MODEL_CARDS)}")
    arguments.add_argument(
        "--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16", help="of weights and cache"
    )
    arguments.add_argument("--device", default="cuda", help="cuda, or cpu to try the instrument")
    arguments.add_argument("--cuda-graphs", choices=("on", "off"), help="capture decode steps (default: on, on a GPU)")


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = parser().parse_args(argv)
    try:
        _run(options)
    except UserError as error:
        sys.exit(f"mbexp.measure: {error}")


def _run(options: argparse.Namespace) -> None:
    if options.model not in MODEL_CARDS:
        raise unknown_choice("--model", options.model, MODEL_CARDS)
    for phase in options.phases:
        if phase not in PHASES:
            raise unknown_choice("--phases", phase, PHASES)
    if not 0 <= options.prompt_share < 1:
        raise UserError(f"--prompt-share={options.prompt_share}: must be at least 0 and below 1")
    if options.repeats < 1:
        raise UserError(f"--repeats={options.repeats}: must be at least 1")
    card = MODEL_CARDS[options.model]
    points = make_plan(options.phases, options.batch_sizes, options.lengths, options.prefill_sequences,
                       options.prompt_share, card.longest_context_tokens)  # fmt: skip
    if not points:
        raise UserError(f"--lengths: none within the {card.longest_context_tokens} tokens of {options.model}")

    from mbexp.measure.engine import TorchEngine, check_device
    from mbexp.measure.machine import describe
    from mbexp.measure.session import measure
    from mbexp.measure.store import Store

    check_device(options.device)
    graphs = uses_graphs(options)
    machine = describe(options.model, card, options.dtype, options.device, graphs)
    store = Store(Path(options.out) if options.out else _folder(machine["gpu"], options.model, graphs), machine)
    left = [point for point in points if point not in store.done]
    print(f"{machine['gpu']}, {card.name}, {machine['engine']}")
    print(f"{len(left)} of {len(points)} points to time -> {store.folder}/")
    if left:
        engine = TorchEngine(card, options.dtype, options.device, graphs)
        from tqdm import tqdm

        with tqdm(total=len(left), unit="point", smoothing=0) as bar:

            def show(point: Point) -> None:
                bar.set_postfix_str(str(point), refresh=False)
                bar.update(left.index(point) - bar.n)
                bar.refresh()

            try:
                measure(left, engine, store, options.repeats, options.seconds_per_point, show=show)
                bar.update(len(left) - bar.n)
            except KeyboardInterrupt:
                bar.close()
                print("interrupted; what was timed is stored, and the same command goes on", file=sys.stderr)
                sys.exit(130)
    lost = len(store.out_of_memory)
    print(f"{len(store.done) - lost} points timed" + (f", {lost} beyond the memory" if lost else ""))
    print(f"next: python -m mbexp.fit {store.folder / 'points.csv'}")


def uses_graphs(options: argparse.Namespace) -> bool:
    """Return whether to use CUDA graphs: as asked, else where there is a GPU."""
    return bool(options.cuda_graphs == "on" or (options.cuda_graphs is None and options.device.startswith("cuda")))


def _folder(gpu: str, model: str, graphs: bool) -> Path:
    from mbexp.config.cards import find_card

    name = find_card(gpu) or "".join(letter if letter.isalnum() else "_" for letter in gpu.lower()).strip("_")
    return Path("outputs", "measurements", f"{name}_{model}" + ("" if graphs else "_no_graphs"))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    numbers = [int(word) for word in _words(text)]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError("must be whole numbers above zero, such as 1,2,4")
    return numbers


if __name__ == "__main__":
    as_program(main)
