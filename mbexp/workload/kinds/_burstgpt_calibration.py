"""Figures that the BurstGPT-like generator is calibrated to: aggregates of BurstGPT file 1, and fits to them.

Published aggregates come from the complete file (github.com/HPMLL/BurstGPT, CC-BY-4.0) and its paper (arXiv
2401.17644); what is marked "fit" was chosen so that generated traces reproduce them, and was never measured.
"""

from __future__ import annotations

import numpy as np

from mbexp.workload.trace import FloatArray


def _numbers(text: str) -> FloatArray:
    return np.array(text.split(), dtype=np.float64)


DAYS = 61
FIRST_WEEKEND_DAY = 3  # day 0 is probably a Wednesday, so days 3 and 4 of each week are the weekend

# conversations: a renewal process whose rate follows the hour of the day (fit)
CONVERSATION_RATE_PER_S = 0.0281
CONVERSATION_GAMMA_SHAPE = 1.0
WEEKEND_FACTOR = 0.6
DRIFT_STEP_S, DRIFT_SIGMA, DRIFT_RHO = 1200, 0.45, 0.6  # log-AR(1) factor, one value every 20 minutes
CONVERSATION_PROFILE = _numbers(  # hours 0-23, mean 1; hour 6 raised from .009, which would empty it
    "0.522 0.334 0.221 0.105 0.059 0.052 0.02 0.053 0.291 1.08 1.747 2.171 "
    "0.942 1.011 1.719 2.292 2.058 1.656 1.055 1.287 1.594 1.488 1.241 1.012"
)

# API traffic: jobs of many requests each (fit)
API_REQUESTS = 1_278_587  # in 61 days
API_JOBS_PER_DAY = 7.0
API_JOB_SIGMA = 2.03  # lognormal sizes
API_JOB_LARGEST = 149_500  # requests of the busiest day of file 1; else one job in some seeds is half the trace
API_RATE_LIMIT_PER_S = 13.1
API_RATE_LOG_MEAN, API_RATE_LOG_SIGMA, API_RATE_SIZE_POWER = -0.853, 1.275, 0.3
API_BACKGROUND_PER_S = 1.6e-5
ALL_TRAFFIC_PROFILE = _numbers(  # hours 0-23, mean 1
    "0.963 0.914 0.585 0.525 0.377 0.350 0.198 0.157 0.182 0.426 0.900 1.317 "
    "1.786 1.537 1.839 1.435 1.511 1.388 1.210 1.605 1.385 1.203 1.156 1.050"
)

# outages: no arrival at all; with the quiet nights they make the 49 gaps of over an hour of file 1 (fit)
OUTAGES = 40
OUTAGE_SHORTEST_S, OUTAGE_MEAN_EXCESS_S = 3600.0, 2500.0

# share of GPT-4 and of failures (rows of 0 tokens), and the rank correlation of request and response lengths (fit)
GPT4_SHARE = {"conversation": 0.32, "api": 0.134}
FAILURE_SHARE = {"conversation": 0.045, "api": 0.0145}
LENGTH_CORRELATION = 0.30

# quantiles of lengths in tokens; between them the logarithm is linear in the normal score
QUANTILES = {
    "conversation": {
        "probability": _numbers(
            "0 0.01 0.025 0.05 0.1 0.15 0.2 0.25 0.3 0.35 0.4 0.45 0.5 0.55 0.6 "
            "0.65 0.7 0.75 0.8 0.85 0.9 0.925 0.95 0.97 0.98 0.99 0.995 0.999 1"
        ),
        "request": _numbers(
            "9 11.6 15 18 23 33 42 68 99 140 200 263 352 428 509 "
            "601 752 916 1036 1276 1437 1539.5 1639 1783 1859 1958.4 1994.1 2076.2 2126"
        ),
        "response": _numbers(
            "2 4.8 11 14 19 30 45 67 90 129 181 211 239 267 297 "
            "327 353 385 427 495 586 655 845 1062.4 1287.6 1425.2 1680.7 1974.9 2019"
        ),
    },
    "api": {
        "probability": _numbers("0 0.01 0.05 0.1 0.25 0.4 0.5 0.6 0.75 0.85 0.9 0.95 0.98 0.99 0.995 0.999 1"),
        "request": _numbers(
            "5 21.9 54.1 78.4 150.2 195.5 253.5 384.2 756.6 1420.4 1953.5 2524.2 2816.6 3179.8 3623.7 5304.9 29665"
        ),
        "response": _numbers(
            "1 1.5 2.5 3.2 6.5 15.4 29.0 50.8 112.8 179.2 237.3 390.2 777.7 1269.5 1890.0 3389.2 7315"
        ),
    },
}
