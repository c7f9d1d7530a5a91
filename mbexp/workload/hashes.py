"""Reads the blocks of prompts that a trace names, one list a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError
from mbexp.workload.prefixes import HashBlocks
from mbexp.workload.sources import open_source, shown

Hashes = dict[str, npt.NDArray[Any]]  # first and count of each row, all ids, and the tokens of a block


def read_hashes(path: Path, name: str, wanted: Sequence[str], block_tokens: int) -> Hashes:
    """Return the lists of whole numbers that a field of each record holds; none where a record lacks it.

    Raises
    ------
    UserError
        Naming the file and the record whose field is something else.
    """
    ids: list[int] = []
    count: list[int] = []
    for place, record in open_source(path, wanted).cells():
        found = record.get(name)
        if found is None:
            found = []
        if not isinstance(found, list) or any(isinstance(each, bool) or not isinstance(each, int) for each in found):
            raise UserError(f"{path} {place}: '{name}' is {shown(found)}, not a list of whole numbers")
        ids += found
        count.append(len(found))
    if not ids:
        return {}  # a file of this form without them
    counts = np.array(count, np.int32)
    try:
        flat = np.array(ids, np.int64)
    except OverflowError:  # only which are equal matters
        flat = np.unique(np.array(ids, object), return_inverse=True)[1].astype(np.int64)
    return {
        "first": np.cumsum(counts, dtype=np.int64) - counts,
        "count": counts,
        "ids": flat,
        "block_tokens": np.array([block_tokens], np.int64),
    }


def chosen_hashes(hashes: Hashes, chosen: Any) -> Hashes:
    """Return those of some of the rows."""
    return {**hashes, "first": hashes["first"][chosen], "count": hashes["count"][chosen]} if hashes else hashes


def fitting_blocks(
    hashes: Hashes, prompt: npt.NDArray[np.int32], changed: dict[str, int], notes: list[str]
) -> HashBlocks | None:
    """Return the blocks of prompts; names beyond a prompt are cut, and prompts with too few of them counted."""
    if not hashes:
        return None
    block_tokens = int(hashes["block_tokens"][0])
    most = -(-prompt.astype(np.int64) // block_tokens)
    count = np.array(hashes["count"])
    short, long = int(np.count_nonzero(count < most)), int(np.count_nonzero(count > most))
    if short:
        changed["hash_ids_short"] = short
        who = "1 prompt is longer than its" if short == 1 else f"{short:,} prompts are longer than their"
        notes.append(f"{who} hash_ids say: the rest of each is shared with nobody")
    if long:
        changed["hash_ids_long"] = long
        who = "1 prompt is shorter than its" if long == 1 else f"{long:,} prompts are shorter than their"
        notes.append(f"{who} hash_ids say: the ids beyond are left out")
    first = np.array(hashes["first"])
    return HashBlocks(first, np.minimum(count, most).astype(np.int32), np.array(hashes["ids"]), block_tokens)
