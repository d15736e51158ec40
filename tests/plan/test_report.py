"""The report: every number in it is one that a message of the pool holds, and every reason is a counterfactual."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import pytest
from fyc_plugins.executors.simulate import ModelExecutor

from fyc.errors import EndpointError
from fyc.plan.agents.coordinator import Outcome
from fyc.plan.cost.rates import Correction
from fyc.plan.estimate import Estimate, estimate
from fyc.plan.executor import TrialResult
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from fyc.plan.legal import Limits, legal_layouts, violations
from fyc.plan.messages import Decision, Report, Trial, Validation
from fyc.plan.planning import Request, make_plan
from fyc.plan.pool import PoolContent, replay
from fyc.plan.reasoner import Choice, RuleReasoner
from tests.plan.jobs import LLAMA_8B, LLAMA_70B, MIXTRAL, make_job

LAYOUT = re.compile(r"tp\d+ pp\d+ dp\d+(?: [a-z]+\d+)* mbs\d+ zero\d(?:/\d+)? recompute=\w+(?: sp)?")
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
BECAUSE = re.compile(r"- `(\w+)` is (\S+) (because|although) (\w+)(?:, with vpp (\d+),)? (.*) \[([m\d, ]+)\]$")


@dataclass
class Flaky:
    """The cost model, but only layouts that `runs` likes run."""

    runs: Callable[[Layout], bool]
    name: str = "flaky"
    inner: ModelExecutor = field(default_factory=ModelExecutor)

    def candidates(self, job: Job) -> list[Layout] | None:
        del job

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        if self.runs(layout):
            return self.inner.run(job, layout, repeat)
        log = "torch.OutOfMemoryError: 7777 MiB, | 123 [m1] `x`"
        return TrialResult(status="oom", simulated=False, peak_memory_gib=79.5, cause="oom", log=log)


class Broken:
    """A language model that is never there, and one that says what it likes."""

    name = "llm:broken | 42"

    def choose(self, *arguments: object) -> Choice:
        raise EndpointError("FYC-L20", "nothing listens", where="http://127.0.0.1:9/v1")


class Talker(RuleReasoner):
    """Decides like the rules, and writes what a model might: numbers, tables, images, other people's message ids."""

    def choose(self, *arguments: object) -> Choice:  # type: ignore[override]
        chosen = super().choose(*arguments)  # type: ignore[arg-type]
        text = "31.7 s | see ![x](http://evil/9.png) `m999` <img src=x> " + "blah " * 100
        return Choice(chosen.index, text, chosen.refs, "llm:talker", 120, "0" * 64)


@dataclass(frozen=True)
class Case:
    job: Job
    executor: object = field(default_factory=ModelExecutor)
    reasoner: object = field(default_factory=RuleReasoner)
    limits: Limits | None = None
    correction: Correction | None = None
    trials: int = 6


def _named(name: str) -> Job:
    return make_job(LLAMA_8B.model_copy(update={"name": name}), nodes=1, batch=64, backend="fsdp2")


SMALL = make_job(LLAMA_8B, nodes=1, batch=64, backend="fsdp2")
CASES = {
    "dense, megatron": Case(make_job(LLAMA_70B, nodes=16, batch=256)),
    "mixture of experts": Case(make_job(MIXTRAL, nodes=4, batch=128)),
    "fsdp2, the customary setting is best": Case(SMALL),
    "torchtitan": Case(make_job(LLAMA_70B, nodes=8, batch=128, backend="torchtitan")),
    "deepspeed": Case(make_job(LLAMA_8B, nodes=2, batch=64, backend="deepspeed")),
    "a cluster that differs, with noise": Case(
        make_job(LLAMA_8B, nodes=2, batch=64),
        ModelExecutor(noise=0.05, seed=3, truth=Correction(tensor=3.0, product=1.2)), trials=9,
    ),
    "calibrated": Case(SMALL, correction=Correction(product=1.1, memory=0.9, source="a.log")),
    "only failures": Case(make_job(LLAMA_8B, nodes=2, batch=64), Flaky(lambda layout: False)),
    "the customary setting fails": Case(
        make_job(LLAMA_70B, nodes=16, batch=256), Flaky(lambda layout: layout.pp > 1)
    ),
    "limits": Case(make_job(LLAMA_70B, nodes=16, batch=256), limits=Limits(tp=(8,), zero=(1,), recompute=("full",))),
    "a broken language model": Case(make_job(LLAMA_70B, nodes=16, batch=256), reasoner=Broken()),
    "a talkative language model": Case(make_job(LLAMA_70B, nodes=16, batch=256), reasoner=Talker()),
    "a hostile name": Case(_named("x` ![a](b) <script>alert(1)</script> $\\frac{1}{0}$ & \x1b[31m 99 | m3")),
}  # fmt: skip


