"""Published closed loops beside their simulation: untuned, and with the host's time of two loads."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mbexp.compare_engine.closed import loop_config, loop_tpot_ms
from mbexp.compare_engine.published import WORDS, Setup
from mbexp.config.keys import Config
from mbexp.errors import UserError
from mbexp.figures.lines import log_axis
from mbexp.figures.style import GREY, categorical, panels, with_style
from mbexp.fit.host import fit_host
from mbexp.fit.loads import Loads
from mbexp.hardware import build_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """The points of one engine, measured and simulated.

    Attributes
    ----------
    setup, loads
        What was measured.
    untuned_ms : float64 array, shape (n,)
        Mean TPOT, simulated with the law of the kernel tables.
    hosted_ms : float64 array, shape (n,)
        The same with the host's time fitted to two loads; NaN for those two, and where there are no two to fit.
    """

    setup: Setup
    loads: Loads
    untuned_ms: FloatArray
    hosted_ms: FloatArray

    def error_pct(self, simulated_ms: FloatArray) -> FloatArray:
        """Return (simulated - measured) / measured in percent; NaN stays."""
        return 100 * (simulated_ms / self.loads.tpot_ms - 1)


def words_of(setup: Setup, loads: Loads) -> list[str]:
    """Return the engine as overrides: its kernel tables, its rules and its own limits on the card."""
    words = [
        "gpu=aiconfigurator", f"gpu.law.system={setup.system}", f"gpu.law.model={setup.checkpoint}",
        f"gpu.law.engine={setup.engine}", f"gpu.law.tensor_parallel={setup.tensor_parallel}",
        f"execution={setup.engine}", f"scheduler={setup.engine}",
    ]  # fmt: skip
    if setup.engine == "tensorrt_llm" and loads.prompt_tokens.max() >= 8192:
        words.append("execution.admission=budget")  # whole, prompts that fill a step would wait for an empty engine
    return words


def simulated_ms(config: Config, loads: Loads) -> FloatArray:
    """Return the mean TPOT of every load, simulated on the engine of `loop_config`."""
    columns = zip(loads.concurrency, loads.prompt_tokens, loads.output_tokens, strict=True)
    return np.array([loop_tpot_ms(config, *(int(value) for value in row)) for row in columns])


def two_loads(loads: Loads) -> npt.NDArray[np.intp] | None:
    """Return the places of the shortest requests' least and most users; None where they are as many."""
    order = np.lexsort((loads.concurrency, loads.output_tokens, loads.prompt_tokens))
    sizes = np.stack([loads.prompt_tokens, loads.output_tokens])
    alike = order[np.all(sizes == sizes[:, order[:1]], axis=0)[order]]
    first, last = alike[[0, -1]]
    return None if loads.concurrency[first] == loads.concurrency[last] else np.array([first, last])


def with_host(config: Config, loads: Loads) -> FloatArray:
    """Return the mean TPOT of every load but two, simulated with the host's time that was fitted to those two."""
    two = two_loads(loads)
    hosted_ms = np.full(len(loads.tpot_ms), np.nan)
    if two is None or len(loads.tpot_ms) < 3:
        return hosted_ms
    fit = fit_host(build_law(config.gpu), _some(loads, two))
    left = np.setdiff1d(np.arange(len(loads.tpot_ms)), two)
    law = dataclasses.replace(config.gpu.law, host_ms=fit.host_ms, host_us_per_sequence=fit.host_us_per_sequence)
    hosted = dataclasses.replace(config, gpu=dataclasses.replace(config.gpu, law=law))
    hosted_ms[left] = simulated_ms(hosted, _some(loads, left))
    return hosted_ms


def _some(loads: Loads, places: npt.NDArray[np.intp]) -> Loads:
    names = ("concurrency", "prompt_tokens", "output_tokens", "tpot_ms")
    concurrency, prompt, output, tpot_ms = (getattr(loads, name)[places] for name in names)
    return Loads(concurrency, prompt, output, tpot_ms, loads.source)


def compare_loops(
    found: dict[Setup, Loads], left_out: Counter[str], say: Callable[[str], None] = lambda _: None
) -> list[Compared]:
    """Simulate every engine that the tables have; those that they lack are counted in `left_out`.

    Raises
    ------
    UserError
        Where the package of the tables is missing.
    """
    from mbexp.config.kernel_tables import package_version

    package_version()
    compared = []
    for setup, loads in found.items():
        try:
            config = loop_config(words_of(setup, loads))
            untuned_ms = simulated_ms(config, loads)
            compared.append(Compared(setup, loads, untuned_ms, with_host(config, loads)))
        except UserError as error:
            left_out[f"no law for {setup.title}, {setup.tensor_parallel} cards"] += len(loads.tpot_ms)
            say(f"left out: {setup.title}, {setup.tensor_parallel} cards: {error}")
        else:
            say(f"{setup.title}, {setup.tensor_parallel} cards: {len(loads.tpot_ms)} points")
    return compared


