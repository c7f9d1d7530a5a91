"""How well an interpolated law predicts points it was not given."""

from __future__ import annotations

import dataclasses

import numpy as np

from mbexp.errors import UserError
from mbexp.fit.robust import Errors, errors
from mbexp.hardware.grid import LatencyGrid


def left_out_errors(grid: LatencyGrid) -> Errors | None:
    """Predict every inner point of the grid from a table made without it.

    Points of the outermost batch sizes and lengths are not left out: a law has no say beyond its grid. None where the
    grid has no inner point.
    """
    from mbexp.hardware.laws.grid_interpolation import grid_interpolation, tabulate

    inner = (
        (grid.batch_size > grid.batch_size.min())
        & (grid.batch_size < grid.batch_size.max())
        & (grid.length_tokens > grid.length_tokens.min())
        & (grid.length_tokens < grid.length_tokens.max())
    )
    seconds, predicted_s = [], []
    for point in np.flatnonzero(inner):
        keep = np.arange(len(grid)) != point
        rest = dataclasses.replace(
            grid, batch_size=grid.batch_size[keep], length_tokens=grid.length_tokens[keep], mean_s=grid.mean_s[keep]
        )
        try:
            parameters = np.concatenate([[1.0], tabulate(rest)[0]])
        except UserError:  # too little left
            continue
        length = int(grid.length_tokens[point])
        seconds.append(grid.mean_s[point])
        predicted_s.append(grid_interpolation(parameters, int(grid.batch_size[point]), 0, 0, length, 0, 0)[0])
    return errors(np.array(seconds), np.array(predicted_s)) if seconds else None
