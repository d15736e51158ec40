"""The steps of `fyc convert --check` as test cases, and as a JUnit XML file."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fyc.errors import FycError


@dataclass
class Case:
    """One step: `passed`, `failed` or `skipped`."""

    name: str
    outcome: Literal["passed", "failed", "skipped"] = "passed"
    seconds: float = 0.0
    detail: str = ""
    error: BaseException | None = None
    skipped: bool = False


@dataclass
class Report:
    """The test cases of one check.

    Attributes:
        suite: what was checked.
        cases: the steps that were reached, in order.
    """

    suite: str
    cases: list[Case] = field(default_factory=list)

    @contextmanager
    def case(self, name: str) -> Iterator[Case]:
        """Time a step; an exception marks it failed and goes on to the caller."""
        case = Case(name)
        self.cases.append(case)
        start = time.monotonic()
        try:
            yield case
        except BaseException as error:
            case.outcome, case.error = "failed", error
            raise
        finally:
            case.seconds = time.monotonic() - start

    @contextmanager
    def gate(self, work: str, gate: str) -> Iterator[Case]:
        """Two steps that run as one: the work, and the gate at its end, which fails with FYC-X02."""
        verdict = Case(gate)
        try:
            with self.case(work):
                yield verdict
        except FycError as error:
            if error.code == "FYC-X02":
                self.cases[-1].outcome, self.cases[-1].error = "passed", None
                verdict.outcome, verdict.error = "failed", error
                self.cases.append(verdict)
            raise
        if verdict.skipped:
            verdict.outcome, verdict.detail = "skipped", "the recipe has no `verify`"
        self.cases.append(verdict)

    def as_dicts(self) -> list[dict[str, Any]]:
        """The cases as JSON-able data."""
        return [
            {"name": case.name, "outcome": case.outcome, "seconds": case.seconds, "detail": case.detail}
            for case in self.cases
        ]

    def write(self, path: Path) -> None:
        """Write JUnit XML; the folder is made when it is missing."""
        failures = sum(case.outcome == "failed" for case in self.cases)
        skipped = sum(case.outcome == "skipped" for case in self.cases)
        suite = ET.Element(
            "testsuite",
            name="fyc convert --check",
            tests=str(len(self.cases)),
            failures=str(failures),
            errors="0",
            skipped=str(skipped),
            time=f"{sum(case.seconds for case in self.cases):.3f}",
        )
        for case in self.cases:
            node = ET.SubElement(suite, "testcase", classname=self.suite, name=case.name, time=f"{case.seconds:.3f}")
            if case.error is not None:
                kind, message = _described(case.error)
                ET.SubElement(node, "failure", type=kind, message=message).text = str(case.error)
            elif case.outcome == "skipped":
                ET.SubElement(node, "skipped", message=case.detail)
            elif case.detail:
                ET.SubElement(node, "system-out").text = case.detail
        root = ET.Element("testsuites")
        root.append(suite)
        path.parent.mkdir(parents=True, exist_ok=True)
        ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def _described(error: BaseException) -> tuple[str, str]:
    if isinstance(error, FycError):
        return error.code, error.what
    return type(error).__name__, str(error)
