"""From the numbers in a failure message to its cause, and to the edits and values that would be legal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fyc.plan.diagnosis.report import Edit, EditField, divisors, listed

_UNITS = {"bytes": 2**-30, "B": 2**-30, "KiB": 2**-20, "MiB": 2**-10, "GiB": 1.0, "TiB": 1024.0,
          "KB": 2**-20, "MB": 2**-10, "GB": 1.0}  # fmt: skip
_SIZE = r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?i?B|bytes)\b"
#: What the two formats of torch's out-of-memory message say: torch >= 2.1 (and ROCm, XPU), and the older one.
_MEMORY = {
    "tried_gib": rf"[Tt]ried to allocate {_SIZE}",
    "total_gib": rf"(?:total capacity of {_SIZE}|{_SIZE} total capaci?ty)",
    "free_gib": rf"(?:of which {_SIZE} is free|{_SIZE} free)",
    "process_gib": rf"this process has {_SIZE} memory in use",
    "allocated_gib": rf"(?:{_SIZE} is allocated by PyTorch|{_SIZE} already allocated)",
    "unallocated_gib": rf"{_SIZE} is reserved by PyTorch but unallocated",
    "reserved_gib": rf"{_SIZE} (?:reserved in total by PyTorch|cached\))",
}
_MEMORY_PATTERNS = {name: re.compile(pattern) for name, pattern in _MEMORY.items()}
_OTHERS = re.compile(rf"\bProcess \d+ has {_SIZE} memory in use")
_DEVICE = re.compile(r"\bGPU (\d{1,4})\b")


@dataclass(frozen=True)
class Explanation:
    """What the numbers of a message add to what its kind already says; empty parts leave that as it is."""

    cause: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    next: str = ""


#: From the text of the line and the named groups of the pattern that found it.
Explainer = Callable[[str, Mapping[str, str]], Explanation]


def gpu_memory(text: str, groups: Mapping[str, str]) -> Explanation:
    """Out of GPU memory: how much was wanted, who holds the rest, and whether the memory is only in pieces."""
    del groups
    numbers = _memory_numbers(text)
    if not numbers:
        return Explanation()
    tried, idle = numbers.get("tried_gib"), numbers.get("unallocated_gib", 0.0)
    others = numbers.get("other_processes_gib", 0.0)
    cause = "the GPU had not enough memory" + _balance(numbers)
    edits: tuple[Edit, ...] = ()
    advice = ""
    if others > 1.0:
        cause += f"; other processes hold {others:.1f} GiB of this GPU"
        advice = "end what else runs on the GPU (often a rank of an earlier run), then start again"
    elif tried is not None and idle >= tried:
        cause += f"; the allocator holds {idle:.2f} GiB that nothing uses, in pieces smaller than that: fragmentation"
        edits = (Edit(field="expandable_segments", change="enable"),)
        advice = "set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True first; it costs nothing"
    return Explanation(cause, numbers, edits, advice)


def _memory_numbers(text: str) -> dict[str, float]:
    numbers = {}
    for name, pattern in _MEMORY_PATTERNS.items():
        if match := pattern.search(text):
            value, unit = (part for part in match.groups() if part is not None)
            numbers[name] = round(float(value) * _UNITS[unit], 4) if unit in _UNITS else float(value)
    if "reserved_gib" in numbers and "allocated_gib" in numbers:
        numbers.setdefault("unallocated_gib", round(numbers["reserved_gib"] - numbers["allocated_gib"], 4))
    elif "unallocated_gib" in numbers and "allocated_gib" in numbers:
        numbers["reserved_gib"] = round(numbers["unallocated_gib"] + numbers["allocated_gib"], 4)
    if "process_gib" in numbers:
        others = [float(value) * _UNITS.get(unit, 0.0) for value, unit in _OTHERS.findall(text)]
        if others:
            numbers["other_processes_gib"] = round(sum(others), 4)
        if "reserved_gib" in numbers:
            numbers["outside_torch_gib"] = round(max(numbers["process_gib"] - numbers["reserved_gib"], 0.0), 4)
    if device := _DEVICE.search(text):
        numbers["gpu"] = float(device[1])
    return numbers


def _balance(numbers: Mapping[str, float]) -> str:
    parts = []
    if "tried_gib" in numbers:
        parts.append(f": {numbers['tried_gib']:.2f} GiB were wanted")
        if "free_gib" in numbers:
            parts.append(f", {numbers['free_gib']:.2f} GiB were free")
        if "total_gib" in numbers:
            parts.append(f" of {numbers['total_gib']:.2f} GiB")
    if "allocated_gib" in numbers:
        parts.append(f"; tensors hold {numbers['allocated_gib']:.2f} GiB")
    return "".join(parts)


def host_memory(text: str, groups: Mapping[str, str]) -> Explanation:
    """Out of host memory: the bytes that were wanted, where the allocator says so."""
    del text
    if not groups.get("bytes"):
        return Explanation()
    tried = int(groups["bytes"]) / 2**30
    return Explanation(
        f"a process had not enough host memory: {tried:.2f} GiB were wanted", {"tried_gib": round(tried, 4)}
    )


def multiple(text: str, groups: Mapping[str, str]) -> Explanation:
    """`value` is no multiple of the degree `by`: the legal degrees are the divisors of the value."""
    del text
    if not groups.get("value") or not groups.get("by"):
        return Explanation()
    value, by = int(groups["value"]), int(groups["by"])
    name, degree = groups.get("name") or "value", groups.get("degree") or "by"
    legal = divisors(value)
    if groups.get("either") and value:
        legal += tuple(value * factor for factor in (2, 4, 8))
    cause = f"{_words(name)} ({value}) is not divisible by "
    cause += f"{_words(degree)} ({by})" if groups.get("degree") else str(by)
    cause += f"; it can be cut by {listed(legal)}" if legal else ""
    edited = _DEGREES.get(degree.replace(" ", "_"))
    edits = (Edit(field=edited, change="change", values=legal),) if edited else ()
    return Explanation(cause, {_key(name): value, _key(degree): by}, edits)


def world_size(text: str, groups: Mapping[str, str]) -> Explanation:
    """The number of processes is no multiple of the product of the model parallel degrees."""
    del text
    world, product = int(groups["value"]), int(groups["by"])
    legal = listed(divisors(world))
    name = _words(groups.get("degree") or "tensor x pipeline x context parallel size")
    cause = f"the world size ({world}) is not divisible by the {name} ({product}); a product that divides it: {legal}"
    return Explanation(cause, {"world_size": world, "model_parallel_size": product})


def global_batch(text: str, groups: Mapping[str, str]) -> Explanation:
    """The global batch is no multiple of micro-batch times data parallel degree."""
    del text
    batch, micro, data = (int(groups[name]) for name in ("batch", "micro", "dp"))
    unit = micro * data
    numbers = {"global_batch": batch, "micro_batch": micro, "dp": data}
    near = tuple(sorted({value for value in (batch // unit * unit, -(-batch // unit) * unit) if value})) if unit else ()
    edits = [Edit(field="global_batch", change="change", values=near)]
    if data and batch % data == 0 and batch:
        edits.insert(0, Edit(field="micro_batch", change="change", values=divisors(batch // data)))
    cause = (
        f"the global batch ({batch}) is not divisible by micro-batch x data parallel size ({micro} x {data} = {unit})"
    )
    return Explanation(cause, numbers, tuple(edits))


def batch_product(text: str, groups: Mapping[str, str]) -> Explanation:
    """DeepSpeed: train_batch_size is not micro-batch x accumulation x world size."""
    del text
    batch, micro, steps, world = (int(groups[name]) for name in ("batch", "micro", "steps", "world"))
    numbers = {"global_batch": batch, "micro_batch": micro, "gradient_accumulation": steps, "dp": world}
    edits = []
    if micro * world and batch % (micro * world) == 0 and batch:
        edits.append(Edit(field="gradient_accumulation", change="change", values=(batch // (micro * world),)))
    if steps * world and batch % (steps * world) == 0 and batch:
        edits.append(Edit(field="micro_batch", change="change", values=(batch // (steps * world),)))
    edits.append(Edit(field="global_batch", change="change", values=(micro * steps * world,)))
    cause = f"train_batch_size ({batch}) is not micro-batch x gradient accumulation x world size "
    return Explanation(f"{cause}({micro} x {steps} x {world} = {micro * steps * world})", numbers, tuple(edits))


def parallel_dims(text: str, groups: Mapping[str, str]) -> Explanation:
    """torchtitan: the product of the degrees is not the world size."""
    del groups
    degrees = {name.lower(): int(value) for name, value in re.findall(r"\b(\w+)\((-?\d{1,9})\)", text)}
    world = degrees.get("world_size", 0)
    product = 1
    for name, value in degrees.items():
        product *= value if name != "world_size" else 1
    cause = f"the product of the parallel degrees ({product}) is not the world size ({world})"
    return Explanation(cause, {name: float(value) for name, value in degrees.items()})


def fp8_shape(text: str, groups: Mapping[str, str]) -> Explanation:
    """Transformer Engine: a matrix whose sides fp8 kernels cannot cut into tiles."""
    del text
    rows, columns = int(groups["rows"]), int(groups["columns"])
    cause = f"fp8 needs matrices of 8 n x 16 m, and one has {rows} x {columns}; the next that fits is "
    cause += f"{-(-rows // 8) * 8} x {-(-columns // 16) * 16}"
    return Explanation(cause, {"rows": rows, "columns": columns})


def timeout(text: str, groups: Mapping[str, str]) -> Explanation:
    """NCCL watchdog: which collective, and how long it waited."""
    del text
    numbers = {name: float(groups[name]) for name in ("seq_num", "timeout_ms", "ran_ms") if groups.get(name)}
    operation = (groups.get("operation") or "collective").lower().strip("_")[:32]
    cause = f"a collective ({operation}"
    cause += f", number {int(numbers['seq_num'])})" if "seq_num" in numbers else ")"
    waited = numbers.get("ran_ms") or numbers.get("timeout_ms")
    return Explanation(cause + (f" waited {waited / 1000:.0f} s" if waited else " waited too long"), numbers)


def exit_code(text: str, groups: Mapping[str, str]) -> Explanation:
    """A launcher's report: the number, 137 for a shell's 128 + 9."""
    del text
    return Explanation("", {"exit_code": float(groups["code"])}) if groups.get("code") else Explanation()


_DEGREES: dict[str, EditField] = {
    "tensor_model_parallel_size": "tp", "mp_size": "tp", "pipeline_parallel_size": "pp", "context_parallel_size": "cp",
    "expert_parallel_degree": "ep",
}  # fmt: skip


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower()).strip("_")[:48] or "value"


def _words(name: str) -> str:
    return " ".join(re.sub(r"[^\w ]", " ", name).split())[:64]
