"""The orders of a queue in plain Python, written from docs/semantics/order.md, for both reference simulators."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbexp.simulator.order import Claims

CHANGING = ("vtc", "hrrn", "sjf_ageing_discount", "sjf_ageing_weighted")


@dataclass(frozen=True)
class Claim:
    """What one request brings into an order."""

    service: float
    limit: float
    priority: float
    of_class: int
    weights: tuple[float, ...]


def size_of(request: Any, by: str) -> float:
    return {
        "prompt": request.prompt,
        "output": request.predicted,
        "total": request.prompt + request.predicted,
        "service": request.claim.service,
    }[by]


def key_of(name: str, by: str, parameters: dict[str, float]) -> Callable[[float, Any], float] | None:
    """The key of a request under a named order; the smallest goes first."""

    def waited(now: float, request: Any) -> float:
        return now - request.joined

    def ratio(now: float, request: Any) -> float:
        service = request.claim.service
        return math.inf if service <= 0 else (waited(now, request) + service) / service

    def given(key: str, usual: float) -> float:
        return parameters.get(key, usual)

    def weighted(now: float, request: Any) -> float:
        w = given("weight", 0.5)
        short = w / (1 + size_of(request, by) / given("size_scale", 32768))
        return short + (1 - w) * waited(now, request) / given("wait_scale_s", 5)

    return {
        "fifo": None,
        "lcfs": lambda now, r: -r.joined,
        "sjf": lambda now, r: size_of(r, by),
        "srpt": lambda now, r: r.predicted - getattr(r, "emitted", 0),
        "attained": lambda now, r: r.emitted,
        "priority": lambda now, r: r.claim.priority,
        "vtc": lambda now, r: r.class_service(),
        "edf": lambda now, r: r.joined + r.claim.limit,
        "hrrn": lambda now, r: -ratio(now, r),
        "sjf_ageing": lambda now, r: size_of(r, by) + given("ageing_per_s", 100) * r.joined,
        "sjf_ageing_discount": lambda now, r: (
            size_of(r, by) * max(0.0, 1 - given("ageing_share_per_s", 0.1) * waited(now, r))
        ),
        "sjf_ageing_weighted": lambda now, r: -weighted(now, r),
    }[name.rpartition(".")[2]]


def drawn_claims(count: int, seed: int) -> Claims:
    """Claims with many ties, from one seed."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 16]))
    return Claims(
        service_s=random.choice([0.5, 1.0, 2.0, 0.3, 7.0], count),
        limit_s=random.choice([0.5, 1.0, 20.0], count),
        priority=random.integers(0, 3, count).astype(float),
        of_class=random.integers(0, 3, count).astype(np.int32),
        weights=random.choice([1.0, 2.0, 3.0], 3),
    )


def claim_of(claims: Claims, place: int) -> Claim:
    return Claim(float(claims.service_s[place]), float(claims.limit_s[place]), float(claims.priority[place]),
        int(claims.of_class[place]), tuple(claims.weights.tolist()),
    )  # fmt: skip
