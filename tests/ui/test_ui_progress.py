"""The three renderers of events."""

from __future__ import annotations

import io
import json

import pytest

from fyc.ui.events import Event
from fyc.ui.progress import BarProgress, JsonProgress, PlainProgress, QuietProgress, progress

RUN = [
    Event("run", {"recipe": "r.yaml", "model": "m", "output": "out", "passes": ["wanda"]}),
    Event("sweep", {"pass": "wanda", "phase": "run", "blocks": 2}),
    *(
        Event(
            "block",
            {
                "pass": "wanda", "phase": "run", "index": i, "total": 2, "path": f"layers.{i}", "seconds": 1.5,
                "eta_seconds": 1.5 * (1 - i), "peak_memory_bytes": 10**9,
            },
        )
        for i in range(2)
    ),
    Event("metric", {"name": "perplexity", "value": 26.25}),
    Event("warning", {"message": "opaque", "where": "layers.1"}),
    Event("note", {"message": "a [note]", "where": ""}),
    Event("done", {"output": "out", "seconds": 3.25, "peak_memory_bytes": 10**9}),
    Event("from the future", {"x": 1}),
]  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(mode: str, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    with progress(mode, stream) as show:
        for event in RUN:
            show(event)
    return stream.getvalue()


def test_json_lines_hold_every_event():
    lines = [json.loads(line) for line in shown("json").splitlines()]
    assert lines == [{"kind": event.kind, **event.data} for event in RUN]


def test_plain_lines():
    stream = io.StringIO()
    show = PlainProgress(stream, interval=0)
    for event in RUN:
        show(event)
    assert stream.getvalue().splitlines() == [
        "m: wanda -> out",
        "wanda run: 2 blocks",
        "  1/2 layers.0: 1.50 s, 1.50 s left, peak 1.00 GB",
        "  2/2 layers.1: 1.50 s, 0.00 s left, peak 1.00 GB",
        "perplexity: 26.25",
        "warning: opaque (layers.1)",
        "a [note]",
        "done in 3.25 s, peak memory 1.00 GB: out",
    ]


def test_plain_lines_do_not_flood_a_log():
    stream = io.StringIO()
    show = PlainProgress(stream, interval=3600)
    for index in range(1000):
        show(Event("block", {**RUN[2].data, "index": index, "total": 1000}))
    first, last = stream.getvalue().splitlines()
    assert first.startswith("  1/1000 ")
    assert last.startswith("  1000/1000 ")


def test_none_shows_warnings_only():
    assert shown("none") == "warning: opaque (layers.1)\n"


def test_bars_show_the_last_state_and_the_notes(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    text = shown("auto", Terminal())
    assert "wanda run" in text
    assert "2/2" in text
    assert "peak 1.00 GB" in text
    assert "a [note]" in text
    assert "done in 3.25 s" in text


@pytest.mark.parametrize(
    ("mode", "terminal", "ci", "kind"),
    [
        ("auto", True, "", BarProgress),
        ("auto", True, "true", PlainProgress),
        ("auto", False, "", PlainProgress),
        ("plain", True, "", PlainProgress),
        ("json", True, "", JsonProgress),
        ("none", True, "", QuietProgress),
    ],
)
def test_the_mode_depends_on_terminal_and_ci(mode, terminal, ci, kind, monkeypatch):
    monkeypatch.setenv("CI", ci)
    assert type(progress(mode, Terminal() if terminal else io.StringIO())) is kind
