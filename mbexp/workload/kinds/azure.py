"""Azure LLM inference traces of 2023 and 2024 (github.com/Azure/AzurePublicDataset)."""

from __future__ import annotations

from pathlib import Path

from mbexp.config.workload_keys import WorkloadConfig
from mbexp.workload.kinds._columns import read_rows
from mbexp.workload.rows import Rows
from mbexp.workload.table_file import Column

DEFAULT_FILE = "AzureLLMInferenceTrace_conv.csv"
CLOCK_RESOLUTION_S = 0.0  # a tenth of a microsecond (2023) or a microsecond (2024): what ties there are, are real
VERSION = 1

_COLUMNS = (Column("TIMESTAMP", "date"), Column("ContextTokens", "tokens"), Column("GeneratedTokens", "tokens"))


def read(path: Path, workload: WorkloadConfig) -> Rows:
    """Read an Azure file; times may be naive (2023) or carry an offset from UTC (2024)."""
    return read_rows(path, workload, _COLUMNS, "Azure LLM inference format")[0]
