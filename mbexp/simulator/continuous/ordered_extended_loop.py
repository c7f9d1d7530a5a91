"""The continuous event loop with an order inside queues and turns or a prefix cache: compiled by the first such run."""

from __future__ import annotations

from mbexp.compiled.decorators import compiled
from mbexp.simulator.continuous.extended import EXTENDED_RUN_TYPE
from mbexp.simulator.continuous.loop import signature
from mbexp.simulator.continuous.order import ORDER_TYPE
from mbexp.simulator.continuous.ordered import run_in_order

run_until_served = compiled(signature(EXTENDED_RUN_TYPE, *ORDER_TYPE), _nrt=False)(run_in_order)
