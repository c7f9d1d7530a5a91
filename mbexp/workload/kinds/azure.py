"""Azure LLM inference traces of 2023 and 2024 (github.com/Azure/AzurePublicDataset)."""

from __future__ import annotations

from pathlib import Path

from mbexp.config.keys import WorkloadConfig
from mbexp.workload.csv_file import Column, read_csv
from mbexp.workload.rows import Rows

DEFAULT_FILE = "AzureLLMInferenceTrace_conv.csv"
CLOCK_RESOLUTION_S = 0.0  # a tenth of a microsecond (2023) or a microsecond (2024): what ties there are, are real
VERSION = 1

_COLUMNS = (Column("TIMESTAMP", "date"), Column("ContextTokens", "tokens"), Column("GeneratedTokens", "tokens"))


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read an Azure file; times may be naive (2023) or carry an offset from UTC (2024)."""
    columns, _ = read_csv(path, _COLUMNS)
    return Rows(
        arrival_s=columns["TIMESTAMP"],
        prompt_tokens=columns["ContextTokens"],
        output_tokens=columns["GeneratedTokens"],
        source="Azure LLM inference format",
    )
