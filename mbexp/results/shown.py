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
