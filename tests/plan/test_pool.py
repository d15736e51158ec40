"""The pool: what it takes, what it refuses, and that a file says the same as the memory of its writer."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fyc.errors import PlanError, ResourceError
from fyc.plan.layout import Layout
from fyc.plan.messages import Decision, Diagnosis, Fact, Failure, Message, Proposal, Report, Trial, Validation
from fyc.plan.pool import HEADER, MessagePool, PoolContent, replay
from fyc.ui.events import Event

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FILL: dict[str, Any] = {"iteration": 0, "role": "analyst"}


def fact(name: str = "layers", value: Any = 80) -> Fact:
    return Fact(name=name, value=value)


def open_pool(path: Path, **more: Any) -> MessagePool:
    return MessagePool(path, clock=lambda: NOW, **more)


def with_trial(pool: MessagePool, layout: Layout, seconds: float | None = 1.0, **more: Any) -> Message:
    """Propose a layout unless it was, and add a trial of it."""
    proposal = pool.content.proposal(layout) or pool.append(Proposal(layout=layout), **FILL)
    status = "ok" if seconds else "oom"
    trial = Trial(proposal=proposal.id, status=status, executor="model", simulated=True, iteration_s=seconds, **more)
    return pool.append(trial, refs=[proposal.id], **FILL)


def test_messages_are_numbered_and_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pool.jsonl"
    with open_pool(path) as pool:
        first = pool.append(fact(), **FILL)
        trial = with_trial(pool, Layout(tp=2), breakdown={"bubble": 0.25}, log="a\nb\u2028c\x00")
        pool.append(Diagnosis(trial=trial.id, cause="oom"), refs=[trial.id], **FILL)
        pool.append(Report(text="done", figures={"gain": 1.5}), refs=[first.id], **FILL)
        written = list(pool.content)
    assert [message.id for message in written] == ["m1", "m2", "m3", "m4", "m5"]
    assert list(replay(path)) == written
    assert len(path.read_bytes().splitlines()) == 1 + 5
    with open_pool(path) as pool:
        assert pool.append(fact("heads"), **FILL).id == "m6"
    assert [message.id for message in replay(path)][-1] == "m6"


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), text)
layouts = st.builds(
    Layout,
    tp=st.sampled_from([1, 2]),
    dp=st.sampled_from([1, 2]),
    zero=st.sampled_from([0, 1, 3]),
    shard_size=st.sampled_from([0, 1, 2]),
    sequence_parallel=st.booleans(),
)
figures = st.floats(1e-6, 1e6)


def _aimed(payload: Any, number: int) -> Any:
    """The payload about message `number`, where it is about one."""
    return payload.model_copy(update={"proposal": f"m{number}"}) if hasattr(payload, "proposal") else payload


payloads = st.one_of(
    st.builds(Fact, name=text.filter(bool), value=values, unit=text, source=text),
    st.builds(Proposal, layout=layouts, edit=text),
    st.builds(Validation, proposal=st.just("m1"), ok=st.just(True), estimate=st.dictionaries(st.just("a"), figures)),
    st.builds(Trial, proposal=st.just("m1"), status=st.just("ok"), executor=st.just("x"), simulated=st.booleans(),
              iteration_s=figures, log=text),
    st.builds(Diagnosis, trial=st.just("m1"), cause=st.just("oom"), detail=text),
    st.builds(Failure, code=st.just("FYC-L20"), what=text),
    st.builds(Decision, choice=text, layout=st.none() | layouts),
    st.builds(Report, text=text),
)  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(payloads, st.integers(1, 12), st.integers(0, 3)), max_size=12), st.integers(0, 10_000))
def test_any_history_is_rebuilt_and_survives_a_cut_anywhere(
    tmp_path: Path, history: list[tuple[Any, int, int]], cut: int
) -> None:
    """A plain list of what `append` returned is the reference."""
    path = tmp_path / "pool.jsonl"
    path.unlink(missing_ok=True)
    accepted: list[Message] = []
    with open_pool(path) as pool:
        for payload, number, iteration in history:
            aimed = _aimed(payload, number)
            refs = [f"m{number}"] if hasattr(aimed, "proposal") or hasattr(aimed, "trial") else []
            refs = [aimed.trial] if hasattr(aimed, "trial") else refs
            if _fits(accepted, aimed, refs):
                accepted.append(pool.append(aimed, iteration=iteration, role="any-role", refs=refs))
            else:
                with pytest.raises(PlanError, match="FYC-L27"):
                    pool.append(aimed, iteration=iteration, role="any-role", refs=refs)
    assert list(replay(path)) == accepted
    whole = path.read_bytes()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut])
    lines = max(0, whole[:cut].count(b"\n") - 1)
    assert list(replay(path)) == accepted[:lines]
    with open_pool(path) as pool:
        again = pool.append(fact("afterwards"), **FILL)
    assert list(replay(path)) == [*accepted[:lines], again]


def _fits(accepted: list[Message], payload: Any, refs: list[str]) -> bool:
    known = {message.id: message for message in accepted}
    if any(ref not in known for ref in refs):
        return False
    wanted = {"validation": "proposal", "trial": "proposal", "diagnosis": "trial"}.get(payload.type)
    if wanted and known[refs[0]].type != wanted:
        return False
    keys = {m.payload.layout.key() for m in accepted if isinstance(m.payload, Proposal)}
    return not (isinstance(payload, Proposal) and payload.layout.key() in keys)


@pytest.mark.parametrize(
    ("payload", "more", "why"),
    [
        (fact(), {"refs": ["m1"]}, "m1, which the pool does not hold"),
        (fact(), {"refs": ["m01"]}, "refs.0"),
        (fact(), {"role": "Not A Role"}, "role"),
        (fact(), {"iteration": -1}, "iteration"),
        (fact(), {"reasoner": "somebody"}, "reasoner"),
        (fact(), {"reasoner": "llm:gpt"}, "prompt_sha"),
        (fact(), {"prompt_sha": "0" * 64}, "prompt_sha"),
        (fact(), {"rationale": "\ud800"}, "rationale"),
        (fact(), {"rationale": "x" * 60_000}, "rationale"),
        (Validation(proposal="m1", ok=True), {}, "refs has to name m1"),
        ({"type": "fact", "name": "a", "value": float("nan")}, {}, "payload"),
        ({"type": "gossip"}, {}, "payload"),
    ],
)
def test_a_wrong_message_is_refused_and_leaves_no_trace(
    tmp_path: Path, payload: Any, more: dict[str, Any], why: str
) -> None:
    path = tmp_path / "pool.jsonl"
    with open_pool(path) as pool:
        with pytest.raises(PlanError) as caught:
            pool.append(payload, **{**FILL, **more})
        assert caught.value.code == "FYC-L27"
        assert why in caught.value.why
        assert path.read_bytes() == HEADER
        assert pool.append(fact(), **FILL).id == "m1"


def test_a_trial_is_of_a_proposal_and_a_diagnosis_of_a_trial(tmp_path: Path) -> None:
    with open_pool(tmp_path / "pool.jsonl") as pool:
        pool.append(fact(), **FILL)
        for payload in (Validation(proposal="m1", ok=True), Diagnosis(trial="m1", cause="oom")):
            with pytest.raises(PlanError, match="FYC-L27") as caught:
                pool.append(payload, refs=["m1"], **FILL)
            assert caught.value.why == "m1 is a fact"


@pytest.mark.parametrize(
    "same",
    [
        Layout(dp=4, zero=1),
        Layout(dp=4, zero=1, shard_size=4),
        Layout(dp=4, zero=1, sequence_parallel=True),
    ],
)
def test_the_same_layout_is_not_proposed_twice_however_it_is_written(tmp_path: Path, same: Layout) -> None:
    with open_pool(tmp_path / "pool.jsonl") as pool:
        first = pool.append(Proposal(layout=Layout(dp=4, zero=1)), **FILL)
        assert pool.content.proposal(same) == first
        with pytest.raises(PlanError) as caught:
            pool.append(Proposal(layout=same), **FILL)
        assert "m1 has proposed the same layout" in caught.value.why
        pool.append(Proposal(layout=Layout(dp=4, zero=2)), **FILL)


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (Validation, {"proposal": "m1", "ok": False}),
        (Trial, {"proposal": "m1", "status": "ok", "executor": "x", "simulated": True}),
        (Trial, {"proposal": "m1", "status": "oom", "executor": "x", "simulated": True, "iteration_s": 1.0}),
        (Decision, {"choice": "tp 1 -> 2", "options": ("pp 1 -> 2",)}),
        (Fact, {"name": "a", "value": 1, "extra": 2}),
    ],
)
def test_payloads_that_contradict_themselves_are_refused(model: type, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        model(**values)


def test_what_the_pool_says_of_trials(tmp_path: Path) -> None:
    slow, fast, broken = Layout(tp=1), Layout(tp=2), Layout(tp=4)
    with open_pool(tmp_path / "pool.jsonl") as pool:
        for seconds in (3.0, 0.1, 3.2):  # one lucky trial does not make a layout fast
            last_slow = with_trial(pool, slow, seconds)
        best = with_trial(pool, fast, 2.0)
        oom = with_trial(pool, broken, None)
        content = pool.content
        assert content.best_trials(5) == [best, last_slow]
        assert content.best_trials(1) == [best]
        assert len(content.trials(slow)) == 3
        assert content.trials(Layout(tp=8)) == []
        assert content.failures() == [oom]
        assert content.layout_of(oom) == broken
        with pytest.raises(PlanError, match="FYC-L27"):
            content["m99"]
        assert [i in content for i in ("m1", "m0", "m", "1", "m+1", "m٣", "m" + "9" * 40)] == [True] + [False] * 6


# Files.


def message_line(**changes: Any) -> bytes:
    whole = Message(id="m1", iteration=0, role="analyst", payload=fact(), time=NOW)
    return json.dumps({**json.loads(whole.to_line()), **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"", 0, ""),
        (b"{}\n", 1, "not the first line"),
        (b'{"format":"fyc-message-pool","version":2}\n', 1, "not the first line"),
        (b"PK\x03\x04", 1, "not the first line"),
        (HEADER + b"\n", 2, "Invalid JSON"),
        (HEADER + b"\xff\xfe\n", 2, "Invalid JSON"),
        (HEADER + b"[" * 100_000 + b"\n", 2, "Invalid JSON"),
        (HEADER + b'{"id":"m1"}\n', 2, "required"),
        (HEADER + message_line(extra=1), 2, "extra"),
        (HEADER + message_line(id="m2"), 2, "the next id is m1"),
        (HEADER + message_line() + message_line(), 3, "the next id is m2"),
        (HEADER + message_line(refs=["m1"]), 2, "m1, which the pool does not hold"),
        (HEADER + message_line(time="2026-01-02T00:00:00"), 2, "time"),
        (HEADER + message_line(payload={"type": "fact", "name": "a", "value": {"__class__": "os"}}), 2, "payload"),
        (HEADER + message_line() + message_line(id="m2").replace(b"}", b"", 1), 3, "Invalid JSON"),
        (HEADER + b'{"' + b"x" * 5 * 2**20 + b'"}\n', 2, "longer than"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_its_line_and_not_touched(
    tmp_path: Path, content: bytes, line: int, why: str
) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_bytes(content)
    if not line:  # an empty file is one whose writer died before the first line
        assert len(replay(path)) == 0
        return
    for read in (replay, open_pool):
        with pytest.raises(PlanError) as caught:
            read(path)
        assert (caught.value.code, caught.value.where) == ("FYC-L26", f"{path}:{line}")
        assert why in caught.value.why
    assert path.read_bytes() == content


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    for path in (tmp_path / "missing", tmp_path, fifo, loop):
        with pytest.raises(PlanError) as caught:
            replay(path)
        assert caught.value.code == "FYC-L26"
    for path in (tmp_path, fifo, loop):
        with pytest.raises(PlanError):
            open_pool(path)
    with pytest.raises(PlanError, match="FYC-L26"):
        open_pool(Path("/proc/nowhere/pool.jsonl"))


def test_a_torn_line_is_cut_off_once_with_a_warning_and_the_mode_stays(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    events: list[Event] = []
    path.write_bytes(HEADER + message_line() + b'{"id":"m2","iter')
    path.chmod(0o640)
    assert len(replay(path, events=events.append)) == 1
    assert path.read_bytes().endswith(b'"iter')
    with open_pool(path, events=events.append):
        assert path.read_bytes() == HEADER + message_line()
    with open_pool(path, events=events.append):
        pass
    assert path.stat().st_mode & 0o777 == 0o640
    assert [event.kind for event in events] == ["warning", "warning"]
    assert "torn" in events[0].data["message"]
    assert events[0].data["where"] == f"{path}:3"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".pool.jsonl.lock", "pool.jsonl"]


def test_a_pool_behind_a_link_stays_there(tmp_path: Path) -> None:
    real = tmp_path / "real.jsonl"
    real.write_bytes(HEADER + message_line() + b"torn")
    link = tmp_path / "pool.jsonl"
    link.symlink_to(real)
    with open_pool(link) as pool:
        pool.append(fact("heads"), **FILL)
    assert link.is_symlink()
    assert len(replay(real)) == 2


def test_only_one_writes_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    with open_pool(path) as pool:
        with pytest.raises(ResourceError) as caught:
            open_pool(path)
        assert caught.value.code == "FYC-S03"
        pool.append(fact(), **FILL)
        assert len(replay(path)) == 1
    pool.close()
    with open_pool(path):
        pass
    path.write_bytes(b"no pool\n")
    for _ in range(2):  # a pool that cannot be opened is not left locked
        with pytest.raises(PlanError):
            open_pool(path)


def test_a_full_disk_leaves_the_file_whole(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the kernel writes as much as fits, then refuses."""
    path = tmp_path / "pool.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_pool(path) as pool:
        pool.append(fact(), **FILL)
        whole = path.read_bytes()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 50, before[1]))
            for _ in range(2):
                with pytest.raises(ResourceError) as caught:
                    pool.append(fact("x" * 1000), **FILL)
                assert caught.value.code == "FYC-S01"
                assert path.read_bytes() == whole
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert pool.append(fact("after"), **FILL).id == "m2"
    assert len(replay(path)) == 2


@pytest.mark.parametrize("where", ["before the write", "after the write"])
def test_ctrl_c_while_appending_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "pool.jsonl"
    real: Callable[..., int] = os.write

    def interrupted(handle: int, data: bytes) -> int:
        if where == "after the write":
            real(handle, data)
        raise KeyboardInterrupt

    with open_pool(path) as pool:
        pool.append(fact(), **FILL)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.append(fact("lost"), **FILL)
        kept = pool.append(fact("kept"), **FILL)
        assert kept.id == "m2"
        assert list(replay(path)) == list(pool.content)


def test_content_can_be_built_from_messages(tmp_path: Path) -> None:
    with open_pool(tmp_path / "pool.jsonl") as pool:
        with_trial(pool, Layout())
        assert list(PoolContent(pool.content)) == list(pool.content)
