"""The client against a scripted server: what it asks, what it accepts, and how it fails."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from fyc.errors import EndpointError, PlanError
from fyc.plan.llm import Budget, Endpoint, LLMClient
from tests.plan.llm.conftest import KEY, Connect
from tests.plan.llm.scripted import Script, Step, chat, fail


class Fruit(BaseModel):
    """A fruit."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["apple", "pear"]


class Described(Fruit):
    """A fruit, and what it is like."""

    taste: str = Field("", json_schema_extra={"maxLength": 80})


TURNS = [{"role": "system", "content": "You pick."}, {"role": "user", "content": "Pick a fruit."}]
APPLE = chat({"name": "apple"})


def error_of(client: LLMClient, **options: Any) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        client.ask(TURNS, Fruit, **options)
    assert caught.value.exit_code == 8
    return caught.value


def transcript(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]


# What is asked.


def test_the_schema_is_sent_and_the_answer_has_its_type(script: Script, connect: Connect) -> None:
    script.play(APPLE)
    client = connect(max_tokens=77)
    answer = client.ask(TURNS, Fruit)
    assert (answer.value, answer.tokens, answer.replies) == (Fruit(name="apple"), 10, 1)
    assert client.budget.used == 10
    [asked] = script.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body == {
        "model": "tiny", "messages": TURNS, "max_tokens": 77, "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": Fruit.model_json_schema(), "strict": True},
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rejections", "expected"),
    [
        ([fail(400, "response_format json_schema is not supported")], {"output": "json_object"}),
        ([fail(500, "Input should be 'text' or 'json_object' at response_format")], {"output": "json_object"}),
        ([fail(422, "no"), fail(422, "no")], {"output": None}),
        ([fail(400, "'max_tokens' is not supported, use 'max_completion_tokens'")], {"limit": "max_completion_tokens"}),
        ([fail(400, "temperature must be 1")], {"temperature": None}),
        ([fail(400, "Invalid schema: 'maxLength' is not permitted")], {"limits": False}),
    ],
)
def test_what_a_server_does_not_take_is_left_out_from_then_on(
    script: Script, connect: Connect, rejections: list[Step], expected: dict[str, Any]
) -> None:
    script.play(*rejections, APPLE)
    client = connect(retries=0)
    client.ask(TURNS, Described)
    client.ask(TURNS, Described)
    assert len(script.asked) == len(rejections) + 2
    for asked in script.asked[-2:]:
        found = {
            "output": asked.body.get("response_format", {}).get("type"),
            "limit": "max_completion_tokens" if "max_completion_tokens" in asked.body else "max_tokens",
            "temperature": asked.body.get("temperature"),
            "limits": expected.get("output", "") is None or "maxLength" in str(asked.body),
        }
        assert found == {"output": "json_schema", "limit": "max_tokens", "temperature": 0, "limits": True} | expected


def test_what_was_left_out_in_vain_is_sent_again_next_time(script: Script, connect: Connect) -> None:
    script.play(fail(400, "model tiny is overworked"))
    client = connect()
    assert error_of(client).code == "FYC-L28"
    script.play(APPLE)
    client.ask(TURNS, Fruit)
    assert script.asked[-1].body["response_format"]["type"] == "json_schema"


# What is accepted.


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "apple"}',
        'Sure!\n```json\n{"name": "apple"}\n```\nEnjoy.',
        '<think>{"name": "pear"} would be {nice}</think>{"name": "apple"}',
        '{"name": "kiwi"} no, wait: {"name": "apple"}',
        "{{" + '{"name": "apple"}',
        '{"name": "ap\\u0070le"}',
    ],
)
def test_an_answer_is_found_in_what_surrounds_it(script: Script, connect: Connect, text: str) -> None:
    script.play(chat(text))
    answer = connect().ask(TURNS, Fruit)
    assert (answer.value.name, answer.replies) == ("apple", 1)


