"""Dialects: the ways in which OpenAI-compatible servers want to be asked for JSON, tried from strict to plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

Turn = Mapping[str, str]
#: Words of JSON schema that bound sizes.
_LIMITS = frozenset({"maxLength", "minLength", "maxItems", "minItems"})


@dataclass(frozen=True)
class Dialect:
    """How a server takes a chat request.

    Attributes:
        output: how the schema is given: `json_schema` (OpenAI, vLLM, SGLang), `json_object` with a schema
            (llama-cpp-python), or `text`, where it stands in the prompt alone.
        limit: the field that limits the tokens of the reply.
        temperature: whether a temperature may be set.
        limits: whether the schema may say how long texts and lists are; strict servers know no such words.
    """

    output: Literal["json_schema", "json_object", "text"] = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    limits: bool = True

    def body(
        self, model: str, turns: Sequence[Turn], schema: Mapping[str, Any], max_tokens: int, temperature: float
    ) -> dict[str, Any]:
        """The request: turns with `role` and `content`, and the schema of the reply."""
        body: dict[str, Any] = {"model": model, "messages": [dict(turn) for turn in turns], self.limit: max_tokens}
        if self.temperature:
            body["temperature"] = temperature
        sent = dict(schema) if self.limits else _without_limits(schema)
        if self.output == "json_schema":
            wanted = {"name": "reply", "schema": sent, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        elif self.output == "json_object":
            body["response_format"] = {"type": "json_object", "schema": sent}
        return body

    def after(self, rejection: str) -> Dialect | None:
        """The dialect to try after a server said this; None when there is nothing left to give up."""
        if self.limit == "max_tokens" and "max_completion_tokens" in rejection:
            return replace(self, limit="max_completion_tokens")
        if self.temperature and "temperature" in rejection:
            return replace(self, temperature=False)
        if "context_length" in rejection or "context length" in rejection:
            return None
        if self.limits and any(word in rejection for word in _LIMITS):
            return replace(self, limits=False)
        if self.output == "json_schema":
            return replace(self, output="json_object")
        return replace(self, output="text") if self.output == "json_object" else None


def _without_limits(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {name: _without_limits(value) for name, value in schema.items() if name not in _LIMITS}
    return schema
