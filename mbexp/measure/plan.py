"""Which points to measure: sizes and lengths of prefills, decode steps and whole static batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PHASES = ("prefill", "decode", "static")


@dataclass(frozen=True)
class Point:
    """One thing to time.

    Attributes
    ----------
    phase : str
        ``prefill``: `batch_size` prompts of `prompt_tokens`, to the first token of each. ``decode``: one step of
        `batch_size` sequences, the new token of each attending to `context_tokens`, itself included. ``static``: a
        batch prefilled at `prompt_tokens` and decoded until each member has `output_tokens`.
    """

    phase: str
    batch_size: int
    prompt_tokens: int = 0
    output_tokens: int = 0
    context_tokens: int = 0

    @property
    def longest_tokens(self) -> int:
        """Tokens of KV cache that one member needs at the end."""
        return max(self.prompt_tokens + self.output_tokens, self.context_tokens)

    def covers(self, other: Point) -> bool:
        """Return whether this point needs at least the memory of `other`."""
        return (
            self.phase == other.phase
            and self.batch_size >= other.batch_size
            and self.prompt_tokens >= other.prompt_tokens
            and self.longest_tokens >= other.longest_tokens
        )

    def __str__(self) -> str:
        lengths = {
            "prefill": f"prompt {self.prompt_tokens}",
            "decode": f"context {self.context_tokens}",
            "static": f"prompt {self.prompt_tokens} + output {self.output_tokens}",
        }
        return f"{self.phase} {self.batch_size} x {lengths[self.phase]}"


def make_plan(
    phases: Sequence[str] = PHASES,
    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
    lengths: Sequence[int] = (128, 256, 512, 1024, 2048),
    prefill_sequences: Sequence[int] = (1, 2, 4, 8),
    prompt_share: float = 0.25,
    longest_tokens: int = 40_960,
) -> list[Point]:
    """Return the points, cheap phases first, each phase from small to large.

    Parameters
    ----------
    batch_sizes
        Of decode steps and static batches.
    lengths
        Prompts of prefills, contexts of decode steps, and prompt + output of static batches.
    prefill_sequences
        Prompts that a prefill holds.
    prompt_share
        Share of a static batch's length that is prompt.
    longest_tokens
        Longest context of the model; longer points are left out.
    """
    points = []
    lengths = sorted({length for length in lengths if length <= longest_tokens})
    if "prefill" in phases:
        points += [Point("prefill", s, prompt_tokens=n) for s in sorted(set(prefill_sequences)) for n in lengths]
    if "decode" in phases:
        points += [Point("decode", b, context_tokens=n) for b in sorted(set(batch_sizes)) for n in lengths]
    if "static" in phases:
        for b in sorted(set(batch_sizes)):
            for n in lengths:
                prompt = min(max(1, round(prompt_share * n)), n - 1)
                if n > 1:
                    points.append(Point("static", b, prompt_tokens=prompt, output_tokens=n - prompt))
    return points
