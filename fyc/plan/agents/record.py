"""What roles write into the pool: one function for each kind of message, so that references are never forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fyc.errors import FycError
from fyc.plan.estimate import Estimate
from fyc.plan.executor import TrialResult
from fyc.plan.layout import Layout
from fyc.plan.messages import Decision, Diagnosis, Fact, Failure, Message, Proposal, Report, Trial, Validation
from fyc.plan.pool import MessagePool

_LOG_CHARACTERS = 4_000


@dataclass
class Record:
    """Writes messages of one iteration."""

    pool: MessagePool
    iteration: int = 0

    def fact(self, name: str, value: float | str | bool, unit: str = "", source: str = "") -> Message:
        """A fact of the analyst."""
        payload = Fact(name=name, value=value, unit=unit, source=source)
        return self.pool.append(payload, iteration=self.iteration, role="analyst")

    def proposal(self, layout: Layout, origin: str, edit: str = "", refs: Sequence[str] = (), **by: object) -> Message:
        """A proposal of the strategist; of a layout that was proposed before, the message that did."""
        known = self.pool.content.proposal(layout)
        if known is not None:
            return known
        payload = Proposal.model_validate({"layout": layout, "origin": origin, "edit": edit})
        return self.pool.append(payload, iteration=self.iteration, role="strategist", refs=refs, **by)  # type: ignore[arg-type]

    def validation(self, proposal: Message, reasons: Sequence[str], expected: Estimate) -> Message:
        """What the validator says."""
        figures = {"iteration_s": expected.iteration_s, "peak_memory_gib": expected.peak_memory_gib}
        payload = Validation(proposal=proposal.id, ok=not reasons, reasons=tuple(reasons), estimate=figures)
        return self.pool.append(payload, iteration=self.iteration, role="validator", refs=[proposal.id])

    def trial(self, proposal: Message, executor: str, result: TrialResult) -> Message:
        """What the executor found."""
        payload = Trial(
            proposal=proposal.id, status=result.status, executor=executor, simulated=result.simulated,
            iteration_s=result.iteration_s, spread_s=result.spread_s, tokens_per_s_per_gpu=result.tokens_per_s_per_gpu,
            peak_memory_gib=result.peak_memory_gib, breakdown=dict(result.breakdown), log=result.log[-_LOG_CHARACTERS:],
        )  # fmt: skip
        return self.pool.append(payload, iteration=self.iteration, role="executor", refs=[proposal.id])

    def diagnosis(self, trial: Message, role: str, cause: str, detail: str, evidence: Sequence[str]) -> Message:
        """What an analyst of bottlenecks or failures says."""
        payload = Diagnosis(trial=trial.id, cause=cause, detail=detail, evidence=tuple(evidence))
        return self.pool.append(payload, iteration=self.iteration, role=role, refs=[trial.id])

    def decision(
        self,
        choice: str,
        layout: Layout | None,
        options: Sequence[str],
        rationale: str,
        refs: Sequence[str],
        **by: object,
    ) -> Message:
        """What a reasoner chose."""
        payload = Decision(choice=choice, layout=layout, options=tuple(options))
        return self.pool.append(
            payload,
            iteration=self.iteration,
            role="strategist",
            refs=refs,
            rationale=rationale,
            **by,  # type: ignore[arg-type]
        )

    def failure(self, error: FycError, attempted_by: str, fallback: str) -> Message:
        """An error of the planner itself."""
        payload = Failure(
            code=error.code, what=error.what[:2000], where=error.where[:2000], why=error.why[:2000],
            next=error.next[:2000], attempted_by=attempted_by, fallback=fallback,
        )  # fmt: skip
        return self.pool.append(payload, iteration=self.iteration, role="coordinator")

    def report(self, text: str, figures: dict[str, float], refs: Sequence[str]) -> Message:
        """A statement of the reporter."""
        payload = Report(text=text, figures=figures)
        return self.pool.append(payload, iteration=self.iteration, role="reporter", refs=refs)
