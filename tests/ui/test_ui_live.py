"""The live view of a plan, and the same events as lines."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from fyc.ui.events import Event
from fyc.ui.live import PlanView
from fyc.ui.progress import progress

PLAN = {"model": "llama [bold]", "gpus": 512, "gpu": "h100-sxm", "backend": "megatron-core", "trials": 20, "done": 0,
        "output": "out"}  # fmt: skip


def _trial(index: int, seconds: float | None, status: str = "ok", **more: object) -> Event:
    data = {"index": index, "total": 20, "layout": f"tp{index + 1}", "status": status, "iteration_s": seconds,
            "simulated": True, "best": "tp2", "best_s": 9.0, "gain": 0.25}  # fmt: skip
    return Event("trial", data | more)


RUN = [
    Event("note", {"message": "reading the model"}),
    Event("plan", PLAN),
    Event("trying", {"index": 0, "total": 20, "layout": "tp1", "expected_s": 10.5}),
    _trial(0, 11.25, best="tp1", best_s=11.25, gain=0.0),
    Event("decision", {"reasoner": "llm:some/model", "choice": "tp 1 -> 2", "rationale": "[red]it\x1b[31m is",
                       "options": 8, "tokens": 1234}),
    Event("trying", {"index": 1, "total": 20, "layout": "tp2", "expected_s": None}),
    _trial(1, 9.0),
    _trial(2, None, "oom"),
]  # fmt: skip


def screen(events: list[Event], width: int = 100) -> str:
    """What stands on a terminal after some events."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=40, force_terminal=False)
    with PlanView(stream, console) as show:
        for event in events:
            show(event)
    return stream.getvalue()


def test_the_view_shows_trial_best_gain_decision_and_tokens() -> None:
    text = screen(RUN)
    assert "llama [bold] on 512 x h100-sxm, megatron-core" in text
    assert "3 of 20" in text
    assert "9.000 s a step, +25.0% over the customary setting" in text
    assert "llm:some/model: [red]it" in text
    assert "1,234 tokens" in text
    assert "\x1b" not in text
    rows = [line.strip("│ \n").split() for line in text.splitlines()]
    assert ["1", "11.250", "s", "tp1"] in rows
    assert ["3", "oom", "tp3"] in rows


def test_what_is_at_work_is_shown_with_what_is_expected() -> None:
    assert "tp1 (10.500 s expected)" in screen(RUN[:3])
    assert "reading the model" in screen(RUN[:1])
    assert "deciding what to try" in screen(RUN[:4])
    assert "done" in screen([*RUN, Event("done", {})])


def test_a_plan_that_is_gone_on_with_counts_what_was_tried() -> None:
    assert "7 of 20" in screen([Event("plan", PLAN | {"done": 7})])


def test_only_the_last_trials_are_listed() -> None:
    text = screen([Event("plan", PLAN), *(_trial(index, 10.0) for index in range(20))])
    assert "20 of 20" in text
    assert "tp20" in text
    assert "tp5 " not in text


@pytest.mark.parametrize("width", [30, 60, 250])
def test_it_fits_any_width_and_leaves_room_for_what_a_terminal_shows_of_ctrl_c(width: int) -> None:
    assert max(map(len, screen(RUN, width).splitlines())) <= width - 3


def test_ctrl_c_leaves_the_view_and_an_error_takes_it_away() -> None:
    def left(error: type[BaseException]) -> str:
        stream = io.StringIO()
        console = Console(file=stream, width=80, height=30, force_terminal=True, legacy_windows=False)
        with pytest.raises(error), PlanView(stream, console) as show:  # noqa: PT012
            show(RUN[1])
            raise error
        assert stream.getvalue().rstrip("\n").count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1
        return stream.getvalue()

    assert "stopped" in left(KeyboardInterrupt)
    erased = "\x1b[1A\x1b[2K"
    assert left(ValueError).endswith(erased)
    assert not left(KeyboardInterrupt).endswith(erased)


def test_the_same_as_lines_and_as_json() -> None:
    stream = io.StringIO()
    with progress("plain", stream) as show:
        for event in RUN:
            show(event)
    assert stream.getvalue().splitlines() == [
        "reading the model",
        "llama [bold] on 512 x h100-sxm, megatron-core: 20 trials at most",
        "  1/20 tp1: 11.250 s; best so far: 11.250 s a step, +0.0% over the customary setting",
        "llm:some/model: [red]it [31m is",
        "  2/20 tp2: 9.000 s; best so far: 9.000 s a step, +25.0% over the customary setting",
        "  3/20 tp3: oom; best so far: 9.000 s a step, +25.0% over the customary setting",
    ]
    stream = io.StringIO()
    with progress("json", stream) as show:
        for event in RUN:
            show(event)
    assert [json.loads(text)["kind"] for text in stream.getvalue().splitlines()] == [event.kind for event in RUN]


def test_a_terminal_gets_the_view_and_a_pipe_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("CI", raising=False)
    assert isinstance(progress("auto", Terminal(), PlanView), PlanView)
    assert not isinstance(progress("auto", io.StringIO(), PlanView), PlanView)
    monkeypatch.setenv("CI", "1")
    assert not isinstance(progress("auto", Terminal(), PlanView), PlanView)
