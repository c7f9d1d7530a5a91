"""The batch loop with turns of conversations: compiled by the first run that has any."""

from __future__ import annotations

from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.simulator.batches.loop import serve_all, signature
from mbexp.simulator.batches.turns import TURNS_TYPE

run = compiled(signature(TURNS_TYPE, types.none), _nrt=False, no_cfunc_wrapper=True)(serve_all)
