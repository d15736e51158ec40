"""The pictures of a report: the same bytes each time, valid, readable without seeing them, whatever the plan holds."""

import builtins
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from fyc.plan.agents.reporter import MEMORY_NAMES, PART_NAMES
from fyc.plan.cost.memory import MemoryUse
from fyc.plan.cost.step import StepTime
from fyc.plan.estimate import estimate
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from fyc.plan.messages import Trial
from fyc.plan.pictures import FOLDER, HOW_TO_GET, Scene, Tried, draw
from fyc.plan.search import search
from fyc.plan.stages import memory_by_stage, some_stages
from tests.plan.jobs import make_job

BEST = Layout(tp=4, pp=4, vpp=10, dp=32, zero=1, sequence_parallel=True)
EXPERT = Layout(tp=8, dp=64, zero=1, sequence_parallel=True)
NAMES = {"time", "memory", "frontier", "history"}


def trial(seconds: float | None, status: str = "ok") -> Trial:
    return Trial.model_validate(
        {"proposal": "m1", "status": status, "executor": "model", "simulated": True, "iteration_s": seconds}
    )


@pytest.fixture(scope="module")
def job() -> Job:
    return make_job()


@pytest.fixture(scope="module")
def scene(job: Job) -> Scene:
    ones = [estimate(job, Layouts.of([layout])).one(0) for layout in (BEST, EXPERT)]
    tried = [Tried(one.layout, one.iteration_s, one.iteration_s, one.peak_memory_gib, "ok") for one in ones]
    return Scene(
        expert=ones[1],
        frontier=search(job).frontier,
        tried=[*tried, Tried(Layout(tp=2, pp=8, dp=32, zero=1), None, 9.0, 90.0, "oom")],
        trials=[trial(ones[1].iteration_s), trial(None, "oom"), trial(ones[0].iteration_s)],
        capacity_gib=job.cluster.gpu.memory_gib.value,
        reserve_gib=2.0,
        best=ones[0],
        best_s=ones[0].iteration_s,
        expert_s=ones[1].iteration_s,
        stages=memory_by_stage(job, BEST),
    )


@pytest.fixture(scope="module")
def failures(scene: Scene) -> Scene:
    return replace(
        scene, best=None, best_s=None, expert_s=None, stages=[], frontier=[],
        tried=[
            replace(one, seconds=None, status=status)
            for one, status in zip(scene.tried, ("oom", "failed", "timeout"), strict=True)
        ],
        trials=[trial(None, "oom"), trial(None, "failed"), trial(None, "timeout")],
    )  # fmt: skip


def texts(path: Path) -> list[str]:
    """What is written in a picture; it must be valid XML."""
    root = ET.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_every_picture_has_a_file_and_says_in_words_what_it_shows(scene: Scene, tmp_path: Path) -> None:
    shown = draw(scene, tmp_path)
    assert set(shown) == NAMES
    for name, markdown in shown.items():
        match = re.fullmatch(r"!\[(.{40,})\]\((.+)\)", markdown)
        assert match
        assert match[2] == f"{FOLDER}/{name}.svg"
        assert texts(tmp_path / match[2])
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == sorted(f"{name}.svg" for name in NAMES)


def test_the_same_scene_gives_the_same_bytes_whatever_the_user_likes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    found = []
    for index in range(2):
        monkeypatch.setitem(mpl.rcParams, "font.size", 10 + 7 * index)
        folder = tmp_path / str(index)
        folder.mkdir()
        draw(scene, folder)
        found.append({path.name: path.read_bytes() for path in (folder / FOLDER).iterdir()})
        assert mpl.rcParams["font.size"] == 10 + 7 * index
    assert found[0] == found[1]
    assert not any(b"<dc:date>" in data for data in found[0].values())


def test_the_memory_of_every_stage_is_drawn(scene: Scene, tmp_path: Path) -> None:
    draw(scene, tmp_path)
    words = texts(tmp_path / FOLDER / "memory.svg")
    for stage in scene.stages:
        text = f"stage {stage.number} of 4, 20 layers: {stage.total_gib:.1f} GiB"
        assert any(word.endswith(text) for word in words)
        assert f"{stage.memory_gib['activations']:.1f}" in words
    assert any(word.startswith(f"chosen layout, {BEST}") for word in words)
    assert any(word.startswith(f"customary setting, {EXPERT}: ") for word in words)
    assert {"parameters", "gradients", "activations", "logits", "limit: 77.1 GiB"} <= set(words)


def test_the_times_are_those_of_the_estimates(scene: Scene, tmp_path: Path) -> None:
    assert scene.best is not None
    draw(scene, tmp_path)
    words = texts(tmp_path / FOLDER / "time.svg")
    for part in ("product", "attention", "tensor", "bubble"):
        assert PART_NAMES[part] in words
        assert f"{scene.best.time_s[part]:.3f}" in words
    assert f"chosen layout: {scene.best.iteration_s:.3f} s in all" in words
    assert "none" in words  # the customary setting has no pipeline


def test_only_failures_are_drawn_too(failures: Scene, tmp_path: Path) -> None:
    assert set(draw(failures, tmp_path)) == NAMES
    history = texts(tmp_path / FOLDER / "history.svg")
    assert {"out of memory (no time)", "failed (no time)", "timed out (no time)"} <= set(history)
    assert "best so far" not in history
    assert not any("chosen" in word for name in NAMES for word in texts(tmp_path / FOLDER / f"{name}.svg"))


def test_hostile_text_is_escaped(scene: Scene, tmp_path: Path) -> None:
    """Layouts are the only text from outside; a plugin's might be of any kind."""

    class Evil(Layout):
        def __str__(self) -> str:
            return "</text><script>alert(1)</script> $x_{\\frac & \"'"

    assert scene.best is not None
    evil = scene.best.model_copy(update={"layout": Evil(**BEST.model_dump())})
    draw(replace(scene, best=evil), tmp_path)
    words = texts(tmp_path / FOLDER / "memory.svg")
    assert any("<script>alert(1)</script> $x_{\\frac" in word for word in words)
    assert "<script" not in (tmp_path / FOLDER / "memory.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_report_says_how_to_get_pictures(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert draw(scene, tmp_path) == {"summary": HOW_TO_GET}
    assert "pip install" in HOW_TO_GET
    assert not (tmp_path / FOLDER).exists()


def test_every_part_has_a_name() -> None:
    assert set(PART_NAMES) == set(StepTime.__dataclass_fields__)
    assert set(MEMORY_NAMES) == set(MemoryUse.__dataclass_fields__)


def test_of_many_stages_some_are_shown_with_both_ends(job: Job) -> None:
    stages = memory_by_stage(job, Layout(tp=2, pp=16, dp=16, zero=1))
    assert [stage.number for stage in some_stages(stages, 6)] == [1, 4, 7, 10, 13, 16]
    assert some_stages(stages[:3], 6) == stages[:3]
