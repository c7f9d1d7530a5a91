"""A slip of units by 1,000 is told from what engines take from one token to the next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mbexp.errors import UserError

# Engines take 1 to 100 ms from one token to the next. A median outside of these bounds is a slip of a factor of 1,000.
FASTEST_S_PER_TOKEN, SLOWEST_S_PER_TOKEN = 1e-4, 2.5


def check_unit(path: str, what: str, seconds: npt.NDArray[np.float64]) -> None:
    """Check times of a decode step, or from token to token, by their median.

    Raises
    ------
    UserError
        Where the median is outside of what engines take; `what` names the times, "time of a decode step".
    """
    median_s = float(np.median(seconds))
    if not FASTEST_S_PER_TOKEN <= median_s <= SLOWEST_S_PER_TOKEN:
        slip = "too small" if median_s < FASTEST_S_PER_TOKEN else "too large"
        raise UserError(
            f"{path}: the median {what} is {median_s:.3g} s, {slip} for an engine by about 1,000: "
            "check the unit of the times (s, ms, us, ns)"
        )
