"""The pictures of a plan's report, as SVG: where time and memory go, the frontier, and the course of the trials."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from fyc.plan.agents.coordinator import Outcome
from fyc.plan.agents.reporter import MEMORY_NAMES, MOST_STAGES, PART_NAMES
from fyc.plan.agents.space import Space
from fyc.plan.estimate import Estimate
from fyc.plan.layout import Layout
from fyc.plan.messages import Message, Trial, Validation
from fyc.plan.pool import PoolContent
from fyc.plan.stages import StageMemory, memory_by_stage, some_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "pictures"
HOW_TO_GET = (
    'The pictures of this report need matplotlib: `pip install "fyc[plan]"`, then `fyc plan resume` on this folder '
    "draws them."
)

# Okabe and Ito's palette, which people with any colour vision can tell apart; greys for what libraries take.
BLUE, SKY, GREEN, YELLOW = "#0072b2", "#56b4e9", "#009e73", "#f0e442"
ORANGE, RED, PINK = "#e69f00", "#d55e00", "#cc79a7"
INK, PALE = "#333333", "#bbbbbb"
_MEMORY = {
    "weights": BLUE,
    "gradients": SKY,
    "optimizer": ORANGE,
    "activations": GREEN,
    "logits": YELLOW,
    "gathered": PINK,
    "fragmentation": RED,
    "workspace": "#dddddd",
    "communication": "#999999",
    "context": "#555555",
}
_DARK = {BLUE, GREEN, RED, "#555555"}  # what white digits can be read on
_FAILURES = {"oom": ("out of memory", "x"), "failed": ("failed", "v"), "timeout": ("timed out", "s")}
_ALT = {
    "time": "Bar chart: seconds of one step by cause, chosen layout beside customary setting.",
    "memory": "Stacked bars: GiB on a GPU by cause, for stages of the chosen layout and the customary setting.",
    "frontier": "Scatter plot: seconds of one step against memory left free, for the frontier and the tried layouts.",
    "history": "Line chart: seconds of one step of every trial in order, the best so far, and the customary setting.",
}
_SETTINGS: Any = {
    "svg.hashsalt": "fyc",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
_WIDTH = 9.0  # inches


@dataclass(frozen=True)
class Tried:
    """A layout with its trials. Seconds of a step, the median of the trials that ran; GiB on the fullest GPU."""

    layout: Layout
    seconds: float | None
    expected_s: float
    memory_gib: float
    status: str


@dataclass(frozen=True)
class Scene:
    """What the pictures show.

    Attributes:
        expert: the customary setting, as the cost model sees it.
        frontier: layouts that nothing beats both in time and in memory headroom, fastest first.
        tried: every layout that was tried, in order.
        trials: every trial, in order.
        capacity_gib: memory of a GPU.
        reserve_gib: what of it is to stay free.
        best: the chosen layout; None where no trial ran.
        best_s, expert_s: seconds of a step that the trials of the two took; None where none ran.
        stages: memory of the chosen layout by pipeline stage.
    """

    expert: Estimate
    frontier: Sequence[Estimate]
    tried: Sequence[Tried]
    trials: Sequence[Trial]
    capacity_gib: float
    reserve_gib: float
    best: Estimate | None = None
    best_s: float | None = None
    expert_s: float | None = None
    stages: Sequence[StageMemory] = ()

    @classmethod
    def of(cls, space: Space, outcome: Outcome, frontier: Sequence[Estimate], content: PoolContent) -> Self:
        """The scene of a run of the team."""
        trials = [message.payload for message in content.of_type("trial")]
        best = outcome.best
        return cls(
            expert=space.expected(outcome.expert),
            frontier=frontier,
            tried=_tried(space, content),
            trials=[trial for trial in trials if isinstance(trial, Trial)],
            capacity_gib=space.job.cluster.gpu.memory_gib.value,
            reserve_gib=space.job.cluster.reserve_gib,
            best=None if best is None else space.expected(best),
            best_s=outcome.best_s,
            expert_s=outcome.expert_s,
            stages=[] if best is None else some_stages(memory_by_stage(space.job, best, space.correction), MOST_STAGES),
        )

    @property
    def limit_gib(self) -> float:
        """Memory of a GPU that may be used."""
        return self.capacity_gib - self.reserve_gib

    @property
    def sides(self) -> list[tuple[str, Estimate, str]]:
        """What is drawn side by side: name, estimate, colour."""
        if self.best is None:
            return [("customary setting", self.expert, ORANGE)]
        if self.best.layout.key() == self.expert.layout.key():
            return [("chosen layout, the customary setting", self.best, BLUE)]
        return [("chosen layout", self.best, BLUE), ("customary setting", self.expert, ORANGE)]

    @property
    def bars(self) -> list[tuple[str, dict[str, float]]]:
        """The bars of the picture of memory: text above, GiB by cause."""
        found: list[tuple[str, dict[str, float]]] = []
        for name, one, _ in self.sides:
            head = f"{name}, {one.layout}"
            if one is self.best and one.layout.pp > 1:
                for stage in self.stages:
                    text = f"stage {stage.number} of {one.layout.pp}, {stage.layers} layers: {stage.total_gib:.1f} GiB"
                    found.append((f"{head}: {text}" if stage is self.stages[0] else text, stage.memory_gib))
            else:
                where = "fullest stage: " if one.layout.pp > 1 else ""
                found.append((f"{head}: {where}{one.peak_memory_gib:.1f} GiB", one.memory_gib))
        return found


def draw(scene: Scene, folder: Path) -> dict[str, str]:
    """Write the pictures into `pictures/` of a plan's folder; the same scene gives the same bytes.

    Returns:
        Markdown that shows them, by the part of the report it belongs to (time, memory, frontier, history); without
        matplotlib only `summary`, a line that says how to get them.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return {"summary": HOW_TO_GET}
    painters: dict[str, Callable[[Scene, Figure], None]] = {
        "time": _draw_time, "memory": _draw_memory, "frontier": _draw_frontier, "history": _draw_history,
    }  # fmt: skip
    (folder / FOLDER).mkdir(exist_ok=True)
    with mpl.rc_context():
        mpl.rcdefaults()  # a user's own style would change the bytes
        mpl.rcParams.update(_SETTINGS)
        for name, paint in painters.items():
            figure = Figure(figsize=(_WIDTH, 4.0), layout="constrained")
            paint(scene, figure)
            _save(figure, folder / FOLDER / f"{name}.svg")
    return {name: f"![{_ALT[name]}]({FOLDER}/{name}.svg)" for name in painters}


