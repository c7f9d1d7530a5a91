"""The original's law with coefficients fitted, by least squares, to a latency grid."""

from __future__ import annotations

import numpy as np

from mbexp.config.gpu_keys import GpuConfig
from mbexp.errors import UserError
from mbexp.hardware.grid import LatencyGrid, generated_reasons, read_grid
from mbexp.hardware.law import LatencyLaw
from mbexp.hardware.laws.affine import affine_law

KEYS = ("path",)


def fit_affine(grid: LatencyGrid) -> tuple[float, float, float]:
    """Return (alpha_s, beta_s, gamma) of T = alpha + beta L (1 + gamma (b - 1) / b), none of them negative.

    The law is linear in alpha, beta and beta gamma, so ordinary least squares with non-negative coefficients has one
    answer and no starting point.
    """
    from scipy.optimize import nnls

    length = grid.length_tokens.astype(np.float64)
    columns = np.stack([np.ones(len(grid)), length, length * (grid.batch_size - 1) / grid.batch_size], axis=1)
    scale = columns.max(axis=0)
    alpha_s, beta_s, slope_s = nnls(columns / scale, grid.mean_s)[0] / scale
    if beta_s <= 0:
        raise UserError(f"{grid.source}: the times do not grow with the length, so the affine law does not fit them")
    return float(alpha_s), float(beta_s), float(slope_s / beta_s)


def grid_provenance(grid: LatencyGrid, verb: str) -> str:
    """Return where a law comes from that was `verb` (fitted to, interpolated from) a grid."""
    kind = "a grid that looks generated" if generated_reasons(grid) else "the grid"
    return f"{verb} {kind} {grid.source}"


def read_law_grid(gpu: GpuConfig) -> LatencyGrid:
    """Return the grid that ``gpu.law.path`` names."""
    if gpu.law.path is None:
        raise UserError(f"gpu.law.path=null: gpu.law.kind={gpu.law.kind} needs a latency grid, a CSV file")
    return read_grid(gpu.law.path)


def build(gpu: GpuConfig) -> LatencyLaw:
    """Return the affine law fitted to the grid of ``gpu.law.path``, supported over the range of the grid."""
    grid = read_law_grid(gpu)
    return affine_law(
        gpu,
        *fit_affine(grid),
        grid_provenance(grid, "fitted to"),
        batch_size_range=grid.batch_size_range,
        length_range_tokens=grid.length_range_tokens,
        notes=grid.notes,
    )
