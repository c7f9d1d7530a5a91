"""``python -m mbexp.figures``: figures from stored results alone, without simulating again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mbexp.errors import UserError, as_program

if TYPE_CHECKING:
    from mbexp.figures.drawing import Drawn
    from mbexp.figures.registry import FigureSpec
    from mbexp.figures.study import StoredStudy

FORMATS = ("pdf", "png", "svg")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m mbexp.figures",
        description="Draw the figures of stored results. Nothing is simulated.",
        epilog="Figures go to FOLDER/figures unless --out says otherwise.",
    )
    made.add_argument("what", nargs="*", metavar="FOLDER", help="outputs/<study> or a run folder; 'all': every study")
    made.add_argument("--outputs", default="outputs", metavar="DIR", help="where 'all' looks (outputs)")
    made.add_argument("--out", metavar="DIR", help="folder for the files; of several studies, one folder in it each")
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="this figure; may be repeated")
    made.add_argument("--format", default="pdf,png", metavar="LIST", help="of pdf, png, svg (pdf,png)")
    made.add_argument("--plot", metavar="KIND", help="lines, bars, heatmap, distribution or pareto of what was swept")
    made.add_argument("--x", metavar="KEY", help="of --plot: a swept key; for pareto a metric")
    made.add_argument("--y", metavar="LIST", default="", help="of --plot: metrics, a panel each (latency_p95_s)")
    made.add_argument("--by", metavar="LIST", default="", help="of --plot: keys whose values are lines, bars or points")
    made.add_argument("--where", metavar="KEY=VALUE", action="append", default=[], help="of --plot: only these runs")
    made.add_argument("--name", metavar="NAME", help="of --plot: name of the file")
    made.add_argument("--width", metavar="LENGTH", help="of the figures, such as 3.35in or 8.5cm")
    made.add_argument("--height", metavar="LENGTH", help="of the figures; by default what they need")
    made.add_argument("--style", metavar="FILE", help="a Matplotlib style file (.mplstyle), over the style of mbexp")
    made.add_argument("--no-footnotes", action="store_true", help="leave out the notes under figures")
    made.add_argument("--from", dest="own", metavar="FILE", action="append", default=[],
                      help="a Python file with figures of your own; may be repeated")  # fmt: skip
    made.add_argument("--list", action="store_true", help="list the figures, and what each says about FOLDER")
    made.add_argument("--chrome-trace", action="store_true", help="write runs as timelines for ui.perfetto.dev instead")
    made.add_argument("--gallery", metavar="FILE", help="with 'all': also write a page that shows each figure once")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 1 where a figure could not be drawn."""
    options = parser().parse_args(arguments)
    try:
        return run(options)
    except UserError as error:
        print(f"mbexp: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    from mbexp.figures._page import Page, inches, on_page
    from mbexp.figures.registry import load_own

    for file in options.own:
        load_own(Path(file))
    width, height = (
        inches(f"--{side}", getattr(options, side)) if getattr(options, side) else None for side in ("width", "height")
    )
    page = Page(width, height, not options.no_footnotes, Path(options.style) if options.style else None)
    with on_page(page):
        return draw(options)


def draw(options: argparse.Namespace) -> int:
    """Draw, or list, what the command line asks for."""
    from mbexp.figures.drawing import draw_study, find_study, stored_studies

    if options.list:
        return show_list([find_study(Path(name)) for name in options.what if name != "all"])
    if not options.what:
        raise UserError("say which folder of stored results, such as outputs/gpu_scaling, or all")
    formats = [name for name in options.format.split(",") if name]
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UserError(f"--format={options.format}: must be one or more of {', '.join(FORMATS)}")
    every = options.what == ["all"]
    if options.gallery and not every:
        raise UserError("--gallery: goes with all")
    outputs = Path(options.outputs)
    studies = stored_studies(outputs) if every else [find_study(Path(name)) for name in options.what]
    if options.plot:
        return plots(studies, options, formats)
    given = [f"--{name}" for name in ("x", "y", "by", "where", "name") if getattr(options, name)]
    if given:
        raise UserError(f"{given[0]}: goes with --plot")
    drawn: list[Drawn] = []
    for study in studies:
        folder = study.folder / "figures"
        if options.out:
            folder = Path(options.out) / study.name if len(studies) > 1 or every else Path(options.out)
        if options.chrome_trace:
            write_traces(study, folder)
            continue
        if every and options.only and not any(name in options.only for name in map(_name, study.drawable())):
            continue
        only = [name for name in options.only if not every or name in map(_name, study.drawable())]
        made = draw_study(study, folder, only, formats)
        drawn += made
        print(f"{study.folder}: {sum(not one.error for one in made)} figures in {folder}")
        for line in study.damage:
            print(f"  cannot be read: {line}")
        for one in made:
            print(f"  {one.spec.name}" if not one.error else f"  {one.spec.name}: NOT DRAWN: {one.error}")
    if every:
        tell_missing(outputs, bool(studies))
    if options.gallery:
        from mbexp.figures.gallery import write_gallery

        print(f"wrote {write_gallery(studies, Path(options.gallery))}")
    return 1 if any(one.error for one in drawn) else 0


def plots(studies: Sequence[StoredStudy], options: argparse.Namespace, formats: Sequence[str]) -> int:
    """Draw one plot of each study."""
    from mbexp.figures._plots import Asked, plot
    from mbexp.figures.style import save

    where = {}
    for text in options.where:
        key, sign, value = text.partition("=")
        if not sign:
            raise UserError(f"--where={text}: not of the form key=value")
        where[key] = value
    y, by = (tuple(name for name in text.split(",") if name) for text in (options.y, options.by))
    name = options.name or "_".join(filter(None, [options.plot, *y, options.x and f"over_{options.x}"]))
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"--name={name}: must be the name of a file, without a path")
    for study in studies:
        folder = Path(options.out) if options.out else study.folder / "figures"
        if options.out and len(studies) > 1:
            folder /= study.name
        for path in save(plot(study, Asked(options.plot, options.x, y, by, where)), folder, name, formats):
            print(f"wrote {path}")
    return 0


