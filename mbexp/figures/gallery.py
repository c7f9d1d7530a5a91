"""Writes the gallery: a page that shows each figure once, with the commands that made it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from mbexp.figures.registry import FigureSpec, figures
from mbexp.figures.study import StoredStudy

# The study that shows a figure best, where several can; others take the first that has what they need.
BEST_SHOWN_BY = {
    "throughput_against_gpus": ("gpu_scaling",),
    "violation_against_gpus": ("grid_search", "gpu_scaling"),
    "latency_against_throughput": ("gpu_scaling", "grid_search"),
    "schedulers_at_equal_gpus": ("compare",),
    "methods_side_by_side": ("method_comparison", "compare"),
    "sensitivity_to_bins": ("k_bins", "gpu_scaling"),
    "sensitivity_to_gpus": ("gpu_scaling",),
    "sensitivity_to_requests": ("request_scaling",),
    "sensitivity_across_seeds": ("compare", "k_bins"),
    "controller_trajectory": ("token_sla_capacity", "compare"),
    "padding_by_bin": ("k_bins",),
    "gpu_timeline": ("compare",),
    "latency_cdf": ("compare",),
    "queue_length": ("compare",),
    "continuous_binning": ("continuous_binning_synthetic",),
}
PAPERS = {
    "P1": "P1: multi-bin batching (Guldogan et al., arXiv 2412.04504)",
    "P2": "P2: memory-aware and SLA-constrained dynamic batching (Pang et al., arXiv 2503.05248)",
}
GROUPS = ("Studies", "Continuous batching", "Inside a run", *PAPERS.values())
INTRODUCTION = """# Gallery

Which figures are there? This page shows each figure once, with the command that draws it. A figure
is one function of a tidy table (`mbexp/figures/`). Its colours differ for any colour vision and in
grey. The same stored results give the same bytes. These commands make this page and its pictures:

```
{commands}
python -m mbexp.figures all --gallery docs/gallery.md
```

`python -m mbexp.figures outputs/STUDY` draws the figures of one study as PDF and PNG. With `--list`
the command names all figures, and says why a figure is not drawn. In a notebook,
`mbexp.figures.draw(name, of)` draws one figure of a folder, of results in memory or of a frame. A
new figure is one function with `@figure` above it, in any module of `mbexp/figures/`:

```python
@figure("Goodput against GPUs", needs=("num_gpus", "goodput_requests_per_s"), varies=("num_gpus",))
def goodput_against_gpus(frame: pd.DataFrame) -> Figure:
    \"\"\"Requests per second within both targets as GPUs are added.\"\"\"
    return lines_over(frame, "goodput_requests_per_s")
```
"""


def write_gallery(studies: Sequence[StoredStudy], page: Path) -> Path:
    """Write `page` and its pictures, in ``figures/`` beside it, of what `studies` can show; return `page`."""
    from mbexp.figures.style import save

    in_order = sorted(figures().values(), key=lambda spec: GROUPS.index(group_of(spec)))
    chosen = [(spec, study) for spec in in_order if (study := choose(spec, studies)) is not None]
    parts, group = [], ""
    for spec, study in chosen:
        if group_of(spec) != group:
            group = group_of(spec)
            parts.append(f"## {group}\n")
        (picture,) = save(spec(study.frame(spec)), page.parent / "figures", spec.name, ["png"])
        parts.append(
            f"### {spec.title}\n\n{textwrap.fill(spec.caption, 100)}\n\n![{spec.title}](figures/{picture.name})\n\n"
            f"`python -m mbexp.figures {study.shown_folder} --only {spec.name}`\n"
        )
    commands = "\n".join(sorted({command_of(study) for _, study in chosen}))
    waiting = [spec for spec in figures().values() if choose(spec, studies) is None]
    if waiting:
        lines = [f"- {spec.title}" + (f": `{' or '.join(spec.studies)}`" if spec.studies else "") for spec in waiting]
        parts.append(
            "## Not shown\n\nThe study that these need was not stored when this page was made:\n\n" + "\n".join(lines)
        )
    text = INTRODUCTION.replace("{commands}", commands) + "\n" + "\n".join(parts)
    aside = page.with_name(f".{page.name}")
    aside.write_text(text.rstrip() + "\n", encoding="utf-8")
    aside.replace(page)
    return page


def group_of(spec: FigureSpec) -> str:
    """Return the heading that a figure stands under."""
    for paper in ("P1", "P2"):
        if f"({paper}" in spec.title:
            return PAPERS[paper]
    if "execution.prefill" in spec.needs or "continuous batching" in spec.title:
        return "Continuous batching"
    return "Studies" if spec.table == "results" else "Inside a run"


def choose(spec: FigureSpec, studies: Sequence[StoredStudy]) -> StoredStudy | None:
    """Return the stored study that shows a figure best, None where none can."""
    by_name = {name: study for study in reversed(studies) for name in study.names}
    first = [by_name[name] for name in BEST_SHOWN_BY.get(spec.name, ()) if name in by_name]
    return next((study for study in [*first, *studies] if not study.why_not(spec)), None)


def command_of(study: StoredStudy) -> str:
    """Return the command that made a study, as its study.json has it."""
    command = study.info.get("command")
    if isinstance(command, list):
        import shlex

        return shlex.join(str(word) for word in command)
    return str(command) if command else f"python -m mbexp -cn {study.name}"
