"""The coordinator: runs the loop of proposing, validating, trying and diagnosing until the budget is spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from fyc.errors import EndpointError
from fyc.plan.agents.record import Record
from fyc.plan.agents.space import Space
from fyc.plan.bottleneck import bottlenecks
from fyc.plan.calibrate import Observation, calibrate
from fyc.plan.edits import BOTTLENECKS, FAILURES, Edit, Task
from fyc.plan.estimate import estimate
from fyc.plan.executor import Executor, TrialResult
from fyc.plan.layout import Layout, Layouts
from fyc.plan.messages import Message, Trial, Validation
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import Choice, Reasoner, RuleReasoner
from fyc.plan.view import SUBSCRIPTIONS, view

OPTIONS = 8  # edits that a reasoner chooses from
LEADERS = 2  # layouts far from the best one that the cost model expects most of
MAY_ERR = 0.08  # how far the cost model may be off before any trial says better
CERTAIN = 3.0  # standard errors by which a layout must beat the customary setting, where trials scatter
WORTH = 0.005  # gain below which the customary setting stays, where trials scatter
LEARN_FROM = 2  # trials that ran before the cost model learns from them


@dataclass(frozen=True)
class Outcome:
    """How a run of the team ended. Seconds of a step."""

    expert: Layout
    expert_s: float | None
    best: Layout | None
    best_s: float | None
    best_iteration: int
    trials: int
    reason: str

    @property
    def gain(self) -> float | None:
        """Throughput of the best over the expert's, less 1."""
        return None if self.expert_s is None or self.best_s is None else self.expert_s / self.best_s - 1


