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
        method: `labels` (log-probability of an answer's letter in a list), `echo` (mean log-probability of its tokens
            after the prompt), or `none`.
        scores: natural logarithms, in the order of the choices; None for one that the server never mentions. With a
            neutral question, how much likelier the question makes the answer than the neutral one does.
        why: for `none`, why there are no scores.
        lasting: for `none`, whether this server will never have any.
        tokens: what the ranking cost.
        prompt_sha: hash of the prompt.
    """

    method: Literal["labels", "echo", "none"]
    scores: tuple[float | None, ...]
    why: str = ""
    lasting: bool = False
    tokens: int = 0
    prompt_sha: str = ""

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the choices, the likeliest first; those without a score last, in their order."""
        if self.method == "none":
            return ()
        falling = [math.inf if score is None else -score for score in self.scores]
        return tuple(sorted(range(len(falling)), key=falling.__getitem__))


@dataclass(frozen=True)
class Question:
    """What is ranked.

    Small models prefer some letters and some phrases whatever they are asked. Two things take that out. The list is
    shown in several orders, and what a letter gets on the average of them is subtracted (batch calibration, arXiv
    2309.17249). And the same is asked without the task: what remains is what the task makes likelier (domain
    conditional PMI, arXiv 2104.08315).

    Attributes:
        turns: the conversation that the answer follows.
        choices: the answers.
        listed: how a list shows them, where that is more than the answers themselves.
        neutral: the conversation without the task; empty subtracts nothing.
        orders: how many orders of the list are averaged.
    """

    turns: Sequence[Turn]
    choices: Sequence[str]
    listed: Sequence[str] = ()
    neutral: Sequence[Turn] = ()
    orders: int = 1


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

    def rank(self, question: Question, *, purpose: str, prompt_sha: str) -> Ranking:
        """The ranking of choices as the next turn of a conversation; raises the `EndpointError`s of the wire."""
        self._tokens = 0
        call = {"purpose": purpose, "prompt_sha": prompt_sha}
        missing = dict(self._without)
        # A list costs one call an order, and any chat server may offer it; an echo costs two calls a choice.
        methods: tuple[tuple[Literal["labels", "echo"], Any], ...] = (("labels", self._labels), ("echo", self._echo))
        for method, function in methods:
            if method in missing or not question.choices:
                continue
            try:
                scores = tuple(function(question, call))
                return Ranking(method, scores, tokens=self._tokens, prompt_sha=prompt_sha)
            except RejectedError as error:
                missing[method] = self._without[method] = f"HTTP {error.status}: {error.text[:200]}"
            except _Unavailable as error:
                missing[method] = str(error)
                if error.lasting:
                    self._without[method] = str(error)
        why = "; ".join(f"{method}: {text}" for method, text in missing.items()) or "there is nothing to rank"
        nothing = (None,) * len(question.choices)
        return Ranking("none", nothing, why, len(self._without) == len(methods), self._tokens, prompt_sha)

    def _post(
        self, kind: Literal["chat", "completions"], body: dict[str, Any], call: Mapping[str, str]
    ) -> dict[str, Any]:
        reply, tokens = self._wire.post(kind, {"model": self._wire.endpoint.model, **body}, **call)
        self._tokens += tokens
        return reply

    # Echo: the server repeats prompt and answer with the probability of every token.

    def _echo(self, question: Question, call: Mapping[str, str]) -> list[float]:
        if not self._probed:
            scores = self._echoed(_PROBE, "one two three four", call)[-_PROBE_TOKENS:]
            if sum(scores) / len(scores) < _PROBE_FLOOR:
                raise _Unavailable("the log-probabilities of an echo are not those of its tokens")
            self._probed = True
        found = [_mean(self._echoed(_flat(question.turns), choice, call)) for choice in question.choices]
        if not question.neutral:
            return found
        before = [_mean(self._echoed(_flat(question.neutral), choice, call)) for choice in question.choices]
        return [score - prior for score, prior in zip(found, before, strict=True)]

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

    def _labels(self, question: Question, call: Mapping[str, str]) -> list[float | None]:
        listed, count = list(question.listed or question.choices), len(question.choices)
        if count > len(_LABELS):
            raise _Unavailable(f"there are more than {len(_LABELS)} choices", lasting=False)
        shifts = sorted({round(step * count / question.orders) % count for step in range(question.orders)})
        scores, mentioned = self._averaged(question.turns, listed, shifts, call)
        if not any(mentioned):
            raise _Unavailable("none of the letters is among the likely tokens", lasting=False)
        if question.neutral:
            before, _ = self._averaged(question.neutral, listed, shifts, call)
            scores = [score - prior for score, prior in zip(scores, before, strict=True)]
        return [score if seen else None for score, seen in zip(scores, mentioned, strict=True)]

    def _averaged(
        self, turns: Sequence[Turn], listed: Sequence[str], shifts: Sequence[int], call: Mapping[str, str]
    ) -> tuple[list[float], list[bool]]:
        """Scores of the entries of a list over several orders of it, and which of them the server mentions at all."""
        count = len(listed)
        orders = [[(place + shift) % count for place in range(count)] for shift in shifts]
        found = [self._letters(turns, [listed[i] for i in order], call) for order in orders]
        table = [[floor if score is None else score for score in scores] for scores, floor in found]
        usual = [_mean(column) if len(shifts) > 1 else 0.0 for column in zip(*table, strict=True)]
        places = [[order.index(i) for order in orders] for i in range(count)]
        scores = [_mean([row[k] - usual[k] for k, row in zip(own, table, strict=True)]) for own in places]
        mentioned = [any(row[k] is not None for k, (row, _) in zip(own, found, strict=True)) for own in places]
        return scores, mentioned

    def _letters(
        self, turns: Sequence[Turn], listed: Sequence[str], call: Mapping[str, str]
    ) -> tuple[list[float | None], float]:
        """Log-probabilities of the letters of a list, and what a letter that is not mentioned has at most."""
        lines = "\n".join(f"{label}. {text}" for label, text in zip(_LABELS, listed, strict=False))
        request = f"The options:\n{lines}\nReply with the letter of the best option and nothing else."
        *before, last = (dict(turn) for turn in turns)
        messages = [*before, {**last, "content": f"{last['content']}\n\n{request}"}]
        body = {"messages": messages, "max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 20}
        reply = self._post("chat", body, call)
        try:
            entries = [(str(e["token"]), float(e["logprob"])) for e in _top(reply)]
        except (KeyError, IndexError, TypeError, ValueError):
            raise _Unavailable("the chat completions hold no log-probabilities") from None
        likely = [value for _, value in entries if math.isfinite(value)]
        if not likely:
            raise _Unavailable("the chat completions hold no log-probabilities")
        labels = _LABELS[: len(listed)]
        return [_sum(v for token, v in entries if token.strip() == label) for label in labels], min(likely)


def _flat(turns: Sequence[Turn]) -> str:
    """A conversation as a text that the answer follows."""
    return "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns) + "\n\nassistant: "


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores)


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
