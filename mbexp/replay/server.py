"""Servers of a replay: the GPU behind PyTorch, and the latency law itself, which must give the simulation again."""

from __future__ import annotations

from mbexp.errors import UserError
from mbexp.hardware.law import LatencyLaw
from mbexp.measure.engine import TorchEngine
from mbexp.measure.plan import Point
from mbexp.measure.session import OutOfMemory
from mbexp.replay.clock import RealClock, VirtualClock
from mbexp.replay.loop import Batch, Server


def law_server(law: LatencyLaw, clock: VirtualClock) -> Server:
    """Return a server that takes the time of `law`."""

    def serve(batch: Batch) -> tuple[float, float]:
        service_s, first_token_s, step_s = law.service(
            batch.size,
            batch.longest_prompt,
            batch.longest_output,
            batch.longest_total,
            batch.sum_prompt,
            batch.sum_output,
        )
        clock.wait(clock.now() + service_s)
        return first_token_s, step_s

    return serve


def gpu_server(engine: TorchEngine, clock: RealClock) -> Server:
    """Return a server that runs each batch to completion, padded to its longest prompt and its longest output.

    Lengths are forced: no member stops early, so the work is the trace's. While buffers are allocated and decode steps
    captured, the clock is paused.
    """

    def serve(batch: Batch) -> tuple[float, float | None]:
        point = Point("static", batch.size, batch.longest_prompt, batch.longest_output)
        try:
            with clock.paused():
                engine.unload()
                run = engine.load_batch(point)
            first_token_s, decode_s = run()
        except OutOfMemory:
            raise UserError(
                f"the GPU has no memory for a batch of {point}: gpu.memory_gb and gpu.kv_bytes_per_token promise more "
                "than it holds"
            ) from None
        return first_token_s, decode_s / (batch.longest_output - 1) if batch.longest_output > 1 else None

    return serve
