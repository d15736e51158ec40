"""Damage of any file is found before anything runs: flipped bits, cut files, missing and additional ones, links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import toys
import transformers

import fyc
from fyc.artifact import open_artifact
from fyc.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("traced_once")
SHARD = "model-00002-of-00004.safetensors"


def refused(folder: Path) -> tuple[str, str]:
    """The code and file that loading and verifying agree on."""
    with pytest.raises(ArtifactError) as loading:
        fyc.load(folder)
    with pytest.raises(ArtifactError) as verifying:
        open_artifact(folder).verify()
    assert loading.value.code == verifying.value.code
    assert loading.value.where == verifying.value.where
    assert loading.value.exit_code == 5
    return loading.value.code, str(Path(loading.value.where).relative_to(folder))


def test_a_flipped_bit_anywhere(folder: Path) -> None:
    for name in toys.artifact().manifest.files:
        raw = bytearray((folder / name).read_bytes())
        for position in {0, len(raw) // 2, len(raw) - 1}:
            raw[position] ^= 4
            (folder / name).write_bytes(raw)
            assert refused(folder) == ("FYC-A02", name)
            raw[position] ^= 4
        (folder / name).write_bytes(raw)
    fyc.load(folder)


def test_a_cut_or_missing_file(folder: Path) -> None:
    for name in toys.artifact().manifest.files:
        raw = (folder / name).read_bytes()
        for length in (len(raw) - 1, len(raw) // 2, 0):
            (folder / name).write_bytes(raw[:length])
            assert refused(folder) == ("FYC-A02", name)
        (folder / name).unlink()
        assert refused(folder) == ("FYC-A03", name)
        (folder / name).mkdir()
        assert refused(folder) == ("FYC-A03", name)
        (folder / name).rmdir()
        (folder / name).write_bytes(raw)
    fyc.load(folder)


def test_problems_lists_everything(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / SHARD).write_bytes(b"x")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    found = [(problem.code, Path(problem.where).name) for problem in open_artifact(folder).problems()]
    assert found == [("FYC-A03", "config.json"), ("FYC-A02", SHARD), ("FYC-A07", "pytorch_model.bin")]
    quick = [problem.code for problem in open_artifact(folder).problems(weights=False)]
    assert quick == ["FYC-A03", "FYC-A07"]


@pytest.mark.parametrize("cut", [0, 1, 100, -2])
def test_a_cut_manifest(cut: int, folder: Path) -> None:
    raw = (folder / "fyc.json").read_bytes()
    (folder / "fyc.json").write_bytes(raw[:cut])
    with pytest.raises(ArtifactError) as caught:
        fyc.load(folder)
    assert caught.value.code == "FYC-A07"


def test_a_folder_that_is_no_artifact(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", toys.model(), toys.model() / "config.json"):
        with pytest.raises(ArtifactError) as caught:
            fyc.load(path)
        assert caught.value.code == "FYC-A01"
        assert str(path) in str(caught.value)


EXTRA = [
    "model.safetensors", "pytorch_model.bin", "old.index.json.safetensors", "model-00001-of-00001.safetensors",
    "pytorch_model.bin.index.json", "adapter_model.safetensors", "adapter_config.json", "modeling_llama.py",
    "model.gguf", "vocab.json", "merges.txt", "special_tokens_map.json", "chat_template.jinja", "tf_model.h5",
    "consolidated.00.pth",
]  # fmt: skip


@pytest.mark.parametrize("name", EXTRA)
def test_a_file_that_was_dropped_in(name: str, folder: Path) -> None:
    """transformers prefers a single model.safetensors to the index, and looks for adapters and tokenizer files."""
    shutil.copy(folder / (SHARD if name.endswith(".safetensors") else "config.json"), folder / name)
    assert refused(folder) == ("FYC-A07", name)
    with pytest.raises((ArtifactError, OSError)):  # OSError: an adapter without its weights
        transformers.AutoModelForCausalLM.from_pretrained(folder)


HARMLESS = ["README.md", "notes.txt", "plot.png", ".gitattributes", "eval.json", ".git/config.json"]


def test_files_that_nobody_reads_may_be_added(folder: Path) -> None:
    for name in HARMLESS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine", encoding="utf-8")
    fyc.load(folder)


LINKS: dict[str, Callable[[Path, Path], None]] = {
    "a file": lambda folder, away: _link(folder / "config.json", away / "config.json"),
    "a shard": lambda folder, away: _link(folder / SHARD, away / SHARD),
    "a graph": lambda folder, away: _link(next((folder / "graphs").glob("*.json")), away / "graph"),
    "the folder of graphs": lambda folder, away: _link(folder / "graphs", away / "graphs"),
}


def _link(path: Path, target: Path) -> None:
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("make", LINKS.values(), ids=LINKS)
def test_links_out_of_the_folder(make: Callable[[Path, Path], None], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    make(folder, tmp_path / "away")
    assert refused(folder)[0] == "FYC-A07"


def test_a_pipe_is_no_file(folder: Path) -> None:
    """Reading it would wait for ever."""
    for name in ("config.json", "fyc.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ArtifactError):
            fyc.load(folder)
        (folder / name).unlink()
        shutil.copy(toys.artifact().path / name, folder / name)
    fyc.load(folder)


def test_an_unreadable_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails, or permissions; root may read everything, so the open itself is made to fail."""
    original = Path.open

    def failing(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "config.json":
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(ArtifactError) as caught:
        fyc.load(folder)
    assert caught.value.code == "FYC-A03"
    assert "Permission denied" in str(caught.value)
