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
# # A rule and a predictor of your own
#
# The question: **does serving the shortest answers first help, and how good must predictions be for it?** A rule
# decides which bin is served next. A predictor says how long each answer will be. Both are plain functions in a file
# of yours.

# %%
from pathlib import Path

import mbexp
from mbexp.figures import draw

# %% [markdown]
# ## The rule
#
# It serves the bin of the shortest answers, unless the request at the head of another bin has waited too long. mbexp
# compiles it once, and it runs at the speed of the rules that ship.

# %%
Path("my_rules.py").write_text("""
from mbexp.rules import bin_selection


@bin_selection(patience_s=1.0)
def short_but_patient(now_s, queues, memory, parameters):
    for place in range(queues.ready_count):
        queue = queues.ready[place]
        if now_s - queues.head_arrival_s[queue] > parameters.patience_s:
            return queue
    return queues.ready[0]
""")

# %% [markdown]
# ## The predictor
#
# It sees the prompts and the other columns of the trace, and never the answers. This one needs no model at all: it
# guesses that long prompts have long answers.

# %%
Path("my_predictors.py").write_text('''
import mbexp
import numpy as np


def from_prompts(prompt_tokens, columns, seed, scale=0.3):
    """Long prompts, long answers: a poor guess that needs no model."""
    return np.maximum(1, scale * prompt_tokens)
''')

# %% [markdown]
# ## Is the rule better?
#
# Two rules meet the same requests, seed by seed, with lengths known exactly. The batches are those of P1: bins, up to
# eight requests each. The execution-time model is a roofline of an H100, computed and not measured.

# %%
common = {
    "scheduler": "multi_bin_static",
    "scheduler.fill": "greedy",
    "gpu": "roofline_h100",
    "num_gpus": 4,
    "workload": "synthetic",
    "workload.arrivals.rate_per_s": 36,
    "num_requests": 5000,
    "replications": 5,
    "study.metrics": ["latency_mean_s", "latency_p99_s"],
}
rules = ["oldest_head", "my_rules.short_but_patient"]
study = mbexp.sweep(1, **common, **{"scheduler.selection": rules, "study.name": "rules"})
for row in study.verdicts.itertuples():
    print(f"{row.metric}: {row.verdict}")

# %% [markdown]
# ## How much patience?
#
# The rule's parameter is a key like any other, and can be swept.

# %%
patience = mbexp.sweep(
    1,
    **common,
    **{
        "scheduler.selection": "my_rules.short_but_patient",
        "scheduler.parameters.patience_s": [0.5, 1, 2, 4],
        "study.name": "patience",
    },
)
patience.results[["scheduler.parameters.patience_s", "latency_mean_s", "latency_p99_s"]].round(1)

# %% [markdown]
# ## How good must predictions be?
#
# The same rule with the truth, with a noisy truth, and with the predictor above. The last is blind here, since prompts
# of this generated traffic say nothing about answers. Kendall's tau says how much of the order a predictor knows.

# %%
trace = mbexp.load_trace("synthetic", num_requests=5000, arrivals={"rate_per_s": 36})
predictors = {"oracle": "the truth", "noisy": "a noisy truth", "my_predictors.from_prompts": "prompts alone"}
results = [
    mbexp.simulate(
        trace,
        scheduler="multi_bin_static",
        gpu="roofline_h100",
        num_gpus=4,
        predictor={"kind": kind, "sigma": 0.5},
        **{
            "scheduler.fill": "greedy",
            "scheduler.selection": "my_rules.short_but_patient",
            "scheduler.name": label,
        },
    )
    for kind, label in predictors.items()
]
for label, result in zip(predictors.values(), results, strict=True):
    summary = result.summary
    print(f"{label:<14} tau {summary['prediction_kendall_tau']:.2f}   mean latency {summary['latency_mean_s']:.2f} s")

# %%
draw("latency_cdf", results)

# %%
by_truth, by_noise, by_prompts = (result.summary["latency_mean_s"] for result in results)
assert by_truth < by_noise < by_prompts
