"""Reading safetensors: exact, chunked, and never trusting the file."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fyc.errors import FycError, ModelError
from fyc.models import safetensors_file
from fyc.models.safetensors_file import DTYPES, read_header, read_tensor

TENSORS = st.lists(
    st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 5), max_size=3)), min_size=1, max_size=5
)
RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def random_tensor(label: str, shape: list[int], seed: int) -> torch.Tensor:
    dtype = DTYPES[label]
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def read_all(path: Path, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    infos = read_header(path)
    with path.open("rb", buffering=0) as stream:
        return {name: read_tensor(stream, info, dtype) for name, info in infos.items()}


def write_raw(path: Path, header: Any, data: bytes = b"") -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


@RELAXED
@given(TENSORS, st.sampled_from([8, 64, 1 << 20]))
def test_what_safetensors_wrote_is_read_bit_for_bit(tmp_path: Path, described: list[Any], chunk: int) -> None:
    tensors = {f"t{i}": random_tensor(label, shape, i) for i, (label, shape) in enumerate(described)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safetensors_file, "CHUNK", chunk)
        read = read_all(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_large_tensors_too(tmp_path: Path) -> None:
    tensor = torch.randn(3, 1 << 20)
    save_file({"t": tensor}, tmp_path / "a.safetensors")
    assert torch.equal(read_all(tmp_path / "a.safetensors")["t"], tensor)
    assert torch.equal(read_all(tmp_path / "a.safetensors", torch.bfloat16)["t"], tensor.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_conversion_equals_torch(tmp_path: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safetensors_file, "CHUNK", 100)
    floats, ints = torch.randn(7, 31), torch.arange(10)
    save_file({"f": floats, "i": ints}, tmp_path / "a.safetensors")
    read = read_all(tmp_path / "a.safetensors", dtype)
    assert torch.equal(read["f"], floats.to(dtype))
    assert torch.equal(read["i"], ints)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_name_the_tensor(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensor = torch.zeros(100, dtype=dtype)
    tensor[63] = value
    save_file({"layers.3.weight": tensor}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=r"FYC-M04.*layers\.3\.weight") as caught:
        read_all(tmp_path / "a.safetensors")
    assert caught.value.where.endswith("a.safetensors")


def test_large_finite_values_are_fine(tmp_path: Path) -> None:
    tensor = torch.full((1000,), 3e38)
    save_file({"t": tensor}, tmp_path / "a.safetensors")
    assert torch.equal(read_all(tmp_path / "a.safetensors")["t"], tensor)


def test_a_value_that_the_wanted_dtype_cannot_hold_is_an_error(tmp_path: Path) -> None:
    save_file({"t": torch.tensor([1e30])}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="FYC-M04") as caught:
        read_all(tmp_path / "a.safetensors", torch.float16)
    assert "float16" in caught.value.why


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sample") / "a.safetensors"
    save_file({"a": torch.ones(3, 4), "b": torch.arange(6).reshape(2, 3), "c": torch.ones(2).half()}, path)
    return path.read_bytes()


@RELAXED
@given(st.data())
def test_every_truncation_is_noticed(tmp_path: Path, sample: bytes, data: st.DataObject) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(sample[: data.draw(st.integers(0, len(sample) - 1))])
    with pytest.raises(ModelError, match="FYC-M03"):
        read_header(path)


@RELAXED
@given(st.data())
def test_bit_flips_in_the_header_never_end_in_a_traceback(tmp_path: Path, sample: bytes, data: st.DataObject) -> None:
    path = tmp_path / "a.safetensors"
    length = 8 + struct.unpack("<Q", sample[:8])[0]
    changed = bytearray(sample)
    for position in data.draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=3)):
        changed[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(changed))
    try:
        tensors = read_all(path)
    except FycError as error:
        found = error.code
    else:  # a flip in a name, a dtype of the same size, or blank space
        found = "read"
        assert sum(tensor.nbytes for tensor in tensors.values()) == len(sample) - length
    assert found in ("FYC-M03", "FYC-M04", "FYC-M05", "read")


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12), "overlap"),
        ({"a": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12), "hole"),
        ({"a": ENTRY}, bytes(4), "cut off"),
        ({"a": ENTRY}, bytes(12), "too long"),
        ({"a": {**ENTRY, "shape": [3]}}, bytes(8), "has shape"),
        ({"a": {**ENTRY, "shape": [-2]}}, bytes(8), "not valid"),
        ({"a": {**ENTRY, "shape": [2.0]}}, bytes(8), "not valid"),
        ({"a": {**ENTRY, "shape": 2}}, bytes(8), "not valid"),
        ({"a": {**ENTRY, "shape": [1 << 40, 1 << 40]}}, bytes(8), "has shape"),
        ({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8), "not valid"),
        ({"a": {**ENTRY, "data_offsets": [0]}}, bytes(8), "not complete"),
        ({"a": {"dtype": "F32"}}, bytes(8), "not complete"),
        ({"a": 3}, b"", "not complete"),
        ([1], b"", "not a JSON object"),
        (b'{"a":', b"", "not valid JSON"),
        (b"\xff\xfe", b"", "not valid JSON"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", b"", ""),
        (b'{"a":{},"a":{}}', b"", "twice"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any, data: bytes, reason: str) -> None:
    path = write_raw(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(ModelError, match=r"FYC-M03.*bad\.safetensors") as caught:
        read_header(path)
    assert reason in caught.value.why


@pytest.mark.parametrize("length", [9, 1 << 31, (1 << 64) - 1])
def test_an_absurd_header_length_is_refused_without_reading(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ModelError, match="FYC-M03"):
        read_header(path)


def test_an_unknown_dtype_is_named(tmp_path: Path) -> None:
    path = write_raw(
        tmp_path / "a.safetensors", {"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"00"
    )
    with pytest.raises(ModelError, match=r"FYC-M05.*F8_E4M3"):
        read_header(path)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"t": torch.ones(100)}, path)
    infos = read_header(path)
    path.write_bytes(path.read_bytes()[:-40])
    with path.open("rb", buffering=0) as stream, pytest.raises(ModelError, match="FYC-M03"):
        read_tensor(stream, infos["t"])


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_too_little_memory_is_not_taken_for_a_damaged_file(tmp_path: Path) -> None:
    save_file({"large": torch.zeros(64 << 20, dtype=torch.uint8)}, tmp_path / "a.safetensors")
    script = f"""
        import re, resource
        from pathlib import Path
        from fyc.models.safetensors_file import read_header, read_tensor
        path = Path({str(tmp_path / "a.safetensors")!r})
        used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), resource.RLIM_INFINITY))
        with path.open("rb", buffering=0) as stream:
            try:
                read_tensor(stream, read_header(path)["large"])
            except MemoryError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert "67108864 bytes" in done.stdout
