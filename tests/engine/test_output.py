"""The output folder and its place for a rejected artifact: what is there stays there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import toys

from fyc.artifact import open_artifact
from fyc.engine import convert
from fyc.errors import RecipeError

pytestmark = pytest.mark.usefixtures("traced_once")


def test_an_output_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError) as caught:
        convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-round"))
    assert (caught.value.code, caught.value.exit_code) == ("FYC-R08", 2)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_an_output_that_is_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    for name, code in (("file", "FYC-R08"), ("link", "FYC-R09"), ("file/out", "FYC-R09"), ("file/a/out", "FYC-R09")):
        with pytest.raises(RecipeError) as caught:
            convert(toys.toy_plan(toys.model(), tmp_path / name, "toy-round"))
        assert caught.value.code == code
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_output_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-round"))


def test_the_current_folder_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (Path(), Path("..")):
        with pytest.raises(RecipeError) as caught:
            convert(toys.toy_plan(toys.model(), output, "toy-round"))
        assert caught.value.code in {"FYC-R09", "FYC-R08"}


def test_what_is_put_into_the_output_meanwhile_stays(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-round")

    def interfere(event: Any) -> None:
        if event.kind == "block" and event.data["index"] == 2:
            plan.output.mkdir(exist_ok=True)
            (plan.output / "mine").write_text("precious")

    with pytest.raises(RecipeError) as caught:
        convert(plan, events=interfere)
    assert caught.value.code == "FYC-R08"
    assert "--resume" in caught.value.next
    assert (plan.output / "mine").read_text() == "precious"
    shutil.rmtree(plan.output)
    convert(plan, resume=True)
    open_artifact(plan.output).verify()
