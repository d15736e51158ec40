"""Close matches, byte counts, durations, cells."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fyc.ui import tables
from fyc.ui.tables import cell_text, columns_that_fit, option_text, show_table
from fyc.ui.text import closest, did_you_mean, human_bytes, human_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_500_000, "1.5 MB"),
        (2_200_000_000, "2.20 GB"),
        (3e12, "3000.00 GB"),
    ],
)
def test_bytes(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.034, "0.03 s"),
        (9.99, "9.99 s"),
        (9.999, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1:00"),
        (187, "3:07"),
        (3765, "1:02:45"),
    ],
)
def test_seconds(seconds, text):
    assert human_seconds(seconds) == text


def test_closest_forgives_case_and_underscores():
    assert closest("Flatten_Quant", ["flatten-quant", "wanda"]) == "flatten-quant"
    assert closest("zzz", ["flatten-quant"]) is None


def test_did_you_mean_lists_names_when_nothing_is_close():
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("zzz", []) == "there is none"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "yes"), (0.123456, "0.1235"), (3, "3"), ([1, "a"], "1, a"), ([], "-"), ("x", "x")],
)
def test_cells(value, text):
    assert cell_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (0.5, "0.5"), ([1, "a"], "[1, a]"), ("x", "x"), ({"a": 1}, '{"a": 1}')],
)
def test_options_look_as_in_a_recipe(value, text):
    assert option_text(value) == text


def test_a_table_in_a_pipe_is_plain_lines_of_any_width(capsys):
    long = "x" * 300
    show_table(("name", "n"), [(long, 1), ("[red]b", 20)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "n"]
    assert lines[1].split() == [long, "1"]
    assert lines[2].split() == ["[red]b", "20"]
    assert all(line == line.rstrip() for line in lines)
    assert len(lines[1]) == len(lines[2])  # numbers end in one column


@pytest.mark.parametrize(("width", "fitting"), [(9, 1), (10, 2), (15, 2), (16, 3), (80, 3)])
def test_columns_that_fit(monkeypatch, width, fitting):
    monkeypatch.setattr(tables, "console", lambda stream: SimpleNamespace(width=width))
    rows = [["abcdef", 1, "long"], ["a", 22, None]]
    assert columns_that_fit(["x", "y", "z"], rows, least=1) == fitting
    assert columns_that_fit(["x", "y", "z"], rows, least=3) == 3


def test_a_table_without_rows_fits():
    assert columns_that_fit(["x"], [], least=1) == 1
