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
# %% [markdown]
# # How many GPUs?
#
# The question: **how many H100s, or cheaper cards, serve 20 requests a second of Llama-3.1-8B?** The first token must
# come within 2 s, and each further token within 100 ms, both at the 99th percentile. `mbexp.capacity` answers, and says
# how sure the answer is.
#
# The keywords are the keys of the command line: `python -m mbexp.capacity gpu=h100_llama31_8b ...` asks the same.

# %%
from pathlib import Path

import pandas as pd

import mbexp
from mbexp.capacity.drawing import draw_targets
from mbexp.capacity.pictures import read_answers

question = {
    "execution": "vllm",
    "scheduler": "vllm",
    "workload": "synthetic",
    "workload.arrivals.rate_per_s": 20,
    "num_requests": 2000,
    "sla.targets": ["ttft_p99_s<=2", "tbt_p99_ms<=100"],
}

# %% [markdown]
# ## One card
#
# The answer is a sentence. It names the targets, what one GPU less would miss, and the price.

# %%
(answer,) = mbexp.capacity(gpu="l40s_llama31_8b", **question)
print(answer.sentence())
for warning in answer.warnings:
    print("!", warning)

# %% [markdown]
# Every number of GPUs that was tried is a probe of five seeds or more. A probe passes or fails where the interval of
# each target says so. The dashed lines are the limits, the ring is the answer.

# %%
draw_targets(read_answers(Path("outputs/capacity")))

# %% [markdown]
# ## Cards beside each other
#
# A tuple of choices gives an answer each, the cheapest first.

# %%
answers = mbexp.capacity(gpu=("h100_llama31_8b", "l40s_llama31_8b", "a100_llama31_8b"), **question)
pd.DataFrame(
    {
        "gpu": answer.gpu,
        "GPUs": answer.num_gpus,
        "USD an hour": answer.price_per_hour,
        "USD per million tokens": round(answer.price_per_million_tokens, 3),
    }
    for answer in answers
)

# %%
draw_targets(read_answers(Path("outputs/capacity")))

# %% [markdown]
# ## How much can I carry?
#
# The other way round: the highest rate that two H100s carry within the same targets, in steps of 1 %.

# %%
(most,) = mbexp.capacity(gpu="h100_llama31_8b", num_gpus=2, find="rate", **question)
print(most.sentence())

# %% [markdown]
# ## What the answer does not know
#
# The traffic is drawn here, with Poisson arrivals. Real traffic comes in bursts, and needs more GPUs. Give your own
# log: `workload="csv", **{"workload.path": "log.csv"}`. A card's execution-time model has an error of its own, which
# no interval above contains; the page *Engines* shows how large it is.

# %%
assert [answer.price_per_hour for answer in answers] == sorted(answer.price_per_hour for answer in answers)
assert most.rate_per_s > 20
