"""The continuous event loop with an order inside queues: compiled by the first run that has one."""

from __future__ import annotations

from mbexp.compiled.decorators import compiled
from mbexp.simulator.continuous.layout import RUN_TYPE
from mbexp.simulator.continuous.loop import signature
from mbexp.simulator.continuous.order import ORDER_TYPE
from mbexp.simulator.continuous.ordered import run_in_order

run_until_served = compiled(signature(RUN_TYPE, *ORDER_TYPE), _nrt=False)(run_in_order)
