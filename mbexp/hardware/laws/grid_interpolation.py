"""A law that interpolates a latency grid: through its points, never falling with batch or length, never below 0."""

from __future__ import annotations

import numpy as np

from mbexp.config.gpu_keys import GpuConfig
from mbexp.errors import UserError
from mbexp.hardware.grid import LatencyGrid
from mbexp.hardware.law import FloatArray, IterationFunction, LatencyLaw, Price, batch_price
from mbexp.hardware.laws.grid_fit import grid_provenance, read_law_grid

KEYS = ("path",)

# Between two lengths of the grid the curve is stored at this many equal steps, and is straight within one.
STEPS = 8
# The last stored length, reached from the grid's longest by its last slope.
FAR_TOKENS = 2.0**31


@batch_price
def grid_interpolation(parameters, batch_size, longest_prompt, longest_output, longest_total, sum_prompt, sum_output):  # type: ignore[no-untyped-def]
    """Look a batch up.

    Parameters: 1 where L is prompt + output (0 where it is the output); the largest batch size n of the grid; the share
    that one more member adds beyond it; the number m of stored lengths; 1 / width and number of the index cells; for
    each cell the last stored length at or below its start; the m lengths, from 0; the m - 1 reciprocals of their gaps
    and a 0; for each batch size 1 .. n its m times.

    The time to the first token is the time at length 0; the time between tokens is the rest, divided by the length.
    """
    length = float(longest_total if parameters[0] > 0.5 else longest_output)
    largest = int(parameters[1])
    m = int(parameters[3])
    cells = int(parameters[5])
    lengths = 6 + cells
    # A cell is no wider than a gap, so the length lies in the gap found or in the next.
    low = int(parameters[6 + min(int(length * parameters[4]), cells - 1)])
    low = min(low + int(parameters[lengths + low + 1] <= length), m - 2)
    weight = (length - parameters[lengths + low]) * parameters[lengths + m + low]
    row = lengths + m + m * min(batch_size, largest)
    first_s = parameters[row]
    service_s = parameters[row + low] + weight * (parameters[row + low + 1] - parameters[row + low])
    factor = 1.0 + parameters[2] * max(batch_size - largest, 0)
    return service_s * factor, first_s * factor, (service_s - first_s) * factor / length


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the law that interpolates the grid of ``gpu.law.path``, supported over the range of the grid."""
    grid = read_law_grid(gpu)
    table, note = tabulate(grid)
    counts_prompt = gpu.law.length == "prompt_plus_output"
    batch = Price(grid_interpolation, np.concatenate([[float(counts_prompt)], table]), rising=True)
    iteration_note = (
        "a grid of whole batches, taken iteration by iteration: a step takes what the grid rises by at its length"
        f"{', and a prompt token as much' if counts_prompt else ''}"
    )

    def iteration() -> Price[IterationFunction]:
        from mbexp.hardware.iteration_table import table_of_whole_batches

        sizes = np.arange(1.0, max(2, grid.batch_size_range[1]) + 1)
        return table_of_whole_batches(batch, sizes, stored_lengths(batch.parameters)).price((iteration_note,))

    return LatencyLaw.configured(
        gpu,
        grid_provenance(grid, "interpolated from"),
        batch,
        iteration,
        batch_size_range=grid.batch_size_range,
        length_range_tokens=grid.length_range_tokens,
        notes=(*grid.notes, *note),
    )


def stored_lengths(parameters: FloatArray) -> FloatArray:
    """Return the lengths that the times of a table are stored at, but the far one."""
    first = 6 + int(parameters[5])
    return parameters[first : first + int(parameters[3]) - 1]


def tabulate(grid: LatencyGrid) -> tuple[FloatArray, list[str]]:
    """Return the parameters of `grid_interpolation` but the first, and what a reader must know of them.

    The points are made monotone in both directions by isotonic regression (least squares), which leaves points that
    are monotone already as they are; then curves without overshoot (PCHIP) are laid along lengths and batch sizes.
    Where curves would cross between points, the larger holds.

    Beyond the grid: the slope between the last two lengths continues; beyond the largest batch all times grow by the
    mean share that a member added between the last two; below the smallest batch its time holds.
    """
    from scipy.interpolate import PchipInterpolator

    sizes, lengths, times, note = _rectangle(grid)
    monotone = _isotonic(times)
    change = float(np.max(np.abs(monotone / times - 1)))
    if change > 1e-9:
        note.append(f"{grid.source}: times that fell with batch or length were made monotone, by up to {change:.1%}")
    slope = np.diff(monotone, axis=1) / np.diff(lengths)
    at_zero = np.clip(monotone[:, 0] - slope[:, 0] * lengths[0], 0.0, monotone[:, 0])
    far = monotone[:, -1] + slope[:, -1] * (FAR_TOKENS - lengths[-1])
    knots = np.concatenate([[0.0], lengths])
    values = np.concatenate([at_zero[:, None], monotone], axis=1)
    fine = np.interp(np.arange(STEPS * (len(knots) - 1) + 1) / STEPS, np.arange(len(knots)), knots)
    fine = np.unique(np.round(fine))  # lengths are whole tokens
    rows = np.concatenate([PchipInterpolator(knots, values, axis=1)(fine), far[:, None]], axis=1)
    every_size = np.clip(np.arange(1, int(sizes[-1]) + 1), sizes[0], None)
    table = PchipInterpolator(sizes, np.maximum.accumulate(rows, axis=0), axis=0)(every_size)
    table = np.maximum.accumulate(np.maximum.accumulate(table, axis=0), axis=1)
    share = (1 - monotone[-2].sum() / monotone[-1].sum()) / (sizes[-1] - sizes[-2])
    width = 2.0 ** np.floor(np.log2(np.min(np.diff(fine))))  # a power of two, so that cell numbers are exact
    index = np.searchsorted(fine, width * np.arange(int(fine[-1] / width) + 1), side="right") - 1
    stored = np.append(fine, FAR_TOKENS)
    head = [sizes[-1], share, len(stored), 1 / width, len(index)]
    return np.concatenate([head, index, stored, 1 / np.diff(stored), [0.0], table.ravel()]), note


def _rectangle(grid: LatencyGrid) -> tuple[FloatArray, FloatArray, FloatArray, list[str]]:
    """Return batch sizes, lengths and the full rectangle of times.

    A point missing at an end of its row (out of memory, most often) takes the shape of the row of the next smaller
    batch; in the smallest batch's row the slope continues.
    """
    lengths = np.unique(grid.length_tokens).astype(np.float64)
    sizes: list[float] = []
    rows: list[FloatArray] = []
    dropped = []
    for size in np.unique(grid.batch_size):
        here = grid.batch_size == size
        known, times = grid.length_tokens[here].astype(np.float64), grid.mean_s[here]
        if here.sum() < 2:
            dropped.append(str(size))
            continue
        row = np.interp(lengths, known, times)
        for end, inner, outside in ((-1, -2, lengths > known[-1]), (0, 1, lengths < known[0])):
            if rows:
                row[outside] = rows[-1][outside] * times[end] / rows[-1][lengths == known[end]]
            else:
                slope = (times[end] - times[inner]) / (known[end] - known[inner])
                continued = times[end] + slope * (lengths[outside] - known[end])
                row[outside] = np.clip(continued, times[0] * lengths[outside] / known[0] if end == 0 else 0.0, None)
        sizes.append(float(size))
        rows.append(row)
    if len(sizes) < 2:
        raise UserError(f"{grid.source}: interpolation needs two batch sizes with at least two lengths each")
    note = [f"{grid.source}: one length only at batch size {', '.join(dropped)}; left out"] if dropped else []
    return np.array(sizes), lengths, np.array(rows), note


def _isotonic(times: FloatArray) -> FloatArray:
    """Return `times` non-decreasing along both axes."""
    from scipy.optimize import isotonic_regression

    # Isotonic regression keeps the order of two sequences, so the second pass does not undo the first.
    by_length = np.array([isotonic_regression(row).x for row in times])
    return np.array([isotonic_regression(column).x for column in by_length.T]).T
