"""Tables of measures read back: exact to their decimals, and refused when somebody changed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from asl_annotated import analysis_of

from fyc.asl.measures import MEASURES, Measures
from fyc.asl.output.csv_read import is_table, read_csv
from fyc.asl.output.csv_table import write_csv
from fyc.asl.run import EVENT_LABELS
from fyc.errors import ElanError

DECIMALS = (2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3)


@pytest.fixture
def measures() -> Measures:
    """Fifty frames, uneven in time; some are lost, in some only the eyes are known."""
    rng = np.random.default_rng(0)
    table = rng.normal(0, 3, (50, len(MEASURES)))
    table[10:14] = np.nan
    table[20, :10] = np.nan
    times = np.cumsum(rng.uniform(0.02, 0.05, 50))
    lost = np.isnan(table[:, 0])
    covered = np.where(lost, np.nan, rng.uniform(size=50))
    return Measures.from_table(times, np.where(lost, 0.0, rng.uniform(size=50)), table, covered)


@pytest.fixture
def table(measures: Measures, tmp_path: Path) -> Path:
    write_csv(analysis_of(measures, tmp_path / "a.mp4"), [], EVENT_LABELS, tmp_path / "a.csv")
    return tmp_path / "a.csv"


def test_what_was_written_is_read(measures: Measures, table: Path, tmp_path: Path) -> None:
    read = read_csv(table)
    rounded = np.column_stack([column.round(places) for column, places in zip(measures.table.T, DECIMALS, strict=True)])
    assert np.array_equal(read.table, rounded, equal_nan=True)
    assert np.array_equal(read.time_s, measures.time_s.round(4))
    assert np.array_equal(read.confidence, measures.confidence.round(3))
    assert np.array_equal(read.occluded, measures.occluded.round(3), equal_nan=True)
    write_csv(analysis_of(read, tmp_path / "a.mp4"), [], EVENT_LABELS, tmp_path / "again.csv")
    again = read_csv(tmp_path / "again.csv")
    assert np.array_equal(again.table, read.table, equal_nan=True)


def test_a_byte_order_mark_does_no_harm(table: Path) -> None:
    before = read_csv(table)
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert is_table(table)
    assert np.array_equal(read_csv(table).table, before.table, equal_nan=True)


def test_other_tables_are_not_ours(table: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("time,gloss\n0,BOOK\n", encoding="utf-8")
    assert is_table(table)
    assert not is_table(other)
    assert not is_table(tmp_path / "none.csv")


def edit(table: Path, line: int, column: str, text: str) -> None:
    rows = [row.split(",") for row in table.read_text(encoding="utf-8").splitlines()]
    rows[line - 1][rows[0].index(column)] = text
    table.write_text("\n".join(",".join(row) for row in rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("column", "text", "why"),
    [
        ("yaw_deg", "left", "line 7: yaw_deg is 'left'"),
        ("yaw_deg", "nan", "line 7: yaw_deg is 'nan'"),
        ("mouth", "inf", "line 7: mouth is 'inf'"),
        ("time_s", "", "line 7: time_s"),
        ("time_s", "0.0001", "line 7: time_s does not rise"),
        ("frame", "6", "line 7 must be frame 5, and is 6"),
        ("confidence", "90", "line 7: a confidence of 90"),
        ("pitch_deg", '"1,5"', "line 7: pitch_deg is '1,5'"),
    ],
)
def test_an_edited_cell_is_found(table: Path, column: str, text: str, why: str) -> None:
    edit(table, 7, column, text)
    with pytest.raises(ElanError) as error:
        read_csv(table)
    assert error.value.code == "FYC-E08"
    assert why in error.value.why
    assert error.value.where == str(table)


def test_spoilt_files(table: Path) -> None:
    content = table.read_text(encoding="utf-8")
    lines = content.splitlines(keepends=True)
    for spoilt, why in (
        (content.replace(",", ";"), "must name these columns"),
        (content.replace("eye_left", "left eye", 1), "eye_left"),
        (content[:-20], "cells"),
        ("".join(lines[:5] + lines[6:]), "must be frame 4"),
        (lines[0], "no frames"),
        ("", "must name"),
        (content + "\n", "0 cells"),
    ):
        table.write_text(spoilt, encoding="utf-8")
        with pytest.raises(ElanError) as error:
            read_csv(table)
        assert why in error.value.why
    table.write_bytes(content.encode("utf-16"))
    with pytest.raises(ElanError):
        read_csv(table)
