"""Ranking: which of given answers a language model finds more likely, whatever it would write by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fyc.plan.llm.dialect import Turn
from fyc.plan.llm.wire import RejectedError, Wire

_LABELS = "ABCDEFGHIJKLMNOPQRST"
#: A text so regular that any model expects its end; servers that give a token the probability of its neighbour do not.
_PROBE = "one two three four " * 6
_PROBE_TOKENS = 6
_PROBE_FLOOR = -1.5


@dataclass(frozen=True)
class Ranking:
    """Log-probabilities of answers.

    Attributes:
        method: `echo` (mean log-probability of an answer's tokens after the prompt), `labels` (log-probability of
            its letter in a list), or `none`.
        scores: natural logarithms, in the order of the choices; None for a letter that the server does not mention.
        why: for `none`, why there are no scores.
        tokens: what the ranking cost.
        prompt_sha: hash of the prompt.
    """

    method: Literal["echo", "labels", "none"]
    scores: tuple[float | None, ...]
    why: str = ""
    tokens: int = 0
    prompt_sha: str = ""

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the choices, the likeliest first; those without a score last, in their order."""
        if self.method == "none":
            return ()
        falling = [math.inf if score is None else -score for score in self.scores]
        return tuple(sorted(range(len(falling)), key=falling.__getitem__))


class _Unavailable(Exception):
    """There are no log-probabilities this way: from this server at all, or for this question."""

    def __init__(self, why: str, *, lasting: bool = True) -> None:
        super().__init__(why)
        self.lasting = lasting


class Ranker:
    """Ranks answers in the best way that a server offers; what it does not offer is not tried again."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._without: dict[str, str] = {}
        self._tokens = 0
        self._probed = False

    def rank(self, turns: Sequence[Turn], choices: Sequence[str], *, purpose: str, prompt_sha: str) -> Ranking:
        """The ranking of choices as the next turn of a conversation; raises the `EndpointError`s of the wire."""
        self._tokens = 0
        call = {"purpose": purpose, "prompt_sha": prompt_sha}
        missing = dict(self._without)
        methods: tuple[tuple[Literal["echo", "labels"], Any], ...] = (("echo", self._echo), ("labels", self._labels))
        for method, function in methods:
            if method in missing or not choices:
                continue
            try:
                return Ranking(method, tuple(function(turns, choices, call)), "", self._tokens, prompt_sha)
            except RejectedError as error:
                missing[method] = self._without[method] = f"HTTP {error.status}: {error.text[:200]}"
            except _Unavailable as error:
                missing[method] = str(error)
                if error.lasting:
                    self._without[method] = str(error)
        why = "; ".join(f"{method}: {text}" for method, text in missing.items()) or "there is nothing to rank"
        return Ranking("none", (None,) * len(choices), why, self._tokens, prompt_sha)

    def _post(
        self, kind: Literal["chat", "completions"], body: dict[str, Any], call: Mapping[str, str]
    ) -> dict[str, Any]:
        reply, tokens = self._wire.post(kind, {"model": self._wire.endpoint.model, **body}, **call)
        self._tokens += tokens
        return reply

    # Echo: the server repeats prompt and answer with the probability of every token.

    def _echo(self, turns: Sequence[Turn], choices: Sequence[str], call: Mapping[str, str]) -> list[float]:
        if not self._probed:
            scores = self._echoed(_PROBE, "one two three four", call)[-_PROBE_TOKENS:]
            if sum(scores) / len(scores) < _PROBE_FLOOR:
                raise _Unavailable("the log-probabilities of an echo are not those of its tokens")
            self._probed = True
        prompt = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns) + "\n\nassistant: "
        found = [self._echoed(prompt, choice, call) for choice in choices]
        return [sum(scores) / len(scores) for scores in found]

    def _echoed(self, prompt: str, answer: str, call: Mapping[str, str]) -> list[float]:
        """Log-probabilities of the tokens of `answer` after `prompt`."""
        # Servers read max_tokens 0 as no limit at all; the one token that is asked for is dropped again.
        body = {"prompt": prompt + answer, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
        reply = self._post("completions", body, call)
        try:
            found = reply["choices"][0]["logprobs"]
            tokens, values = list(found["tokens"]), list(found["token_logprobs"])
            starts = _starts(tokens, prompt + answer)
            ends = [start + len(token) for start, token in zip(starts, tokens, strict=True)]
            inside = [i for i, end in enumerate(ends) if end > len(prompt) and starts[i] < len(prompt + answer)]
            scores = [float(values[i]) for i in inside]
        except (KeyError, IndexError, TypeError, ValueError):
            raise _Unavailable("the completions hold no log-probabilities of an echo") from None
        if not scores or not all(math.isfinite(score) and score <= 1e-6 for score in scores):
            raise _Unavailable("the completions hold no log-probabilities of an echo")
        return scores

    # Labels: the choices get letters, and the first token of the reply is one.

    def _labels(self, turns: Sequence[Turn], choices: Sequence[str], call: Mapping[str, str]) -> list[float | None]:
        if len(choices) > len(_LABELS):
            raise _Unavailable(f"there are more than {len(_LABELS)} choices", lasting=False)
        listed = "\n".join(f"{label}. {choice}" for label, choice in zip(_LABELS, choices, strict=False))
        request = f"The possible answers:\n{listed}\nReply with the letter of the best answer and nothing else."
        messages = [*(dict(turn) for turn in turns), {"role": "user", "content": request}]
        body = {"messages": messages, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        reply = self._post("chat", body, call)
        try:
            entries = [(str(e["token"]), float(e["logprob"])) for e in _top(reply)]
        except (KeyError, IndexError, TypeError, ValueError):
            raise _Unavailable("the chat completions hold no log-probabilities") from None
        scores = [
            _sum(value for token, value in entries if token.strip() == label) for label in _LABELS[: len(choices)]
        ]
        if all(score is None for score in scores):
            raise _Unavailable("none of the letters is among the likely tokens", lasting=False)
        return scores


def _top(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    entries: list[Mapping[str, Any]] = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    return entries


def _starts(tokens: Sequence[str], text: str) -> list[int]:
    """Where each token begins in the text; tokens that are no part of it, such as a first mark, have no length.

    Raises:
        ValueError: the tokens do not spell the text.
    """
    starts, position = [], 0
    for token in tokens:
        starts.append(position)
        if text.startswith(token, position) or position == len(text):
            position += len(token)
        elif position:
            raise ValueError(token)
    if position < len(text):
        raise ValueError("too short")
    return starts


def _sum(values: Any) -> float | None:
    """The logarithm of a sum of probabilities given by their logarithms; None if there are none."""
    found = [value for value in values if not math.isnan(value)]
    if not found:
        return None
    top = max(found)
    return top + math.log(sum(math.exp(value - top) for value in found)) if math.isfinite(top) else None
