"""``python -m mbexp.gpus``: lists the cards that ship, measured steps of an engine for a model on a GPU."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

from mbexp.config.cards import GPU_CARDS, MODEL_CARDS
from mbexp.config.compose import configure
from mbexp.config.gpu_keys import GpuConfig
from mbexp.errors import UserError, as_program
from mbexp.paths import config_dir

NARROW = 100  # columns below which the source of a card has a line of its own
CONTEXT = 1024  # tokens of each sequence in the steps shown

EPILOG = """A row is one engine: TP cards that hold the model together. num_gpus counts
engines. The price is that of one card: an engine costs TP times as much.
The columns b=1 and b=64 are decode steps of 1 and of 64 sequences of 1,024
tokens each, without the engine's own time on the host. The file of a card in
conf/gpu has the errors of its law."""


class Card(NamedTuple):
    """One shipped choice of ``gpu=``; steps in ms, price in USD for an hour of one of the cards."""

    name: str
    card: str
    model: str
    tensor_parallel: int
    kv_tokens: int
    step_1_ms: float
    step_64_ms: float
    price_per_hour: float | None
    source: str


def shipped_cards() -> list[Card]:
    """Return the choices of the group `gpu` whose law is that of a step, in order of model and card."""
    found = []
    for path in sorted((config_dir() / "gpu").glob("*.yaml")):
        if "kind: step" in path.read_text(encoding="utf-8"):
            found.append(card_of(configure(gpu=path.stem).gpu))
    return sorted(found, key=lambda row: (row.model, row.card, row.tensor_parallel))


def card_of(gpu: GpuConfig) -> Card:
    """Return what is shown of one choice."""
    from mbexp.hardware import build_law, kv_capacity_tokens

    law, tokens = build_law(gpu), CONTEXT
    return Card(
        name=gpu.name,
        card=GPU_CARDS[gpu.law.card].name.removeprefix("NVIDIA ") if gpu.law.card else "",
        model=MODEL_CARDS[gpu.law.model].name,
        tensor_parallel=gpu.law.tensor_parallel,
        kv_tokens=kv_capacity_tokens(gpu),
        step_1_ms=1e3 * law.decode_step_s(1, tokens),
        step_64_ms=1e3 * law.decode_step_s(64, 64 * tokens),
        price_per_hour=gpu.price_per_hour,
        source=law.provenance,
    )


def table(cards: Sequence[Card], width: int) -> list[str]:
    """Return the lines of the table, none longer than `width` where that is at least 80."""
    wide = width >= NARROW
    head = ("gpu=", "TP", "KV tokens", "b=1 ms", "b=64 ms", "USD/h", "card, source")
    rows = [
        (
            row.name,
            str(row.tensor_parallel),
            f"{row.kv_tokens:,}",
            f"{row.step_1_ms:.1f}",
            f"{row.step_64_ms:.1f}",
            "-" if row.price_per_hour is None else f"{row.price_per_hour:.2f}",
        )
        for row in cards
    ]
    sizes = [max(len(line[place]) for line in (head, *rows)) for place in range(6)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(f"{cell:<{size}}" if place == 0 else f"{cell:>{size}}" for place, (cell, size) in
                         enumerate(zip(cells, sizes, strict=False)))  # fmt: skip

    left = width - sum(sizes) - 12
    lines, title, source = [line(head[:6]) + (f"  {head[6]}" if wide else "")], "", ""
    for card, cells in zip(cards, rows, strict=True):
        if card.model != title:
            title = card.model
            lines += ["", title]
            source = ""
        if wide:
            lines.append(f"{line(cells)}  {_cut(f'{card.card}: {card.source}', left)}")
            continue
        lines.append(line(cells))
        if card.source != source:
            source = card.source
            lines.append(_cut(f"    {source}", width))
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def main(words: Sequence[str] | None = None) -> int:
    """List the cards; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m mbexp.gpus",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only choices whose name has it: h100, llama31_70b")
    asked = parser.parse_args(words).words
    try:
        cards = shipped_cards()
        chosen = [card for card in cards if all(word in card.name for word in asked)]
        if not chosen:
            raise UserError(f"{' '.join(asked)}: no card has it in its name; there are "
                            f"{', '.join(sorted({card.name.split('_')[0] for card in cards}))}")  # fmt: skip
    except UserError as error:
        print(f"mbexp.gpus: {error}", file=sys.stderr)
        return 1
    print("\n".join(table(chosen, shutil.get_terminal_size((80, 24)).columns)))
    print("\n" + EPILOG)
    return 0


if __name__ == "__main__":
    as_program(main)
