"""The batch loop with an order inside queues: compiled by the first run that has one."""

from __future__ import annotations

from numba import types

from mbexp.compiled.decorators import compiled
from mbexp.simulator.batches.loop import signature
from mbexp.simulator.batches.order import ORDER_TYPE
from mbexp.simulator.batches.ordered import serve_in_order

run = compiled(signature(types.none, *ORDER_TYPE), _nrt=False)(serve_in_order)
