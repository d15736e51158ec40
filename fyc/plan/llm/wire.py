"""The wire: one request to the endpoint, with retries, limits on size and time, and a line in the transcript."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from fyc.errors import EndpointError, PlanError
from fyc.plan.llm.budget import Budget, estimate_tokens
from fyc.plan.llm.endpoint import Endpoint
from fyc.plan.llm.transcript import Transcript

Kind = Literal["chat", "completions"]
#: A reply with more bytes is not read to its end.
MAX_REPLY_BYTES = 2 * 2**20
#: An endpoint that asks for a longer pause is treated as down.
MAX_WAIT = 60.0
#: Fields that servers refuse or stumble over; a status that names one of them is no failure of the server.
OPTIONAL_FIELDS = frozenset(
    {"response_format", "max_tokens", "max_completion_tokens", "temperature", "logprobs", "top_logprobs", "echo"}
)


class RejectedError(Exception):
    """The server answered that it does not take this request as it is."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


class _Unusable(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, what: str, why: str, wait: float | None = None) -> None:
        super().__init__(what, why)
        self.what, self.why, self.wait = what, why, wait


class Wire:
    """Sends requests and keeps to the budget.

    Args:
        endpoint: where to.
        budget: what all requests together may cost.
        transcript: where every attempt is written to; None writes nothing.
        timeout: seconds that one attempt may take.
        retries: how often a failed attempt is repeated.
        sleep: waits between attempts.

    Raises:
        PlanError: FYC-L24 when the `openai` package is not installed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        budget: Budget,
        transcript: Transcript | None,
        *,
        timeout: float,
        retries: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint, self.budget = endpoint, budget
        self._transcript, self._timeout, self._retries, self._sleep = transcript, timeout, retries, sleep
        try:
            import openai
        except ImportError as error:
            raise PlanError(
                "FYC-L24", "language models need the package openai", why=str(error),
                next='pip install "fyc[plan]"; without it the rules decide',
            ) from error  # fmt: skip
        self._openai = openai
        self._client = openai.OpenAI(api_key=endpoint.key, base_url=endpoint.base_url, max_retries=0)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, kind: Kind, body: Mapping[str, Any], *, purpose: str, prompt_sha: str) -> tuple[dict[str, Any], int]:
        """The reply to a request, and the tokens it cost.

        Raises:
            EndpointError: FYC-L20 when no attempt succeeds, FYC-L21 when the key is refused, FYC-L22 when the budget
                does not allow another attempt.
            RejectedError: the server does not take the request as it is.
        """
        prompt = estimate_tokens(json.dumps(body.get("messages", body.get("prompt", ""))))
        problem = _Unusable("the endpoint was not asked", "")
        for attempt in range(1 + self._retries):
            if attempt:
                wait = problem.wait if problem.wait is not None else min(0.5 * 2 ** (attempt - 1), MAX_WAIT)
                self.budget.require(prompt, wait)
                self._sleep(wait)
            self.budget.require(prompt)
            entry = {"purpose": purpose, "prompt_sha": prompt_sha, "attempt": attempt + 1, "request": dict(body)}
            begun = time.monotonic()
            try:
                reply = self._attempt(kind, body)
            except _Unusable as error:
                problem = error
                self.budget.charge(prompt)
                self._log(entry, begun, error=f"{error.what}: {error.why}")
                if error.wait is not None and error.wait > MAX_WAIT:
                    break
            except (RejectedError, EndpointError) as error:
                self._log(entry, begun, error=str(error))
                raise
            else:
                tokens = _usage(reply, prompt)
                self.budget.charge(tokens)
                self._log(entry, begun, reply=reply)
                return reply, tokens
        raise EndpointError(
            "FYC-L20", problem.what, where=self.endpoint.address, why=self.endpoint.redact(problem.why),
            next="check that the server runs and OPENAI_BASE_URL is right; the rules work without it",
        )  # fmt: skip

    def _log(self, entry: dict[str, Any], begun: float, **more: Any) -> None:
        if self._transcript is not None:
            seconds = round(time.monotonic() - begun, 3)
            self._transcript.write({**entry, "seconds": seconds, **more}, self.endpoint.redact)

    def _attempt(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        limit = min(self._timeout, self.budget.seconds_left)
        try:
            text = self._read(kind, body, limit)
        except self._openai.APITimeoutError:
            raise _Unusable("the endpoint does not answer in time", f"nothing came for {limit:.1f} s") from None
        except self._openai.APIStatusError as error:
            raise self._status(error.status_code, dict(error.response.headers), _body(error), body) from None
        except self._openai.APIConnectionError as error:
            why = str(error.__cause__ or error)
            raise _Unusable("the endpoint cannot be reached", self.endpoint.redact(why)) from None
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError):
            raise _Unusable("the endpoint sends what is not JSON", f"it begins {text[:80]!r}") from None
        if not isinstance(reply, dict):
            raise _Unusable("the endpoint sends what is not a reply", f"it begins {text[:80]!r}")
        return reply

    def _read(self, kind: Kind, body: Mapping[str, Any], limit: float) -> bytes:
        """The body of the reply; at most `MAX_REPLY_BYTES` of it, and no longer than `limit` seconds."""
        deadline = time.monotonic() + limit
        resource = self._client.chat.completions if kind == "chat" else self._client.completions
        create: Any = resource.with_streaming_response.create
        content = bytearray()
        with create(**body, timeout=limit) as response:
            for chunk in self._chunks(response):
                content += chunk
                if len(content) > MAX_REPLY_BYTES:
                    raise _Unusable("the endpoint sends a huge reply", f"it is longer than {MAX_REPLY_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise _Unusable("the endpoint does not answer in time", f"its reply took more than {limit:.1f} s")
        return bytes(content)

    def _chunks(self, response: Any) -> Iterator[bytes]:
        """The body in pieces. What the HTTP library raises here has other classes in other versions of `openai`."""
        pieces = response.iter_bytes()
        while True:
            try:
                piece: bytes | None = next(pieces, None)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                raise _Unusable("the connection to the endpoint broke", self.endpoint.redact(why)) from None
            if piece is None:
                return
            yield piece

    def _status(self, status: int, headers: Mapping[str, str], text: str, request: Mapping[str, Any]) -> Exception:
        """The exception for an HTTP status of 400 and more."""
        why = self.endpoint.redact(f"HTTP {status}: {text[:400]}")
        if status in {401, 403} or (status == 429 and "insufficient_quota" in text):
            advice = "check OPENAI_API_KEY, and that it may use this model"
            what = "the endpoint refuses the key"
            return EndpointError("FYC-L21", what, where=self.endpoint.address, why=why, next=advice)
        if status in {408, 409, 425, 429}:
            return _Unusable("the endpoint is busy", why, _retry_after(headers))
        if status < 500 or any(name in text for name in OPTIONAL_FIELDS & request.keys()):
            return RejectedError(status, self.endpoint.redact(text[:4_000]))
        return _Unusable("the endpoint fails", why, _retry_after(headers))


def _body(error: Any) -> str:
    try:
        return str(error.response.text)
    except Exception as unreadable:  # whatever the HTTP library says about a body it could not read
        return f"(its text cannot be read: {type(unreadable).__name__})"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    found = {name.lower(): value for name, value in headers.items()}
    try:
        milliseconds = found.get("retry-after-ms")
        seconds = float(found["retry-after"]) if milliseconds is None else float(milliseconds) / 1000
    except KeyError:
        return None
    except ValueError:
        try:
            seconds = parsedate_to_datetime(found.get("retry-after", "")).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _usage(reply: Mapping[str, Any], prompt: int) -> int:
    """The tokens a reply says it cost; estimated where it says nothing that can be true."""
    usage = reply.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    if isinstance(total, int) and not isinstance(total, bool) and 0 < total < 10**9:
        return total
    return prompt + estimate_tokens(json.dumps(reply.get("choices", "")))