def test_content_in_parts_is_joined(script: Script, connect: Connect) -> None:
    step = chat("")
    step.body["choices"][0]["message"]["content"] = [{"type": "text", "text": '{"name":'}, {"text": '"pear"}'}, 7]
    script.play(step)
    assert connect().ask(TURNS, Fruit).value.name == "pear"


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (chat("I like apples."), "it holds no JSON object"),
        (chat('{"name": "app'), "it holds no JSON object"),
        (chat("[1, 2]"), "it holds no JSON object"),
        (chat("{" * 100_000), "it holds no JSON object"),
        (chat('{"a":' * 50_000 + "1" + "}" * 50_000), "it holds no JSON object"),
        (chat({"name": "kiwi"}), "name: Input should be 'apple' or 'pear'"),
        (chat({"name": "apple", "price": 3}), "price: Extra inputs are not permitted"),
        (chat('{"name": "apple", "\\ud800\\u0007": 3}'), "unable to parse raw data as a unicode string"),
        (chat({}), "name: Field required"),
        (chat(""), "it is empty"),
        (chat(None), "it is empty"),
        (chat("  ", finish="length"), "it is empty, cut off at the limit of tokens"),
        (chat(None, refusal="I cannot help with fruit."), "it is a refusal: I cannot help with fruit."),
        (chat("x", finish="content_filter"), "it was stopped by a content filter"),
        (chat(None, tool_calls=[{"id": "1"}]), "it is empty"),
        (Step({"choices": []}), "it is not a chat completion"),
        (Step({"choices": "none"}), "it is not a chat completion"),
        (Step({"hello": "world"}), "it is not a chat completion"),
    ],
)
def test_an_unusable_reply_is_sent_back_with_what_is_wrong_and_then_given_up(
    script: Script, connect: Connect, reply: Step, problem: str
) -> None:
    script.play(reply)
    error = error_of(connect(reasks=2))
    assert error.code == "FYC-L23"
    assert problem in error.why
    assert len(script.asked) == 3
    again = script.asked[1].body["messages"]
    assert again[:2] == TURNS
    assert [turn["role"] for turn in again[2:]] == ["assistant", "user"]
    assert problem in again[3]["content"]
    assert len(again[2]["content"]) < 2_000
    assert [asked.body["temperature"] for asked in script.asked] == [0, 0.5, 0.5]  # the same would come again
    assert len(script.asked[2].body["messages"]) == 4  # the conversation does not grow with every attempt
    script.play(reply, APPLE)
    assert connect(reasks=1).ask(TURNS, Fruit).replies == 2


def test_a_model_that_was_still_thinking_gets_more_tokens(script: Script, connect: Connect) -> None:
    script.play(chat("", finish="length"), chat('{"name": "ki', finish="length"), APPLE)
    assert connect(max_tokens=100).ask(TURNS, Fruit).replies == 3
    assert [asked.body["max_tokens"] for asked in script.asked] == [100, 400, 400]  # one that only rambles does not


def test_a_check_beyond_the_type_is_told_to_the_model(script: Script, connect: Connect) -> None:
    script.play(chat({"name": "pear"}), APPLE)
    answer = connect().ask(TURNS, Fruit, check=lambda fruit: "no pears today" if fruit.name == "pear" else None)
    assert (answer.value.name, answer.replies, answer.tokens) == ("apple", 2, 20)
    assert "no pears today" in script.asked[1].body["messages"][3]["content"]


# How it fails.


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_a_server_in_trouble_is_asked_again_after_growing_pauses(
    script: Script, connect: Connect, waits: list[float], status: int
) -> None:
    script.play(*[fail(status, "busy")] * 3, APPLE)
    assert connect().ask(TURNS, Fruit).value.name == "apple"
    assert waits == [0.5, 1.0, 2.0]
    script.play(fail(status, "busy"))
    error = error_of(connect(retries=2))
    assert error.code == "FYC-L20"
    assert f"HTTP {status}" in error.why
    assert error.where == script.url


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"retry_after_ms": "1500", "Retry_After": "7"}, 1.5),
        ({"Retry_After": "soon"}, 0.5),
        ({"Retry_After": "nan"}, 0.5),
        ({"Retry_After": "-3"}, 0.0),
        ({"Retry_After": formatdate(time.time() - 60, usegmt=True)}, 0.0),
    ],
)
def test_the_pause_a_server_asks_for_is_kept(
    script: Script, connect: Connect, waits: list[float], headers: dict[str, str], wait: float
) -> None:
    script.play(fail(429, "slow down", **headers), APPLE)
    connect().ask(TURNS, Fruit)
    assert waits == [wait]


