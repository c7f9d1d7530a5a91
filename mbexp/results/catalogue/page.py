"""docs/metrics.md, made from the catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from mbexp.results.catalogue import Metric, catalogue

INTRODUCTION = """\
# Metrics

This page says what each number in `summary.json` means, in which unit it is, and whether more of it
is better. `python -m mbexp.results.catalogue > docs/metrics.md` writes the page from the rows in
`mbexp/results/catalogue/`.

- `summary.json` is flat: it has one key for each metric. A value is `null` where the metric does
  not exist, for example a mean over no request or a rate over no time.
- Times are those of the simulated clock, unless the definition says otherwise.
- The *accepted* requests are all requests that were not rejected. The *measured* requests are the
  accepted requests without those of the warm-up (`warm_up.share_pct`, `warm_up.time_s`).
- *Better* is the direction that verdicts use. They cannot compare a metric that has none.
- *Modes* are the values of `execution` whose runs have the metric. Where modes differ in what a
  metric means, its definition says so.
"""


def page(metrics: Iterable[Metric] | None = None) -> str:
    """Return the page as Markdown: a table for each section, in the order of the rows."""
    sections: dict[str, list[Metric]] = {}
    for metric in catalogue().values() if metrics is None else metrics:
        sections.setdefault(metric.section, []).append(metric)
    return "\n".join([INTRODUCTION, *[_section(title, rows) for title, rows in sections.items()]])


def _section(title: str, metrics: Iterable[Metric]) -> str:
    lines = [f"## {title}", "| key | unit | better | modes | definition |", "|---|---|---|---|---|"]
    for metric in metrics:
        modes = " ".join(f"`{mode}`" for mode in metric.modes) or "all"
        cells = (f"`{metric.key}`", metric.unit or "-", metric.better or "-", modes, metric.definition)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
