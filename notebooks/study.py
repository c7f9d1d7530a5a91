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
# # A study, end to end
#
# The question: **how many GPUs does each policy need so that at most 5 % of requests take longer than 20 s?** This
# page asks it with one command, reads the answer with its uncertainty, draws the figures and writes the report.

# %%
import subprocess
import sys
from pathlib import Path

import pandas as pd

from mbexp.figures import draw
from mbexp.figures.aggregate import means
from mbexp.report import write_report
from mbexp.sweep.table import read_results

# %% [markdown]
# ## One command
#
# Lists of values make a sweep: here three policies at three numbers of GPUs. `replications=5` repeats each with five
# seeds; the same seed gives every policy the same requests. Finished runs are kept: the same command again makes only
# what is missing.

# %%
command = """
-m mbexp --multirun
    scheduler=static_fifo,dynamic_no_bins,multi_bin_dynamic num_gpus=16,32,64
    num_requests=1000 replications=5 workload.rate_scaling=20
    study.name=how_many_gpus study.best=true
    hydra.launcher.n_jobs=2
"""
done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True)
print(done.stdout[-3000:], done.stderr[-2000:])
assert done.returncode == 0

# %% [markdown]
# ## The answer
#
# For each policy, the fewest GPUs that meet the target.

# %%
folder = Path("outputs/how_many_gpus")
pd.read_csv(folder / "best.csv")[
    ["scheduler", "num_gpus", "request_sla_violation_pct", "latency_p95_s", "meets_target"]
]

# %%
draw("violation_against_gpus", folder)

# %% [markdown]
# ## How sure is it?
#
# A row of the table is a run with one seed. Means over seeds come with the half width of their 95 % confidence
# interval.

# %%
table = read_results(folder, by_seed=True)
means(table, ["scheduler", "num_gpus"], ["request_sla_violation_pct", "latency_p95_s"]).round(2)

# %% [markdown]
# Intervals are wide, because seeds draw different bursts. But the policies met the same bursts, so verdicts come from
# the *difference* between two policies, seed by seed, which can be known better than either of them. "No difference
# shown" is an answer too: where GPUs abound hardly any batch forms, and one policy is as good as another.

# %%
verdicts = pd.read_csv(folder / "verdicts.csv")
for row in verdicts[verdicts["metric"] == "latency_p95_s"].itertuples():
    print(f"{row.num_gpus:>3} GPUs: {row.verdict}")

# %% [markdown]
# ## Figures
#
# All figures of a study: `python -m mbexp.figures outputs/how_many_gpus`. One of them here:

# %%
draw("schedulers_at_equal_gpus", folder)

# %% [markdown]
# The table is plain pandas, so a question of one's own is a line or two. Here the differences behind the verdicts: by
# how many seconds bins changed the 95th percentile latency of each seed. Negative is faster.

# %%
latency = table.pivot(index=["num_gpus", "seed"], columns="scheduler", values="latency_p95_s")
(latency["multi_bin_dynamic"] - latency["static_fifo"]).unstack("seed").round(2)

# %% [markdown]
# ## The report
#
# One HTML file with the question, the tables, the figures, the warnings, where everything comes from, and the command
# that makes it again.

# %%
report = write_report(folder)
print(report, f"{report.stat().st_size / 1e6:.1f} MB")
