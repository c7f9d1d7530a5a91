# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first simulation, and how to read it
#
# mbexp answers one question: which batching policy, and how many GPUs, meet a latency target? This page simulates one
# configuration, looks at it from the outside and from the inside, and ends with a comparison on the same requests.
#
# To run it: `pip install mbexp jupytext`, then `jupytext --to ipynb first_simulation.py` and open the result, or open
# this file with JupyterLab's jupytext extension.

# %%
import pandas as pd

from mbexp import load_trace, simulate
from mbexp.figures import draw

# %% [markdown]
# ## Requests
#
# A trace is when requests arrive and how long prompts and answers are. `burstgpt_like` is generated: its lengths and
# bursts follow what was published about the BurstGPT trace. The trace itself says so, and so does every result made
# of it. `rate_scaling=20` lets requests come 20 times as fast as they did there.

# %%
trace = load_trace("burstgpt_like", num_requests=3_000, seed=1, rate_scaling=20)
print(trace.source)
print(f"{len(trace):,} requests in {trace.arrival_s[-1]:,.0f} s")
pd.DataFrame({"prompt": trace.prompt_tokens, "output": trace.output_tokens}).describe().round(0)

# %% [markdown]
# ## One run
#
# `multi_bin_dynamic` keeps a queue for each of K bins of predicted length, so that a batch holds requests of like
# length, and sets the batch size by the memory and by the time between tokens. Names and keys are those of the
# command line: `python -m mbexp scheduler=multi_bin_dynamic num_gpus=16 k_bins=4`.

# %%
binned = simulate(trace, scheduler="multi_bin_dynamic", num_gpus=16, k_bins=4)
pd.Series(binned.summary)[
    [
        "completed_requests",
        "offered_load",
        "throughput_requests_per_s",
        "latency_mean_s",
        "latency_p95_s",
        "request_sla_violation_pct",
        "gpu_utilization_pct",
        "padding_waste_pct",
    ]
]

# %% [markdown]
# How to read it:
#
# - `offered_load` is the work that arrives per unit of work that the GPUs can do with full batches. At 1 or more,
#   queues grow for as long as requests arrive, and every latency measures how long the run was.
# - `request_sla_violation_pct` is the share of requests that took longer than `sla.request_s` (20 s) from arrival to
#   last token.
# - `padding_waste_pct` is the share of a batch's slots that only wait for its longest member: what bins are there to
#   save.
#
# Every metric is defined in `docs/metrics.md`. Warnings change how numbers should be read; read them first:

# %%
for warning in binned.warnings:
    print("!", warning)

# %% [markdown]
# ## Looking inside
#
# A result holds a row a batch and a row a request, as data frames.

# %%
binned.batches[["gpu", "bin", "start_s", "finish_s", "size", "limit", "longest_tokens", "total_tokens"]].head()

# %%
binned.requests[["arrival_s", "prompt_tokens", "output_tokens", "bin", "batch", "gpu", "start_s", "finish_s"]].head()

# %% [markdown]
# How many requests wait at each moment. Arrivals come in bursts; what matters is whether the queue empties between
# them.

# %%
draw("queue_length", binned)

# %% [markdown]
# What ran on which GPU. Short requests (pale) make large, short batches, long ones (dark) small and long ones.

# %%
draw("gpu_timeline", binned)

# %% [markdown]
# ## The same requests, another policy
#
# Policies are compared on the same trace, so that a difference is one of policies and not of luck.

# %%
static = simulate(trace, scheduler="static_fifo", num_gpus=16)
no_bins = simulate(trace, scheduler="dynamic_no_bins", num_gpus=16)
results = [static, no_bins, binned]
metrics = [
    "request_sla_violation_pct",
    "latency_mean_s",
    "latency_p95_s",
    "throughput_requests_per_s",
    "padding_waste_pct",
]
pd.DataFrame({result.config.scheduler.name: {name: result.summary[name] for name in metrics} for result in results})

# %%
draw("latency_cdf", results)

# %% [markdown]
# One run of each says who did better on these 3,000 requests, not who is better. The second page, `study.py`, repeats
# runs with several seeds and gives intervals and verdicts.

# %%
assert all(result.summary["completed_requests"] == len(trace) for result in results)
