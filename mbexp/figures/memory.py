"""Gives a figure its frame from results in memory, as a notebook holds them, in place of a stored study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mbexp.errors import UserError
from mbexp.figures.aggregate import configuration_keys, swept
from mbexp.figures.labels import setting_label
from mbexp.figures.registry import FigureSpec
from mbexp.results.catalogue import as_columns

if TYPE_CHECKING:
    import pandas as pd

    from mbexp.results.result import Result


def results_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row a result, with the columns of a study's table (docs/sweeps.md); ``run`` is its place."""
    import pandas as pd

    rows = []
    for place, result in enumerate(results):
        config = result.config
        rows.append(
            {
                "run": str(place),
                "scheduler": config.scheduler.name,
                "workload": config.workload.kind,
                "gpu": config.gpu.name,
                **{key: value for key, value in flat(config).items() if not isinstance(value, list)},
                **as_columns(result.summary),
                "warnings": "\n".join(result.warnings),
            }
        )
    return pd.DataFrame(rows)


def frame_of(spec: FigureSpec, results: Sequence[Result]) -> pd.DataFrame:
    """Return the frame of a figure of `results`."""
    import pandas as pd

    if not results:
        raise UserError(f"figure {spec.name}: no result was given")
    table = results_table(results)
    if spec.table == "results":
        return table
    by = swept(table)
    parts, lacking = [], []
    for (_, row), result in zip(table.iterrows(), results, strict=True):
        config = flat(result.config)
        if spec.where and config.get(spec.where[0]) != spec.where[1]:
            continue
        part = result.batches if spec.table == "batches" else result.requests
        lacks = [name for name in spec.needs if name not in {*part.columns, *config, *row.index, "label"}]
        if lacks:
            lacking = lacks
            continue
        label = setting_label(by, [row[name] for name in by]) or str(row["scheduler"])
        known: dict[str, Any] = {"run": row["run"], "label": label, "scheduler": row["scheduler"]}
        known |= {name: config[name] for name in spec.needs if name in config and name not in part.columns}
        parts.append(part.assign(**known))
    if not parts and lacking:
        raise UserError(f"figure {spec.name}: the {spec.table} of no result have {', '.join(lacking)}")
    if not parts:
        raise UserError(f"figure {spec.name}: no result has {'='.join(map(str, spec.where))}")
    return pd.concat(parts, ignore_index=True)


def flat(config: Any) -> dict[str, Any]:
    """Return a configuration by dotted names."""
    found: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        for key, part in value.items():
            if isinstance(part, dict):
                walk(part, f"{name}{key}.")
            elif f"{name}{key}" in configuration_keys():
                found[f"{name}{key}"] = part

    walk(dataclasses.asdict(config), "")
    return found
