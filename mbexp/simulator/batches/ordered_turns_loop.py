"""The batch loop with an order inside queues and turns of conversations: compiled by the first run that has both."""

from __future__ import annotations

from mbexp.compiled.decorators import compiled
from mbexp.simulator.batches.loop import signature
from mbexp.simulator.batches.order import ORDER_TYPE
from mbexp.simulator.batches.ordered import serve_in_order
from mbexp.simulator.batches.turns import TURNS_TYPE

run = compiled(signature(TURNS_TYPE, *ORDER_TYPE), _nrt=False)(serve_in_order)