GROUPINGS: dict[str, Callable[[Setup], str]] = {
    "card, model, engine": lambda setup: setup.title,
    "engine": lambda setup: WORDS[setup.engine],
    "card": lambda setup: setup.card,
    "kind of model": lambda setup: "mixture of experts" if setup.experts else "dense",
    "all": lambda setup: "all",
}
HEAD = "points | cards an engine | median | p90 | worst | within 10 % | within 20 % | with host: points | median | p90"


def tables(compared: Sequence[Compared]) -> str:
    """Return the errors of TPOT in percent by card, model and engine, then by each of them, in Markdown."""
    parts = []
    for name, of in GROUPINGS.items():
        groups: dict[str, list[Compared]] = {}
        for each in compared:
            groups.setdefault(of(each.setup), []).append(each)
        lines = [f"| {name} | {HEAD} |", "|---" * 11 + "|"]
        lines += [_line(title, members) for title, members in sorted(groups.items())]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _line(title: str, members: Sequence[Compared]) -> str:
    errors = _joined(each.error_pct(each.untuned_ms) for each in members)
    hosted = np.abs(_joined(each.error_pct(each.hosted_ms) for each in members))
    cards = ", ".join(str(count) for count in sorted({each.setup.tensor_parallel for each in members}))
    size = np.abs(errors)
    after = [f"{np.median(hosted):.1f}", f"{np.percentile(hosted, 90):.1f}"] if len(hosted) else ["-", "-"]
    cells = [title, str(len(size)), cards, f"{np.median(size):.1f}", f"{np.percentile(size, 90):.1f}",
             f"{errors[size.argmax()]:+.1f}", f"{np.mean(size <= 10):.0%}", f"{np.mean(size <= 20):.0%}",
             str(len(hosted)), *after]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _joined(parts: Iterable[FloatArray]) -> FloatArray:
    every = np.concatenate(list(parts))
    return every[~np.isnan(every)]


@with_style
def loops_figure(compared: Sequence[Compared]) -> Figure:
    """Return a figure of two panels: a point a load, untuned, by engine; and shares of points within an error."""
    figure, axes = panels(2, columns=2)
    draw_points(axes[0], compared)
    draw_shares(axes[1], compared)
    return figure


def draw_points(axes: Axes, compared: Sequence[Compared]) -> None:
    """Draw simulated against measured TPOT, untuned, a colour an engine."""
    engines = sorted({each.setup.engine for each in compared})
    looks = categorical(engines)
    every = np.concatenate([part for each in compared for part in (each.loads.tpot_ms, each.untuned_ms)])
    span = (0.9 * every.min(), 1.1 * every.max())
    for engine in engines:
        of = [each for each in compared if each.setup.engine == engine]
        measured, simulated = (
            np.concatenate(parts) for parts in zip(*((e.loads.tpot_ms, e.untuned_ms) for e in of), strict=True)
        )
        label = f"{WORDS[engine]} ({len(measured)})"
        axes.scatter(measured, simulated, s=6, alpha=0.5, color=looks[engine].color, linewidth=0, label=label)
    axes.plot(span, span, color=GREY, linewidth=0.8)
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.set(xlim=span, ylim=span, xlabel="mean TPOT (ms), measured", ylabel="mean TPOT (ms), simulated")
    axes.set_title(f"{len(every) // 2:,} closed loops, untuned")
    axes.legend()


def draw_shares(axes: Axes, compared: Sequence[Compared]) -> None:
    """Draw the share of points within an absolute error: untuned by engine, and with the host's time."""
    engines = sorted({each.setup.engine for each in compared})
    looks = categorical(engines)
    for engine in engines:
        of = [each for each in compared if each.setup.engine == engine]
        for kind, dash in (("untuned_ms", "-"), ("hosted_ms", ":")):
            size = np.sort(np.abs(_joined(each.error_pct(getattr(each, kind)) for each in of)))
            label = WORDS[engine] if kind == "untuned_ms" else None
            share = np.arange(1, len(size) + 1) / len(size) if len(size) else size
            axes.plot(size, share, color=looks[engine].color, linestyle=dash, label=label)
    axes.plot([], [], color=GREY, linestyle=":", label="with host time")
    axes.set(xlim=(0, 50), ylim=(0, 1), xlabel="absolute error of TPOT (%)", ylabel="share of closed loops")
    axes.legend()
