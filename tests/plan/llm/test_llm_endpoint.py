"""The endpoint from the environment."""

from __future__ import annotations

import pytest

from fyc.errors import PlanError
from fyc.plan.llm import Budget, Endpoint, budget_from_environment, endpoint_from_environment

URL = {"OPENAI_BASE_URL": "http://localhost:8000/v1"}
KEY = {"OPENAI_API_KEY": "sk-1"}
MODEL = {"FYC_PLAN_MODEL": "tiny"}


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [
        ({}, {}, None),
        (KEY, {}, None),
        (KEY | MODEL, {}, Endpoint("https://api.openai.com/v1", "tiny", "sk-1")),
        (URL | MODEL, {}, Endpoint("http://localhost:8000/v1", "tiny", "none")),
        (URL | MODEL | KEY, {"model": "big"}, Endpoint("http://localhost:8000/v1", "big", "sk-1")),
        (URL | MODEL, {"base_url": "https://h/v1"}, Endpoint("https://h/v1", "tiny", "none")),
        ({"OPENAI_BASE_URL": " ", "FYC_PLAN_MODEL": ""} | KEY, {}, None),
    ],
)
def test_what_names_an_endpoint(
    environment: dict[str, str], options: dict[str, str], expected: Endpoint | None
) -> None:
    assert endpoint_from_environment(environment=environment, **options) == expected


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        (URL, "no model"),
        (MODEL, "neither an address nor a key"),
        (MODEL | {"OPENAI_BASE_URL": "localhost:8000"}, "not an http(s) URL"),
        (MODEL | {"OPENAI_BASE_URL": "file:///etc/passwd"}, "not an http(s) URL"),
        (MODEL | {"OPENAI_BASE_URL": "http://[::1"}, "not an http(s) URL"),
        (MODEL | {"OPENAI_BASE_URL": "http://host:99999/"}, "not an http(s) URL"),
        (MODEL | {"OPENAI_API_KEY": "sk\nX-Evil: 1"}, "characters that no key has"),
        (MODEL | {"OPENAI_API_KEY": "schlüssel"}, "characters that no key has"),
    ],
)
def test_half_an_endpoint_is_an_error_that_does_not_show_the_key(environment: dict[str, str], why: str) -> None:
    with pytest.raises(PlanError) as caught:
        endpoint_from_environment(environment=environment)
    assert caught.value.code == "FYC-L25"
    assert why in caught.value.why
    assert environment.get("OPENAI_API_KEY", "?!") not in str(caught.value)


def test_the_environment_sets_the_budget() -> None:
    budget = budget_from_environment({"FYC_PLAN_TOKENS": "7000", "FYC_PLAN_SECONDS": " 2.5 "})
    assert (budget.tokens, budget.seconds) == (7000, 2.5)
    usual = budget_from_environment({"FYC_PLAN_TOKENS": ""})
    assert (usual.tokens, usual.seconds) == (Budget().tokens, Budget().seconds)


@pytest.mark.parametrize("value", ["many", "0", "-3", "inf", "nan", "1e999"])
@pytest.mark.parametrize("name", ["FYC_PLAN_TOKENS", "FYC_PLAN_SECONDS"])
def test_a_budget_is_a_positive_number(name: str, value: str) -> None:
    with pytest.raises(PlanError, match="FYC-L25") as caught:
        budget_from_environment({name: value})
    assert f"{name} is not a positive number" in caught.value.why
