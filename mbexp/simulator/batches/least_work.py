"""A bound below the GPU time that requests need in batches, whatever the scheduler: at the cheapest size of each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from mbexp.compiled.decorators import compiled_late
from mbexp.hardware.law import LAW_TYPE, LatencyLaw
from mbexp.simulator.batches.outcome import BatchesOutcome
from mbexp.simulator.tally import tallied

PER_OCTAVE = 8  # lengths told apart in each octave
MOST_LOOKED_UP = 1 << 20  # tokens: up to here the place of each length is written down once
EVERY_SIZE = 256  # up to here each size is priced; larger ones in steps of a sixteenth


def least_work_s(records: BatchesOutcome, law: LatencyLaw, limit_max: int) -> float:
    """Return GPU-seconds below which no schedule of batches of at most `limit_max` serves the accepted requests.

    Take a batch of s members that holds request i. It costs at least the price of a batch of s with the lengths of i
    alone, since a rising price never falls as lengths are added. Its s members share that cost. So request i takes at
    least the least over s of that price divided by s. 0 where the price is not known to rise.
    """
    price = law.require_batch()
    if not price.rising or not len(records.arrival_s):
        return 0.0
    prompt, prompts = _shortened(records.prompt_tokens)
    output, outputs = _shortened(records.output_tokens)
    pairs, number = tallied(prompt.astype(np.int64) * len(outputs) + output)
    low, high = _sizes(limit_max)
    return float(
        _sum_of_least(
            price.function, price.parameters, prompts[pairs // len(outputs)], outputs[pairs % len(outputs)], number,
            low, high,
        )
    )  # fmt: skip


def _shortened(tokens: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Return for each length the place of the longest that is told apart and is not longer, and these lengths."""
    longest = int(tokens.max())
    octaves = longest.bit_length()
    lengths = np.unique(np.floor(2.0 ** (np.arange(octaves * PER_OCTAVE) / PER_OCTAVE)).astype(np.int64))
    if longest > MOST_LOOKED_UP:
        return (np.searchsorted(lengths, tokens, side="right") - 1).astype(np.int16), lengths
    place_of = (np.searchsorted(lengths, np.arange(longest + 1), side="right") - 1).astype(np.int16)
    return place_of[tokens], lengths


def _sizes(limit_max: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return ranges of batch sizes, first and last of each, that cover 1 to `limit_max`."""
    low = list(range(1, min(limit_max, EVERY_SIZE) + 1))
    while low[-1] < limit_max:
        low.append(min(low[-1] + max(low[-1] // 16, 1), limit_max))
    first = np.array(low, np.int64)
    return first, np.append(first[1:] - 1, limit_max)


_i8 = types.Array(types.int64, 1, "C")


@compiled_late(types.float64(LAW_TYPE, types.Array(types.float64, 1, "C"), *[_i8] * 5), _nrt=False)
def _sum_of_least(law, law_parameters, prompts, outputs, number, low, high):  # type: ignore[no-untyped-def]
    """Sum over lengths, each met `number` times, the least share of a batch of any size.

    Of a range of sizes the smallest is priced and the largest divides it, which is never too much.
    """
    total_s = 0.0
    for place in range(len(number)):
        prompt, output = prompts[place], outputs[place]
        least_s = np.inf
        for size in range(len(low)):
            service_s, _, _ = law(law_parameters, low[size], prompt, output, prompt + output, prompt, output)
            least_s = min(least_s, service_s / high[size])
        total_s += number[place] * least_s
    return total_s
