"""What a fit leaves: a table in words, ready `gpu` configurations, a figure and a JSON file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from mbexp.errors import UserError
from mbexp.fit.forms import Card
from mbexp.fit.points import Points
from mbexp.fit.robust import Errors, Fit
from mbexp.hardware.grid import PACKAGED_GRIDS

STATES = {
    "assumed": "assumed: these points do not determine it",
    "at its bound": "at its bound",
}


def table(points: Points, fits: list[Fit], interpolation: Errors | None) -> str:
    """Return what was fitted, with which errors and which parameters, as text; no law is picked."""
    counts = [f"{int((points.phase == phase).sum())} {phase}" for phase in ("prefill", "decode", "static")]
    sizes, lengths = ranges(points)
    lines = [
        f"{points.source}: {len(points)} points ({', '.join(c for c in counts if not c.startswith('0 '))}), "
        f"batch size {sizes[0]}-{sizes[1]}, length {lengths[0]}-{lengths[1]} tokens"
    ]
    if points.generated:
        lines += ["This file looks generated, not measured:", *(f"  - {reason}" for reason in points.generated)]
    lines += [f"  note: {note}" for note in points.notes]
    lines += ["", f"{'law':<22}{'points':>7}{'R^2':>9}{'median':>9}{'worst':>9}{'left out: median':>19}{'worst':>9}"]
    for fit in fits:
        lines.append(_errors_line(fit.form.kind, fit.fitted, fit.cross_validated))
        if fit.predicted:
            lines.append(_errors_line("  static, not fitted", fit.predicted, None))
    if interpolation:
        lines.append(
            f"{'grid_interpolation':<22}{interpolation.points:>7}{'':>9}{'exact':>9}{'exact':>9}"
            f"{interpolation.median_pct:>17.2f} %{interpolation.worst_pct:>7.2f} %"
        )
    lines += ["", "parameters, with 95 % intervals where fitted"]
    for fit in fits:
        for estimate in fit.estimates:
            interval = f"[{estimate.low:.4g}, {estimate.high:.4g}]" if estimate.state != "assumed" else ""
            state = STATES.get(estimate.state, "")
            lines.append(
                f"  {fit.form.kind + ' ':<10}{estimate.key:<32}{estimate.value:<10.4g}{interval:<22}{state}".rstrip()
            )
        if any(e.state == "at its bound" and "bandwidth" in e.key and e.value > 0.99 for e in fit.estimates):
            lines.append("  faster than the card's peak bandwidth allows: the wrong card, or not a measurement")
    return "\n".join(lines)


def ranges(points: Points) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the range of batch sizes and of lengths of the points."""
    return (
        (int(points.batch_size.min()), int(points.batch_size.max())),
        (int(points.total_tokens.min()), int(points.total_tokens.max())),
    )


def gpu_configs(points: Points, fits: list[Fit], card: Card | None, name: str, model: str) -> dict[str, str]:
    """Return the text of one `gpu` file for each fitted law, and one for the interpolated grid, by name."""
    configs = {}
    for fit in fits:
        fitted = points.take(fit.rows)
        law: dict[str, Any] = {"kind": fit.form.kind, "length": "prompt_plus_output"}
        if fit.form.kind == "linear" and points.split:
            law["length"] = "output"
        if fit.form.kind == "roofline" and card is not None:
            given = {"bandwidth_gb_per_s": card.bandwidth_gb_per_s, "dense_tflops": card.dense_tflops}
            law |= ({"card": card.card} if card.card else given) | {"model": card.model}
        # 8 digits: far below the error of any of them, and short to read.
        law |= {key: float(f"{value:.8g}") for key, value in fit.values.items()}
        law["provenance"] = _provenance(points, f"{fit.form.kind} law fitted to")
        sizes, lengths = ranges(fitted)
        law |= {"batch_size_range": list(sizes), "length_range_tokens": [max(1, lengths[0]), lengths[1]]}
        errors = (
            f"# Over {fit.fitted.points} points: R^2 {fit.fitted.r_squared:.5f}, relative error median "
            f"{fit.fitted.median_pct:.2f} %, worst {fit.fitted.worst_pct:.2f} %; "
            f"left out: {fit.cross_validated.median_pct:.2f} %, {fit.cross_validated.worst_pct:.2f} %."
        )
        notes = {e.key: _remark(e.state, e.low, e.high) for e in fit.estimates}
        configs[f"{name}_{fit.form.kind}"] = _yaml(points, f"{name}_{fit.form.kind}", law, model, errors, notes)
    if points.grid is not None:
        law = {
            "kind": "grid_interpolation",
            "length": "prompt_plus_output",
            "path": points.grid.name if points.grid.parent == PACKAGED_GRIDS else points.grid.as_posix(),
            "provenance": _provenance(points, "interpolated from"),
        }
        configs[f"{name}_interpolation"] = _yaml(
            points, f"{name}_interpolation", law, model, "# Through its points.", {}
        )
    return configs


