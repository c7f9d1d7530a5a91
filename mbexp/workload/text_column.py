"""A column of text as small whole numbers, and what they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TextColumn:
    """Codes of a text column, -1 where blank, and the texts behind them in order of first appearance."""

    codes: Array
    texts: tuple[str, ...]


class TextEncoder:
    """Gives one code to each different text over all pieces of a column."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {"": -1}

    def encode(self, codes: Array, texts: list[str]) -> Array:
        """Return the codes over all pieces for the codes of one piece, whose code i stands for ``texts[i]``."""
        if not texts:
            return np.full(len(codes), -1, np.int32)
        mapped = np.empty(len(texts), np.int32)
        for index, text in enumerate(texts):
            text = text.strip()
            mapped[index] = self.known.setdefault(text, len(self.known) - 1)
        return mapped[codes]

    def finish(self, codes: Array) -> TextColumn:
        """Return the whole column, its codes as small as they can be."""
        texts = tuple(text for text in self.known if text)
        small = np.int8 if len(texts) < 128 else np.int16 if len(texts) < 32768 else np.int32
        return TextColumn(codes.astype(small), texts)
