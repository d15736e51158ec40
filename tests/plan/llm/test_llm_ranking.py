"""Rankings: what the numbers of a server become, and when there are none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.plan.llm import Endpoint, Question
from fyc.plan.llm.ranking import Ranker, Ranking
from fyc.plan.llm.wire import RejectedError
from tests.plan.llm.conftest import Connect
from tests.plan.llm.scripted import Script, Step, chat, fail

TURNS = [{"role": "user", "content": "The pipeline waits."}]
NEUTRAL = [{"role": "user", "content": "Choose."}]


@dataclass
class Model:
    """A wire to a model given by two functions: log-probability of an entry at a letter, and of a word after a text."""

    entry: Callable[[str, str, str], float | None] | None = None
    word: Callable[[str, str], float] | None = None
    asked: list[str] = field(default_factory=list)
    endpoint: Endpoint = field(default_factory=lambda: Endpoint("http://x/v1", "tiny"))

    def post(self, kind: str, body: Mapping[str, Any], **_: str) -> tuple[dict[str, Any], int]:
        self.asked.append(kind)
        return (self._chat(body) if kind == "chat" else self._complete(body)), 7

    def _chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.entry is None:
            raise RejectedError(400, "logprobs is not supported")
        text = body["messages"][-1]["content"]
        listed = [line.split(". ", 1) for line in text.split("The options:\n")[1].splitlines() if line[1:3] == ". "]
        scores = {label: self.entry(text, label, shown) for label, shown in listed}
        top = [{"token": f" {label}", "logprob": score} for label, score in scores.items() if score is not None]
        top.append({"token": "The", "logprob": -9.0})
        return {"choices": [{"logprobs": {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}}]}

    def _complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.word is None:
            raise RejectedError(404, "no such path")
        words = [word + " " for word in body["prompt"].split(" ")]
        words[-1] = words[-1][:-1]
        values = [None, *(self.word("".join(words[:i]), words[i].strip()) for i in range(1, len(words)))]
        return {"choices": [{"logprobs": {"tokens": [*words, " end"], "token_logprobs": [*values, -5.0]}}]}


def rank(model: Model, *choices: str, neutral: bool = False, orders: int = 1) -> Ranking:
    question = Question(TURNS, choices, neutral=NEUTRAL if neutral else (), orders=orders)
    return Ranker(model).rank(question, purpose="test", prompt_sha="0" * 64)  # type: ignore[arg-type]


# Letters.


def test_one_order_takes_the_letters_as_they_are() -> None:
    found = rank(Model(lambda _, label, shown: {"A": -2.0, "B": -1.0, "C": -3.0}[label]), "x", "y", "z")
    assert (found.method, found.scores, found.order, found.tokens) == ("labels", (-2.0, -1.0, -3.0), (1, 0, 2), 7)


def test_a_letter_that_is_not_mentioned_is_at_most_as_likely_as_all_that_are() -> None:
    likes = {"x": -4.0, "y": None, "z": -1.0}
    found = rank(Model(lambda _, label, shown: likes[shown]), "x", "y", "z")
    assert found.scores == (-4.0, None, -1.0)
    assert found.order == (2, 0, 1)
    sometimes = Model(lambda _, label, shown: None if (shown, label) == ("y", "A") else -1.0)
    by_orders = rank(sometimes, "x", "y", orders=2)
    assert by_orders.order == (0, 1)
    assert None not in by_orders.scores


entries = st.lists(st.floats(-3, 0), min_size=2, max_size=8)


@given(entries, st.lists(st.floats(-5, 0), min_size=8, max_size=8))
def test_over_all_orders_what_a_model_thinks_of_letters_does_not_matter(
    likes: list[float], letters: list[float]
) -> None:
    names = [f"o{i}" for i in range(len(likes))]

    def entry(text: str, label: str, shown: str) -> float:
        return likes[names.index(shown)] + letters["ABCDEFGH".index(label)]

    found = rank(Model(entry), *names, orders=len(names))
    for i, score in enumerate(found.scores):
        assert score == pytest.approx(likes[i] - sum(likes) / len(likes), abs=1e-9)


@given(entries, st.lists(st.floats(-5, 0), min_size=8, max_size=8))
def test_what_a_model_prefers_without_the_task_is_subtracted(gain: list[float], always: list[float]) -> None:
    names = [f"o{i}" for i in range(len(gain))]

    def entry(text: str, label: str, shown: str) -> float:
        i = names.index(shown)
        return always[i] + (gain[i] if "pipeline" in text else 0.0)

    found = rank(Model(entry), *names, neutral=True, orders=1)
    for i, score in enumerate(found.scores):
        assert score == pytest.approx(gain[i], abs=1e-9)


def test_few_orders_are_spread_over_the_letters() -> None:
    seen: dict[str, set[str]] = {}

    def entry(text: str, label: str, shown: str) -> float:
        seen.setdefault(shown, set()).add(label)
        return -1.0

    model = Model(entry)
    rank(model, *"abcdef", orders=3)
    assert len(model.asked) == 3
    assert all(len(labels) == 3 for labels in seen.values())
    assert seen["a"] == {"A", "E", "C"}


# Echo.


def test_an_answer_is_as_likely_as_its_words_after_the_question_less_what_they_are_without_it() -> None:
    def word(before: str, own: str) -> float:
        if own in ("one", "two", "three", "four"):
            return -0.1
        return {"more": -1.0, "stages": -2.0, "fewer": -0.5}.get(own, -3.0) + ("pipeline" in before and own == "stages")

    found = rank(Model(word=word), "more stages", "fewer")
    assert found.method == "echo"
    assert found.scores == pytest.approx((-1.0, -0.5))
    calibrated = rank(Model(word=word), "more stages", "fewer", neutral=True)
    assert calibrated.scores == pytest.approx((0.5, 0.0))
    assert calibrated.order == (0, 1)


def test_a_server_whose_echo_is_off_by_one_is_not_believed() -> None:
    found = rank(Model(word=lambda before, own: -8.0), "x", "y")
    assert (found.method, found.lasting, found.order) == ("none", True, ())
    assert "not those of its tokens" in found.why


# None.


def test_what_a_server_does_not_offer_is_asked_once() -> None:
    model = Model()
    ranker = Ranker(model)  # type: ignore[arg-type]
    for _ in range(2):
        found = ranker.rank(Question(TURNS, ["x", "y"]), purpose="", prompt_sha="")
    assert model.asked == ["chat", "completions"]
    assert (found.method, found.scores, found.lasting) == ("none", (None, None), True)
    assert "HTTP 400" in found.why
    assert "HTTP 404" in found.why


def test_too_many_choices_are_no_reason_to_give_up_on_the_server() -> None:
    model = Model(lambda _, label, shown: -1.0)
    ranker = Ranker(model)  # type: ignore[arg-type]
    many = ranker.rank(Question(TURNS, [f"o{i}" for i in range(21)]), purpose="", prompt_sha="")
    assert (many.method, many.lasting) == ("none", False)
    assert ranker.rank(Question(TURNS, ["x", "y"]), purpose="", prompt_sha="").method == "labels"


@pytest.mark.parametrize(
    "reply",
    [
        chat("A"),
        Step({"choices": [{"logprobs": None}]}),
        Step({"choices": [{"logprobs": {"content": []}}]}),
        Step({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": "high"}]}]}}]}),
        Step({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": math.inf}]}]}}]}),
        Step({"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "A", "logprob": math.nan}]}]}}]}),
        Step({"choices": [{"logprobs": {"content": [{"top_logprobs": 3}]}}]}),
        fail(400, "logprobs is not supported"),
    ],
)
def test_replies_without_usable_numbers_rank_nothing(script: Script, connect: Connect, reply: Step) -> None:
    script.play(reply)
    found = connect().rank(Question(TURNS, ["x", "y"], neutral=NEUTRAL, orders=2))
    assert (found.method, found.lasting) == ("none", True)
    assert len(script.asked) == 2
