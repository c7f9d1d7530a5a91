"""The continuous event loop of a run whose requests come from a trace, or from users of a closed loop."""

from __future__ import annotations

from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.simulator.continuous.layout import RUN_TYPE
from mbexp.simulator.continuous.loop import run_until_served as body
from mbexp.simulator.continuous.loop import signature

run_until_served = compiled(signature(RUN_TYPE, types.none), _nrt=False, no_cfunc_wrapper=True)(body)
