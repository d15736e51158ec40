"""The endpoint: its address and model, from the environment or options; its key, from the environment alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from fyc.errors import PlanError

OPENAI_URL = "https://api.openai.com/v1"
#: What servers without keys are sent: the protocol wants a word.
NO_KEY = "none"


@dataclass(frozen=True)
class Endpoint:
    """Where a language model answers.

    Attributes:
        base_url: up to and with `/v1`.
        model: its name there.
        key: sent as the bearer token; never printed, logged, or part of an error.
    """

    base_url: str = field(repr=False)
    model: str
    key: str = field(default=NO_KEY, repr=False)

    @property
    def address(self) -> str:
        """The base URL without what may be secret in it: user, password, query."""
        parts = urlsplit(self.base_url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    def redact(self, text: str) -> str:
        """The text without the key or any secret of the URL, also where a server repeats them."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "[redacted]").replace(quote(secret, safe=""), "[redacted]")
        return text

    def _secrets(self) -> set[str]:
        parts = urlsplit(self.base_url)
        found = {self.key, parts.password or "", *(value for _, value in parse_qsl(parts.query))}
        return {secret for secret in found if len(secret) >= 4 and secret != NO_KEY}


def endpoint_from_environment(
    *, base_url: str | None = None, model: str | None = None, environment: Mapping[str, str] = os.environ
) -> Endpoint | None:
    """The endpoint that `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `FYC_PLAN_MODEL` name; None when nothing names one.

    Args:
        base_url: instead of the variable.
        model: instead of the variable.
        environment: the variables.

    Raises:
        PlanError: FYC-L25 when the half of it is missing, or the address is no HTTP URL.
    """
    url = (base_url or environment.get("OPENAI_BASE_URL", "")).strip()
    name = (model or environment.get("FYC_PLAN_MODEL", "")).strip()
    key = environment.get("OPENAI_API_KEY", "").strip()
    if not (url or name):
        return None
    if not name:
        raise _unclear("no model is named", "set FYC_PLAN_MODEL, or pass the option for the model")
    if not (url or key):
        raise _unclear(
            "there is neither an address nor a key", "set OPENAI_BASE_URL for a server of your own, or the key"
        )
    if not (key.isascii() and key.isprintable()):
        raise _unclear("OPENAI_API_KEY holds characters that no key has", "set it again")
    try:
        parts = urlsplit(url or OPENAI_URL)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise _unclear("the address is not an http(s) URL", "it looks like http://localhost:8000/v1")
    return Endpoint(url or OPENAI_URL, name, key or NO_KEY)


def _unclear(why: str, next: str) -> PlanError:
    return PlanError("FYC-L25", "the endpoint of the language model is not fully described", why=why, next=next)
