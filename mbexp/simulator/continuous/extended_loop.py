"""The continuous event loop of a run with conversations: compiled by the first run that has any."""

from __future__ import annotations

from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.simulator.continuous.extended import EXTENDED_RUN_TYPE
from mbexp.simulator.continuous.loop import run_until_served as body
from mbexp.simulator.continuous.loop import signature

run_until_served = compiled(signature(EXTENDED_RUN_TYPE, types.none), _nrt=False, no_cfunc_wrapper=True)(body)