def _save(figure: Figure, path: Path) -> None:
    """Write by rename, so that a picture is there whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": "fyc"})
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as stream:
        stream.write(buffer.getvalue())
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _tried(space: Space, content: PoolContent) -> list[Tried]:
    """Every layout that was tried, in the order of the first trials."""
    groups: dict[str, list[Message]] = {}
    for message in content.of_type("trial"):
        groups.setdefault(message.subject or "", []).append(message)
    expected = {
        message.subject: message.payload.estimate
        for message in content.of_type("validation")
        if isinstance(message.payload, Validation)
    }
    found = []
    for proposal, messages in groups.items():
        trials = [message.payload for message in messages if isinstance(message.payload, Trial)]
        seconds = [trial.iteration_s for trial in trials if trial.iteration_s is not None]
        memory = [trial.peak_memory_gib for trial in trials if trial.peak_memory_gib is not None]
        known = expected.get(proposal, {})
        layout = content.layout_of(messages[0])
        if layout is None:
            continue
        if not {"iteration_s", "peak_memory_gib"} <= known.keys():
            one = space.expected(layout)
            known = {"iteration_s": one.iteration_s, "peak_memory_gib": one.peak_memory_gib}
        found.append(
            Tried(
                layout,
                median(seconds) if seconds else None,
                known["iteration_s"],
                max(memory) if memory else known["peak_memory_gib"],
                "ok" if seconds else trials[-1].status,
            )
        )
    return found


def _draw_time(scene: Scene, figure: Figure) -> None:
    """Pairs of bars, the largest cause on top; what takes less than a part in 2000 of both is left out."""
    sides = scene.sides
    names = [
        name
        for name in sorted(PART_NAMES, key=lambda name: -max(one.time_s[name] for _, one, _ in sides))
        if any(one.time_s[name] > 0.0005 * one.iteration_s for _, one, _ in sides)
    ]
    figure.set_size_inches(_WIDTH, 1.3 + (0.22 + 0.2 * len(sides)) * len(names))
    axes: Axes = figure.subplots()
    thick = 0.8 / len(sides)
    for index, (label, one, colour) in enumerate(sides):
        places = [row - 0.4 + thick * (index + 0.5) for row in range(len(names))]
        seconds = [one.time_s[name] for name in names]
        bars = axes.barh(places, seconds, 0.92 * thick, color=colour, label=f"{label}: {one.iteration_s:.3f} s in all")
        axes.bar_label(bars, [f"{value:.3f}" if value else "none" for value in seconds], padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [PART_NAMES[name] for name in names])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.09, y=0.01)
    axes.set_xlabel("seconds of one step, as the cost model expects them")
    _grid(axes, "x")
    _legend(figure, axes, 2)


def _draw_memory(scene: Scene, figure: Figure) -> None:
    """One stacked bar a stage of the chosen layout and one for the customary setting, with the limit behind them."""
    bars = scene.bars
    figure.set_size_inches(_WIDTH, 2.1 + 0.62 * len(bars))
    axes: Axes = figure.subplots()
    end = 1.02 * max(scene.capacity_gib, *(sum(sizes.values()) for _, sizes in bars))
    used = [name for name in _MEMORY if any(sizes[name] >= 0.05 for _, sizes in bars)]
    for name in used:
        colour = _MEMORY[name]
        for row, (_, sizes) in enumerate(bars):
            start = sum(sizes[before] for before in used[: used.index(name)])
            label = MEMORY_NAMES[name] if row == 0 else None
            axes.barh(row, sizes[name], 0.5, left=start, color=colour, edgecolor="white", label=label)
            if sizes[name] > 0.045 * end:
                ink = "white" if colour in _DARK else INK
                text = f"{sizes[name]:.1f}"
                axes.text(start + sizes[name] / 2, row, text, ha="center", va="center", color=ink, fontsize=9)
    for row, (text, _) in enumerate(bars):
        axes.text(0.003 * end, row - 0.29, text, ha="left", va="bottom", fontsize=9, parse_math=False)
    axes.axvspan(
        scene.limit_gib, scene.capacity_gib, facecolor="none", edgecolor=PALE, hatch="////", lw=0, zorder=0,
        label=f"reserve: {scene.reserve_gib:g} GiB",
    )  # fmt: skip
    axes.axvline(scene.limit_gib, color=INK, ls="--", lw=1.2, label=f"limit: {scene.limit_gib:.1f} GiB")
    axes.set_xlim(0, end)
    axes.set_ylim(len(bars) - 0.65, -0.62)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("GiB on one GPU, as the cost model expects them")
    _legend(figure, axes, 4)


def _draw_frontier(scene: Scene, figure: Figure) -> None:
    """Time to the right, free memory upwards: better is up and to the left."""
    axes: Axes = figure.subplots()
    figure.set_size_inches(_WIDTH, 4.6)
    limit = scene.limit_gib
    axes.plot(
        [one.iteration_s for one in scene.frontier],
        [limit - one.peak_memory_gib for one in scene.frontier],
        color=PALE, lw=1.5, marker="o", ms=4, mfc="white", mec="#777777", drawstyle="steps-post",
        label="frontier: nothing is both faster and smaller (cost model)",
    )  # fmt: skip
    kind = "simulated" if all(trial.simulated for trial in scene.trials) else "measured"
    marked = {one.layout.key() for _, one, _ in scene.sides}
    ran = [one for one in scene.tried if one.seconds is not None and one.layout.key() not in marked]
    if ran:
        axes.scatter(
            [one.seconds or 0.0 for one in ran], [limit - one.memory_gib for one in ran],
            color=SKY, edgecolor=INK, lw=0.6, s=34, zorder=3, label=f"other tried layouts ({kind})",
        )  # fmt: skip
    for status, (label, marker) in _FAILURES.items():
        lost = [one for one in scene.tried if one.status == status]
        if lost:
            axes.scatter(
                [one.expected_s for one in lost], [limit - one.memory_gib for one in lost],
                color=RED, marker=marker, s=40, zorder=3, label=f"{label}, where the cost model expected it",
            )  # fmt: skip
    marks = []
    if scene.best is not None and scene.best_s is not None:
        marks.append((f"chosen layout ({kind})", scene.best, scene.best_s, "*", BLUE, 190))
    if scene.expert_s is not None and len(scene.sides) > 1:
        marks.append((f"customary setting ({kind})", scene.expert, scene.expert_s, "D", ORANGE, 60))
    for label, one, seconds, marker, colour, size in marks:
        axes.scatter(
            [seconds], [limit - one.peak_memory_gib], color=colour, edgecolor=INK, lw=0.6, marker=marker, s=size,
            zorder=4, label=label,
        )  # fmt: skip
    axes.axhline(0, color=INK, ls="--", lw=1.2, label="memory limit")
    axes.set_xlabel("seconds of one step")
    axes.set_ylabel("memory left below the limit (GiB)")
    _grid(axes, "both")
    _legend(figure, axes, 2)


def _draw_history(scene: Scene, figure: Figure) -> None:
    """Trials in order; those that gave no time stand at the upper edge."""
    axes: Axes = figure.subplots()
    times = [(number, trial.iteration_s) for number, trial in enumerate(scene.trials, 1)]
    ran = [(number, seconds) for number, seconds in times if seconds is not None]
    lowest = [min(seconds for at, seconds in ran if at <= number) for number, _ in ran]
    last = len(scene.trials)
    if ran:
        axes.plot(
            [*(number for number, _ in ran), last + 0.5], [*lowest, lowest[-1]],
            color=BLUE, lw=2, drawstyle="steps-post", label="best so far", zorder=2,
        )  # fmt: skip
        axes.scatter(
            [number for number, _ in ran], [seconds for _, seconds in ran],
            color=SKY, edgecolor=INK, lw=0.6, s=34, zorder=3, label="trial",
        )  # fmt: skip
    else:
        axes.set_yticks([])
    if scene.expert_s is not None:
        axes.axhline(scene.expert_s, color=ORANGE, ls="--", lw=1.8, label="customary setting", zorder=1)
    for status, (label, marker) in _FAILURES.items():
        lost = [number for number, trial in enumerate(scene.trials, 1) if trial.status == status]
        if lost:
            axes.scatter(
                lost, [0.97] * len(lost), color=RED, marker=marker, s=40, transform=axes.get_xaxis_transform(),
                label=f"{label} (no time)", zorder=3,
            )  # fmt: skip
    axes.margins(y=0.12)
    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # type: ignore[call-arg]
    axes.set_xlabel("trial")
    axes.set_ylabel("seconds of one step")
    _grid(axes, "y")
    _legend(figure, axes, 4)


def _grid(axes: Axes, axis: Any) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis=axis, color="#e6e6e6", lw=0.8)


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, len(labels)), fontsize=9)
