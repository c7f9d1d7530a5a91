"""Closed loops as public benchmarks run them: so many users, requests of one size, and the mean time per token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbexp.cli.composed import composed
from mbexp.errors import UserError
from mbexp.run import run

REQUESTS_A_USER = 10  # as vllm bench serve and InferenceMAX are mostly called


def closed_loop_tpot_ms(
    overrides: Sequence[str],
    concurrency: int,
    prompt_tokens: int,
    output_tokens: int,
    requests_a_user: int = REQUESTS_A_USER,
) -> float:
    """Return the mean TPOT, a value a request, of a simulated closed loop on one engine.

    The first request of each user, which all send at once, and the last, beside which fewer and fewer run, are left
    out: they are of a loop that is not steady.

    Parameters
    ----------
    overrides
        As of mbexp: gpu=..., execution=..., scheduler=... .
    concurrency
        Users, each of whom sends the next request at once when the last is answered.

    Raises
    ------
    UserError
        As on the command line, where an output of one token has no time per token, and where every request would be a
        first or a last one.
    """
    if requests_a_user < 3:
        raise UserError(f"requests_a_user={requests_a_user}: the first and the last are left out; take three or more")
    if output_tokens < 2:
        raise UserError(f"output_tokens={output_tokens}: a time per token needs two tokens or more")
    lengths = [
        f"workload.{name}.{key}={value}"
        for name, tokens in (("prompt", prompt_tokens), ("output", output_tokens))
        for key, value in (("kind", "constant"), ("value_tokens", tokens))
    ]
    closed = ("workload=synthetic", "workload.arrivals.kind=closed", f"workload.arrivals.users={concurrency}")
    count = f"num_requests={requests_a_user * concurrency}"
    config = composed(["num_gpus=1", "bins=none", *closed, count, *lengths, *overrides])
    outcome = run(config).outcome
    steady = slice(concurrency, -concurrency)
    decode_s = (outcome.finish_s - outcome.first_token_s)[steady]
    return float(1e3 * np.mean(decode_s) / (output_tokens - 1))
