"""A number as a person reads it."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Return a number with three significant digits, a dash for what there is not."""
    if math.isnan(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{min(digits, 5)}f}"
    return f"{value:.3g}"


def mean_and_half(value: float, half: float) -> tuple[str, str]:
    """Return a mean and its half width, both with the decimals that two digits of the half width need.

    Powers of ten are written only where the mean has one, and then of both: ``69,454 ± 370``, never ``± 3.7e+02``.
    """
    if max(abs(value), half) >= 1e9 or max(abs(value), half) < 1e-4:
        return f"{value:.3g}", f"{half:.2g}"
    decimals = min(max(0, 1 - math.floor(math.log10(half))), 6) if half else 3
    # no more digits of the mean than are worth reading, however narrow the interval
    decimals = min(decimals, max(0, 5 - math.floor(math.log10(max(abs(value), half)))))
    text = f"{half:,.{decimals}f}"
    return f"{value:,.{decimals}f}", text if float(text.replace(",", "")) else f"{half:.1g}"