@dataclass(frozen=True)
class Written:
    case: Case
    folder: Path
    outcome: Outcome
    text: str
    content: PoolContent


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    case, folder = CASES[request.param], tmp_path_factory.mktemp("plan")
    asked = Request(case.job, limits=case.limits, correction=case.correction, trials=case.trials)
    outcome = make_plan(asked, case.executor, case.reasoner, folder)  # type: ignore[arg-type]
    text = (folder / "report.md").read_text(encoding="utf-8")
    return Written(case, folder, outcome, text, replay(folder / "pool.jsonl"))


def _lines(text: str) -> Iterator[tuple[list[str], str]]:
    """Lines that may hold numbers, with the messages that they, or the heading above them, cite."""
    above: list[str] = []
    for line in text.splitlines()[1:]:
        cited = [m for group in re.findall(r"\[(m\d+(?:, m\d+)*)\]", line) for m in group.split(", ")]
        cited += re.findall(r"^\| (m\d+) \|", line)
        if line.startswith("#"):
            above = cited
        if line and not line.startswith(("![", "|---", "<!--")):
            yield cited or above, line


def _figures(content: PoolContent, cited: list[str]) -> list[float]:
    payloads = [content[message].payload for message in cited]
    reports = [value for p in payloads if isinstance(p, Report) for value in p.figures.values()]
    trials = [p for p in payloads if isinstance(p, Trial)]
    times = [p.iteration_s for p in trials if p.iteration_s is not None]
    memory = [p.peak_memory_gib for p in trials if p.peak_memory_gib is not None]
    by_layout: dict[str, list[float]] = {}
    for p in trials:
        if p.iteration_s is not None:
            by_layout.setdefault(p.proposal, []).append(p.iteration_s)
    return [*reports, *times, *memory, *(median(times) for times in by_layout.values())]


def _follows(shown: str, figures: list[float]) -> bool:
    """Whether a number as it is printed is a figure, or a ratio of two, rounded the same way."""
    digits = len(shown.partition(".")[2])
    ratios = [a / b for a in figures for b in figures if b]
    candidates = [*figures, *(100 * ratio for ratio in ratios), *(100 * (ratio - 1) for ratio in ratios)]
    return any(f"{abs(value):.{digits}f}" == shown for value in candidates)


def _layouts(content: PoolContent, cited: list[str]) -> set[str]:
    found = {str(content.layout_of(content[message])) for message in cited}
    texts = [content[message].payload for message in cited]
    return found | {p.text.partition(":")[0] for p in texts if isinstance(p, Report)}


def test_every_number_is_one_of_a_message_that_its_line_cites(written: Written) -> None:
    checked = 0
    for cited, line in _lines(written.text):
        assert all(message in written.content for message in cited), line
        rest = line
        if line.startswith("| m") and line.count(" | ") >= 4:  # a trial: who decided, why, is quoted from the pool
            rest = _check_quote(written.content, line)
        if "the validator refused" in line:
            payload = written.content[cited[0]].payload
            assert isinstance(payload, Validation)
            quoted = line.partition(": ")[2].rpartition(" [")[0]
            assert quoted == "; ".join(payload.reasons)
            rest = line.replace(quoted, "")
        if line.startswith("- you asked for"):
            assert written.case.limits is not None
            assert re.findall("`([^`]+)`", line) == written.case.limits.texts
            continue
        for layout in LAYOUT.findall(rest):
            assert layout in _layouts(written.content, cited), line
            checked += 1
        rest = LAYOUT.sub("", re.sub(r"\[[m\d, ]+\]|^\| m\d+|`[^`]*`|probability of 80 %|16-bit|stage \d+:", "", rest))
        rest = re.sub(
            r"^(- +is )(\S+) (because|although) (\w+)(, with vpp \d+,)?", r"\1", rest
        )  # the next test looks at these
        for shown in NUMBER.findall(rest):
            assert _follows(shown, _figures(written.content, cited)), (shown, line)
            checked += 1
    assert checked > (3 if written.outcome.best is None else 30)


