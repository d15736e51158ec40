"""The budget: how many tokens and how much time the language model may cost altogether."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fyc.errors import EndpointError, PlanError


@dataclass
class Budget:
    """Tokens and seconds that all calls together may use; the clock starts when the budget is made.

    Attributes:
        tokens: read and written; failed calls count as what their prompts are estimated at.
        seconds: wall-clock time.
        used: tokens so far.
        clock: seconds, monotonic.
    """

    tokens: int = 500_000
    seconds: float = 3600.0
    used: int = 0
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def tokens_left(self) -> int:
        """Tokens that may still be used."""
        return max(0, self.tokens - self.used)

    @property
    def seconds_left(self) -> float:
        """Time that is left."""
        return max(0.0, self.started + self.seconds - self.clock())

    def require(self, tokens: int, seconds: float = 0.0) -> None:
        """Make sure that a call of this size still fits.

        Raises:
            EndpointError: FYC-L22 when it does not.
        """
        if tokens > self.tokens_left:
            raise _spent(f"{self.used} of {self.tokens} tokens are used, and this call needs about {tokens}")
        if self.seconds_left <= seconds:
            wait = f", and the endpoint asks to wait {seconds:.1f} s" if seconds else ""
            raise _spent(f"{self.seconds_left:.1f} of {self.seconds:.0f} s are left{wait}")

    def charge(self, tokens: int) -> None:
        """Count tokens that were used."""
        self.used += tokens


def budget_from_environment(environment: Mapping[str, str] = os.environ) -> Budget:
    """The budget that `FYC_PLAN_TOKENS` and `FYC_PLAN_SECONDS` allow.

    Raises:
        PlanError: FYC-L25 when one of them is not a positive number.
    """
    tokens = positive("FYC_PLAN_TOKENS", Budget.tokens, environment)
    return Budget(int(tokens), positive("FYC_PLAN_SECONDS", Budget.seconds, environment))


def positive(name: str, default: float, environment: Mapping[str, str] = os.environ) -> float:
    """A positive number of the environment.

    Raises:
        PlanError: FYC-L25 when it is none.
    """
    text = environment.get(name, "").strip()
    try:
        value = float(text) if text else float(default)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        what = "the language model cannot be used as it is described"
        raise PlanError("FYC-L25", what, why=f"{name} is not a positive number: {text[:80]}", next=f"correct {name}")
    return value


def _spent(why: str) -> EndpointError:
    return EndpointError(
        "FYC-L22", "the budget for the language model is spent", why=why,
        next="allow more with FYC_PLAN_TOKENS or FYC_PLAN_SECONDS, or go on with the rules",
    )  # fmt: skip


def estimate_tokens(text: str) -> int:
    """Roughly the tokens of a text: one for three bytes, which is rather more than tokenizers make of English."""
    return len(text.encode("utf-8", "replace")) // 3 + 1
