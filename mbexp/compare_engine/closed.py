"""Closed loops as public benchmarks run them: so many users, requests of one size, and the mean time per token."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mbexp.cli.composed import composed
from mbexp.config.keys import Config
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

    Parameters
    ----------
    overrides
        As of mbexp: gpu=..., execution=..., scheduler=... .
    concurrency
        Users, each of whom sends the next request at once when the last is answered.

    Raises
    ------
    UserError
        As on the command line, and as `loop_tpot_ms`.
    """
    return loop_tpot_ms(loop_config(overrides), concurrency, prompt_tokens, output_tokens, requests_a_user)


def loop_config(overrides: Sequence[str]) -> Config:
    """Return an engine as overrides say it, serving a closed loop; `loop_tpot_ms` gives the loop its sizes."""
    lengths = ("prompt", "output")
    constants = [f"workload.{name}.{pair}" for name in lengths for pair in ("kind=constant", "value_tokens=2")]
    closed = ("workload=synthetic", "workload.arrivals.kind=closed", "workload.arrivals.users=1")
    return composed(["num_gpus=1", "bins=none", *closed, *constants, *overrides])


def loop_tpot_ms(
    config: Config,
    concurrency: int,
    prompt_tokens: int,
    output_tokens: int,
    requests_a_user: int = REQUESTS_A_USER,
) -> float:
    """Return the mean TPOT, a value a request, of a closed loop on the engine of `loop_config`.

    The first request of each user, which all send at once, and the last, beside which fewer and fewer run, are left
    out: they are of a loop that is not steady.

    Raises
    ------
    UserError
        Where an output of one token has no time per token, and where every request would be a first or a last one.
    """
    if requests_a_user < 3:
        raise UserError(f"requests_a_user={requests_a_user}: the first and the last are left out; take three or more")
    if output_tokens < 2:
        raise UserError(f"output_tokens={output_tokens}: a time per token needs two tokens or more")
    workload = dataclasses.replace(
        config.workload,
        arrivals=dataclasses.replace(config.workload.arrivals, users=concurrency),
        prompt=dataclasses.replace(config.workload.prompt, value_tokens=prompt_tokens),
        output=dataclasses.replace(config.workload.output, value_tokens=output_tokens),
    )
    outcome = run(dataclasses.replace(config, num_requests=requests_a_user * concurrency, workload=workload)).outcome
    steady = slice(concurrency, -concurrency)
    decode_s = (outcome.finish_s - outcome.first_token_s)[steady]
    return float(1e3 * np.mean(decode_s) / (output_tokens - 1))