class Coordinator:
    """A team on one job.

    Args:
        space: layouts that may be tried.
        executor: what tries them.
        reasoner: who chooses among the edits; when it fails, rules take its place and the pool says so.
        pool: where every message goes; what it holds already is taken as done.
        budget: trials in all, the expert's included.
        confirm: how many of them to keep for trying the best layout and the expert's again, where trials are noisy.
        learn: whether the cost model is calibrated on the trials so far.
        watch: called with every message, for a live view.
    """

    def __init__(
        self,
        space: Space,
        executor: Executor,
        reasoner: Reasoner,
        pool: MessagePool,
        *,
        budget: int = 20,
        confirm: int = 0,
        learn: bool = True,
        watch: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self.space, self.executor, self.reasoner, self.pool = space, executor, reasoner, pool
        self.budget, self.confirm, self.learn, self._watch = budget, confirm, learn, watch
        self._record = Record(pool)
        self._rules = RuleReasoner()

    def run(self, expert: Layout) -> Outcome:
        """Start from the expert's layout and improve on it."""
        if not self.pool.content.of_type("fact"):
            self._state_facts()
        if not self.pool.content.trials(expert):
            self._try(expert, "expert", "", ())
        for layout in self._unfinished():
            if self._count() < self.budget:
                self._run(layout)
        reason = "the budget of trials is spent"
        while self._count() < self.budget - self.confirm:
            self._record.iteration += 1
            base = self._base(expert)
            space = self._learned()
            options = self._options(space, base)
            if not options:
                reason = "nothing is left that may be faster"
                break
            choice, decision = self._choose(space, base, options)
            if choice.index is None:
                reason = "the reasoner sees nothing worth trying"
                break
            edit = options[choice.index]
            self._try(edit.layout, "edit", edit.name[:2000], (decision.id,))
        self._confirm(expert)
        return self._outcome(expert, reason)

    def _unfinished(self) -> list[Layout]:
        """Layouts that were approved, but whose trial was interrupted."""
        content = self.pool.content
        ended = {message.subject for message in content.of_type("trial")}
        layouts = [
            content.layout_of(message)
            for message in content.of_type("validation")
            if isinstance(message.payload, Validation) and message.payload.ok and message.subject not in ended
        ]
        return [layout for layout in dict.fromkeys(layouts) if layout is not None]

    def _confirm(self, expert: Layout) -> None:
        """Try the best layout and the expert's again: the fastest of many noisy trials looks better than it is."""
        while self.confirm and self._count() < self.budget:
            ranked = sorted(self._medians().items(), key=lambda item: item[1])
            doubtful = [layout for layout, _ in (*ranked[:1], *((k, v) for k, v in ranked if k == expert))]
            again = [layout for layout in doubtful if len(self.pool.content.trials(layout)) < 1 + self.confirm // 2]
            if len(ranked) < 2 or ranked[0][0] == expert or not again:
                return
            self._record.iteration += 1
            self._run(again[0])

    def _medians(self) -> dict[Layout, float]:
        """Median time of every layout that ran."""
        return {layout: median(values) for layout, values in self._times().items()}

    def _times(self) -> dict[Layout, list[float]]:
        """Times of every layout that ran."""
        times: dict[Layout, list[float]] = {}
        for message in self.pool.content.of_type("trial"):
            layout = self.pool.content.layout_of(message)
            if isinstance(message.payload, Trial) and message.payload.iteration_s and layout:
                times.setdefault(layout, []).append(message.payload.iteration_s)
        return times

    def _state_facts(self) -> None:
        """The analyst: what the model, the cluster and the job are."""
        job = self.space.job
        facts: list[tuple[str, float | str, str, str]] = [
            ("model", job.model.name, "", "model configuration"),
            ("parameters", job.model.parameters, "", "model configuration"),
            ("layers", job.model.layers, "", "model configuration"),
            ("sequence", job.sequence, "tokens", "job"),
            ("global batch", job.global_batch, "sequences", "job"),
            ("precision", job.precision, "", "job"),
            ("GPU", job.cluster.gpu.name, "", "cluster"),
            ("GPUs", job.cluster.gpus, "", "cluster"),
            ("memory of a GPU", job.cluster.gpu.memory_gib.value, "GiB", job.cluster.gpu.memory_gib.source),
            ("network of a GPU", job.cluster.network_gbs, "GB/s", "cluster"),
            ("framework", job.stack.name, "", job.stack.source),
            ("layouts that may be tried", len(self.space.estimates.layouts), "", "search"),
        ]
        for name, value, unit, source in facts:
            self._watch(self._record.fact(name, value, unit, source))

    def _count(self) -> int:
        return len(self.pool.content.of_type("trial"))

    def _base(self, expert: Layout) -> Layout:
        medians = self._medians()
        return min(medians, key=medians.__getitem__) if medians else expert

    def _tried(self) -> frozenset[str]:
        content = self.pool.content
        layouts = [content.layout_of(message) for message in content.of_type("proposal")]
        return frozenset(layout.key() for layout in layouts if layout is not None)

    def _options(self, space: Space, base: Layout) -> list[Edit]:
        """Edits near the best layout, and the leaders of the whole space."""
        tried = self._tried()
        options = space.edits(base, tried, OPTIONS)
        known = {edit.layout.key() for edit in options} | tried
        for layout in space.best(LEADERS + len(known)):
            if layout.key() not in known and len(options) < OPTIONS + LEADERS:
                one = space.expected(layout)
                options.append(
                    Edit(base=base, layout=layout, iteration_s=one.iteration_s, peak_memory_gib=one.peak_memory_gib)
                )
        worth = space.expected(base).iteration_s * (1 + self._doubt(space))
        return sorted((o for o in options if (o.iteration_s or 0.0) < worth), key=lambda edit: edit.iteration_s or 0.0)

    def _doubt(self, space: Space) -> float:
        """How much slower than the best a layout may look and still be worth a trial: twice the error of the cost model
        on the trials so far."""
        medians = self._medians()
        if len(medians) < LEARN_FROM:
            return MAY_ERR
        errors = [abs(space.expected(layout).iteration_s / seconds - 1) for layout, seconds in medians.items()]
        return 2 * max(errors)

    def _learned(self) -> Space:
        """The space as a cost model calibrated on the trials so far sees it."""
        seen = []
        for message in self.pool.content.of_type("trial"):
            layout = self.pool.content.layout_of(message)
            if isinstance(message.payload, Trial) and message.payload.iteration_s and layout:
                seen.append(Observation(self.space.job, layout, seconds=message.payload.iteration_s))
        if not self.learn or len(seen) < LEARN_FROM:
            return self.space
        return self.space.learned(calibrate(seen, source="trials of this run", check=False))

    def _choose(self, space: Space, base: Layout, options: list[Edit]) -> tuple[Choice, Message]:
        """The strategist: ask the reasoner, or the rules where it fails."""
        trials = self.pool.content.trials(base)
        diagnoses = [m for m in self.pool.content.of_type("diagnosis") if trials and m.subject == trials[-1].id]
        cause = diagnoses[-1].payload.cause if diagnoses else ""  # type: ignore[union-attr]
        goal = "faster" if self._medians() else "runnable"
        refs = tuple(message.id for message in (*trials[-1:], *diagnoses[-1:]))
        now = space.expected(base).iteration_s
        task = Task.model_validate({"goal": goal, "layout": base, "cause": cause, "refs": refs, "iteration_s": now})
        seen = view(self.pool.content, SUBSCRIPTIONS["strategist"])
        try:
            choice = self.reasoner.choose("strategist", task, seen, options)
        except EndpointError as error:
            self._watch(self._record.failure(error, self.reasoner.name, self._rules.name))
            choice = self._rules.choose("strategist", task, seen, options)
        decision = self._record.decision(
            "" if choice.index is None else options[choice.index].name[:2000],
            None if choice.index is None else options[choice.index].layout,
            [edit.name[:2000] for edit in options],
            choice.rationale,
            choice.refs or refs,
            reasoner=choice.reasoner,
            tokens=choice.tokens,
            prompt_sha=choice.prompt_sha,
        )
        self._watch(decision)
        return choice, decision

    def _try(self, layout: Layout, origin: str, edit: str, refs: tuple[str, ...]) -> None:
        """Validator, executor and the two analysts on one layout."""
        proposal = self._record.proposal(layout, origin, edit, refs)
        self._watch(proposal)
        expected = self.space.expected(layout)
        reasons = self.space.approve(layout)
        self._watch(self._record.validation(proposal, reasons, expected))
        if not reasons or origin == "expert":
            self._run(layout)

    def _run(self, layout: Layout) -> None:
        """The executor on a layout that was proposed, and what the analysts say."""
        proposal = self.pool.content.proposal(layout)
        assert proposal is not None
        result = self.executor.run(self.space.job, layout, len(self.pool.content.trials(layout)))
        trial = self._record.trial(proposal, self.executor.name, result)
        self._watch(trial)
        self._watch(self._diagnose(layout, trial, result))

    def _diagnose(self, layout: Layout, trial: Message, result: TrialResult) -> Message:
        if result.status != "ok":
            cause = result.cause or "unknown"
            return self._record.diagnosis(
                trial, "failure", cause, FAILURES.get(cause, ""), result.log.splitlines()[-3:]
            )
        one = estimate(self.space.job, Layouts.of([layout])).one(0)
        breakdown = dict(result.breakdown) or one.time_s
        memory = result.peak_memory_gib or one.peak_memory_gib
        free = 1 - memory / self.space.job.cluster.gpu.memory_gib.value
        found = bottlenecks(layout, breakdown, free)
        evidence = [f"{BOTTLENECKS[name]}: {share:.1%} of the step" for name, share in found[:3]]
        source = "measured" if result.breakdown else "expected by the cost model"
        return self._record.diagnosis(trial, "bottleneck", found[0][0], f"shares are {source}", evidence)

    def _outcome(self, expert: Layout, reason: str) -> Outcome:
        medians = self._medians()
        best = min(medians, key=medians.__getitem__) if medians else None
        if best is not None and best != expert and expert in medians and not self._beats(best, expert):
            best, reason = expert, f"{reason}; nothing is faster than the customary setting by more than trials differ"
        first = self.pool.content.trials(best)[0].iteration if best is not None else 0
        return Outcome(
            expert=expert,
            expert_s=medians.get(expert),
            best=best,
            best_s=None if best is None else medians[best],
            best_iteration=first,
            trials=self._count(),
            reason=reason,
        )

    def _beats(self, layout: Layout, other: Layout) -> bool:
        """Whether a layout is faster than another by more than trials of the same layout differ."""
        times = self._times()
        logs = [np.log(values) for values in times.values() if len(values) > 1]
        freedom = sum(len(values) - 1 for values in logs)
        scatter = np.sqrt(sum(((v - v.mean()) ** 2).sum() for v in logs) / freedom) if freedom else 0.0
        margin = CERTAIN * scatter * np.sqrt(1 / len(times[layout]) + 1 / len(times[other]))
        gain = np.log(median(times[other]) / median(times[layout]))
        return bool(gain > max(margin, WORTH if scatter else 0.0))
