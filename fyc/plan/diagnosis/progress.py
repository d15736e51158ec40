"""Measured progress: step time, throughput and memory from the lines that training frameworks print.

Formats: Megatron-LM `training.py` and `utils/common_utils.py`, the Megatron-DeepSpeed of BLOOM, torchtitan
`metrics.py`, DeepSpeed `runtime/pipe/engine.py` and `utils/timer.py`.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from fyc.plan.diagnosis.lines import printable, read_prefix
from fyc.plan.diagnosis.reader import LogReader
from fyc.plan.diagnosis.report import Framework, Progress

_WARM_UP = 3
_NUMBER = r"([0-9][0-9,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)"

_MEGATRON = re.compile(r"iteration\s+(\d+)\s*/\s*(\d+)\s*\|.*?elapsed time per iteration \((m?s)\):\s*" + _NUMBER)
_PIPELINE = re.compile(rf"steps?:\s*(\d+)(?:\s*/\s*(\d+))?\s.*?iter time \(s\):\s*{_NUMBER}\s*samples/sec:\s*{_NUMBER}")
_DEEPSPEED = re.compile(
    rf"(?:global_step=|\b\d+/)(\d+),\s*(?:RunningAvgSamplesPerSec=[^,]*,\s*)?(?:Curr)?SamplesPerSec={_NUMBER}"
)
_TITAN = re.compile(
    rf"step:\s*(\d+)\s+loss:.*?memory:\s*{_NUMBER}GiB\([\d.]+%\)\s+tps:\s*{_NUMBER}(?:\s+tflops:\s*{_NUMBER})?"
)
_TITAN_START = re.compile(r"global batch size (\d+),.*sequence length (\d+)(?:,.*total steps (\d+))?")
_SETTING = re.compile(r"\b(seq_length|world_size|train_batch_size|global_batch_size)\s*\.{2,}\s*(\d{1,12})\b")
_TFLOPS = re.compile(rf"(?:TFLOP/s/GPU\)|TFLOPs):\s*{_NUMBER}")
_TOKENS_GPU = re.compile(rf"tokens?[^|:]{{0,40}}gpu[^|:]{{0,40}}:\s*{_NUMBER}", re.IGNORECASE)
_BATCH = re.compile(r"global batch size:\s*(\d+)")
_CONSUMED = re.compile(r"consumed samples:\s*(\d+).*?consumed tokens:\s*(\d+)")
_MEGATRON_MEMORY = re.compile(rf"max allocated:\s*{_NUMBER}\s*\|.*?max reserved:\s*{_NUMBER}")
_DEEPSPEED_MEMORY = re.compile(rf"MaxMemAllocated=\s*{_NUMBER}\s*GB|Max_MA\s+{_NUMBER}\s*GB.*?Max_CA\s+{_NUMBER}\s*GB")
_DONE = re.compile(
    r"Training completed|\[after training is done\]|exiting program at iteration|Process \d+ exits successfully"
)

#: What the reader looks for; see `WordFinder` for how they begin.
PROGRESS_WORDS = (
    b"n (ms): ", b"n (s): ", b"me (s): ", b"SamplesPerSec=", b"GiB(", b"max reserved: ", b"Max_MA ",
    b"_length ..", b"_size ..", b"Trainer is initialized", b"Training completed", b"[after training is done]",
    b"exiting program at", b"exits successfully",
)  # fmt: skip


class Series:
    """Numbers in bounded memory: when there are too many, every second one is dropped and only every second added."""

    _MOST = 1 << 16

    def __init__(self) -> None:
        self.seen = 0
        self._stride = 1
        self._kept = array("d")

    def add(self, value: float | None) -> None:
        """Take a number; None and what is not above zero are no measurement."""
        if value is None or not 0 < value < float("inf"):
            return
        if self.seen % self._stride == 0:
            self._kept.append(value)
            if len(self._kept) >= self._MOST:
                self._kept = self._kept[::2]
                self._stride *= 2
        self.seen += 1

    def quantile(self, share: float) -> float | None:
        """The value below which `share` of the numbers lie, interpolated; None without numbers."""
        if not self._kept:
            return None
        ordered = sorted(self._kept)
        place = share * (len(ordered) - 1)
        low = ordered[int(place)]
        high = ordered[min(int(place) + 1, len(ordered) - 1)]
        return low + (high - low) * (place - int(place))

    @property
    def median(self) -> float | None:
        """The middle number."""
        return self.quantile(0.5)


@dataclass
class Step:
    """One throughput line. Times in seconds, rates of the whole job unless they say otherwise."""

    framework: Framework
    number: int
    total: int | None = None
    step_s: float | None = None
    samples_per_s: float | None = None
    tokens_per_s_per_gpu: float | None = None
    tflops_per_gpu: float | None = None
    batch: int | None = None
    consumed: tuple[int, int] | None = None


@dataclass
class ProgressTracker:
    """Collects the throughput lines of one log, in its order; `result` sums them up.

    Attributes:
        steps: throughput lines of different steps so far.
        starts: how often the run began, also again from a checkpoint.
        first, last, total: numbers of steps; `total` is where the run is to end.
        last_time: when the last step was logged, s.
        done: whether the program said that it is through.
    """

    steps: int = 0
    starts: int = 0
    first: int = 0
    last: int | None = None
    last_time: float | None = None
    total: int | None = None
    done: bool = False
    framework: Framework | None = None
    settings: dict[str, int] = field(default_factory=dict)
    allocated: float = 0.0
    reserved: float = 0.0
    _base: int | None = None
    _previous: tuple[int, float | None, tuple[int, int] | None] | None = None
    _tokens_per_sample: Series = field(default_factory=Series)
    _series: dict[str, Series] = field(default_factory=dict)

    def read(self, text: str) -> None:
        """Take a printable line that holds one of `PROGRESS_WORDS`; others change nothing."""
        self._memory(text)
        if _DONE.search(text):
            self.done = True
            return
        step = _step_of(text)
        if step is None:
            self._settings(text)
        elif self._follows(step.framework):
            self._take(step, read_prefix(text)[0].time)

    def _follows(self, framework: Framework) -> bool:
        """Of two sorts of lines about the same steps, those count that state the time of a step."""
        if self.framework == "deepspeed" and framework != "deepspeed":
            self._reset()
        return self.framework in {None, framework}

    def _reset(self) -> None:
        self.steps, self.framework, self.last, self._base, self._previous = 0, None, None, None, None
        self._series.clear()

    def _take(self, step: Step, time: float | None) -> None:
        if self.last is not None and self.last - _WARM_UP < step.number <= self.last:
            return  # another rank's line about the same step
        if self.last is None or step.number < self.last:
            self._previous, self._base = None, None  # a start, or a restart from an older checkpoint
            self.starts += 1
        if self.framework is None:
            self.framework, self.first = step.framework, step.number
        self.steps += 1
        self.total = step.total or self.total
        self._measure(step, time)
        self.done = False
        self._previous = (step.number, time, step.consumed)
        self.last, self.last_time = step.number, time if time is not None else self.last_time

    def _measure(self, step: Step, time: float | None) -> None:
        """Add to the series what the line says, once the first three steps are over."""
        if self._previous is None:
            return
        number, before, consumed = self._previous
        covered = step.number - number
        if self._base is None:
            self._base = max(number - covered, 0)
        if consumed is not None and step.consumed is not None and step.consumed[0] > consumed[0]:
            self._tokens_per_sample.add((step.consumed[1] - consumed[1]) / (step.consumed[0] - consumed[0]))
        if number - self._base < _WARM_UP:
            return
        if step.step_s is None and time is not None and before is not None:
            step.step_s = (time - before) / covered
        for name in ("step_s", "samples_per_s", "tokens_per_s_per_gpu", "tflops_per_gpu", "batch"):
            self._series.setdefault(name, Series()).add(getattr(step, name))
        self._series.setdefault("lines", Series()).add(1.0)

    def _memory(self, text: str) -> None:
        if match := _MEGATRON_MEMORY.search(text):
            self.allocated = max(self.allocated, _number(match[1]) / 1024)
            self.reserved = max(self.reserved, _number(match[2]) / 1024)
        elif match := _DEEPSPEED_MEMORY.search(text):
            self.allocated = max(self.allocated, _number(match[1] or match[2]))
            self.reserved = max(self.reserved, _number(match[3] or "0"))
        elif match := _TITAN.search(text):  # memory of torchtitan is what the allocator reserved
            self.reserved = max(self.reserved, _number(match[2]))

    def _settings(self, text: str) -> None:
        if match := _TITAN_START.search(text):
            self.settings.update(global_batch_size=int(match[1]), seq_length=int(match[2]))
            self.total = int(match[3]) if match[3] else self.total
        for name, value in _SETTING.findall(text):
            self.settings[name] = int(value)

    @property
    def is_complete(self) -> bool:
        """Whether the run came to its end: the program said so, or the last step was logged."""
        return self.done or (self.last is not None and self.total is not None and self.last >= self.total)

    def result(self) -> Progress | None:
        """What was measured; None if no throughput line was seen."""
        if self.framework is None or self.last is None:
            return None
        lines = self._series.get("lines")
        time = self._series.get("step_s", Series())
        low, middle, high = (time.quantile(share) for share in (0.1, 0.5, 0.9))
        rates = self._rates(middle)
        spread = (high - low) / middle if low is not None and middle and high is not None else None
        return Progress(
            framework=self.framework, steps=self.steps, first_step=self.first, last_step=self.last,
            total_steps=self.total, measured=lines.seen if lines else 0, step_s=rates.pop("step_s"), step_s_low=low,
            step_s_high=high, spread=spread, peak_allocated_gib=self.allocated or None,
            peak_reserved_gib=self.reserved or None, tflops_per_gpu=self._median("tflops_per_gpu"), **rates,
        )  # fmt: skip

    def _median(self, name: str) -> float | None:
        series = self._series.get(name)
        return series.median if series else None

    def _rates(self, step_s: float | None) -> dict[str, float | None]:
        """Step time and rates, each from the others where the log says enough."""
        batch = self._median("batch") or self.settings.get("train_batch_size") or self.settings.get("global_batch_size")
        samples = self._median("samples_per_s")
        if self.framework == "deepspeed" and samples and batch:
            step_s = batch / samples
        if samples is None and step_s and batch and self.framework != "torchtitan":
            samples = batch / step_s
        world = self.settings.get("world_size")
        length = self.settings.get("seq_length") or self._tokens_per_sample.median
        per_gpu = self._median("tokens_per_s_per_gpu")
        tokens = samples * length if samples and length else None
        if self.framework == "torchtitan" and step_s and batch and length:
            tokens = batch * length / step_s
            samples = batch / step_s
        if tokens is None and per_gpu and world:
            tokens = per_gpu * world
        if per_gpu is None and tokens and world:
            per_gpu = tokens / world
        return {"step_s": step_s, "samples_per_s": samples, "tokens_per_s": tokens, "tokens_per_s_per_gpu": per_gpu}


def parse_progress(path: Path | str) -> Progress | None:
    """The measured progress of a training log.

    Args:
        path: what a job of Megatron-LM, Megatron-DeepSpeed, torchtitan or DeepSpeed wrote; gzip is unpacked.

    Returns:
        Medians over the steps after the first three of each start; None if there is no throughput line.

    Raises:
        PlanError: FYC-L01, the file cannot be read or is no text.
    """
    tracker = ProgressTracker()
    for line in LogReader(Path(path), (), PROGRESS_WORDS):
        tracker.read(line.text)
    return tracker.result()


def progress_of(text: str) -> Progress | None:
    """The same for a log that is in memory, such as the output of a trial that has just ended."""
    tracker = ProgressTracker()
    for line in text.splitlines():
        tracker.read(printable(line.encode("utf-8", "replace")))
    return tracker.result()


def _step_of(text: str) -> Step | None:
    """The throughput line that a text is, if it is one."""
    if match := _MEGATRON.search(text):
        milliseconds = match[3] == "ms"
        consumed = _CONSUMED.search(text)
        return Step(
            "megatron" if milliseconds else "megatron-deepspeed", int(match[1]), int(match[2]),
            step_s=_number(match[4]) / (1000 if milliseconds else 1), tokens_per_s_per_gpu=_found(_TOKENS_GPU, text),
            tflops_per_gpu=_found(_TFLOPS, text), batch=int(_found(_BATCH, text) or 0) or None,
            consumed=(int(consumed[1]), int(consumed[2])) if consumed else None,
        )  # fmt: skip
    if match := _PIPELINE.search(text):
        total = int(match[2]) if match[2] else None
        return Step("deepspeed-pipeline", int(match[1]), total, _number(match[3]), _number(match[4]))
    if match := _TITAN.search(text):
        tflops = _number(match[4]) if match[4] else None
        return Step("torchtitan", int(match[1]), tokens_per_s_per_gpu=_number(match[3]), tflops_per_gpu=tflops)
    if match := _DEEPSPEED.search(text):
        return Step("deepspeed", int(match[1]), samples_per_s=_number(match[2]))
    return None


def _found(pattern: re.Pattern[str], text: str) -> float | None:
    match = pattern.search(text)
    return _number(match[1]) if match else None


def _number(text: str) -> float:
    return float(text.replace(",", ""))
