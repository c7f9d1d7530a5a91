"""Metrics of batches, bins and GPUs."""

from __future__ import annotations

from functools import partial

from mbexp.results.catalogue.metric import Metric

row = partial(Metric, section="Batches, bins, GPUs")
continuous = ("continuous",)

ROWS = (
    row(
        "num_batches",
        "",
        "Batches",
        "The number of batches of the whole run. Under `execution=continuous`: the number of iterations of all GPUs, "
        "decode steps and prefills alike.",
    ),
    row(
        "batch_size_mean",
        "requests",
        "Mean batch size",
        "The mean number of requests in a batch. Under `execution=continuous`: the mean number of decoding requests in "
        "a decode step.",
    ),
    row(
        "batch_size_max",
        "requests",
        "Largest batch",
        "The largest number of requests in a batch. Under `execution=continuous`: the largest number of requests on a "
        "GPU at one time.",
    ),
    row(
        "padding_waste_pct",
        "%",
        "Padding waste",
        "The share of padding in all computed tokens, if each request is padded to the longest of its batch. That is "
        "1 minus the sum of all lengths divided by the sum over batches of size times longest length. "
        "`gpu.law.length` says which tokens a length counts. Under `execution=continuous`: 0, since nothing is padded.",
        better="lower",
    ),
    row(
        "misbin_pct",
        "%",
        "Requests in a wrong bin",
        "The share of requests whose predicted length lies in another bin than their true length.",
        better="lower",
    ),
    row(
        "prediction_bias_tokens",
        "tokens",
        "Bias of predicted lengths",
        "The mean of the predicted length minus the true length, over all requests of the trace. It is below 0 where "
        "lengths are predicted too short.",
    ),
    row(
        "prediction_mae_log",
        "",
        "Log error of predicted lengths",
        "The mean over all requests of the absolute value of ln(predicted length / true length). A value of 0.69 means "
        "that predictions are typically wrong by a factor of two.",
        better="lower",
    ),
    row(
        "prediction_kendall_tau",
        "",
        "Order of predicted lengths",
        "Kendall's tau-b between predicted and true lengths, over all requests of the trace. It is 1 where predictions "
        "order the requests as their true lengths do, and near 0 where the order tells nothing. It is `null` where one "
        "side has one value only.",
        better="higher",
    ),
    row(
        "bins",
        "",
        "Bins formed",
        "The number of queues of the run. Ties between predicted lengths can leave fewer than `k_bins`. In the tables "
        "of a sweep this column is `num_bins`, since `bins` there names the rule that forms bins.",
        column="num_bins",
    ),
    row(
        "extrapolated_batches_pct",
        "%",
        "Batches outside the law's range",
        "The share of batches whose size or longest length lies outside the range that the latency law is supported "
        "in. Under `execution=continuous`: the share of decode steps whose number of decoding requests, or whose mean "
        "context, lies outside that range. The context counts only where the law's lengths are prompt plus output.",
    ),
    row(
        "gpu_utilization_pct",
        "%",
        "GPU utilization",
        "The time that GPUs were busy within the makespan, divided by the number of GPUs times the makespan. Under "
        "continuous batching a GPU is busy while any request runs, so that 100 % may leave much room.",
    ),
    row(
        "running_mean",
        "requests",
        "Requests on the GPU, mean",
        "The mean number of requests that run on a GPU, over the time that the GPU is busy.",
        modes=continuous,
    ),
    row(
        "limit_mean",
        "requests",
        "Limit on running requests, mean",
        "The mean limit on the number of requests that run on a GPU, over the time that the GPU is busy.",
        modes=continuous,
    ),
    row(
        "prefill_time_pct",
        "%",
        "Busy time in prefills",
        "The share of the busy time that GPUs spend in iterations that compute prompt tokens while no request decodes. "
        "Under `execution.prefill=chunked`, iterations that compute only chunks of prompts count.",
        modes=continuous,
    ),
    row(
        "mixed_steps_pct",
        "%",
        "Decode steps with prompt tokens",
        "The share of decode steps that also compute prompt tokens. An iteration that computes only chunks of prompts "
        "is no decode step. With `execution.prefill=first` the share is 0.",
        modes=continuous,
    ),
)