def _check_quote(content: PoolContent, line: str) -> str:
    """The row of a trial without its last cell, which has to quote the decision behind the trial."""
    before, _, quote = line.removesuffix(" |").partition(" | ")[2].rpartition(" | ")
    match = re.match(r"(\S.*) \[(m\d+)\]: (.*)", quote)
    if match is None:
        assert quote == "the customary setting"
        return before
    decision = content[match[2]]
    assert isinstance(decision.payload, Decision)
    plain = {"`": "'", "<": "&lt;", "![": "! [", "](": "] (", "|": "\\|"}
    said = f"{decision.reasoner} [{decision.id}]: {decision.rationale}"
    for old, new in plain.items():
        said = said.replace(old, new)
    said = " ".join(said.split())
    assert quote == said or (quote.endswith("...") and said.startswith(quote[:-3]) and len(quote) <= 402)
    return before


def _one(case: Case, layout: Layout) -> Estimate:
    return estimate(case.job, Layouts.of([layout]), case.correction).one(0)


def _value(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _changed(job: Job, best: Layout, name: str, value: int | str, vpp: int) -> Layout:
    """The layout with another value of a field, and what follows from it."""
    new = best.model_copy(update={name: value})
    dp = job.cluster.gpus // (new.tp * new.pp * new.cp)
    return new.model_copy(update={"dp": dp, "sequence_parallel": new.tp > 1, "vpp": new.vpp if name == "vpp" else vpp})


def test_every_because_is_a_counterfactual_computed_again(written: Written) -> None:
    """Each reason names the best other value of a field, and the estimate of it says exactly what the report says."""
    best, case = written.outcome.best, written.case
    lines = [line for line in written.text.splitlines() if "because" in line or "although" in line]
    if best is None:
        assert not lines
        return
    assert len(lines) >= 3
    chosen = _one(case, best)
    for line in lines:
        match = BECAUSE.match(line)
        assert match, line
        name, value, word, other, vpp, said, cited = match.groups()
        payload = written.content[cited.split(", ")[0]].payload
        assert isinstance(payload, Report)
        layout = _changed(case.job, best, name, _value(other), int(vpp or best.vpp))
        assert payload.text.startswith(f"{layout}: ")
        assert str(getattr(best, name)) == value != other
        assert not violations(case.job, layout)
        one = _one(case, layout)
        slower = one.iteration_s / chosen.iteration_s - 1
        if one.fits:
            costs = f"{one.iteration_s:.3f} s ({slower:+.1%}) and {one.peak_memory_gib:.1f} GiB"
            assert said.startswith(("would take " if word == "because" else "is expected to take ") + costs), line
            assert (slower >= 0) == (word == "because")
        else:
            assert said.startswith(f"would need {one.peak_memory_gib:.1f} GiB; "), line
        for layout in _rivals(case.job, best, name):
            rival = _one(case, layout)
            if one.fits:
                assert not rival.fits or rival.iteration_s >= one.iteration_s * 0.999999, (line, layout)
            else:
                assert not rival.fits, (line, layout)
                assert rival.peak_memory_gib >= one.peak_memory_gib * 0.999999, (line, layout)


def _rivals(job: Job, best: Layout, name: str) -> list[Layout]:
    """Layouts that the search itself lists and that differ in this field, and what follows from it, alone."""
    follow = {"dp", "sequence_parallel", "shard_size", name} | ({"vpp"} if name == "pp" else set())
    same = best.model_dump(exclude=follow)
    rivals = [layout for layout in legal_layouts(job) if layout.model_dump(exclude=follow) == same]
    return [layout for layout in rivals if getattr(layout, name) != getattr(best, name)]


def test_the_summary_says_who_decided_and_how_sure_it_is(written: Written) -> None:
    if written.outcome.best is None:
        assert "No layout ran" in written.text
        return
    for message in written.content.of_type("decision"):
        assert re.search(rf"^- who decided: .*\b{message.id}\b", written.text, re.MULTILINE)
    calibrated = written.case.correction is not None
    assert ("calibrated on `a.log`" in written.text) == calibrated
    assert ("not calibrated on this cluster" in written.text) != calibrated
    assert "with a probability of 80 % between" in written.text


def test_text_of_others_stays_text(written: Written) -> None:
    assert "<script" not in written.text
    assert "<img" not in written.text
    assert "\x1b" not in written.text
    images = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", written.text)
    assert all(image.startswith("pictures/") and (written.folder / image).is_file() for image in images)