def write(folder: Path, text: str, configs: dict[str, str], figure: Any, fits: list[Fit], overwrite: bool) -> None:
    """Write everything into `folder`, complete or not at all.

    Raises
    ------
    UserError
        If the folder exists and is not to be overwritten, or cannot be written.
    """
    from mbexp.figures.style import save
    from mbexp.results.store import complete_folder

    if folder.exists() and not overwrite:
        raise UserError(f"{folder}: exists; choose another --name or --out, or pass --overwrite")
    with complete_folder(folder, overwrite) as aside:
        (aside / "gpu").mkdir()
        for name, config in configs.items():
            (aside / "gpu" / f"{name}.yaml").write_text(config, encoding="utf-8")
        (aside / "fit.txt").write_text(text + "\n", encoding="utf-8")
        (aside / "fit.json").write_text(json.dumps([_plain(fit) for fit in fits], indent=1) + "\n", encoding="utf-8")
        save(figure, aside, "residuals")


def _errors_line(name: str, fitted: Errors, left_out: Errors | None) -> str:
    line = f"{name:<22}{fitted.points:>7}{fitted.r_squared:>9.4f}{fitted.median_pct:>7.2f} %{fitted.worst_pct:>7.2f} %"
    return line + (f"{left_out.median_pct:>17.2f} %{left_out.worst_pct:>7.2f} %" if left_out else "")


def _remark(state: str, low: float, high: float) -> str:
    return STATES.get(state) or f"95 % interval {low:.4g} to {high:.4g}"


def _provenance(points: Points, verb: str) -> str:
    if points.generated:
        return f"{verb} a grid that looks generated, {points.source}"
    if points.machine.get("gpu"):
        on = points.machine
        return f"{verb} {points.source}, measured on {on['gpu']} ({on.get('engine', 'engine not recorded')})"
    return f"{verb} the grid {points.source}"


def _yaml(points: Points, name: str, law: dict[str, Any], model: str, errors: str, notes: dict[str, str]) -> str:
    from mbexp.config.cards import GPU_CARDS, MODEL_CARDS

    machine, architecture = points.machine, MODEL_CARDS[model]
    if machine.get("memory_bytes"):
        memory, why = machine["memory_bytes"] / 1e9, "as the driver reports it, 1e9 bytes"
    elif law.get("card"):
        memory, why = GPU_CARDS[law["card"]].memory_gb, "of the card, 1e9 bytes"
    else:
        memory, why = 12.0, "not known from the grid: set your card's, 1e9 bytes"
    overhead, overhead_why = 1.0, "activations and workspace; an assumption"
    if machine.get("overhead_bytes"):
        overhead, overhead_why = (
            machine["overhead_bytes"] / 1e9,
            "activations and workspace, the most that was measured",
        )
    lines = [
        f"# Written by mbexp.fit from {points.source}.",
        errors,
        f"name: {name}",
        "count: ${num_gpus}  # the shortcut num_gpus= sets it",
        f"memory_gb: {memory:.6g}  # {why}",
        "usable_fraction: 0.9  # the rest is left to the driver and fragmentation",
        f"weights_gb: {architecture.weight_bytes / 1e9:.6g}  # {architecture.name} in 16 bits",
        f"overhead_gb: {overhead:.4g}  # {overhead_why}",
        f"kv_bytes_per_token: {architecture.kv_bytes_per_token}  # of {architecture.name}",
        "law:",
    ]
    for key, value in law.items():
        remark = f"  # {notes[key]}" if key in notes else ""
        lines.append(f"  {key}: {json.dumps(value)}{remark}")
    return "\n".join(lines) + "\n"


def _plain(fit: Fit) -> dict[str, Any]:
    def clean(value: Any) -> Any:
        return None if isinstance(value, float) and value != value else value

    return {
        "law": fit.form.kind,
        "parameters": [{key: clean(v) for key, v in dataclasses.asdict(e).items()} for e in fit.estimates],
        "fitted": dataclasses.asdict(fit.fitted),
        "cross_validated": dataclasses.asdict(fit.cross_validated),
        "not_fitted": dataclasses.asdict(fit.predicted) if fit.predicted else None,
    }
