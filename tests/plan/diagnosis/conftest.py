"""Writes a log and diagnoses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from fyc.plan.diagnosis import Diagnosis, diagnose

Judge = Callable[..., Diagnosis]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Call it with lists of lines: they become one log."""

    def write_and_diagnose(*parts: Iterable[str]) -> Diagnosis:
        path = tmp_path / "train.log"
        path.write_text("".join(f"{line}\n" for part in parts for line in part), encoding="utf-8")
        return diagnose(path)

    return write_and_diagnose