def test_a_pause_given_as_a_date_is_kept(script: Script, connect: Connect, waits: list[float]) -> None:
    script.play(fail(503, "maintenance", Retry_After=formatdate(time.time() + 30, usegmt=True)), APPLE)
    connect().ask(TURNS, Fruit)
    assert 25 < waits[0] <= 30


def test_a_server_that_wants_an_hour_counts_as_down(script: Script, connect: Connect, waits: list[float]) -> None:
    script.play(fail(429, "slow down", Retry_After="3600"))
    assert error_of(connect()).code == "FYC-L20"
    assert (len(script.asked), waits) == (1, [])


def test_a_pause_beyond_the_budget_ends_it(script: Script, connect: Connect, waits: list[float]) -> None:
    script.play(fail(429, "slow down", Retry_After="30"))
    error = error_of(connect(budget=Budget(seconds=20)))
    assert error.code == "FYC-L22"
    assert "asks to wait 30.0 s" in error.why
    assert waits == []


@pytest.mark.parametrize("slow", [Step(APPLE.body, delay=1.0), Step(APPLE.body, drip=0.05)])
def test_a_slow_reply_is_cut_off_also_when_it_trickles(script: Script, connect: Connect, slow: Step) -> None:
    script.play(slow)
    begun = time.monotonic()
    error = error_of(connect(timeout=0.3, retries=1))
    assert error.code == "FYC-L20"
    assert "in time" in error.what
    assert time.monotonic() - begun < 2.0


