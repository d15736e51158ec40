"""The client: asks a language model for an object of a given type, and asks again until it is one or it is enough."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

from fyc.errors import EndpointError
from fyc.plan.llm.budget import Budget
from fyc.plan.llm.dialect import Dialect, Turn
from fyc.plan.llm.endpoint import Endpoint
from fyc.plan.llm.ranking import Question, Ranker, Ranking
from fyc.plan.llm.replies import M, UnusableReplyError, content_of, parse
from fyc.plan.llm.transcript import Transcript
from fyc.plan.llm.wire import RejectedError, Wire

#: What is wrong may be wrong again: another reply to the same words takes some chance.
_TEMPERATURE_AGAIN = 0.5
#: How much of an unusable reply the model is shown again.
_QUOTED = 1_500

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a language model answered.

    Attributes:
        value: the object.
        tokens: read and written, with those of replies that could not be used.
        prompt_sha: SHA-256 of the first prompt, in hex: the transcript holds it under the same hash.
        replies: how many replies it took.
    """

    value: T
    tokens: int
    prompt_sha: str
    replies: int


class LLMClient:
    """A language model behind an OpenAI-compatible endpoint.

    Args:
        endpoint: where it answers.
        budget: what all calls together may cost.
        transcript: where prompts and answers are logged; None logs nothing.
        timeout: seconds that one attempt may take.
        retries: how often a call that failed on the way is repeated.
        reasks: how often a reply that cannot be used is sent back.
        max_tokens: tokens of one reply; four times as many where a model was still thinking when they were used up.
        sleep: waits between attempts.

    Raises:
        PlanError: FYC-L24 when the `openai` package is not installed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        budget: Budget | None = None,
        transcript: Transcript | None = None,
        timeout: float = 120.0,
        retries: int = 4,
        reasks: int = 2,
        max_tokens: int = 1024,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint
        self.budget = budget if budget is not None else Budget()
        self._wire = Wire(endpoint, self.budget, transcript, timeout=timeout, retries=retries, sleep=sleep)
        self._ranker = Ranker(self._wire)
        self._reasks, self._max_tokens = reasks, max_tokens
        self._dialect = Dialect()

    def ask(
        self,
        turns: Sequence[Turn],
        reply: type[M],
        *,
        check: Callable[[M], str | None] | None = None,
        purpose: str = "",
    ) -> Answer[M]:
        """An object of type `reply`.

        Args:
            turns: the conversation, each with `role` and `content`.
            reply: the pydantic model of the answer; its JSON schema is given to the server, and checked here.
            check: says what is wrong with an answer that has the right type, or None.
            purpose: for the transcript.

        Raises:
            EndpointError: FYC-L20 to L23 and L28: down, key refused, budget spent, no usable reply, request refused.
        """
        schema = reply.model_json_schema()
        sha = prompt_hash(turns, schema)
        talk, tokens, problem, limit = list(turns), 0, "", self._max_tokens
        for count in range(1 + self._reasks):
            data, used = self._chat(talk, schema, purpose, sha, limit, _TEMPERATURE_AGAIN if count else 0)
            tokens += used
            text = ""
            try:
                text = self.endpoint.redact(content_of(data))
                return Answer(parse(text, reply, check), tokens, sha, count + 1)
            except UnusableReplyError as error:
                problem = str(error)
                limit *= 4 if error.thought_only else 1
            talk = [*turns, *_again(text, problem)]
        raise EndpointError(
            "FYC-L23", f"the language model gave no usable reply in {1 + self._reasks} attempts",
            where=f"{self.endpoint.model} at {self.endpoint.address}", why=self.endpoint.redact(problem),
            next="a larger model may do better; the rules decide without one",
        )  # fmt: skip

    def rank(self, question: Question, *, purpose: str = "") -> Ranking:
        """The choices ranked by how likely the model is to say them; `Ranking.method` is "none" if it cannot tell.

        Raises:
            EndpointError: FYC-L20 to L22: down, key refused, budget spent.
        """
        sha = prompt_hash(question.turns, {"choices": [list(question.choices), list(question.listed)]})
        return self._ranker.rank(question, purpose=purpose, prompt_sha=sha)

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _chat(
        self, turns: Sequence[Turn], schema: dict[str, Any], purpose: str, sha: str, limit: int, temperature: float
    ) -> tuple[dict[str, Any], int]:
        """The server's reply, asked in the first dialect that it takes; that one is remembered."""
        dialect: Dialect | None = self._dialect
        rejection = ""
        while dialect is not None:
            allowed = min(limit, self.budget.tokens_left)
            body = dialect.body(self.endpoint.model, turns, schema, allowed, temperature)
            try:
                answer = self._wire.post("chat", body, purpose=purpose, prompt_sha=sha)
            except RejectedError as error:
                rejection = f"HTTP {error.status}: {error.text[:400]}"
                dialect = None if error.status == 404 else dialect.after(error.text)
            else:
                self._dialect = dialect
                return answer
        raise EndpointError(
            "FYC-L28", "the endpoint does not take the request", where=self.endpoint.address, why=rejection,
            next=f"check that it serves the model {self.endpoint.model} and that OPENAI_BASE_URL is right, with /v1",
        )  # fmt: skip


def prompt_hash(turns: Sequence[Turn], schema: object) -> str:
    """SHA-256, in hex, of a conversation and what it asks for."""
    text = json.dumps([[dict(turn) for turn in turns], schema], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _again(text: str, problem: str) -> list[Turn]:
    """The turns that send a reply back: what was said, what is wrong with it, what to do."""
    quoted = text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
    request = f"This reply cannot be used: {problem}. Reply once more, with the JSON object only and nothing around it."
    return [{"role": "assistant", "content": quoted or "(nothing)"}, {"role": "user", "content": request}]
