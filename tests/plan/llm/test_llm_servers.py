"""`fyc plan` against real servers of language models, with a model so small that its answers are poor.

llama-cpp-python keeps to the JSON schema it is given; `transformers serve` does not. What has to hold with both: the
plan is complete, every decision is by the reasoner it is said to be by, and the key is nowhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fyc.assets import fetch
from fyc.models import open_folder
from fyc.plan.edits import Edit, Task
from fyc.plan.layout import Layout
from fyc.plan.llm import Budget, Endpoint, LLMClient, PromptStyle, Transcript
from fyc.plan.messages import Decision
from fyc.plan.pool import PoolContent, replay
from fyc.plan.reasoner import LLMReasoner, RankingReasoner
from fyc.plan.view import View
from fyc.plugins import load_plugins
from tests.plan.llm.servers import Server, llama_cpp, transformers_serve

pytestmark = [pytest.mark.slow, pytest.mark.assets, pytest.mark.timeout(1800)]
KEY = "sk-local/key+0123456789"
EXAMPLES = Path(__file__).parents[3] / "examples" / "plan"
BASE = Layout(tp=8, pp=4, dp=16, micro_batch=1)
OPTIONS = [
    Edit(base=BASE, layout=BASE.model_copy(update=change), iteration_s=seconds, peak_memory_gib=60.0)
    for change, seconds in (({"vpp": 2}, 9.1), ({"micro_batch": 2}, 9.4), ({"recompute": "full"}, 12.3))
]
TASK = Task(goal="faster", layout=BASE, cause="pipeline_bubble", iteration_s=9.8)


@pytest.fixture(scope="session")
def gguf() -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        return fetch("smollm2-135m")


@pytest.fixture(scope="module")
def schema_server(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with llama_cpp(gguf, tmp_path_factory.mktemp("llama-cpp") / "server.log", key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
def free_server(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = open_folder(str(gguf), sources=load_plugins().sources)
    with transformers_serve(folder, tmp_path_factory.mktemp("transformers") / "server.log") as server:
        yield server


def plan(server: Server, reasoner: str, folder: Path) -> PoolContent:
    """Run the command, and check what has to hold whatever the model says."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "FYC_PLAN"))}
    environment |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": KEY, "FYC_PLAN_MODEL": server.model}
    command = [
        sys.executable, "-m", "fyc", "plan", "--model", str(EXAMPLES / "llama-3.1-70b"), "--cluster",
        str(EXAMPLES / "h100x512.yaml"), "--seq", "8192", "--global-batch", "512", "--backend", "torchtitan",
        "--trials", "4", "--reasoner", reasoner, "-o", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    content = replay(folder / "pool.jsonl")
    decided = [message.reasoner for message in content.of_type("decision")]
    by_model = [name for name in decided if name.startswith("llm")]
    assert done.returncode == (0 if by_model else 8), done.stderr
    assert decided
    assert len(decided) - len(by_model) == len(content.of_type("error"))  # a failed call is a decision of the rules
    assert json.loads((folder / "plan.json").read_text(encoding="utf-8"))["best"]["fits"]
    report = (folder / "report.md").read_text(encoding="utf-8")
    for name in set(decided):
        assert name in report
    for message in content.of_type("decision"):
        assert isinstance(message.payload, Decision)
        assert not message.payload.choice or message.payload.choice in message.payload.options
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text(encoding="utf-8").splitlines()]
    hashes = {line["prompt_sha"] for line in lines}
    assert {m.prompt_sha for m in content.of_type("decision") if m.reasoner in by_model} <= hashes
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert KEY.encode() not in written + done.stdout.encode() + done.stderr.encode()
    return content


def client(server: Server, folder: Path, key: str = KEY) -> LLMClient:
    endpoint = Endpoint(server.url, server.model, key)
    return LLMClient(endpoint, budget=Budget(), transcript=Transcript(folder / "t.jsonl"), timeout=300, max_tokens=600)


def test_a_server_that_keeps_to_schemas_decides(schema_server: Server, tmp_path: Path) -> None:
    content = plan(schema_server, "llm", tmp_path / "plan")
    assert any(m.reasoner == "llm:smollm2" for m in content.of_type("decision"))


def test_the_log_probabilities_of_a_server_decide(schema_server: Server, tmp_path: Path) -> None:
    content = plan(schema_server, "llm-rank", tmp_path / "plan")
    assert {m.reasoner for m in content.of_type("decision")} == {"llm-rank:smollm2"}


@pytest.mark.parametrize(
    "style", [PromptStyle(), PromptStyle(inception=False), PromptStyle(chain_of_thought=False), PromptStyle(pool=False)]
)
def test_every_style_of_prompt_gets_an_answer_of_its_form(
    schema_server: Server, tmp_path: Path, style: PromptStyle
) -> None:
    with client(schema_server, tmp_path) as connected:
        choice = LLMReasoner(connected, style).choose("strategist", TASK, View(), OPTIONS)
    assert choice.index in (None, 0, 1, 2)
    assert choice.rationale


def test_a_ranking_does_not_depend_on_the_order_of_the_options(schema_server: Server, tmp_path: Path) -> None:
    """Over all orders of three options, the same lists are shown, whichever option is said first."""
    with client(schema_server, tmp_path) as connected:
        reasoner = RankingReasoner(connected, orders=3)
        first = reasoner.rank("strategist", TASK, View(), OPTIONS)
        turned = reasoner.rank("strategist", TASK, View(), [*OPTIONS[1:], OPTIONS[0]])
    assert (first.method, turned.method) == ("labels", "labels")
    assert [*first.scores[1:], first.scores[0]] == pytest.approx(list(turned.scores), abs=0.05)


def test_a_server_refuses_a_wrong_key(schema_server: Server, tmp_path: Path) -> None:
    from fyc.errors import EndpointError

    with (
        client(schema_server, tmp_path, key="sk-another") as connected,
        pytest.raises(EndpointError, match="FYC-L21"),
    ):
        LLMReasoner(connected).choose("strategist", TASK, View(), OPTIONS)


def test_a_server_that_ignores_schemas_is_survived(free_server: Server, tmp_path: Path) -> None:
    plan(free_server, "llm", tmp_path / "plan")
    lines = (tmp_path / "plan" / "transcript.jsonl").read_text(encoding="utf-8").splitlines()
    assert any("reply" in json.loads(line) for line in lines)  # it did answer


def test_a_server_without_log_probabilities_leaves_the_decisions_to_the_rules(
    free_server: Server, tmp_path: Path
) -> None:
    content = plan(free_server, "llm-rank", tmp_path / "plan")
    assert {m.reasoner for m in content.of_type("decision")} == {"rules"}
    assert {m.payload.code for m in content.of_type("error")} == {"FYC-L28"}  # type: ignore[union-attr]
