"""`--dump-ir`: graphs before and after every pass."""

from __future__ import annotations

from pathlib import Path

import pytest
import toys
from misbehaving import call_missing, doing

from fyc.engine import convert
from fyc.errors import PassError

pytestmark = pytest.mark.usefixtures("traced_once")


def test_the_ir_is_dumped_before_and_after(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-round", "toy-rows")
    convert(plan, dump_ir=tmp_path / "ir")
    rows = sorted(path.name for path in (tmp_path / "ir" / "01-toy-rows").iterdir())
    assert rows == [f"block-000{i}.{end}" for i in range(3) for end in ("after.txt", "before.txt", "diff")]
    assert "+" in (tmp_path / "ir" / "01-toy-rows" / "block-0001.diff").read_text()
    assert "clamp" in (tmp_path / "ir" / "01-toy-rows" / "block-0001.after.txt").read_text()
    assert "clamp" not in (tmp_path / "ir" / "01-toy-rows" / "block-0001.before.txt").read_text()
    assert (tmp_path / "ir" / "00-toy-round" / "block-0001.diff").read_text().strip() == ""


def test_the_ir_of_a_failing_pass_is_dumped_too(tmp_path: Path) -> None:
    host = toys.toy_host(doing(call_missing))
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=host)
    with pytest.raises(PassError):
        convert(plan, dump_ir=tmp_path / "ir")
    assert "mlp.nothing" in (tmp_path / "ir" / "00-toy-doing" / "block-0001.after.txt").read_text()
