"""What the benchmarks found, drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mbexp.figures import style


@style.with_style
def draw(tables: dict[str, Any], folder: Path) -> list[Path]:
    """Draw the forms side by side and the growth curves, whichever of them there are."""
    axes_wanted = [name for name in ("forms", "requests", "GPUs", "bins") if name == "forms" or "growth" in tables]
    if "forms" not in tables:
        axes_wanted = axes_wanted[1:]
    if not axes_wanted:
        return []
    figure, axes = style.panels(len(axes_wanted), columns=2, width=4.2, height=2.9)
    for name, axis in zip(axes_wanted, axes, strict=True):
        if name == "forms":
            _forms(axis, tables["forms"].numbers)
        else:
            _growth(axis, name, tables["growth"].numbers)
    return style.save(figure, folder, "performance", formats=("png",))


def _forms(axis: Any, numbers: dict[str, Any]) -> None:
    loads = {key.split("/")[0]: value for key, value in numbers.items() if key.endswith("/multi_bin_dynamic")}
    found = dict.fromkeys(name for value in loads.values() for name in value["million_requests_per_s"])
    names = [name for name in found if "march" not in name]
    looks = style.categorical(names)
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        rates = [value["million_requests_per_s"].get(name, np.nan) for value in loads.values()]
        at = np.arange(len(loads)) + (place - (len(names) - 1) / 2) * width
        axis.bar(at, rates, width * 0.9, color=looks[name].color, label=name)
        for x, rate in zip(at, rates, strict=True):
            axis.text(
                x, rate * 1.1, f"{rate:.2g}" if rate < 100 else f"{rate:.0f}", ha="center", va="bottom", fontsize=7
            )
    axis.set_yscale("log")
    axis.set_ylim(top=axis.get_ylim()[1] * 4)
    axis.set_xticks(np.arange(len(loads)), [load.replace(", ", ",\n") for load in loads])
    axis.set_ylabel("million requests a second")
    axis.set_title("multi_bin_dynamic, the loop alone")
    axis.legend(ncols=len(names), loc="upper center")


def _growth(axis: Any, name: str, numbers: dict[str, Any]) -> None:
    looks = style.categorical(("half busy", "overloaded"))
    for load, look in looks.items():
        points = np.array(numbers[f"{name}/{load}"], float)
        axis.plot(points[:, 0], points[:, 1], **look.line, label=f"mbexp, {load}")
        known = np.isfinite(points[:, 3])
        if known.any():
            axis.plot(
                points[known, 0],
                points[known, 3],
                **{**look.plain, "alpha": 0.45, "linewidth": 1.0},
                label=f"C, {load}",
            )
    axis.set_xscale("log", base=2 if name == "bins" else 10)
    axis.set_yscale("log")
    axis.set_xlabel({"requests": "requests", "GPUs": "GPUs", "bins": "bins"}[name])
    axis.set_ylabel("ns a request")
    axis.legend()
