"""The same recipe gives the same bytes, whatever the process, the hash seed, the clock and the output folder."""

from __future__ import annotations

import json
import os
import stat
import struct
from pathlib import Path

import pytest
import torch
import toys
from children import fresh

import fyc
from fyc.artifact import open_artifact, write_tensors
from fyc.engine import convert

RECIPES = {
    "rows": ("{use: toy-rows, options: {measure: true, branches: 2}}",),
    "two passes": ("{use: toy-round, options: {digits: 1}}", "toy-rows"),
}


def assert_same_files(a: Path, b: Path) -> None:
    first, second = toys.files_of(a), toys.files_of(b)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("passes", RECIPES.values(), ids=RECIPES)
def test_two_runs_are_byte_identical(passes: tuple[str, ...], tmp_path: Path) -> None:
    a = convert(toys.toy_plan(toys.model(), tmp_path / "a", *passes, verify=9.0))
    torch.manual_seed(1234)
    torch.rand(7)
    b = convert(toys.toy_plan(toys.model(), tmp_path / "deeper" / "b", *passes, verify=9.0))
    assert_same_files(a.path, b.path)
    assert a.manifest == b.manifest


def test_another_process_gives_the_same_bytes(tmp_path: Path) -> None:
    """Another interpreter, hash seed, locale, time zone, umask-free environment and matplotlib style."""
    passes = RECIPES["rows"]
    style = tmp_path / "matplotlibrc"
    style.write_text("axes.facecolor: red\nfigure.dpi: 300\nfont.size: 20\n", encoding="utf-8")
    code = f"""
import torch; torch.set_num_threads(1)
import toys; from pathlib import Path; from fyc.engine import convert
convert(toys.toy_plan(Path({str(toys.model())!r}), Path({str(tmp_path / "b")!r}), *{passes!r}))
"""
    env = {"PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MATPLOTLIBRC": str(style)}
    child = fresh(code, env=env)
    assert child.returncode == 0, child.stderr
    a = convert(toys.toy_plan(toys.model(), tmp_path / "a", *passes))
    assert_same_files(a.path, tmp_path / "b")
    assert "modules.svg" in a.manifest.files


def test_another_seed_or_option_gives_other_bytes(tmp_path: Path) -> None:
    a = toys.artifact("llama", "{use: toy-round, options: {digits: 2}}")
    b = toys.artifact("llama", "{use: toy-round, options: {digits: 1}}")
    assert a.manifest.files["model-00002-of-00004.safetensors"] != b.manifest.files["model-00002-of-00004.safetensors"]


@pytest.mark.parametrize("family", toys.FAMILIES)
def test_safetensors_metadata_is_exactly_the_format(family: str) -> None:
    """transformers wants this key, and more keys would be written in random order."""
    made = toys.artifact(family)
    files = sorted(made.path.rglob("*.safetensors"))
    assert len(files) >= 3
    for file in files:
        raw = file.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        assert json.loads(raw[8 : 8 + length])["__metadata__"] == {"format": "pt"}


def test_run_json_is_outside_the_hashes(tmp_path: Path) -> None:
    folder = toys.copied(toys.artifact(), tmp_path / "copy")
    run = json.loads((folder / "run.json").read_text())
    assert run.keys() == {"seconds", "peak_memory_bytes", "host", "platform", "threads", "finished"}
    assert run["peak_memory_bytes"] > 50e6
    assert "run.json" not in open_artifact(folder).manifest.files
    (folder / "run.json").write_text("{}", encoding="utf-8")
    open_artifact(folder).verify()
    (folder / "run.json").unlink()
    fyc.load(folder)


def test_every_other_file_is_inside_the_hashes() -> None:
    made = toys.artifact()
    assert toys.files_of(made.path).keys() - {"fyc.json"} == made.manifest.files.keys()


def test_nothing_names_the_output_folder_or_the_time(tmp_path: Path) -> None:
    made = convert(toys.toy_plan(toys.model(), tmp_path / "secret-place", "toy-rows"))
    for name, content in toys.files_of(made.path).items():
        assert b"secret-place" not in content, name


def test_equal_tensors_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    tensors = {name: torch.full((3,), float(index)) for index, name in enumerate("zyxabc")}
    write_tensors(tmp_path / "a.safetensors", tensors)
    write_tensors(tmp_path / "b.safetensors", dict(sorted(tensors.items())))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_views_of_one_memory_can_be_written(tmp_path: Path) -> None:
    """Tensors that share memory are stored as what they hold; safetensors itself refuses them."""
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"rows": whole[:2], "row": whole[1], "columns": whole[:, 1:3], "wide": whole[0, :1].expand(5)}
    write_tensors(tmp_path / "views.safetensors", tensors)
    from fyc.artifact import read_tensors

    torch.testing.assert_close(read_tensors(tmp_path / "views.safetensors"), {k: v.clone() for k, v in tensors.items()})


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    """safetensors writes 0600: a server under another user could not load the artifact."""
    old = os.umask(0o022)
    try:
        made = convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows"))
    finally:
        os.umask(old)
    modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in made.path.rglob("*") if path.is_file()}
    assert {name: oct(mode) for name, mode in modes.items() if mode != 0o644} == {}


def test_what_draws_the_pictures_is_in_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another matplotlib, or none, gives other bytes: a run cannot be resumed with it."""
    from importlib import metadata

    from fyc.recipe import lockfile

    original = metadata.version
    known = {"matplotlib": "3.9.0"}
    monkeypatch.setattr(lockfile, "version", lambda name: known.get(name) or original(name))
    assert lockfile.versions()["matplotlib"] == "3.9.0"

    def missing(name: str) -> str:
        if name == "matplotlib":
            raise metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(lockfile, "version", missing)
    assert "matplotlib" not in lockfile.versions()
