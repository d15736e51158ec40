"""Who decides in `fyc plan`: the reasoner of an option and the environment, and what is said when it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fyc.errors import EndpointError
    from fyc.plan.messages import Message
    from fyc.plan.reasoner import Reasoner

#: What `--reasoner` takes. The last two end with an error when no decision is the language model's.
REASONERS = ("auto", "rules", "llm", "llm-rank")
WANTED = ("llm", "llm-rank")


def make_reasoner(name: str, folder: Path) -> tuple[Reasoner, Callable[[], None]]:
    """The reasoner, and what closes it.

    Raises:
        PlanError: FYC-L24 without the package for language models, FYC-L25 when no endpoint is named, or half of one,
            or a limit is no number.
    """
    from fyc.errors import PlanError
    from fyc.plan.reasoner import LLMReasoner, RankingReasoner, RuleReasoner

    if name not in REASONERS:
        raise typer.BadParameter(f"{name} is not one of {', '.join(REASONERS)}", param_hint="--reasoner")
    from fyc.plan.llm.endpoint import endpoint_from_environment

    endpoint = None if name == "rules" else endpoint_from_environment()
    if endpoint is None:
        if name in WANTED:
            advice = "set OPENAI_BASE_URL or OPENAI_API_KEY, and FYC_PLAN_MODEL"
            raise PlanError("FYC-L25", "no language model is named", next=advice)
        return RuleReasoner(), lambda: None
    from fyc.plan.llm.budget import budget_from_environment, positive
    from fyc.plan.llm.client import LLMClient
    from fyc.plan.llm.transcript import Transcript

    budget, timeout = budget_from_environment(), positive("FYC_PLAN_TIMEOUT", 120)
    transcript = Transcript(folder / "transcript.jsonl")
    client = LLMClient(endpoint, budget=budget, transcript=transcript, timeout=timeout)
    return (RankingReasoner if name == "llm-rank" else LLMReasoner)(client), client.close


class Followed:
    """Counts who decided while messages go by; a failure that repeats the last one is shown once.

    Args:
        show: shows a message to the user.
    """

    def __init__(self, show: Callable[[Message], Any]) -> None:
        self._show = show
        self._first: Any = None
        self._last: tuple[str, str] | None = None
        self._decided: Counter[str] = Counter()
        self.failed = 0

    def __call__(self, message: Message) -> None:
        """Take note of a message, and show it."""
        from fyc.plan.messages import Decision, Failure

        payload = message.payload
        if isinstance(payload, Decision):
            self._decided[message.reasoner] += 1
        elif isinstance(payload, Failure):
            self.failed += 1
            self._first = self._first or payload
            if self._last == (payload.code, payload.why):
                return
            self._last = (payload.code, payload.why)
        self._show(message)

    @property
    def decisions(self) -> dict[str, int]:
        """How many decisions each reasoner made."""
        return dict(self._decided)

    def note(self) -> str:
        """One sentence about calls that failed; empty if none did."""
        if not self.failed:
            return ""
        made = ", ".join(f"{count} by {name}" for name, count in self._decided.items())
        return f"warning: the language model failed {self.failed} times ({self._first.what}); decisions: {made}"

    def failure(self, reasoner: str, folder: Path) -> EndpointError | None:
        """The error to end with: a language model was asked for, and none of the decisions is its own."""
        from fyc.errors import EndpointError

        own = any(name.startswith("llm") for name in self._decided)
        if reasoner not in WANTED or self._first is None or own:
            return None
        first = self._first
        return EndpointError(
            first.code, f"the language model decided nothing: {first.what}", where=first.where, why=first.why,
            next=f"{first.next}; the plan in {folder} is that of the rules",
        )  # fmt: skip