def test_nobody_listens(connect: Connect, waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    error = error_of(connect(url=url, retries=2))
    assert error.code == "FYC-L20"
    assert "cannot be reached" in error.what
    assert error.where == url
    assert waits == [0.5, 1.0]


def test_a_connection_that_breaks_is_tried_again(script: Script, connect: Connect) -> None:
    script.play(Step(APPLE.body, cut=20), APPLE)
    assert connect().ask(TURNS, Fruit).value.name == "apple"
    script.play(Step(APPLE.body, cut=20))
    error = error_of(connect(retries=0))
    assert "broke" in error.what


@pytest.mark.parametrize(
    "body", [b"", b"<html>busy</html>", b"\xff\xfe", b"[" * 200_000, b"[]", b"null", b'"text"', b'{"choices":']
)
def test_a_body_that_is_no_json_object_is_a_failing_endpoint(script: Script, connect: Connect, body: bytes) -> None:
    script.play(Step(body), APPLE)
    assert connect().ask(TURNS, Fruit).value.name == "apple"
    script.play(Step(body))
    assert error_of(connect(retries=0)).code == "FYC-L20"


@pytest.mark.parametrize("packed", [False, True])
def test_a_huge_reply_is_not_read_to_its_end(script: Script, connect: Connect, packed: bool) -> None:
    body = b'{"choices": [' + b" " * 30_000_000 + b"]}"
    step = Step(gzip.compress(body), headers={"Content-Encoding": "gzip"}) if packed else Step(body)
    script.play(step)
    error = error_of(connect(retries=0))
    assert error.code == "FYC-L20"
    assert "huge" in error.what


def test_a_long_but_possible_reply_is_read(script: Script, connect: Connect) -> None:
    script.play(chat("x " * 400_000 + '{"name": "apple"}'))
    assert connect().ask(TURNS, Fruit).value.name == "apple"


@pytest.mark.parametrize(
    "step", [fail(401, f"Incorrect API key provided: {KEY}"), fail(403, "no"), fail(429, "insufficient_quota")]
)
def test_a_refused_key_is_not_tried_again(script: Script, connect: Connect, step: Step) -> None:
    script.play(step)
    error = error_of(connect())
    assert error.code == "FYC-L21"
    assert "OPENAI_API_KEY" in error.next
    assert len(script.asked) == 1


def test_an_unknown_model_and_a_prompt_that_is_too_long_are_told_at_once(script: Script, connect: Connect) -> None:
    for step in (fail(404, "no model tiny"), fail(400, "context_length_exceeded: 9031 tokens")):
        script.play(step)
        before = len(script.asked)
        error = error_of(connect())
        assert error.code == "FYC-L28"
        assert step.body["error"]["message"] in error.why
        assert len(script.asked) == before + 1


# Budget.


def test_the_budget_of_tokens_ends_the_calls(script: Script, connect: Connect) -> None:
    script.play(chat({"name": "apple"}, tokens=900))
    client = connect(budget=Budget(tokens=1000))
    client.ask(TURNS, Fruit)
    assert client.budget.tokens_left == 100
    client.ask(TURNS, Fruit)
    assert script.asked[-1].body["max_tokens"] == 100
    assert error_of(client).code == "FYC-L22"
    assert len(script.asked) == 2


@pytest.mark.parametrize("usage", [None, {}, {"total_tokens": -5}, {"total_tokens": "9"}, {"total_tokens": True}])
def test_tokens_are_estimated_where_the_server_does_not_count(script: Script, connect: Connect, usage: Any) -> None:
    script.play(Step({**APPLE.body, "usage": usage}))
    client = connect()
    client.ask(TURNS, Fruit)
    assert 20 < client.budget.used < 200


def test_failed_calls_cost_something(script: Script, connect: Connect) -> None:
    script.play(fail(500, "busy"))
    client = connect(retries=3, budget=Budget(tokens=100))
    assert error_of(client).code == "FYC-L22"
    assert 0 < client.budget.used <= 100


def test_the_budget_of_time_ends_the_calls(script: Script, connect: Connect) -> None:
    script.play(APPLE)
    now = [0.0]
    client = connect(budget=Budget(seconds=10, clock=lambda: now[0]))
    client.ask(TURNS, Fruit)
    now[0] = 10.0
    assert error_of(client).code == "FYC-L22"


# Transcript and secrets.


def test_every_attempt_is_in_the_transcript(script: Script, connect: Connect, tmp_path: Path) -> None:
    script.play(fail(500, "busy"), chat("no"), APPLE)
    answer = connect().ask(TURNS, Fruit, purpose="picking")
    lines = transcript(tmp_path)
    assert [line["attempt"] for line in lines] == [1, 2, 1]
    assert "HTTP 500" in lines[0]["error"]
    assert lines[1]["reply"]["choices"][0]["message"]["content"] == "no"
    assert lines[2]["request"]["messages"][:2] == TURNS
    assert {line["purpose"] for line in lines} == {"picking"}
    assert {line["prompt_sha"] for line in lines} == {answer.prompt_sha}
    assert (tmp_path / "transcript.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_key_is_nowhere(script: Script, connect: Connect, tmp_path: Path) -> None:
    """Servers repeat keys in errors and models in replies; none of it is written or said."""
    url = script.url.replace("http://", "http://user:pass-word@") + "?token=to-ken"
    secrets = (KEY, "sk-secret%2Fkey%2B0123456789", "pass-word", "to-ken")
    echo = " and ".join(secrets)
    said = []
    for step in (fail(401, echo), fail(400, echo), fail(500, echo), chat(echo), chat({echo: 1}), Step(echo.encode())):
        script.play(step)
        error = error_of(connect(url=url, retries=1))
        said.append(f"{error} {error!r} {error.as_dict()} {error.__cause__}")
    client = connect(url=url)
    said += [repr(client.endpoint), client.endpoint.address, (tmp_path / "transcript.jsonl").read_text()]
    for secret in secrets:
        assert [text for text in said if secret in text] == []
    assert "[redacted]" in said[-1]


def test_a_key_that_a_model_repeats_is_not_in_its_answer(script: Script, connect: Connect) -> None:
    script.play(chat({"name": "apple", "taste": f"like {KEY}"}))
    assert connect().ask(TURNS, Described).value.taste == "like [redacted]"


def test_an_unwritable_transcript_is_an_error(script: Script, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "transcript.jsonl").mkdir()
    script.play(APPLE)
    with pytest.raises(PlanError, match="FYC-L29"):
        connect().ask(TURNS, Fruit)


def test_without_the_package_it_says_which_extra_to_install() -> None:
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "from fyc.plan.llm import Endpoint, LLMClient\n"
        "from fyc.errors import PlanError\n"
        "try: LLMClient(Endpoint('http://x/v1', 'm'))\n"
        "except PlanError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "FYC-L24" in out
    assert "fyc[plan]" in out


def test_a_server_without_keys_gets_a_word_that_is_none(script: Script, connect: Connect) -> None:
    script.play(APPLE)
    client = LLMClient(Endpoint(script.url, "tiny"))
    client.ask(TURNS, Fruit)
    assert script.asked[0].headers["authorization"] == "Bearer none"
    client.close()
