"""Replies: the JSON object in what a language model wrote, or what is wrong with it, in words it can use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fyc.plan.messages import describe

M = TypeVar("M", bound=BaseModel)
#: How many opening braces of a reply are tried.
_MAX_STARTS = 50


class UnusableReplyError(Exception):
    """What is wrong with a reply, as a sentence for the model.

    Attributes:
        thought_only: nothing was said before the limit of tokens: a model that thinks first needs more of them.
    """

    def __init__(self, problem: str, *, thought_only: bool = False) -> None:
        super().__init__(problem)
        self.thought_only = thought_only


def content_of(reply: Mapping[str, Any]) -> str:
    """The text of a chat completion.

    Raises:
        UnusableReplyError: there is none: a refusal, a filter, a tool call, or nothing at all.
    """
    try:
        choice = reply["choices"][0]
        message = choice["message"]
        content, refusal, finish = message.get("content"), message.get("refusal"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise UnusableReplyError("it is not a chat completion") from None
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, dict))
    if refusal:
        raise UnusableReplyError(f"it is a refusal: {str(refusal)[:200]}")
    if finish == "content_filter":
        raise UnusableReplyError("it was stopped by a content filter")
    if not isinstance(content, str) or not content.strip():
        if finish == "length":
            raise UnusableReplyError("it is empty, cut off at the limit of tokens", thought_only=True)
        raise UnusableReplyError("it is empty")
    return content.encode("utf-8", "replace").decode()


def parse(text: str, model: type[M], check: Callable[[M], str | None] | None = None) -> M:
    """The first JSON object in a text that `model` and then `check` accept.

    Args:
        text: what was written: JSON alone, in a code block, or between sentences. What stands before
            `</think>` is skipped.
        model: what the object has to be.
        check: says what else is wrong with it, or None.

    Raises:
        UnusableReplyError: there is no such object; the sentence is about the first one that was found.
    """
    problem = ""
    for candidate in _objects(text.rpartition("</think>")[2]):
        try:
            value = model.model_validate(candidate)
        except ValidationError as error:
            found: str | None = describe(list(error.errors(include_url=False, include_input=False)))
        else:
            found = check(value) if check is not None else None
            if found is None:
                return value
        problem = problem or found or ""
    raise UnusableReplyError(problem or "it holds no JSON object")


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Every JSON object in a text that is not inside another one."""
    decoder = json.JSONDecoder()
    position = 0
    for _ in range(_MAX_STARTS):
        position = text.find("{", position)
        if position < 0:
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            position += 1
        else:
            yield value
