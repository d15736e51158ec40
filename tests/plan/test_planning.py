"""The folder of a plan, through the real command: what is in it, and that its report can be checked."""

import json
from pathlib import Path

import pytest

from fyc.plan.job import Job
from fyc.plan.pool import replay
from tests.plan.command import ARGUMENTS, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("plans") / "a plan"
    done = run(*ARGUMENTS, "-o", str(place), "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["gain"] > 0
    return place


def test_the_plan_holds_job_best_and_frontier(folder: Path) -> None:
    data = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    job = Job.model_validate(data["job"])
    assert job.model.parameters == 70_553_706_496
    best = data["best"]["layout"]
    assert best["tp"] * best["pp"] * best["cp"] * best["dp"] == 512
    assert data["best"]["fits"]
    assert data["best"]["iteration_s"] <= min(e["iteration_s"] for e in data["frontier"]) * 1.001
    assert sum(data["rejected"].values()) <= data["considered"]


def test_resume_keeps_what_was_tried(folder: Path) -> None:
    before = len(replay(folder / "pool.jsonl").of_type("trial"))
    done = run("resume", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trials"] == before


def test_another_job_does_not_go_into_the_folder(folder: Path) -> None:
    done = run(*ARGUMENTS[:-4], "--global-batch", "1024", "--backend", "megatron", "-o", str(folder))
    assert done.returncode == 2
    assert "FYC-L12" in done.stderr


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    done = run(*ARGUMENTS, "-o", str(tmp_path))
    assert done.returncode == 2
    assert "FYC-L12" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_an_endpoint_that_is_down_does_not_cost_the_plan(tmp_path: Path) -> None:
    place = tmp_path / "plan"
    environment = {
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "FYC_PLAN_MODEL": "nobody",
        "OPENAI_API_KEY": "sk-secret-key",
    }
    done = run(*ARGUMENTS, "-o", str(place), "--reasoner", "llm", "--trials", "3", **environment)
    assert done.returncode == 8, done.stderr  # a model was asked for by name and decided nothing
    report = (place / "report.md").read_text(encoding="utf-8")
    assert "a language model failed and the rules decided instead" in report
    assert "who decided: `rules` in [" in report
    everything = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert b"sk-secret-key" not in everything + done.stderr.encode()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--seq", "8192"], "a plan needs --model"),
        ([*ARGUMENTS[:-2], "--backend", "megatorn"], "did you mean `megatron`"),
        ([*ARGUMENTS, "--precision", "fp7"], "FYC-L09"),
        ([*ARGUMENTS, "--reasoner", "llm"], "FYC-L25"),
        ([*ARGUMENTS, "--executor", "modle"], "did you mean `model`"),
    ],
)
def test_wrong_options_are_said(arguments: list[str], word: str, tmp_path: Path) -> None:
    done = run(*arguments, "-o", str(tmp_path / "plan"))
    assert done.returncode == 2
    assert word in done.stderr
    assert not (tmp_path / "plan" / "plan.json").exists()


def test_a_model_that_is_too_large_exits_with_seven(tmp_path: Path) -> None:
    cluster = tmp_path / "one.yaml"
    cluster.write_text("gpu: a100-40gb\nnodes: 1\ngpus_per_node: 8\nnetwork_gbs: 25\n", encoding="utf-8")
    arguments = [str(cluster) if a.endswith("h100x512.yaml") else a for a in ARGUMENTS]
    done = run(*arguments, "-o", str(tmp_path / "plan"))
    assert done.returncode == 7
    assert "FYC-L08" in done.stderr
