"""Language models behind any OpenAI-compatible endpoint: what they are asked, and what is done with what they say."""

from fyc.plan.llm.budget import Budget, budget_from_environment
from fyc.plan.llm.client import Answer, LLMClient
from fyc.plan.llm.endpoint import Endpoint, endpoint_from_environment
from fyc.plan.llm.prompts import PromptStyle
from fyc.plan.llm.ranking import Question, Ranking
from fyc.plan.llm.transcript import Transcript

__all__ = [
    "Answer",
    "Budget",
    "Endpoint",
    "LLMClient",
    "PromptStyle",
    "Question",
    "Ranking",
    "Transcript",
    "budget_from_environment",
    "endpoint_from_environment",
]
