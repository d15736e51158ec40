"""The reporter: writes report.md from the pool, so that every number in it is one that a message holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fyc.errors import CODES
from fyc.plan.agents.coordinator import Outcome
from fyc.plan.agents.reasons import reason_lines
from fyc.plan.agents.record import Record
from fyc.plan.agents.space import Space
from fyc.plan.estimate import Estimate
from fyc.plan.legal import Limits
from fyc.plan.messages import Decision, Diagnosis, Failure, Message, Trial, Validation
from fyc.plan.pool import MessagePool, PoolContent
from fyc.plan.search import Search
from fyc.plan.stages import StageMemory, memory_by_stage, some_stages

#: What the causes of time and memory are called where people read them.
PART_NAMES = {
    "product": "matrix products",
    "attention": "attention",
    "streaming": "memory-bound kernels",
    "head": "output projection and loss",
    "tensor": "tensor parallel traffic",
    "context": "context parallel traffic",
    "expert": "expert parallel traffic",
    "host": "waiting for the host",
    "boundary": "sending between stages",
    "bubble": "pipeline bubble",
    "data": "gradient reduction",
    "shard": "gathering parameters",
    "optimizer": "optimizer",
}
MEMORY_NAMES = {
    "weights": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "activations": "activations",
    "logits": "logits",
    "gathered": "gathered parameters",
    "fragmentation": "fragmentation",
    "workspace": "workspace",
    "communication": "NCCL buffers",
    "context": "CUDA context",
}
#: Where the launch files are named once they are written (`fyc.plan.agents.files`); Markdown does not show it.
FILES_MARK = "<!-- files -->"
MOST_STAGES = 6
_CHOICES = 5  # layouts of the frontier that are listed
_CELL = 400


@dataclass(frozen=True)
class Story:
    """What a report is written from.

    Attributes:
        pool: what the team said.
        space: what it moved in.
        outcome: how it ended.
        found: the search over all legal layouts.
        limits: what the user fixed.
        pictures: Markdown to add, by part of the report (`fyc.plan.pictures.draw`).
    """

    pool: MessagePool
    space: Space
    outcome: Outcome
    found: Search
    limits: Limits | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)

    def picture(self, part: str) -> list[str]:
        """The picture of a part as lines of Markdown, none where there is none."""
        return [self.pictures[part], ""] if part in self.pictures else []


def write_report(story: Story) -> str:
    """The report as Markdown. The figures it needs and the pool does not hold yet are put there first."""
    pool, space, outcome = story.pool, story.space, story.outcome
    record = Record(pool, iteration=max((m.iteration for m in pool.content), default=0))
    parts = [f"# Plan for {_text(space.job.model.name)} on {space.job.cluster.gpus} x {space.job.cluster.gpu.name}", ""]
    if outcome.best is None:
        parts += _nothing_ran(story) + _rejections(record, story) + _history(story)
        return "\n".join(parts) + "\n"
    best = space.expected(outcome.best)
    stages = some_stages(memory_by_stage(space.job, outcome.best, space.correction), MOST_STAGES)
    message = _state(record, story, best, stages)
    parts += [*_summary(story, best, message), FILES_MARK, "", *story.picture("summary")]
    parts += [
        "## Why this layout",
        "",
        "The best other value of each field, all else equal, as the cost model sees it:",
    ]
    parts += ["", *reason_lines(record, space, best, story.limits), ""]
    parts += _time(best, message, story) + _memory(best, stages, message, story)
    parts += _frontier(record, story, message) + _rejections(record, story) + _history(story)
    return "\n".join(parts) + "\n"


def _state(record: Record, story: Story, best: Estimate, stages: Sequence[StageMemory]) -> Message:
    """Put the figures of the chosen layout into the pool."""
    job = story.space.job
    limit = job.cluster.gpu.memory_gib.value - job.cluster.reserve_gib
    by_stage = {
        f"stage{stage.number}_{name}": value
        for stage in stages
        for name, value in (*stage.memory_gib.items(), ("total", stage.total_gib), ("layers", float(stage.layers)))
    }
    figures = {
        "iteration_s": best.iteration_s, "low_s": best.iteration_low_s, "high_s": best.iteration_high_s,
        "tokens_per_s_per_gpu": best.tokens_per_s_per_gpu, "tflops_per_gpu": best.tflops_per_gpu, "mfu": best.mfu,
        "peak_memory_gib": best.peak_memory_gib, "limit_gib": limit, "free_gib": limit - best.peak_memory_gib,
        "fit_probability": best.fit_probability,
        "trials": float(story.outcome.trials), "gpus": float(job.cluster.gpus), "stages": float(best.layout.pp),
        **{f"time_{name}": value for name, value in best.time_s.items()},
        **{f"memory_{name}": value for name, value in best.memory_gib.items()}, **by_stage,
    }  # fmt: skip
    trials = record.pool.content.trials(best.layout)
    return record.report(f"{best.layout}: the chosen layout", figures, [m.id for m in trials[:1]])


def _summary(story: Story, best: Estimate, message: Message) -> list[str]:
    content, outcome = story.pool.content, story.outcome
    trials = content.trials(best.layout)
    mine = message.id
    lines = [
        f"**{best.layout}** [{mine}]",
        "",
        f"- step: {best.iteration_s:.3f} s expected, with a probability of 80 % between {best.iteration_low_s:.3f} and "
        f"{best.iteration_high_s:.3f} s [{mine}]; {_calibrated(story.space)}",
        f"- throughput: {best.tokens_per_s_per_gpu:.0f} tokens/s and {best.tflops_per_gpu:.0f} TFLOP/s on a GPU, "
        f"{best.mfu:.1%} of its 16-bit peak [{mine}]",
        f"- memory: {best.peak_memory_gib:.1f} GiB on the fullest GPU, {best.memory_gib['context']:.1f} of them the "
        f"CUDA context; {_free(story, best)}; with a probability of {best.fit_probability:.0%} the GPU "
        f"holds it [{mine}]",
    ]
    if outcome.expert_s is not None and outcome.best_s is not None and outcome.gain is not None:
        simulated = all(m.payload.simulated for m in trials if isinstance(m.payload, Trial))
        kind = "simulated, no training ran" if simulated else "measured"
        custom = [m.id for m in content.trials(outcome.expert)]
        cited = ", ".join(dict.fromkeys([*custom, *(m.id for m in trials)]))
        if outcome.best == outcome.expert:
            lines.append(f"- this is the customary setting: {outcome.best_s:.3f} s, {kind} [{cited}]")
        else:
            lines.append(
                f"- {outcome.gain:+.2%} throughput over the customary setting, {outcome.expert}: "
                f"{outcome.best_s:.3f} s instead of {outcome.expert_s:.3f} s a step, {kind} [{cited}]"
            )
    elif outcome.expert_s is None:
        cited = ", ".join(m.id for m in content.trials(outcome.expert))
        lines.append(f"- the customary setting, {outcome.expert}, did not run [{cited}]")
    lines += [f"- trials: {outcome.trials} [{mine}]; {outcome.reason}", f"- who decided: {_who(content)}"]
    failed = content.of_type("error")
    if failed:
        cited = ", ".join(m.id for m in failed)
        codes = dict.fromkeys(m.payload.code for m in failed if isinstance(m.payload, Failure))
        why = "; ".join(f"`{code}`: {CODES[code]}" for code in codes)
        lines.append(f"- a language model failed and the rules decided instead, once in each of [{cited}] ({why})")
    if story.limits is not None and story.limits.names:
        lines.append(f"- you asked for: {', '.join(f'`{text}`' for text in story.limits.texts)}")
    return [*lines, ""]


def _free(story: Story, best: Estimate) -> str:
    reserve = f"a reserve of {story.space.job.cluster.reserve_gib:g} GiB stays free"
    limit = story.space.job.cluster.gpu.memory_gib.value - story.space.job.cluster.reserve_gib
    return f"{limit:.1f} GiB may be used" if best.fits else f"more than the {limit:.1f} GiB of which {reserve}"


def _calibrated(space: Space) -> str:
    if space.correction is None:
        return "not calibrated on this cluster (`fyc plan calibrate` does that from a training log)"
    return "calibrated" + (f" on `{_text(space.correction.source)}`" if space.correction.source else "")


def _who(content: PoolContent) -> str:
    """Which reasoner made which decision."""
    by: dict[str, list[str]] = {}
    for message in content.of_type("decision"):
        by.setdefault(message.reasoner, []).append(message.id)
    chose = ", ".join(f"`{_text(who)}` in [{', '.join(ids)}]" for who, ids in sorted(by.items()))
    tried = {trial.subject for trial in content.of_type("trial")}
    verdicts = [m for m in content.of_type("validation") if m.subject in tried and isinstance(m.payload, Validation)]
    approved = all(m.payload.ok for m in verdicts if isinstance(m.payload, Validation))
    first = "" if not approved else "; the validator, which no reasoner overrules, approved every layout that was tried"
    return f"{chose or 'nobody had anything to decide'}{first}"


def _nothing_ran(story: Story) -> list[str]:
    outcome = story.outcome
    return [
        f"**No layout ran: {outcome.reason}.**", "",
        "Every trial failed; `What was tried` says how. `fyc plan resume` with a larger `--trials` goes on.", "",
    ]  # fmt: skip


def _time(best: Estimate, message: Message, story: Story) -> list[str]:
    lines = [f"## Where the time goes [{message.id}]", "", "| part | seconds | share |", "|---|---|---|"]
    for name, seconds in sorted(best.time_s.items(), key=lambda item: -item[1]):
        if seconds > 0.0005 * best.iteration_s:
            lines.append(f"| {PART_NAMES[name]} | {seconds:.3f} | {seconds / best.iteration_s:.1%} |")
    return [*lines, "", *story.picture("time")]


def _memory(best: Estimate, stages: Sequence[StageMemory], message: Message, story: Story) -> list[str]:
    """What a GPU holds; a column for each stage where there is a pipeline."""
    if best.layout.pp == 1:
        names, columns = ["GiB"], [best.memory_gib]
    else:
        names = [f"stage {stage.number}: {stage.layers} layers" for stage in stages]
        columns = [stage.memory_gib for stage in stages]
    order = sorted(MEMORY_NAMES, key=lambda name: -max(column[name] for column in columns))
    lines = [f"## Where the memory goes [{message.id}]", ""]
    lines += [f"| part, GiB | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name in order:
        if any(column[name] >= 0.05 for column in columns):
            lines.append(f"| {MEMORY_NAMES[name]} | {' | '.join(f'{column[name]:.1f}' for column in columns)} |")
    lines.append(f"| together | {' | '.join(f'{sum(column.values()):.1f}' for column in columns)} |")
    if best.layout.pp > len(stages):
        lines += ["", f"{len(stages)} of the {best.layout.pp} stages; those between are like their neighbours."]
    return [*lines, "", *story.picture("memory")]


def _frontier(record: Record, story: Story, message: Message) -> list[str]:
    """Layouts for those who want more memory left, and the picture of all of them."""
    lines = ["## Slower, but smaller", ""]
    frontier = story.found.frontier
    step = max(1, -(-len(frontier) // _CHOICES))
    chosen = [one for one in frontier[::step] if one.layout.key() != (story.outcome.best or one.layout).key()]
    if chosen:
        lines += [
            "Nothing is both faster and smaller than these, as the cost model sees it; `plan.json` has them all.",
            "",
        ]
        lines += ["| | layout | seconds | GiB |", "|---|---|---|---|"]
    for one in chosen:
        figures = {"iteration_s": one.iteration_s, "peak_memory_gib": one.peak_memory_gib}
        stated = record.report(f"{one.layout}: on the frontier", figures, [])
        lines.append(f"| {stated.id} | {one.layout} | {one.iteration_s:.3f} | {one.peak_memory_gib:.1f} |")
    lines += [""] if chosen else ["Nothing that fits needs less memory than the chosen layout.", ""]
    if "frontier" not in story.pictures:
        return lines
    expert = story.space.expected(story.outcome.expert)
    figures = {"iteration_s": expert.iteration_s, "peak_memory_gib": expert.peak_memory_gib}
    figures |= {f"time_{name}": value for name, value in expert.time_s.items()}
    figures |= {f"memory_{name}": value for name, value in expert.memory_gib.items()}
    other = record.report(f"{expert.layout}: the customary setting", figures, [])
    sources = f"the chosen layout [{message.id}], the customary setting [{other.id}], the trials below"
    return [*lines, story.pictures["frontier"], "", f"The pictures show {sources} and the frontier in `plan.json`.", ""]


def _rejections(record: Record, story: Story) -> list[str]:
    rejected = story.found.rejected
    figures = {"considered": float(story.found.considered)}
    figures |= {f"rejected_{index}": float(count) for index, count in enumerate(rejected.values())}
    message = record.report("what the search left out", figures, [])
    lines = ["## What was rejected", "", f"{story.found.considered} legal layouts were looked at [{message.id}]:", ""]
    lines += [f"- {count}: {why} [{message.id}]" for why, count in rejected.items()]
    content = story.pool.content
    for found in content.of_type("validation"):
        if isinstance(found.payload, Validation) and not found.payload.ok:
            why = _text("; ".join(found.payload.reasons))
            lines.append(f"- the validator refused {content.layout_of(found)}: {why} [{found.id}]")
    return [*lines, ""]


def _history(story: Story) -> list[str]:
    lines = ["## What was tried", "", *story.picture("history")]
    lines += ["| | layout | result | limited by | who decided, why |", "|---|---|---|---|---|"]
    content = story.pool.content
    for trial in content.of_type("trial"):
        payload = trial.payload
        if not isinstance(payload, Trial):
            continue
        diagnosis = next((m.payload for m in content.of_type("diagnosis") if m.subject == trial.id), None)
        cause = diagnosis.cause.replace("_", " ") if isinstance(diagnosis, Diagnosis) else ""
        decision = _decision_for(content, trial)
        why = f"{decision.reasoner} [{decision.id}]: {decision.rationale}" if decision else "the customary setting"
        lines.append(f"| {trial.id} | {content.layout_of(trial)} | {_result(payload)} | {cause} | {_cell(why)} |")
    return [*lines, ""]


def _result(trial: Trial) -> str:
    memory = "" if trial.peak_memory_gib is None else f", {trial.peak_memory_gib:.1f} GiB"
    return (trial.status if trial.iteration_s is None else f"{trial.iteration_s:.3f} s") + memory


def _decision_for(content: PoolContent, trial: Message) -> Message | None:
    proposal = content[trial.subject] if trial.subject else None
    refs = proposal.refs if proposal else ()
    return next((content[ref] for ref in refs if isinstance(content[ref].payload, Decision)), None)


def _cell(text: str) -> str:
    """Text that somebody else wrote, in a cell of a table."""
    text = _text(text).replace("|", "\\|")
    return text if len(text) <= _CELL else text[: _CELL - 3] + "..."


def _text(text: str) -> str:
    """Text that somebody else wrote, on one line and without the marks that Markdown or HTML would act on."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat.replace("`", "'").replace("<", "&lt;").replace("![", "! [").replace("](", "] (")