def write_traces(study: StoredStudy, folder: Path) -> None:
    """Write the runs that the timeline figure would show, for a viewer of traces."""
    from mbexp.figures.registry import find_figure
    from mbexp.figures.trace_events import write_trace

    timeline = find_figure("gpu_timeline")
    if study.why_not(timeline):
        raise UserError(f"{study.folder}: {study.why_not(timeline)}")
    for run in study.typical_runs(timeline)[0]["run"]:
        path = write_trace(study.run_folder(str(run)), folder / f"trace_{study.run_folder(str(run)).name}.json")
        print(f"wrote {path}  (open it at ui.perfetto.dev or chrome://tracing)")


def tell_missing(outputs: Path, any_stored: bool) -> None:
    """Print which studies are not stored, what command makes each and which figures wait for it."""
    from mbexp.figures.drawing import figures_waiting_for, missing_studies

    missing = missing_studies(outputs)
    if not any_stored:
        print(f"{outputs}: no study is stored there")
    if missing:
        print(f"{len(missing)} studies are not stored in {outputs}:")
    for name in missing:
        waiting = figures_waiting_for(name)
        print(f"  python -m mbexp -cn {name}" + (f"   (figure {', '.join(waiting)})" if waiting else ""))


def show_list(studies: Sequence[StoredStudy]) -> int:
    """Print every figure with its title and, for each study, why it would not be drawn of it."""
    from mbexp.figures.registry import figures

    for spec in figures().values():
        print(f"{spec.name:<30} {spec.title}")
        for study in studies:
            reason = study.why_not(spec)
            print(f"{'':<30} {study.folder}: {'not drawn: ' + reason if reason else 'drawn'}")
    return 0


def _name(spec: FigureSpec) -> str:
    return spec.name


if __name__ == "__main__":
    as_program(main)
